-- `neap watch`: first what is recorded, then what happens. The socket of the run only says that there
-- is news; the events themselves are read from the journal, so that a watcher can never be shown
-- something that is not durable, and misses nothing between the two.
local journal = require "native.journal"
local raise = require "core.raise"
local runs = require "command.runs"
local task = require "native.task"
local view = require "command.view"
local watch = require "native.watch"
local watchers = require "command.watchers"

local M = {}

local poll_ms = 500

-- Shows the records after `seq`; returns the newest seq and whether the run has ended.
local function catch_up(state, run, seq, shown, ended)
  local records, err = journal.read(state, run, seq)
  if not records then error(err, 0) end
  for _, e in ipairs(records) do
    shown:event(e)
    seq = e.seq
    if e.kind == "end" then ended = e.body elseif e.kind == "resume" then ended = nil end
  end
  return seq, ended
end

-- Waits until there may be news: a line from the run's socket, or a moment when it has none.
local function wait_for_news(client)
  if client then
    if client:line() then return client end
    client:close()
  end
  task.sleep(poll_ms)
  return nil
end

-- Nobody writes the journal of a run that was killed; what it wrote last may have come after our last look.
local function look_again(state, run, seq, shown)
  local ended
  seq, ended = catch_up(state, run, seq, shown)
  if ended then return seq, ended end
  return raise("unknown", ("run %s died: nobody writes its journal any more"):format(run), ("Go on with: neap resume %s"):format(run))
end

---@param operands string[]
---@param _ Parsed
---@param context table
---@return integer exit code of the run, 0 when it goes on without us
function M.run(operands, _, context)
  local row = runs.find(operands[1], context)
  local shown = view.new(context)
  return view.while_open(shown, function()
    local client = row.status == "running" and watch.connect(watchers.path(context.state, row.run)) or nil
    local seq, ended = catch_up(context.state, row.run, 0, shown)
    while not ended do
      if not client and not journal.is_written(context.state, row.run) then
        seq, ended = look_again(context.state, row.run, seq, shown)
      else
        client = wait_for_news(client)
        seq, ended = catch_up(context.state, row.run, seq, shown, ended)
      end
    end
    if client then client:close() end
    return ended.exit or 0
  end)
end

return M
