--- Calling one clause: the phase the guard sees, the deadline, the upvalues it must not change, and errors as tables.

local M = {}

local context = require("engine.context")
local raise = require("core.raise")
local task = require("native.task")

--- The phase each clause runs under. Everything else asks; these may write.
local PHASE = { act = "act", undo = "act", after = "act" }

-- After a resume a clause runs in a new Lua state, where a value that an earlier clause put into a local would silently be nil.
local function check_upvalues(step, name, before, fn)
  local after, i = task.upvalues(fn), 1
  while before[i] do                     -- a name, and its value behind it
    if not rawequal(before[i + 1], after[i + 1]) then
      raise("invalid", ("%s changed the local \"%s\""):format(name, before[i]),
        "It would be lost on resume: return the value from act and ask for it with step:result().", { where = step.where })
    end
    i = i + 2
  end
end

--- Any raised value as an error table that knows its step's place.
function M.error_of(err, step)
  local made = raise.of(err, "check")
  if step and not made.where then made.where = step.where end
  return made
end

--- Ask a function that is not a clause of its own (a parameter of a nested runbook) as one that reads.
---@return boolean ok
---@return any result or error table
function M.ask(run, step, name, fn)
  local phase, id = task.phase("read"), task.step(step.id)
  local ok, result = context.with({ run = run, step = step, clause = name }, fn)
  task.phase(phase)
  task.step(id)
  if ok then return true, result end
  return false, M.error_of(result, step)
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

--- The key that names an item in the journal: a text or number itself, or the table's key, name or first field.
function M.key_of(item)
  if item == nil then return nil end
  if type(item) == "table" then return tostring(item.key or item.name or item[1]) end
  return tostring(item)
end

local KEYS = { string = true, number = true }

--- Check what `each` gave: a list of items that can be told apart, also after a resume. It is walked and its items are named outside
--- the clause, so no code of the runbook may hang on it.
---@param step table
---@param items any
---@return table items
function M.items(step, items)
  local function no(message) raise("invalid", "each " .. message, "It gives a list: texts, numbers, or tables with a key or name.", { where = step.where }) end
  if type(items) ~= "table" then no(("gave a %s"):format(type(items))) end
  if getmetatable(items) ~= nil then no("gave a list with a metatable") end
  local count, seen = 0, {}
  for _ in pairs(items) do count = count + 1 end
  if count ~= #items then no("gave a table that is not a list") end
  for i, item in ipairs(items) do
    local name = item
    if type(item) == "table" and getmetatable(item) ~= nil then no(("gave item %d with a metatable"):format(i)) end
    if type(item) == "table" then name = item.key or item.name or item[1] end
    if not KEYS[type(name)] then no(("gave item %d without a key"):format(i)) end
    local key = M.key_of(item)
    if seen[key] then no(("gives the item \"%s\" twice"):format(key)) end
    seen[key] = true
  end
  return items
end

return M
