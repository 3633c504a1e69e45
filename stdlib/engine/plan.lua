--- The preview that `neap plan` gives: a survey (engine/survey.lua), who stands in the way of a run now, and how long it would take. Nothing is
-- journaled, nothing is locked.

local M = {}

local session = require("engine.session")
local survey = require("engine.survey")
local timing = require("engine.timing")

-- Who would stand in the way of a run now. In mode "plan" a lock is only looked at.
local function blockers(opened)
  local list = {}
  for _, t in ipairs(opened.targets) do
    local g = not t.used_by and session.keeper(t)
    local free, err = true, nil
    if g then free, err = g.lock(t.object) end
    if not free then list[#list + 1] = ("\"%s\" is in use: %s"):format(t.role, err.message) end
    local held = g and g.held(t.object)
    if held then list[#list + 1] = ("\"%s\" is kept by a run that still owes something: %s"):format(t.role, held) end
  end
  return list
end

--- Survey and give the plan.
---@param ctx table the command's context
---@return table plan
function M.run(ctx)
  local opened = session.open(ctx)
  local ok, surveyed = pcall(function ()
    local data = survey.of(opened)
    data.blocked = blockers(opened)
    data.time = timing.forecast(opened, data)
    return data
  end)
  session.close(opened)
  if not ok then error(surveyed, 0) end
  return surveyed
end

return M
