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

return M
