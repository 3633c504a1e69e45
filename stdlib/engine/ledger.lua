--- The ledger: which temporary things a run makes, so that somebody can take them away when the run no longer can.
--
--   entered → left           it was removed, by the run or by neap gc
--           → handed over    it is no temporary thing any more: whoever made it lives on it now (a database that was swapped in)
--
-- The entry is durable before the thing is made: a run that dies between the two has an entry for nothing, which neap gc finds out by
-- looking; the other way round a thing would be nobody's. What is not entered, or was handed over, is never touched by anything but the
-- run itself. An entry says what the thing is by the identity of whatever it is in ("pg:<system identifier>/name"), not by a road to it.
--
-- What counts as temporary is said by its name: scratch "x" is x__RUN, and nobody else makes such names. Rejected: telling leftovers
-- from the intents of the journal (a statement that makes something says neither for how long nor whether somebody took it over), and a
-- table on the target (who may make a database may not be allowed to make a table, and a folder has none).

local M = {}

local clause = require("engine.clause")
local context = require("engine.context")
local journal = require("native.journal")
local raise = require("core.raise")

-- The running step of a run that is recorded; nil in a preview, in a survey and outside of runs.
local function recorded()
  local c = context.current()
  return c and c.run.record and c or nil
end

local function note(c, state, entry)
  c.run.record:event("ledger", c.step.id, { state = state, role = entry.role, kind = entry.kind, name = entry.name, subject = entry.subject,
    item = clause.key_of(c.item) })
end

--- Is this a name that scratch gave to this run ("trial__7f3a…", "trial__7f3a….dump")? Only such things are entered by their names.
---@param name string
---@return boolean
function M.is_scratch(name)
  local c = recorded()
  return c ~= nil and (name .. "."):find("__" .. c.run.run_id .. "[./]") ~= nil
end

--- Does anybody keep a ledger now? Not in a preview.
---@return boolean
function M.is_kept() return recorded() ~= nil end

--- A temporary thing is about to be made: on disk when this returns. Nothing in a preview.
---@param entry { role: string, kind: string, name: string, subject: string } role: whose guardian can discard it; subject: what it is, wherever it is seen from
function M.enter(entry)
  local c = recorded()
  if not c then return end
  note(c, "entered", entry)
  c.run.record:sync()
end

--- It is there no longer.
---@param entry table as for enter
function M.leave(entry)
  local c = recorded()
  if c then note(c, "left", entry) end
end

--- It is no temporary thing any more: from now on nothing but the run itself may touch it. On disk when this returns.
---@param entry table as for enter
function M.hand_over(entry)
  local c = recorded()
  if not c then return end
  note(c, "handed over", entry)
  c.run.record:sync()
end

--- What the run's ledger says last of a thing of this kind: nil when it says nothing of one.
---@param kind string
---@return table|nil entry
function M.latest(kind)
  local c, last = recorded(), nil
  if not c then return nil end
  c.run.record:sync()
  for _, r in ipairs(raise.check(journal.read(c.run.ctx.state, c.run.run_id, 0))) do
    if r.kind == "ledger" and r.body.kind == kind then last = r.body end
  end
  return last
end

--- What a run entered and neither removed nor handed over, in the order in which it was first entered.
---@param records table[]
---@return { role: string, kind: string, name: string, subject: string, at: integer }[] at: when it was last entered
function M.open(records)
  local list, at = {}, {}
  for _, r in ipairs(records) do
    if r.kind == "ledger" then
      local key = ("%s\0%s"):format(r.body.kind, r.body.subject)
      if not at[key] then
        at[key] = #list + 1
        list[at[key]] = { role = r.body.role, kind = r.body.kind, name = r.body.name, subject = r.body.subject }
      end
      list[at[key]].open, list[at[key]].at = r.body.state == "entered", r.at
    end
  end
  local left = {}
  for _, entry in ipairs(list) do
    if entry.open then left[#left + 1] = { role = entry.role, kind = entry.kind, name = entry.name, subject = entry.subject, at = entry.at } end
  end
  return left
end

return M
