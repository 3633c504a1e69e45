--- Rows deleted so that they can be put back: db:delete { from = "Session", where = "\"userId\" = $1", params = { id }, max_rows = 500 }
--
--   count (bounded) -> DELETE … RETURNING every column as text -> bound again -> rows kept, durable (engine/rows.lua) -> COMMIT
--
-- One transaction. `put_back` inserts what is missing, in one transaction too, and does nothing where everything is there again: so
-- it is right after a run that died before the COMMIT, and right twice. A row is known by its primary key; without one, and where
-- the database itself would take other rows along (ON DELETE CASCADE, SET NULL), nothing is deleted, because nobody
-- would keep those. Values travel as the text the server gives and takes.
--
-- Rejected: COPY (DELETE … RETURNING) (PostgreSQL has it, but its rows arrive only after the bound could have refused them), and
-- rows in the journal (they are secrets of the people they are about).

local answer = require("client.answer")
local guard = require("native.guard")
local native_text = require("native.text")
local null = require("native.value").null
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local secret = require("native.secret")
local writes = require("client.postgres_writes")

local methods = {}

local FIELDS <const> = { from = "string", where = "string", params = "table", max_rows = "number" }

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

local function check_fields(given)
  if type(given) ~= "table" then raise("usage", "delete takes a table: { from =, where =, params =, max_rows = }") end
  for field, value in pairs(given) do
    if FIELDS[field] ~= type(value) then raise("usage", ("delete: %s cannot be a %s"):format(tostring(field), type(value)), "It takes from, where, params and max_rows.") end
  end
  for _, field in ipairs { "from", "where", "max_rows" } do
    if given[field] == nil then raise("usage", "delete needs " .. field, field == "max_rows" and "How many rows at most: more of them, and nothing is deleted." or nil) end
  end
  if math.type(given.max_rows) ~= "integer" or given.max_rows < 1 then raise("usage", "delete: max_rows is a whole number, 1 or more") end
end

local TABLE <const> = [[
  SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relkind = 'r' AND c.relhassubclass AS parent,
         (SELECT string_agg(f.conrelid::pg_catalog.regclass::text, ', ' ORDER BY f.conrelid::pg_catalog.regclass::text)
            FROM pg_catalog.pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f' AND f.confdeltype IN ('c', 'n', 'd')) AS follow,
         EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid) AS rules
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)]]

local COLUMNS <const> = [[
  SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attgenerated <> '' AS made,
         EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)) AS key
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum]]

local function refuse(from, why, hint) raise("refused", ("rows of \"%s\" cannot be put back: %s"):format(from, why), hint) end

