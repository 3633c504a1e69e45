-- Moments of wall-clock time as text, always in UTC and saying so: a log is read beside other logs.
-- Pure arithmetic, because the state that runbooks live in has no clock of its own.
local M = {}

-- Days since 1970-01-01 as year, month, day (the calendar repeats every 146097 days).
local function civil(days)
  local z = days + 719468
  local era = z // 146097
  local doe = z - era * 146097
  local yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
  local doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
  local mp = (5 * doy + 2) // 153
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - (153 * mp + 2) // 5 + 1
end

---"2026-04-25"
---@param ms integer milliseconds since 1970
---@return string
function M.date(ms)
  return ("%04d-%02d-%02d"):format(civil(ms // 86400000))
end

---"02:00:05"
---@param ms integer
---@return string
function M.time(ms)
  local seconds = ms // 1000 % 86400
  return ("%02d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60)
end

---"2026-04-25 02:00:05Z"
---@param ms integer
---@return string
function M.stamp(ms)
  return M.date(ms) .. " " .. M.time(ms) .. "Z"
end

---"20260425T020005Z", for the names of what is made then
---@param ms integer
---@return string
function M.compact(ms)
  return (M.date(ms) .. "T" .. M.time(ms)):gsub("[-:]", "") .. "Z"
end

-- Days since 1970-01-01 of a day of the calendar; nil where there is no such day.
local function days_of(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = y // 400
  local yoe = y - era * 400
  local doy = (153 * (month > 2 and month - 3 or month + 9) + 2) // 5 + day - 1
  local days = era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
  local back, m, d = civil(days)
  return back == year and m == month and d == day and days or nil
end

local HINT <const> = "Write it with its zone: 2026-04-25 02:00:05Z, or 2026-04-25T04:00:05.5+02:00."

-- The zone as microseconds ahead of UTC. A name is no answer: "CST" is three zones, and an hour in autumn is there twice.
local function offset_of(zone)
  if zone == "" then return nil, "has no time zone" end
  if zone:upper() == "Z" or zone:upper() == "UTC" or zone:upper() == "GMT" then return 0 end
  local sign, hours, minutes = zone:match("^([+-])(%d%d):?(%d?%d?)$")
  if not sign or #minutes == 1 or tonumber(hours) > 15 or (tonumber(minutes) or 0) > 59 then
    return nil, ("has the time zone \"%s\", which is not exact"):format(zone)
  end
  return (tonumber(hours) * 60 + (tonumber(minutes) or 0)) * (sign == "+" and 60000000 or -60000000)
end

---A moment as people and PostgreSQL write it, in microseconds since 1970. Only what names one moment and no other is taken.
---@param text string "2026-04-25 02:00:05.123456+02"
---@return integer|nil microseconds nil, why not, and what to write instead
---@effect pure
function M.parse(text)
  local y, mo, d, h, mi, rest = text:match("^%s*(%d%d%d%d)%-(%d%d)%-(%d%d)[ Tt](%d%d):(%d%d)(.-)%s*$")
  if not y then return nil, "is not a time", HINT end
  local s, fraction, zone = rest:match("^:(%d%d)%.?(%d*)%s*(.*)$")
  if not s then s, fraction, zone = "0", "", rest:match("^%s*(.*)$") end
  local days = days_of(tonumber(y), tonumber(mo), tonumber(d))
  if not days or tonumber(h) > 23 or tonumber(mi) > 59 or tonumber(s) > 59 or #fraction > 6 then return nil, "is not a time", HINT end
  local ahead, why = offset_of(zone)
  if not ahead then return nil, why, HINT end
  local seconds = days * 86400 + tonumber(h) * 3600 + tonumber(mi) * 60 + tonumber(s)
  return math.tointeger(seconds * 1000000 + tonumber((fraction .. "000000"):sub(1, 6)) - ahead)
end

---"2026-04-25 02:00:05.123456Z": as exact as a transaction's end; without the fraction where it is none.
---@param us integer microseconds since 1970
---@return string
---@effect pure
function M.exact(us)
  local fraction = us % 1000000
  local stamp = M.date(us // 1000) .. " " .. M.time(us // 1000)
  return fraction == 0 and stamp .. "Z" or ("%s.%06dZ"):format(stamp, fraction)
end

---The moment that compact() wrote, in milliseconds since 1970; nil for any other text
---@param text string
---@return integer|nil
---@effect pure
function M.of_compact(text)
  local date, time = text:match("^(%d%d%d%d%d%d%d%d)T(%d%d%d%d%d%d)Z$")
  if not date then return nil end
  local exact = M.parse(("%s-%s-%s %s:%s:%sZ"):format(date:sub(1, 4), date:sub(5, 6), date:sub(7, 8), time:sub(1, 2), time:sub(3, 4), time:sub(5, 6)))
  return exact and exact // 1000
end

return M
