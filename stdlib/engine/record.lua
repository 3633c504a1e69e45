--- The one stream of events: what the journal stores is what the views show, and nothing else.
--
-- An event is shown after it is durable, never before: what was seen on the screen cannot be lost by kill -9. It is shown as soon as the
-- run waits for something; before a question it is shown at once.

local M = {}

local journal = require("native.journal")

local Record = {}
Record.__index = Record

--- Append one event; returns its seq. It is durable after the next `sync` (or within milliseconds by itself).
---@param kind string
---@param step string step id, "" outside one
---@param body table plain data; it belongs to the record from now on
---@param whole? boolean and so do the tables in it: nobody else has them, or will ever change them
function Record:event(kind, step, body, whole)
  return self.journal:append(kind, step, body, whole)
end

--- Wait until everything appended so far is durable. Raises {journal} when it cannot be.
function Record:sync()
  self.journal:flush()
end

--- Show what is durable: for what must not be on the screen before it.
function Record:show()
  self.journal:tell()
end

--- Start recording.
---@param handle userdata an open native journal
---@param listeners fun(event: table)[] views and watchers
function M.new(handle, listeners)
  journal.on_durable(function (records)
    for _, event in ipairs(records) do
      for _, listener in ipairs(listeners) do listener(event) end
    end
  end)
  return setmetatable({ journal = handle }, Record)
end

return M