-- Names are as the catalogue has them: Session, app.Session.
local function shape_of(o, from)
  local schema, name = from:match("^([^.]+)%.(.+)$")
  local at = reads.rows(o, TABLE, schema and quote(schema) .. "." .. quote(name) or quote(from))[1]
  if not at then raise("remote", ("there is no table \"%s\""):format(from), "Names are as the catalogue has them, without quotes: Session, app.Session.") end
  if at.kind ~= "r" and at.kind ~= "p" then refuse(from, "it is no table") end
  if at.parent or at.rules then refuse(from, at.parent and "other tables inherit from it" or "it has rewrite rules") end
  if at.follow then refuse(from, "deleting them changes rows of " .. at.follow, "Delete those first, in a step of their own: then they are kept too.") end
  local shape = { sql = quote(at.schema) .. "." .. quote(at.name), short = quote(at.name), from = at.schema .. "." .. at.name, columns = {}, keys = {} }
  for _, column in ipairs(reads.rows(o, COLUMNS, at.oid)) do
    if not column.made then
      shape.columns[#shape.columns + 1] = { name = column.name, type = column.type }
      if column.key then shape.keys[#shape.keys + 1] = #shape.columns end
    end
  end
  if #shape.keys == 0 then refuse(from, "it has no primary key to know them by") end
  return shape
end

-- Delete --------------------------------------------------------------------------------------------------

local function counting(shape, given)
  return ("SELECT count(*) FROM (SELECT 1 FROM %s WHERE (%s) LIMIT %d) AS found"):format(shape.sql, given.where, given.max_rows + 1)
end

local function check_bound(count, given)
  if count > given.max_rows then
    raise("refused", ("%s more than %d rows of \"%s\" would go; nothing was deleted"):format(count > given.max_rows + 1 and count .. " rows," or "", given.max_rows, given.from)
      :gsub("^ ", ""), "Look which rows they are, and narrow the condition; raise max_rows only when all of them are meant.")
  end
end

local function deleting(shape, given)
  local list = {}
  for i, column in ipairs(shape.columns) do list[i] = ("%s.%s::text AS c%d"):format(shape.short, quote(column.name), i) end
  return ("DELETE FROM %s WHERE (%s) RETURNING %s"):format(shape.sql, given.where, table.concat(list, ", "))
end

local function packed(o, shape, rows)
  local list = {}
  for r, row in ipairs(rows) do
    list[r] = {}
    for c = 1, #shape.columns do
      local value = row["c" .. c]
      list[r][c] = value == nil and null or value
    end
  end
  return native_text.json { version = 1, subject = reads.subject(o), from = shape.from, columns = shape.columns, rows = list }
end

--- Delete rows that can be put back: bounded, and kept for the undo of this step before the deletion is committed.
---@param given { from: string, where: string, params: any[]|nil, max_rows: integer } `from` as the catalogue has it; `where` with $1, $2, …
---@return { count: function, file: function } result
---@effect write
function methods.delete(o, given)
  check_fields(given)
  local params = table.pack(table.unpack(given.params or {}, 1, given.params and (given.params.n or #given.params) or 0))
  local shape = shape_of(o, given.from)
  check_bound(reads.value(o, counting(shape, given), table.unpack(params, 1, params.n)), given)
  local statement = deleting(shape, given)
  if guard.mode() == "plan" then return writes.exec(o, statement, table.unpack(params, 1, params.n)) end
  if not o.context.rows then raise("usage", "rows are kept for the undo of a step, and this is none") end
  return writes.transaction(o, function (tx)
    check_bound(tx:value(counting(shape, given), table.unpack(params, 1, params.n)), given)
    local rows = tx:exec(statement, table.unpack(params, 1, params.n)):rows()
    check_bound(#rows, given)
    local kept = #rows > 0 and o.context.rows.keep(packed(o, shape, rows), { target = o.role, subject = reads.subject(o), from = shape.from, rows = #rows })
    return { count = function () return #rows end, file = function () return kept and kept.file or nil end }
  end)
end

-- Put back ------------------------------------------------------------------------------------------------

local function check_columns(shape, kept)
  local now = {}
  for _, column in ipairs(shape.columns) do now[column.name] = column.type end
  for _, column in ipairs(kept.columns) do
    if now[column.name] ~= column.type then
      raise("check", ("the rows of %s cannot be put back: column \"%s\" was %s and is %s now"):format(kept.from, column.name, column.type, now[column.name] or "gone"))
    end
    now[column.name] = nil
  end
  local more = next(now)
  if more then raise("check", ("the rows of %s cannot be put back: column \"%s\" is new, and nobody knows its value for them"):format(kept.from, more)) end
end

local function expressions(shape, kept)
  local at, values, names, same, is = {}, {}, {}, { {}, {} }, {}
  for i, column in ipairs(kept.columns) do
    at[column.name] = i
    values[i] = ("CAST(e->>%d AS %s)"):format(i - 1, column.type)
    names[i] = quote(column.name)
    same[1][i], same[2][i] = ("t.%s::text"):format(names[i]), ("e->>%d"):format(i - 1)
  end
  for i, index in ipairs(shape.keys) do
    local name = shape.columns[index].name
    is[i] = ("t.%s = %s"):format(quote(name), values[at[name]])
  end
  return { values = table.concat(values, ", "), names = table.concat(names, ", "), is = table.concat(is, " AND "), first = quote(shape.columns[shape.keys[1]].name),
    same = ("(%s) IS NOT DISTINCT FROM (%s)"):format(table.concat(same[1], ", "), table.concat(same[2], ", ")) }
end

local JUDGE <const> = [[
  SELECT count(*) FILTER (WHERE t.{first} IS NULL) AS absent, count(*) FILTER (WHERE t.{first} IS NOT NULL AND {same}) AS there,
         count(*) FILTER (WHERE t.{first} IS NOT NULL AND NOT {same}) AS other, min(i) FILTER (WHERE t.{first} IS NOT NULL AND NOT {same}) AS nth
    FROM pg_catalog.json_array_elements($1::json) WITH ORDINALITY AS x(e, i) LEFT JOIN {table} AS t ON {is}]]

local INSERT <const> = [[INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM pg_catalog.json_array_elements($1::json) AS x(e)
  WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {is})]]

local function fill(template, words) return (template:gsub("{(%a+)}", words)) end

-- Integrity (23xxx) is a conflict with what happened since, and says which rule of the database stands in the way.
local function named(kept, err)
  if not raise.is(err) or not (err.sqlstate or ""):find("^23") then return err end
  return raise.new("check", ("the %d rows of %s cannot be put back: %s; none was"):format(#kept.rows, kept.from, err.message),
    "Something that was done since stands in the way. Settle that first, then: neap undo", { sqlstate = err.sqlstate })
end

local function put(o, text, file)
  local kept = native_text.parse(text)
  local shape = shape_of(o, kept.from)
  check_columns(shape, kept)
  local words = expressions(shape, kept)
  words.table = shape.sql
  local rows = secret.of(native_text.json(kept.rows), "rows")
  local ok, back = pcall(writes.transaction, o, function (tx)
    local now = tx:row(fill(JUDGE, words), rows)
    if now.other > 0 then
      raise("check", ("%d of the %d rows of %s are there again and differ, the first is row %d of %s; none was put back"):format(now.other, #kept.rows, kept.from, now.nth, file))
    end
    if now.absent == 0 then return 0 end
    local count = tx:exec(fill(INSERT, words), rows):count()
    if count ~= now.absent then raise("check", ("%d rows of %s were put back instead of %d; none was"):format(count, kept.from, now.absent)) end
    return count
  end)
  if not ok then error(named(kept, back), 0) end
  return back
end

--- Put back what `delete` took in this step (and item); rows that are there as they were are left alone.
---@return { count: function } answer how many were missing and are there again
---@effect write
function methods.put_back(o)
  if not o.context.rows then raise("usage", "rows are kept for the undo of a step, and this is none") end
  local count = 0
  for _, kept in ipairs(o.context.rows.kept(reads.subject(o))) do count = count + put(o, kept.text, kept.file) end
  return answer.of("count", count)
end

return methods
