-- A stream on its way, as words: how much, of how much, how fast, how long still. A bar is drawn only
-- where the total is known; a made-up total would be a lie told ten times a second.
local bytes = require "core.bytes"
local duration = require "core.duration"

local M = {}

local function bar(fraction, columns, style)
  fraction = math.max(0, math.min(fraction, 1))
  if style.ascii then
    local full = math.floor(fraction * columns)
    return "[" .. ("#"):rep(full) .. ("."):rep(columns - full) .. "]"
  end
  local eighths = math.floor(fraction * columns * 8)
  local full, rest = eighths // 8, eighths % 8
  local partial = rest > 0 and utf8.char(0x2590 - rest) or ""
  return "▕" .. ("█"):rep(full) .. partial .. (" "):rep(columns - full - (rest > 0 and 1 or 0)) .. "▏"
end

---A progress report as text: a bar only where the total is known, never a made-up one.
---@param p table
---@param style table
---@param room? integer columns; no bar when omitted
---@return string
function M.words(p, style, room)
  local parts, left = {}, nil
  if p.bytes and p.total and p.total > 0 then
    parts[1] = ("%d %%"):format(p.bytes * 100 // p.total)
    parts[2] = bytes.format(p.bytes) .. "/" .. bytes.format(p.total)
    if p.rate and p.rate > 0 then left = "ETA " .. duration.clock((p.total - p.bytes) / p.rate * 1000) end
  elseif p.bytes then
    parts[1] = bytes.format(p.bytes)
  end
  if p.rate and p.rate > 0 then parts[#parts + 1] = bytes.rate(p.rate) end
  parts[#parts + 1] = left
  local facts = table.concat(parts, "  ")
  if room and left and room - style:columns(facts) >= 12 then
    local size = math.min(room - style:columns(facts) - 3, 24)
    facts = bar(p.bytes / p.total, size, style) .. " " .. facts
  end
  return facts
end

return M
