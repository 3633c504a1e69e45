--- What a run has told people, because an announcement has no place where it could be looked up afterwards but the journal.
--
--   telling → told        they were told
--           → nobody      nobody could be told, and that is known
--           → failed      nobody could be told, and that stops the step
--
-- "telling" is on disk before anything is sent. A run that died in between does not know whether it was read, and says it again, saying so.

local M = {}

local context = require("engine.context")
local journal = require("native.journal")
local raise = require("core.raise")

-- The running step of a run that is recorded; nil in a preview, in a survey and outside of runs.
local function recorded()
  local c = context.current()
  return c and c.run.record and c or nil
end

--- How far this run is with these words: nil or one of the states.
---@param role string
---@param words string
---@return string|nil
function M.state(role, words)
  local c, state = recorded(), nil
  if not c then return nil end
  c.run.record:sync()
  for _, r in ipairs(raise.check(journal.read(c.run.ctx.state, c.run.run_id, 0))) do
    if r.kind == "told" and r.body.role == role and r.body.text == words then state = r.body.state end
  end
  return state
end

--- How far it is now: on disk when this returns. Nothing in a preview.
---@param state string
---@param role string
---@param words string
function M.note(state, role, words)
  local c = recorded()
  if not c then return end
  c.run.record:event("told", c.step.id, { state = state, role = role, text = words })
  c.run.record:sync()
end

--- The id of the step that is asked or acts now; nil outside of clauses.
---@return string|nil
function M.step()
  local c = context.current()
  return c and c.step.id
end

return M
