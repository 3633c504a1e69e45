--- What a runbook's text says beside what it does: the comments above its steps, the code of each clause, the truths it checks.
--
-- A reading of the text, not of the model: clauses are functions once they are loaded, and a function shows nobody its words. The text is
-- Lua that has already been loaded, so nothing here judges its grammar; what is not understood is left out, never guessed. Tokens are found
-- as the language has them (long brackets, escapes), because a comment in a string is no comment.
--
-- Rejected: debug.getinfo, which knows lines only (clauses share them), and is not for code that runs beside runbooks.

local M = {}

local OPENS <const> = { ["{"] = true, ["("] = true, ["["] = true, ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local CLOSES <const> = { ["}"] = true, [")"] = true, ["]"] = true, ["end"] = true, ["until"] = true }

-- ---- tokens ----

local function long(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, last = text:find("]" .. level .. "]", at, true)
  return last or #text
end

local function short(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == "\\" then i = i + 1
    elseif c == quote or c == "\n" then return i end
    i = i + 1
  end
  return #text
end

local function token_at(text, at)
  if text:find("^%-%-", at) then
    return "comment", long(text, at + 2) or (text:find("\n", at, true) or #text + 1) - 1
  end
  if text:find("^[\"']", at) then return "string", short(text, at) end
  local last = long(text, at)
  if last then return "string", last end
  last = select(2, text:find("^[%a_][%w_]*", at))
  if last then return "name", last end
  last = select(2, text:find("^%d[%w.]*", at)) or select(2, text:find("^[=~<>]=", at)) or select(2, text:find("^%.%.%.?", at))
  return "mark", last or at
end

--- The tokens of a text: { kind = "comment"|"string"|"name"|"mark", text, from, to, line, ends (line) }.
---@param text string
---@return table[]
---@effect pure
function M.tokens(text)
  local list, at, line = {}, 1, 1
  while at <= #text do
    local blank = text:match("^%s+", at)
    if blank then
      line, at = line + select(2, blank:gsub("\n", "")), at + #blank
    else
      local kind, last = token_at(text, at)
      local words = text:sub(at, last)
      local ends = line + select(2, words:gsub("\n", ""))
      list[#list + 1] = { kind = kind, text = words, from = at, to = last, line = line, ends = ends }
      line, at = ends, last + 1
    end
  end
  return list
end

-- The token that closes what the one at `i` opens.
local function closing(tokens, i)
  local depth = 0
  for j = i, #tokens do
    local t = tokens[j]
    if t.kind ~= "string" and t.kind ~= "comment" then
      if OPENS[t.text] then depth = depth + 1 elseif CLOSES[t.text] then depth = depth - 1 end
      if depth == 0 then return j end
    end
  end
  return #tokens
end

-- ---- comments ----

local function words_of(comment)
  local words = comment:gsub("^%-%-+%[=*%[", ""):gsub("%]=*%]$", ""):gsub("^%-%-+", "")
  return (words:gsub("%s+", " "):match("^ ?(.-) ?$"))
end

-- The comment lines that end on the line above `line`, before token i.
local function above(tokens, i, line)
  local parts = {}
  for j = i - 1, 1, -1 do
    local t = tokens[j]
    if t.kind ~= "comment" or t.ends ~= line - 1 or (tokens[j - 1] and tokens[j - 1].ends == t.line) then break end
    table.insert(parts, 1, words_of(t.text))
    line = t.line
  end
  return #parts > 0 and table.concat(parts, " ") or nil
end

--- The comment a text begins with, as one paragraph; nil when there is none.
---@param text string
---@return string?
---@effect pure
function M.head(text)
  local parts, line = {}, 1
  for _, t in ipairs(M.tokens(text)) do
    if t.kind ~= "comment" or t.line > line then break end
    parts[#parts + 1], line = words_of(t.text), t.ends + 1
  end
  return #parts > 0 and table.concat(parts, " ") or nil
end

-- ---- clauses ----

-- Without the margin that all lines but the first have.
local function dedent(text)
  local margin
  for blank, rest in text:gmatch("\n( *)([^\n]*)") do
    if rest ~= "" and (not margin or #blank < margin) then margin = #blank end
  end
  return margin and (text:gsub("\n" .. (" "):rep(margin), "\n")) or text
end

-- Between two tokens, with a margin of its own.
local function between(text, first, last)
  if not first or first.from > last.to then return "" end
  local lead = text:sub(1, first.from - 1):match("([^\n]*)$")
  return dedent(lead:find("%S") and text:sub(first.from, last.to) or "\n" .. lead .. text:sub(first.from, last.to)):gsub("^\n", "")
end

-- What states truths: check, and functions of the runbook's own that call it.
local function stating(tokens)
  local names = { check = true }
  for i, t in ipairs(tokens) do
    if t.text == "function" and (tokens[i - 1] or {}).text == "local" then
      for j = i, closing(tokens, i) do
        if tokens[j].text == "check" then names[tokens[i + 1].text] = true end
      end
    end
  end
  return names
end

-- The truths that are stated: of each call the first text of several words that is not the first argument.
local function truths(tokens, from, to)
  local list = {}
  for i = from, to - 1 do
    if tokens.stating[tokens[i].text] and tokens[i].kind == "name" and (tokens[i - 1] or {}).text ~= "." then
      local open = i + 1
      while tokens[open].text == "." do open = open + 2 end
      local close = tokens[open].text == "(" and closing(tokens, open) or open
      local depth = 0
      for j = open, close do
        local t = tokens[j]
        if t.kind == "string" and depth == 1 and tokens[j - 1].text == "," and t.text:find(" ", 1, true) then
          list[#list + 1] = t.text:sub(2, -2):gsub("\\([\"'])", "%1")
          break
        end
        if t.kind ~= "string" and t.kind ~= "comment" then depth = depth + (OPENS[t.text] and 1 or CLOSES[t.text] and -1 or 0) end
      end
    end
  end
  return list
end

-- A value: of a function its argument and what it does, else its text.
local function value(text, tokens, from, to)
  local clause = { truths = truths(tokens, from, to), code = between(text, tokens[from], tokens[to]) }
  if tokens[from].text ~= "function" or closing(tokens, from) ~= to then return clause end
  local close = closing(tokens, from + 1)
  clause.item = text:sub(tokens[from + 1].to + 1, tokens[close].from - 1)
  clause.code = close + 1 < to and between(text, tokens[close + 1], tokens[to - 1]) or ""
  return clause
end

local function is_separator(t) return t.kind == "mark" and (t.text == "," or t.text == ";") end

-- The fields of the braces that open at token i.
local function clauses(text, tokens, i)
  local found, last = {}, closing(tokens, i)
  local j = i + 1
  while j < last do
    if tokens[j].kind == "name" and tokens[j + 1].text == "=" then
      local name, from, to = tokens[j].text, j + 2, j + 2
      while to < last and not is_separator(tokens[to]) do
        if tokens[to].kind ~= "string" and OPENS[tokens[to].text] then to = closing(tokens, to) end
        to = to + 1
      end
      local stop = to - 1
      while tokens[stop].kind == "comment" do stop = stop - 1 end
      if stop < from then return found end          -- the text ends here
      found[name] = value(text, tokens, from, stop)
      local beside = tokens[to + 1]
      if beside and beside.kind == "comment" and beside.line == tokens[stop].ends then found[name].note = words_of(beside.text) end
      j = to
    end
    j = j + 1
  end
  return found
end

-- The first token of the statement that `step` at i is in: local copy = step …
local function statement(tokens, i)
  while tokens[i - 1] and tokens[i - 1].line == tokens[i].line and tokens[i - 1].kind ~= "comment" do i = i - 1 end
  return i
end

-- The braces that a function of the runbook's own returns: step "…" (deployment(true)).
local function returned(tokens, name)
  for i, t in ipairs(tokens) do
    if t.text == "function" and (tokens[i + 1] or {}).text == name then
      local open
      for j = i, closing(tokens, i) do
        if tokens[j].text == "return" and tokens[j + 1].text == "{" then open = j + 1 end
      end
      return open
    end
  end
end

-- Where the braces with the clauses of a step open: behind its title, or in what makes them.
local function braces(tokens, i)
  local next_one = tokens[i + 1]
  local open = next_one.kind == "string" and i + 2 or next_one.text == "(" and closing(tokens, i + 1) + 1 or nil
  if not open or not tokens[open] then return nil end
  if tokens[open].text == "{" then return open end
  if tokens[open].text == "(" and tokens[open + 1].kind == "name" then return returned(tokens, tokens[open + 1].text) end
end

--- The steps of a runbook, in the order of its text: { line, comment?, clauses = { name = { code, item?, truths, note? } } }. A step that is
--- declared in a loop is there once.
---@param text string
---@return table[]
---@effect pure
function M.steps(text)
  local tokens, list = M.tokens(text), {}
  tokens.stating = stating(tokens)
  for i, t in ipairs(tokens) do
    local open = t.kind == "name" and t.text == "step" and tokens[i + 1] and braces(tokens, i)
    if open then list[#list + 1] = { line = t.line, comment = above(tokens, statement(tokens, i), t.line), clauses = clauses(text, tokens, open) } end
  end
  return list
end

--- The helpers of a runbook: functions of its own, and constants. { name, code, comment? }
---@param text string
---@return table[]
---@effect pure
function M.helpers(text)
  local tokens, list, i = M.tokens(text), {}, 1
  while i <= #tokens do
    local t, last = tokens[i], i
    if t.kind == "name" and t.text == "local" and tokens[i + 2] and tokens[i + 1].text == "function" then
      last = closing(tokens, i + 1)
      list[#list + 1] = { name = tokens[i + 2].text, code = between(text, t, tokens[last]), comment = above(tokens, i, t.line) }
    elseif t.text == "local" and tokens[i + 2] and tokens[i + 2].text == "<" and tokens[i + 6] then
      last = OPENS[tokens[i + 6].text] and closing(tokens, i + 6) or i + 6
      list[#list + 1] = { name = tokens[i + 1].text, code = between(text, t, tokens[last]), comment = above(tokens, i, t.line) }
    elseif t.kind ~= "string" and OPENS[t.text] then
      last = closing(tokens, i)
    end
    i = last + 1
  end
  return list
end

return M
