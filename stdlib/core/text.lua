-- Words: measuring, cutting, wrapping, filling, counting and guessing what was meant. Pure: where
-- the width of a character matters the caller gives `measure`; without one a character is one
-- column wide, which is right for everything except East Asian text and emoji.
local M = {}

---Width in columns when every character is one column; broken UTF-8 counts bytes.
---@param s string
---@return integer
function M.width(s)
  return utf8.len(s) or #s
end

---@param map table
---@return string[] keys, sorted
function M.keys(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

---"1 step", "2 steps"; `many` for words that do not take an s.
---@param n integer
---@param one string
---@param many? string
---@return string
function M.count(n, one, many)
  return ("%d %s"):format(n, n == 1 and one or many or one .. "s")
end

---"a", "a and b", "a, b and c".
---@param list string[]
---@return string
function M.join(list)
  if #list < 2 then return list[1] or "" end
  return table.concat(list, ", ", 1, #list - 1) .. " and " .. list[#list]
end

---Integers with a thin gap between thousands: "14 213 887".
---@param n integer
---@return string
function M.number(n)
  local digits = ("%d"):format(n)
  local sign, body = digits:match("^(-?)(%d+)$")
  body = body:reverse():gsub("(%d%d%d)", "%1 "):reverse():gsub("^ ", "")
  return sign .. body
end

-- One row of the distance matrix from the one above it; also remembers the row before that one,
-- because two swapped letters are one mistake.
local function next_row(a, i, b, above, before)
  local row = { [0] = i }
  for j = 1, #b do
    local cost = a:byte(i) == b:byte(j) and 0 or 1
    local best = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
    if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
      best = math.min(best, before[j - 2] + 1)
    end
    row[j] = best
  end
  return row
end

---Edit distance (insert, remove, replace, swap neighbours), in bytes.
---@param a string
---@param b string
---@return integer
function M.distance(a, b)
  local row, before = {}, nil
  for j = 0, #b do row[j] = j end
  for i = 1, #a do row, before = next_row(a, i, b, row, before), row end
  return row[#b]
end

---The name that was probably meant: the nearest within two edits, and fewer than the word has letters.
---@param word string
---@param names string[]
---@return string|nil
function M.nearest(word, names)
  local best, best_distance = nil, 3
  for _, name in ipairs(names) do
    if math.abs(#name - #word) <= 2 then
      local d = M.distance(word:lower(), name:lower())
      if d < best_distance and d < math.max(#name, #word) then best, best_distance = name, d end
    end
  end
  return best
end

---The hint after a name that is not known: the one that was probably meant, else all there are.
---@param word any
---@param names string[]
---@return string
function M.suggest(word, names)
  local near = M.nearest(tostring(word), names)
  return near and ("Did you mean %s?"):format(near) or ("It can be one of: %s."):format(table.concat(names, ", "))
end

---Fills "{name}" from `values`; a name that is not there stays as written.
---@param template string
---@param values table<string, any>
---@return string
function M.fill(template, values)
  return (template:gsub("{([%a_][%w_]*)}", function(name)
    local value = values[name]
    if value == nil then return nil end
    return tostring(value)
  end))
end

---A text as a pattern that matches exactly it.
---@param s string
---@return string
function M.escape_pattern(s)
  return (s:gsub("%p", "%%%0"))
end

---Cuts `s` to `columns`, the last of them showing that something is missing.
---@param s string
---@param columns integer
---@param measure? fun(s: string): integer
---@param ellipsis? string
---@return string
function M.cut(s, columns, measure, ellipsis)
  measure, ellipsis = measure or M.width, ellipsis or "…"
  if measure(s) <= columns then return s end
  local room = columns - measure(ellipsis)
  if room < 0 then return ellipsis:sub(1, math.max(columns, 0)) end
  local kept, used = {}, 0
  for char in s:gmatch(utf8.charpattern) do
    used = used + measure(char)
    if used > room then break end
    kept[#kept + 1] = char
  end
  return table.concat(kept) .. ellipsis
end

---Pads with spaces on the right (or left) to `columns`; never cuts.
---@param s string
---@param columns integer
---@param measure? fun(s: string): integer
---@param right? boolean align to the right
---@return string
function M.pad(s, columns, measure, right)
  local gap = (" "):rep(columns - (measure or M.width)(s))
  return right and gap .. s or s .. gap
end

-- A word longer than the line is broken into full lines, the rest is returned.
local function break_word(lines, word, columns, measure)
  while measure(word) > columns do
    local piece = M.cut(word, columns, measure, "")
    if piece == "" then break end
    lines[#lines + 1] = piece
    word = word:sub(#piece + 1)
  end
  return word
end

local function wrap_paragraph(lines, paragraph, columns, measure)
  local indent = paragraph:match("^ *")
  local line = nil
  for word in paragraph:gmatch("%S+") do
    local longer = line and line .. " " .. word or indent .. word
    if line and measure(longer) > columns then
      lines[#lines + 1] = line
      longer = word
    end
    line = break_word(lines, longer, columns, measure)
  end
  lines[#lines + 1] = line or ""
end

---Wraps at spaces; keeps the line breaks that are there and breaks words that fit nowhere.
---@param s string
---@param columns integer
---@param measure? fun(s: string): integer
---@return string[]
function M.wrap(s, columns, measure)
  local lines = {}
  for paragraph in (s .. "\n"):gmatch("(.-)\n") do
    wrap_paragraph(lines, paragraph, math.max(columns, 1), measure or M.width)
  end
  while #lines > 1 and lines[#lines] == "" do lines[#lines] = nil end
  return lines
end

---The first sentence of a text, without its line breaks.
---@param s string
---@return string
function M.sentence(s)
  local flat = s:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
  return flat:match("^(.-[%.!?]) %u") or flat
end

return M
