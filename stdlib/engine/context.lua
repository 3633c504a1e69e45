--- Which run, step and clause the running task belongs to: what the words (check, note, wait_until) need to know
-- without the runbook passing it around. One table per task; a task spawned by the engine gets its own.

local M = {}

local task = require("native.task")

local of = {}

--- The context of the running task: {run, step, item, attempt, evidence, …}; nil outside a clause.
function M.current()
  return of[task.current()]
end

--- Call `fn` with `context` as the current one; the one before comes back however it ends.
---@param context table
---@param fn function
function M.with(context, fn, ...)
  local key = task.current()
  local before = of[key]
  of[key] = context
  local function restore(...)
    of[key] = before
    return ...
  end
  return restore(pcall(fn, ...))
end

return M
