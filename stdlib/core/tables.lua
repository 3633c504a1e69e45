-- Query results and lists the way psql prints them: a header, a rule, cells aligned by column,
-- numbers to the right. NULL is shown as a sign of its own, never as an empty cell, because the
-- difference matters at night. A table wider than the terminal gives up width where it is widest,
-- and every cut cell says so with an ellipsis.
local text = require "core.text"

local M = {}

local unicode = { null = "∅", ellipsis = "…", bar = "│", rule = "─", cross = "┼" }
local plain = { null = "NULL", ellipsis = "...", bar = "|", rule = "-", cross = "+" }
local narrowest = 4

local function is_number(value)
  return type(value) == "number" or (type(value) == "string" and value:match("^%-?%d[%d ]*%.?%d*$") ~= nil)
end

-- Rows may hold holes (nil) as well as `null`; `columns` says how long they are.
local function cell_text(value, options, signs)
  if value == nil or value == options.null then return signs.null end
  if type(value) == "boolean" then return value and "t" or "f" end
  local clean = options.escape and options.escape(tostring(value)) or tostring(value)
  return (clean:gsub("\n", " "))
end

local function measure_columns(headers, cells, measure)
  local widths = {}
  for c, header in ipairs(headers) do
    widths[c] = measure(header)
    for _, row in ipairs(cells) do widths[c] = math.max(widths[c], measure(row[c])) end
  end
  return widths
end

-- Takes columns away from the widest column until the line fits or nothing is left to take.
local function squeeze(widths, room)
  local total = 0
  for _, w in ipairs(widths) do total = total + w end
  while total > room do
    local widest = 1
    for c, w in ipairs(widths) do if w > widths[widest] then widest = c end end
    if widths[widest] <= narrowest then return end
    widths[widest], total = widths[widest] - 1, total - 1
  end
end

local function numeric_columns(count, rows, options)
  local numeric = {}
  for c = 1, count do
    local seen, all = false, true
    for _, row in ipairs(rows) do
      local value = row[c]
      if value ~= nil and value ~= options.null then seen, all = true, all and is_number(value) end
    end
    numeric[c] = seen and all
  end
  return numeric
end

local function line_of(row, widths, right, options, signs)
  local parts = {}
  for c, w in ipairs(widths) do
    local cell = text.cut(row[c], w, options.measure, signs.ellipsis)
    parts[c] = text.pad(cell, w, options.measure, right[c])
  end
  return (" " .. table.concat(parts, " " .. signs.bar .. " ")):gsub("%s+$", "")
end

local function rule_of(widths, signs)
  local parts = {}
  for c, w in ipairs(widths) do parts[c] = signs.rule:rep(w + 2) end
  return table.concat(parts, signs.cross)
end

---@class TableOptions
---@field width? integer columns of the terminal; unlimited when omitted
---@field ascii? boolean
---@field measure? fun(s: string): integer
---@field escape? fun(s: string): string for cells that come from outside
---@field null? any the value that stands for NULL beside nil
---@field count? boolean a last line "(3 rows)"

---A table as lines.
---@param headers string[]
---@param rows any[][]
---@param options? TableOptions
---@return string[]
function M.lines(headers, rows, options)
  options = options or {}
  options = setmetatable({ measure = options.measure or text.width }, { __index = options })
  local signs = options.ascii and plain or unicode
  local cells = {}
  for r, row in ipairs(rows) do
    cells[r] = {}
    for c = 1, #headers do cells[r][c] = cell_text(row[c], options, signs) end
  end
  local widths = measure_columns(headers, cells, options.measure)
  if options.width then squeeze(widths, options.width - 3 * #widths + 1) end
  local right = numeric_columns(#headers, rows, options)
  local lines = { line_of(headers, widths, {}, options, signs), rule_of(widths, signs) }
  for _, row in ipairs(cells) do lines[#lines + 1] = line_of(row, widths, right, options, signs) end
  if options.count then lines[#lines + 1] = ("(%s)"):format(text.count(#rows, "row")) end
  return lines
end

---One record below the other, for rows that are wider than the terminal.
---@param headers string[]
---@param rows any[][]
---@param options? TableOptions
---@return string[]
function M.expanded(headers, rows, options)
  options = options or {}
  local measure, signs, lines = options.measure or text.width, options.ascii and plain or unicode, {}
  local widest = 0
  for _, header in ipairs(headers) do widest = math.max(widest, measure(header)) end
  for r, row in ipairs(rows) do
    lines[#lines + 1] = ("%s%s[ record %d ]"):format(signs.rule, signs.rule, r)
    for c, header in ipairs(headers) do
      lines[#lines + 1] = ("%s %s %s"):format(text.pad(header, widest, measure), signs.bar, cell_text(row[c], options, signs))
    end
  end
  return lines
end

return M
