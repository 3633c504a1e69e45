--- What is owed. One stack: the newest step first, its undo if asked for, then its after.
--
-- An entry is pushed when the intent to act is recorded, not when the act succeeds: from that moment the
-- world may have changed. What could not be paid stays a debt, is listed, and keeps the target.

local M = {}

local clause = require("engine.clause")
local guard = require("native.guard")
local hold = require("engine.hold")
local task = require("native.task")

local GRACE = 10 * 60 * 1000

local Stack = {}
Stack.__index = Stack

function M.new()
  return setmetatable({ entries = {}, by_key = {} }, Stack)
end

local function key_of(step, item_key) return step.id .. "\0" .. (item_key or "") end

--- The step's act is about to begin (again): it owes what it declares.
---@param step table
---@param item any nil for a step without items
---@param settled table|nil {undo=, after=} what a run that is resumed has paid already
function Stack:owe(step, item, settled)
  local clauses = step.clauses
  if not (clauses.undo or clauses.after) then return end
  local key = key_of(step, clause.key_of(item))
  local entry = self.by_key[key]
  if not entry then
    entry = { step = step, item = item }
    self.by_key[key], self.entries[#self.entries + 1] = entry, entry
  end
  entry.undo = clauses.undo ~= nil and not (settled and settled.undo)
  entry.after = clauses.after ~= nil and not (settled and settled.after)
end

--- Everything that is still owed: list of {step, item, clause}. An undo that failed is owed, one that was not asked for is not.
function Stack:debts(with_undo)
  local list = {}
  for i = #self.entries, 1, -1 do
    local entry = self.entries[i]
    if entry.undo and (with_undo or entry.half_undone) then list[#list + 1] = { step = entry.step, item = entry.item, clause = "undo" } end
    if entry.after then list[#list + 1] = { step = entry.step, item = entry.item, clause = "after" } end
  end
  return list
end

-- An undo that nobody began a step for (neap undo) writes too: the targets are held before it as before an act.
local function pay(run, entry, name)
  guard.mode("run")
  hold.hold(run)
  local before = task.act(run.record:event("owed", entry.step.id, { clause = name, item = run:key_of(entry.item), number = entry.step.number }))
  run.record:sync()
  run.paying = true
  local called, ok, err = run:working(clause.call, run, entry.step, name, { item = entry.item, within = entry.step.within or GRACE })
  run.paying = false
  task.act(before)
  if not called then ok, err = false, clause.error_of(ok, entry.step) end
  run.record:event("settled", entry.step.id, { clause = name, item = run:key_of(entry.item), status = ok and "ok" or "failed",
    error = not ok and { code = err.code, message = err.message, hint = err.hint } or nil })
  run.record:sync()
  if ok then entry[name] = false end
  if name == "undo" then entry.half_undone = not ok end
  return ok, err
end

--- Pay one clause of what a step, or one of its items, owes.
---@return boolean ok
---@return table|nil err
function Stack:pay(run, step, item_key, name)
  return pay(run, self.by_key[key_of(step, item_key)], name)
end

--- It was paid without us: a human says so.
function Stack:paid(step, item_key, name)
  self.by_key[key_of(step, item_key)][name] = false
end

--- Pay, newest first. An undo that fails stops the undoing below it: what is older may stand on it. Every after is still tried.
---@param run table
---@param with_undo boolean
---@return boolean all_paid
---@return table|nil first_error
function Stack:unwind(run, with_undo)
  local first
  for i = #self.entries, 1, -1 do
    local entry = self.entries[i]
    if with_undo and entry.undo then
      local ok, err = pay(run, entry, "undo")
      if not ok then first, with_undo = first or err, false end
    end
    if entry.after then
      local ok, err = pay(run, entry, "after")
      if not ok then first = first or err end
    end
  end
  return first == nil, first
end

return M
