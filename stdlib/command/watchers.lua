-- The two ends of `neap watch`: the server a run keeps for those who look on, and the reading of it.
-- A socket in the run's own directory carries each event as a line of JSON after it was recorded. A
-- watcher that cannot connect reads the journal instead; both show the same events.
local json = require "show.json"
local runs = require "command.runs"
local watch = require "native.watch"

local M = {}
local Server = {}
Server.__index = Server

---@param state string
---@param run string
---@return string
function M.path(state, run)
  return runs.directory(state, run) .. "/watch.sock"
end

---For the engine's context: a server for a run, or nil when there can be none (a path too long, a full
---disk): a run never fails because nobody can watch it.
---@param run table engine run with run_id and ctx
---@return table|nil
function M.server(run)
  local handle = watch.serve(M.path(run.ctx.state, run.run_id))
  if not handle then return nil end
  return setmetatable({ handle = handle }, Server)
end

---@param e table
function Server:event(e)
  if self.handle:count() > 0 then
    self.handle:send(json.line { schema = json.schema, seq = e.seq, at = e.at, kind = e.kind, step = e.step, body = e.body })
  end
end

function Server:close() self.handle:close() end

return M
