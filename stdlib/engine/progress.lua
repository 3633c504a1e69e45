--- Bytes on their way, for the screen: never recorded, never waited for.
--
-- A client that moves a stream hands over a function that says how far it is; a task of the engine asks it twice a second
-- and tells the view. The rate is that of the last five seconds, because the mean since the beginning
-- hides a stall.

local M = {}

local context = require("engine.context")
local task = require("native.task")

local EVERY_MS, WINDOW_MS = 500, 5000

-- Bytes per second over the window; nil until there are two samples in it.
local function rate_of(samples, now, bytes)
  samples[#samples + 1] = { at = now, bytes = bytes }
  while #samples > 2 and now - samples[1].at > WINDOW_MS do table.remove(samples, 1) end
  local span = now - samples[1].at
  return span > 0 and (bytes - samples[1].bytes) * 1000 // span or nil
end

local function follow(c, sample)
  local samples = {}
  while true do
    task.sleep(EVERY_MS)
    local bytes, total, text = sample()
    c.run:progressed { step = c.step.id, bytes = bytes, total = total, rate = rate_of(samples, task.now_ms(), bytes), text = text }
  end
end

--- Follow a stream until the value this returns is closed: local following <close> = watch(function () return stream:moved() end)
---@param sample fun(): integer, integer|nil, string|nil bytes so far, all of them where that is known, what moves
---@return table|nil closable
function M.watch(sample)
  local c = context.current()
  if not c or not c.run.progressed then return nil end
  local follower = task.spawn(follow, c, sample)
  return setmetatable({}, { __close = function () follower:cancel("the stream has ended") end })
end

return M
