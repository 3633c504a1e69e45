--- What a script of SQL leaves behind: the tables and enum types it makes, and the tables it leans on.
--
-- Promise: for the scripts migration tools write (CREATE, DROP, ALTER … RENAME, in any mix of quotes,
-- comments and cases) `read` says which tables exist after the script has run on an empty database, and
-- which tables it uses without having made them. A full baseline uses none.
--
-- It is a reader of words, not a parser: the body of a DO block or a function is one opaque string, so a
-- table made inside one is not seen. Rejected: asking PostgreSQL's own grammar (a pure function can be
-- tested without the binary, and the answer needs six statements of the grammar, not all of it); and
-- running the script in a scratch database (a check must not write).

local M = {}

local space <const> = "^[%s]+"

--- The end of a block comment that begins at `at`; they nest in PostgreSQL.
local function comment_end(sql, at)
  local depth, position = 1, at + 2
  while depth > 0 do
    local mark = sql:find("[/*][/*]", position)
    if not mark then return #sql + 1 end
    local pair = sql:sub(mark, mark + 1)
    if pair == "/*" then depth, position = depth + 1, mark + 2
    elseif pair == "*/" then depth, position = depth - 1, mark + 2
    else position = mark + 1 end
  end
  return position
end

--- The end of a quoted piece that begins at `at`; a doubled quote stays inside, and a backslash counts when `escapes`.
local function quote_end(sql, at, quote, escapes)
  local position = at + 1
  while true do
    local mark = sql:find(escapes and "[\\" .. quote .. "]" or quote, position)
    if not mark then return #sql + 1 end
    if sql:sub(mark, mark) == "\\" or sql:sub(mark + 1, mark + 1) == quote then position = mark + 2
    else return mark + 1 end
  end
end

--- One token at `at`: its kind, its text, where the next begins. Kind nil: nothing to keep (space, comment).
local function token(sql, at)
  local _, last = sql:find(space, at)
  if last then return nil, nil, last + 1 end
  local two = sql:sub(at, at + 1)
  if two == "--" then return nil, nil, (sql:find("\n", at, true) or #sql) + 1 end
  if two == "/*" then return nil, nil, comment_end(sql, at) end
  local first = sql:sub(at, at)
  if first == '"' then
    local stop = quote_end(sql, at, '"')
    return "name", (sql:sub(at + 1, stop - 2):gsub('""', '"')), stop
  end
  if first == "'" then return "string", "", quote_end(sql, at, "'") end
  if two:lower() == "e'" then return "string", "", quote_end(sql, at + 1, "'", true) end
  local tag = sql:match("^%$[%a_\128-\255]*[%w_\128-\255]*%$", at)
  if tag then
    local _, stop = sql:find(tag, at + #tag, true)
    return "string", "", (stop or #sql) + 1
  end
  local word = sql:match("^[%a_\128-\255][%w_$\128-\255]*", at)
  if word then return "word", word:lower(), at + #word end
  return "mark", first, at + 1
end

--- The script as a list of statements, each a list of tokens {kind, text}.
local function statements(sql)
  local list, current, at = {}, {}, 1
  while at <= #sql do
    local kind, text, after = token(sql, at)
    if kind == "mark" and text == ";" then
      if #current > 0 then list[#list + 1], current = current, {} end
    elseif kind then
      current[#current + 1] = { kind = kind, text = text }
    end
    at = after
  end
  if #current > 0 then list[#list + 1] = current end
  return list
end

--- Skip the words that may stand at `at`, each once, in this order.
local function skip(tokens, at, ...)
  for _, word in ipairs { ... } do
    local here = tokens[at]
    if here and here.kind == "word" and here.text == word then at = at + 1 end
  end
  return at
end

local function is(tokens, at, word)
  local here = tokens[at]
  return here ~= nil and here.kind == "word" and here.text == word
end

--- The qualified name at `at` as "schema.name", and where it ends; nil when there is no name.
local function name(tokens, at, schema)
  local first = tokens[at]
  if not first or (first.kind ~= "name" and first.kind ~= "word") then return nil, at end
  local dot, second = tokens[at + 1], tokens[at + 2]
  if dot and dot.text == "." and dot.kind == "mark" and second then
    return first.text .. "." .. second.text, at + 3
  end
  return schema .. "." .. first.text, at + 1
end

local reader = {}
reader.__index = reader

function reader:use(table_name)
  if table_name and not self.tables[table_name] then self.uses[table_name] = true end
end

--- Forget every name of a list `a, b, c` that begins at `at`.
function reader:drop(set, tokens, at)
  repeat
    local dropped, after = name(tokens, at, self.schema)
    if dropped then set[dropped] = nil end
    at = after + 1
  until not dropped or not (tokens[after] and tokens[after].text == ",")
end

--- ALTER TABLE … / ALTER TYPE …: a new name, or a use.
function reader:alter(set, tokens, at)
  local old, after = name(tokens, at, self.schema)
  if set == self.tables then self:use(old) end
  if old and set[old] and is(tokens, after, "rename") and is(tokens, after + 1, "to") then
    local fresh = tokens[after + 2] and tokens[after + 2].text
    set[old], set[old:match("^(.-)%.") .. "." .. (fresh or "")] = nil, true
  end
end

function reader:create(tokens)
  local at = skip(tokens, 2, "or", "replace", "global", "local")
  local passing = is(tokens, at, "temp") or is(tokens, at, "temporary")
  at = skip(tokens, at, "temp", "temporary", "unlogged", "unique")
  if is(tokens, at, "table") then
    local made = name(tokens, skip(tokens, at + 1, "if", "not", "exists"), self.schema)
    if made and not passing then self.tables[made] = true end
  elseif is(tokens, at, "type") then
    local made, after = name(tokens, at + 1, self.schema)
    if made and is(tokens, after, "as") and is(tokens, after + 1, "enum") then self.enums[made] = true end
  elseif is(tokens, at, "index") then
    for i = at + 1, #tokens do
      if is(tokens, i, "on") then self:use((name(tokens, skip(tokens, i + 1, "only"), self.schema))) break end
    end
  end
end

function reader:statement(tokens)
  local object = tokens[2] and tokens[2].text
  local set = ({ table = self.tables, type = self.enums })[object]
  if is(tokens, 1, "create") then self:create(tokens)
  elseif is(tokens, 1, "drop") and set then self:drop(set, tokens, skip(tokens, 3, "if", "exists"))
  elseif is(tokens, 1, "alter") and set then self:alter(set, tokens, skip(tokens, 3, "if", "exists", "only"))
  elseif is(tokens, 1, "insert") then self:use((name(tokens, 3, self.schema)))
  end
  for at = 1, #tokens do
    if is(tokens, at, "references") then self:use((name(tokens, at + 1, self.schema))) end
  end
end

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

--- Read a script, or several in their order.
---@param scripts string|string[]
---@param schema? string where an unqualified name lives ("public")
---@return { tables: string[], enums: string[], uses: string[] } sorted "schema.name" lists: what is there afterwards, and what was used without having been made
---@effect pure
function M.read(scripts, schema)
  local self = setmetatable({ schema = schema or "public", tables = {}, enums = {}, uses = {} }, reader)
  for _, script in ipairs(type(scripts) == "table" and scripts or { scripts }) do
    for _, tokens in ipairs(statements(script)) do self:statement(tokens) end
  end
  return { tables = sorted(self.tables), enums = sorted(self.enums), uses = sorted(self.uses) }
end

return M
