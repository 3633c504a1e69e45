-- Sizes with binary units, always with the i: 1 KiB is 1024 bytes and nothing else. Three
-- significant digits: enough to compare, few enough to read.
local raise = require "core.raise"

local M = {}

local units = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" }

---Bytes as "512 B", "61.0 MiB", "1.84 GiB".
---@param n number
---@return string
function M.format(n)
  if n < 0 then return "-" .. M.format(-n) end
  if n < 1024 then return ("%d B"):format(n // 1) end
  local value, unit = n / 1024, 1
  while value >= 999.5 and unit < #units do value, unit = value / 1024, unit + 1 end
  local shape = value < 9.995 and "%.2f %s" or value < 99.95 and "%.1f %s" or "%.0f %s"
  return shape:format(value, units[unit])
end

---A rate: "61.0 MiB/s".
---@param per_second number bytes
---@return string
function M.rate(per_second)
  return M.format(per_second) .. "/s"
end

---Parses "4GiB", "512 MiB", "100B" into bytes.
---@param text string
---@return integer
function M.parse(text)
  local number, unit = tostring(text):match("^%s*(%d+%.?%d*)%s*(%a+)%s*$")
  if unit == "B" then return math.floor(tonumber(number)) end
  for power, name in ipairs(units) do
    if unit == name then return math.floor(tonumber(number) * 1024 ^ power) end
  end
  return raise("usage", ('"%s" is not a size'):format(tostring(text)), 'Write a number with a binary unit: "512 MiB", "4GiB".')
end

return M
