-- screen.lua: what a terminal shows after it has received some bytes, and that page with everything masked that differs
-- from run to run. It knows the few sequences that neap writes; any other one is an error, so a new one is noticed.

local system = require "native.system"

local M = {}

local function put(lines, row, column, char)
  local line = lines[row] or {}
  lines[row] = line
  for c = #line + 1, column - 1 do line[c] = " " end
  line[column] = char
end

local function clear_below(lines, row, column)
  for r = #lines, row + 1, -1 do lines[r] = nil end
  for c = #(lines[row] or {}), column, -1 do lines[row][c] = nil end
end

--- The whole page, the scrollback included, as text.
---@param bytes string
---@param columns integer
---@return string
function M.page(bytes, columns)
  local lines, row, column, at = {}, 1, 1, 1
  while at <= #bytes do
    local numbers, final, next_at = bytes:match("^\27%[([%d;]*)(%a)()", at)
    if final == "A" then row = math.max(row - (tonumber(numbers) or 1), 1)
    elseif final == "J" and numbers == "" then clear_below(lines, row, column)
    elseif final and final ~= "m" then error(("an unknown sequence: ESC[%s%s"):format(numbers, final), 2)
    elseif not final then
      local char = bytes:match("^[%z\1-\127\194-\244][\128-\191]*", at)
      next_at = at + #char
      if char == "\r" then column = 1
      elseif char == "\n" then row = row + 1
      else
        if column > columns then row, column = row + 1, 1 end
        put(lines, row, column, char)
        column = column + 1
      end
    end
    at = next_at
  end
  local out = {}
  for r = 1, math.max(row, #lines) do out[r] = (table.concat(lines[r] or {}):gsub("%s+$", "")) end
  return (table.concat(out, "\n"):gsub("\n+$", "\n"))
end

-- Order matters: what holds another one comes first.
local masks = {
  { "PostgreSQL [%d.]+ %b() on 127%.0%.0%.1:%d+", "PostgreSQL VERSION on HOST" }, { "PostgreSQL [%d.]+ on 127%.0%.0%.1:%d+", "PostgreSQL VERSION on HOST" },
  { " +run (%u%u%u%u%u%u%u%u%u%u%u%u)", "  run %1" }, { "pg:%d+/", "pg:SYSTEM/" }, { "%d%d%d%d%-%d%d%-%d%d %d%d:%d%d", "DATE" }, { "%d%d:%d%d:%d%dZ", "HH:MM:SSZ" },
  { " +%d[%d.]* m?s\n", " TIME\n" }, { "(%a) %d[%d.]* m?s%f[%A]", "%1 TIME" }, { " +%d[%d.]* m?s ", " TIME " },
  { "DATE:%d%dZ", "DATE" }, { "head %x+", "head HASH" },
}

-- Of a table, whose columns are as wide as what is masked.
local of_tables = { { "─[─\x80-\xbf\xe2┼]+\n", "─\n" }, { " +│", " │" } }

local function plain(text) return (text:gsub("%p", "%%%0")) end

--- The page without times, ids, paths, names of this machine and what follows from their width.
---@param page string
---@param more? string[][] plain texts and what stands for them, in this order
---@return string
function M.mask(page, more)
  local user, host = system.user(), system.host()
  local here = { { user .. " on " .. host, "USER on HOST" }, { " · " .. user, " · USER" }, { " - " .. user .. "\n", " - USER\n" }, { "│ " .. user .. " ", "│ USER " } }
  for _, list in ipairs { more or {}, here } do
    for _, pair in ipairs(list) do page = page:gsub(plain(pair[1]), pair[2]) end
  end
  for _, mask in ipairs(masks) do page = page:gsub(mask[1], mask[2]) end
  for _, mask in ipairs(page:find("─┼─", 1, true) and of_tables or {}) do page = page:gsub(mask[1], mask[2]) end
  return page
end

return M
