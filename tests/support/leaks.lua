-- leaks.lua: what a test left behind. A test that passes and leaks has failed.
--
-- Looked at after every `it`: handles of the loop, tasks, child processes, files in TMPDIR, and intents that
-- T.run's recorder saw without an outcome. A spec that starts a server for all its tests does so in `setup`;
-- what exists before the `it` is not its fault. A spec whose subject is
-- an open intent ends with T.forget_records().

local suite = require "tests.support.suite"

local M = {}

---@class Snapshot
---@field handles integer
---@field tasks integer
---@field children table<integer, string>
---@field files table<string, boolean> what a before_each made; its after_each comes after our look

--- What is there now.
---@return Snapshot
function M.snapshot()
  T.forget_records()
  local files = {}
  for _, name in ipairs(suite.litter()) do files[name] = true end
  return { handles = T.handles(), tasks = T.tasks(), children = T.children(), files = files }
end

local function new_children(before)
  local found = {}
  for pid, name in pairs(T.children()) do
    if not before[pid] and not suite.kept[pid] then found[#found + 1] = ("%s (%d)"):format(name, pid) end
  end
  table.sort(found)
  return found
end

--- What was left since the snapshot, as sentences; empty when nothing was.
---@param before Snapshot
---@return string[]
function M.since(before)
  collectgarbage()
  local found = {}
  local handles, tasks, intents = T.handles() - before.handles, T.tasks() - before.tasks, T.open_intents()
  if handles > 0 or tasks > 0 or intents > 0 then          -- what only a finalizer held is garbage of the next round
    collectgarbage()
    handles, tasks, intents = T.handles() - before.handles, T.tasks() - before.tasks, T.open_intents()
  end
  if handles > 0 then found[#found + 1] = ("%d handles are open"):format(handles) end
  if tasks > 0 then found[#found + 1] = ("%d tasks are alive"):format(tasks) end
  if intents > 0 then found[#found + 1] = ("%d intents have no outcome"):format(intents) end
  for _, child in ipairs(new_children(before.children)) do found[#found + 1] = "a child process is there: " .. child end
  for _, name in ipairs(suite.litter()) do
    if not before.files[name] then
      found[#found + 1] = "a temporary file is there: " .. name
      T.remove_tree(suite.directory() .. "/tmp/" .. name)
    end
  end
  return found
end

return M
