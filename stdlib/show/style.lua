-- How things look, in one place: colours, signs and their ASCII twins, and the width of a line.
-- A style knows nothing of runs. Colour is never the only carrier of a meaning: every status has a
-- sign, and without colour the page says the same. The palette is the terminal's own sixteen, so
-- that dark and light backgrounds both work. Everything that was not written by us goes through
-- `clean` before it is measured or printed.
local native = require "native.text"
local text = require "core.text"

local M = {}
local Style = {}
Style.__index = Style

local paints = {
  bold = "1", dim = "2", red = "31", green = "32", yellow = "33", cyan = "36", alarm = "1;31",
}

-- Our own signs and what stands for them where there is only ASCII.
local twins = {
  ["✓"] = "ok", ["▸"] = "->", ["✗"] = "FAIL", ["·"] = "-", ["…"] = "...", ["∅"] = "NULL", ["└"] = "`-", ["│"] = "|",
  ["┌"] = "+", ["─"] = "-", ["→"] = "->", ["↷"] = "skip", ["↶"] = "undo", ["‖"] = "hold", ["■"] = "stop", ["–"] = "-",
  ["‹"] = "<", ["›"] = ">", ["▕"] = "[", ["▏"] = "]",
}

local marks = {
  ok = { "✓", "green" }, already = { "✓", "dim" }, failed = { "✗", "red" }, skipped = { "↷", "yellow" },
  undone = { "↶", "yellow" }, unknown = { "?", "yellow" }, held = { "‖", "yellow" }, cancelled = { "■", "yellow" },
  running = { "▸", "cyan" }, waiting = { "?", "cyan" },
}

---@class StyleOptions
---@field width? integer columns; 80 when omitted
---@field color? boolean
---@field ascii? boolean

---@param options StyleOptions
---@return table style
function M.new(options)
  return setmetatable({
    width = math.max(options.width or 80, 20), color = options.color or false, ascii = options.ascii or false,
    measure = native.width, ellipsis = options.ascii and "..." or "…",
  }, Style)
end

---Text of ours in the signs this style may use.
function Style:say(s)
  if not self.ascii then return s end
  return (s:gsub("[\xc2-\xf4][\x80-\xbf]+", twins))
end

---Text from outside, made harmless; `lines` keeps its line breaks. Secrets are marked here as well, although the journal
---has done it already, because a question, a preview and an early error never were in the journal; and before
---anything is cut or wrapped, because half a secret is not found any more.
function Style:clean(value, lines)
  return self:say(native.escape(native.redact(tostring(value)), lines and { lines = true } or nil))
end

---Paints after measuring: the result must not be measured or cut again.
function Style:paint(name, s)
  if not self.color or s == "" or not paints[name] then return s end
  return "\27[" .. paints[name] .. "m" .. s .. "\27[0m"
end

---@return integer
function Style:columns(s) return self.measure(s) end

function Style:cut(s, columns) return text.cut(s, columns, self.measure, self.ellipsis) end
function Style:pad(s, columns) return text.pad(s, columns, self.measure) end
function Style:lead(s, columns) return text.pad(s, columns, self.measure, true) end
function Style:wrap(s, columns) return text.wrap(s, columns, self.measure) end

---The sign of a status, padded to the width all signs share here, painted.
function Style:mark(status)
  local mark = marks[status]
  local sign, paint = mark and self:say(mark[1]) or "", mark and mark[2]
  return self:paint(paint, sign) .. (" "):rep(self:mark_width() - self.measure(sign))
end

---@return integer columns a sign takes
function Style:mark_width() return self.ascii and 4 or 1 end

---One line with something at its right edge; what does not fit together goes on two lines.
---@param left string unpainted
---@param right string unpainted
---@param paint_left? string
---@param paint_right? string
---@return string[] lines
function Style:ends(left, right, paint_left, paint_right)
  local gap = self.width - self.measure(left) - self.measure(right)
  if right == "" or gap < 2 then
    local lines = {}
    for _, line in ipairs(self:wrap(left, self.width)) do lines[#lines + 1] = self:paint(paint_left, line) end
    if right ~= "" then lines[#lines + 1] = "  " .. self:paint(paint_right, self:cut(right, self.width - 2)) end
    return lines
  end
  return { self:paint(paint_left, left) .. (" "):rep(gap) .. self:paint(paint_right, right) }
end

---A label in a column of its own and a text that wraps beside it; on a narrow page below it.
---@param label string
---@param body string
---@param options? {indent: integer, column: integer, paint: string, label_paint: string}
---@return string[] lines
function Style:labelled(label, body, options)
  options = options or {}
  local indent, column = options.indent or 2, options.column or 12
  local head = (" "):rep(indent) .. self:paint(options.label_paint or "dim", self:pad(label, column)) .. "  "
  local offset, lines = indent + column + 2, {}
  if self.measure(label) > column or self.width - offset < 24 then
    lines[1] = (" "):rep(indent) .. self:paint(options.label_paint or "dim", label)
    head, offset = (" "):rep(indent + 2), indent + 2
  end
  for n, line in ipairs(self:wrap(body, self.width - offset)) do
    lines[#lines + 1] = (n == 1 and head or (" "):rep(offset)) .. self:paint(options.paint, line)
  end
  return lines
end

return M
