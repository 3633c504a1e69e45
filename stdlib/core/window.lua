-- A maintenance window: "Sat,Sun 02:00-04:00" or "22:30-01:00", in UTC. Days are those on which the window
-- opens; one that ends before it begins goes over midnight. Rejected: local time, which has an hour that
-- happens twice and one that never does, and cron expressions, which name moments and not spans.
local raise = require "core.raise"

local M = {}

local days = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local day_minutes = 24 * 60

local function refuse(text)
  raise("config", ('window "%s" is not a window'):format(text), 'Write it as "02:00-04:00" or "Sat,Sun 22:00-01:30", in UTC.')
end

local function minutes_of(hours, minutes, text)
  local h, m = tonumber(hours), tonumber(minutes)
  if h > 23 or m > 59 then refuse(text) end
  return h * 60 + m
end

local function days_of(list, text)
  local set = {}
  for word in list:gmatch("[^,%s]+") do
    local found
    for n, day in ipairs(days) do if day:lower() == word:sub(1, 3):lower() then found = n - 1 end end
    if not found then refuse(text) end
    set[found] = true
  end
  return next(set) and set or nil
end

---@param text string
---@return {from: integer, to: integer, days: table<integer, boolean>|nil}
function M.parse(text)
  local list, h1, m1, h2, m2 = text:match("^%s*([%a,%s]-)%s*(%d%d):(%d%d)%s*%-%s*(%d%d):(%d%d)%s*$")
  if not list then refuse(text) end
  local from, to = minutes_of(h1, m1, text), minutes_of(h2, m2, text)
  if from == to then refuse(text) end
  return { from = from, to = to, days = days_of(list, text) }
end

---Is the moment inside the window? The window of the day before counts when it goes over midnight.
---@param window table
---@param wall_ms integer milliseconds since 1970, UTC
---@return boolean
function M.holds(window, wall_ms)
  local minute = wall_ms // 60000
  local today = (minute // day_minutes + 4) % 7          -- 1970-01-01 was a Thursday
  local now = minute % day_minutes
  local function opens(day) return not window.days or window.days[day % 7] == true end
  if window.from < window.to then return opens(today) and now >= window.from and now < window.to end
  return (opens(today) and now >= window.from) or (opens(today + 6) and now < window.to)
end

--- The window that is open at this moment, or else the next one.
---@param window table
---@param wall_ms integer milliseconds since 1970, UTC
---@return integer opens milliseconds since 1970
---@return integer closes the first moment after it
function M.span(window, wall_ms)
  local minute = 60000
  local length = window.to - window.from + (window.to < window.from and day_minutes or 0)
  local today = wall_ms // (day_minutes * minute)
  for day = today - 1, today + 8 do
    local opens = (day * day_minutes + window.from) * minute
    local closes = opens + length * minute
    if closes > wall_ms and (not window.days or window.days[(day + 4) % 7]) then return opens, closes end
  end
end

return M
