-- A table that a runbook reported, as lines: its title, the rows as psql would align them, its remark. One record
-- below the other when even squeezed columns would not fit.
local null = require("native.value").null
local tables = require "core.tables"

local M = {}

local narrowest = 6

local function escape_with(style)
  return function(s) return style:clean(s) end
end

---@param grid table {title, columns, rows, remark}
---@param style table
---@param indent integer columns to the left of every line
---@return string[]
function M.lines(grid, style, indent)
  local room, lead = style.width - indent, (" "):rep(indent)
  local options = { width = room, ascii = style.ascii, escape = escape_with(style), null = null,
    measure = function(s) return style:columns(s) end }
  local columns, rows, out = grid.columns or {}, grid.rows or {}, {}
  if grid.title then out[1] = lead .. style:paint("bold", style:clean(grid.title)) end
  if #rows == 0 then
    if #columns > 0 then out[#out + 1] = lead .. " none" end
  else
    local fits = #columns * (narrowest + 3) <= room
    for _, line in ipairs((fits and tables.lines or tables.expanded)(columns, rows, options)) do out[#out + 1] = lead .. line end
  end
  for _, part in ipairs(grid.remark and style:wrap(style:clean(grid.remark), room - 1) or {}) do
    out[#out + 1] = lead .. " " .. style:paint("dim", part)
  end
  out[#out + 1] = ""
  return out
end

return M
