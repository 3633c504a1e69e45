-- Durations are words with a unit wherever a person writes them: "250ms", "30s", "1h30m". A bare
-- number is refused, because half of its readers think of seconds and the other half of
-- milliseconds. Inside, a duration is an integer number of milliseconds.
local raise = require "core.raise"

local M = {}

local unit_ms = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }
local longest_ms = 400 * unit_ms.d

local function refuse(text, why)
  raise("usage", ("%s is not a duration: %s"):format(type(text) == "string" and '"' .. text .. '"' or tostring(text), why),
    'Write a number with its unit, largest unit first: "250ms", "30s", "5m", "1h30m", "2d".')
end

local function add_part(text, total, smallest, number, unit)
  local size = unit_ms[unit]
  if not size then refuse(text, ('"%s" is no unit'):format(unit)) end
  if smallest and size >= smallest then refuse(text, "units go from large to small, each once") end
  local value = tonumber(number) * size
  if value ~= math.floor(value) then refuse(text, "finer than a millisecond") end
  return total + math.floor(value), size
end

---Parses "1h30m" into milliseconds.
---@param text string
---@return integer milliseconds
function M.parse(text)
  if type(text) == "number" then refuse(text, "a bare number has no unit") end
  if type(text) ~= "string" then refuse(text, "a " .. type(text) .. " was given") end
  local at, total, smallest = 1, 0, nil
  if text:match("^%d+%.?%d*$") then refuse(text, "a bare number has no unit") end
  while at <= #text do
    local from, to, number, unit = text:find("^%s*(%d+%.?%d*)%s*(%a+)%s*", at)
    if not from or #number > 15 then refuse(text, at == 1 and "it has no number and unit" or ('"%s" is left over'):format(text:sub(at))) end
    total, smallest = add_part(text, total, smallest, number, unit)
    at = to + 1
  end
  if not smallest then refuse(text, "it is empty") end
  if total > longest_ms then refuse(text, "longer than 400 days") end
  return total
end

local function pair(big, big_name, small, small_name)
  if small == 0 then return ("%d %s"):format(big, big_name) end
  return ("%d %s %d %s"):format(big, big_name, small, small_name)
end

---Milliseconds as a person says them: "12 ms", "0.4 s", "5 min 48 s", "1 h 30 min", "2 d 3 h".
---@param ms number
---@return string
function M.format(ms)
  ms = math.floor(ms + 0.5)
  if ms < 0 then return "-" .. M.format(-ms) end
  if ms < 100 then return ("%d ms"):format(ms) end
  if ms < 59950 then return ("%.1f s"):format(ms / 1000) end
  local seconds = (ms + 500) // 1000
  if seconds < 3600 then return pair(seconds // 60, "min", seconds % 60, "s") end
  local minutes = (seconds + 30) // 60
  if minutes < 1440 then return pair(minutes // 60, "h", minutes % 60, "min") end
  local hours = (minutes + 30) // 60
  return pair(hours // 24, "d", hours % 24, "h")
end

---A remaining time as a clock: "0:15", "12:05", "1:02:03".
---@param ms number
---@return string
function M.clock(ms)
  local seconds = math.ceil(ms / 1000)
  if seconds < 3600 then return ("%d:%02d"):format(seconds // 60, seconds % 60) end
  return ("%d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60)
end

return M
