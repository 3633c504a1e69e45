--- Calling one clause: the phase the guard sees, the deadline, the upvalues it must not change, and errors as tables.

local M = {}

local context = require("engine.context")
local raise = require("core.raise")
local task = require("native.task")

--- The phase each clause runs under. Everything else asks; these may write.
local PHASE = { act = "act", undo = "act", after = "act" }

-- After a resume a clause runs in a new Lua state, where a value that an earlier clause put into a local would silently be nil.
local function check_upvalues(step, name, before, fn)
  local after = task.upvalues(fn)
  for i, value in ipairs(before) do
    if not rawequal(value.value, after[i] and after[i].value) then
      raise("invalid", ("%s changed the local \"%s\""):format(name, value.name),
        "It would be lost on resume: return the value from act and ask for it with step:result().", { where = step.where })
    end
  end
end

--- Any raised value as an error table that knows its step's place.
function M.error_of(err, step)
  local made = raise.of(err, "check")
  if step and not made.where then made.where = step.where end
  return made
end

--- Call clause `name` of a step.
---@param run table
---@param step table
---@param name string
---@param options table|nil {item=, attempt=, within=ms}
---@return boolean ok
---@return any result or error table
function M.call(run, step, name, options)
  options = options or {}
  local fn = step.clauses[name]
  local before = task.upvalues(fn)
  local phase, id = task.phase(PHASE[name] or "read"), task.step(step.id)
  local mark = options.within and task.deadline(options.within)
  local ok, result = context.with({ run = run, step = step, clause = name, item = options.item, attempt = options.attempt }, fn, options.item)
  if mark then task.restore(mark) end
  task.phase(phase)
  task.step(id)
  if ok then
    local fine, changed = pcall(check_upvalues, step, name, before, fn)
    if not fine then return false, changed end
    return true, result
  end
  return false, M.error_of(result, step)
end

return M
