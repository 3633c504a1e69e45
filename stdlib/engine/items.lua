--- Several things of one kind side by side: the steps of `parallel`, the items of `each`.
--
-- What fails does not stop what is under way: that is finished, so that its outcome is known. Then one error says it for all, with the
-- gravest code among them, because that decides what may happen next.

local M = {}

local clause = require("engine.clause")
local task = require("native.task")

local SHOWN <const> = 5      -- failures that are quoted

-- Of two failures side by side the one that decides what may happen next: nothing is unwound that nobody can record,
-- or while somebody's outcome is unknown.
local GRAVITY = { journal = 4, unknown = 3, cancelled = 2 }

local function graver(a, b)
  if not a or (GRAVITY[b.code] or 1) > (GRAVITY[a.code] or 1) then return b end
  return a
end

--- Run `count` tasks of the same worker and wait for all of them; raises the gravest failure. One alone is done here and now. The
--- worker is given a table whose `failure` says that one of them has failed, so that it begins nothing new.
function M.side_by_side(count, worker)
  local tasks, group = {}, {}
  if count == 1 then return worker(group) end
  for i = 1, count do
    tasks[i] = task.spawn(function ()
      local ok, err = pcall(worker, group)
      if not ok then group.failure = graver(group.failure, clause.error_of(err)) end
    end)
  end
  for _, t in ipairs(tasks) do
    local joined, err = pcall(t.join, t)
    if not joined then                             -- it is us who were cancelled
      for _, other in ipairs(tasks) do other:cancel("the group was stopped") end
      pcall(t.join, t)
      group.failure = graver(group.failure, clause.error_of(err))
    end
  end
  if group.failure then error(group.failure, 0) end
end

--- Does nobody know what became of it, or can nobody write it down?
function M.is_grave(err) return GRAVITY[err.code] ~= nil end

-- One error that says of every item that failed what it said.
local function failure_of(failures, all)
  if #failures == 0 then return nil end
  local gravest, words_of = nil, {}
  for i, f in ipairs(failures) do
    gravest = graver(gravest, f.err)
    if i <= SHOWN then words_of[i] = ("%s: %s"):format(f.key, f.err.message) end
  end
  if all == 1 then return gravest end
  if #failures > SHOWN then words_of[SHOWN + 1] = ("and %d more"):format(#failures - SHOWN) end
  gravest.message = #failures == 1 and words_of[1] or ("%d of %d items failed: %s"):format(#failures, all, table.concat(words_of, "; "))
  return gravest
end

--- Do `one` for every item, at most `limit` of the step at a time, until `stop_after` of them have failed. Raises when one has.
---@param step table
---@param items any[]
---@param one fun(item: any) raises when the item failed
---@param failed? fun(item: any, err: table) told at once
function M.each(step, items, one, failed)
  local next_item, failures, most = 1, {}, step.clauses.stop_after or 1
  M.side_by_side(math.min(step.clauses.limit or 1, math.max(#items, 1)), function ()
    while next_item <= #items and #failures < most do
      local item = items[next_item]
      next_item = next_item + 1
      local ok, err = pcall(one, item)
      if not ok then
        err = clause.error_of(err, step)
        failures[#failures + 1] = { key = clause.key_of(item), err = err }
        if failed then failed(item, err) end
        if M.is_grave(err) then most = 0 end
      end
    end
  end)
  local failure = failure_of(failures, #items)
  if failure then error(failure, 0) end
end

return M
