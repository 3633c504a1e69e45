--- One statement of a migration, as facts: what it does to which table, and the lock it takes there.
--
--   statement.of "ALTER TABLE orders DROP COLUMN note"
--     { text = …, locks = { ["public.orders"] = 8 }, acts = { { what = "drop column", table = "public.orders", column = "note" } } }
--
-- The facts come from PostgreSQL's own grammar and from its manual's table of locks; nothing is asked of a server, so whether a
-- table is large, new or empty is for `ops.risk` to say. A DO block, a CALL and a SELECT of a function are opaque: the grammar sees a
-- string there, and saying nothing about it would be a promise.
--
-- Rejected: patterns over the text (squawk's ancestors: quotes, comments and two clauses in one ALTER TABLE escape them), and asking the
-- server by running it (a check must not write; that is what the rehearsal is for).

local sql = require "client.sql"

local M = {}

--- The lock modes of tables by their strength, as pg_locks spells them without "Lock".
M.MODES = { "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE" }

local ROWS <const>, BESIDE <const>, SHARE <const>, WRITERS <const>, READERS <const>, ALL <const> = 3, 4, 5, 6, 7, 8

-- Names and types ------------------------------------------------------------------------------------------

local function table_of(f, range) return (range.schemaname or f.schema) .. "." .. range.relname end

local function strings(list)
  local words = {}
  for i, item in ipairs(list or {}) do words[i] = item.String and item.String.sval or "?" end
  return words
end

-- {"public", "t"} or {"t"} -> "public.t"
local function qualified(f, words) return #words > 1 and words[#words - 1] .. "." .. words[#words] or f.schema .. "." .. words[1] end

local function type_of(name)
  local words, sizes = strings(name.names), {}
  for i, size in ipairs(name.typmods or {}) do sizes[i] = size.A_Const and size.A_Const.ival and size.A_Const.ival.ival or "?" end
  return words[#words] .. (#sizes > 0 and ("(%s)"):format(table.concat(sizes, ",")) or "") .. (name.arrayBounds and "[]" or "")
end

-- Defaults -------------------------------------------------------------------------------------------------

-- Evaluated once for a statement: existing rows get one value from the catalogue, the table is not written anew.
local STABLE <const> = { now = true, transaction_timestamp = true, statement_timestamp = true, timezone = true, lower = true, upper = true, to_char = true, date_trunc = true }

local function is_volatile(node)
  if type(node) ~= "table" then return false end
  local call = node.FuncCall
  local words = call and strings(call.funcname)
  if words and not STABLE[words[#words]] then return true end
  for _, child in pairs(node) do
    if is_volatile(child) then return true end
  end
  return false
end

-- Acts -----------------------------------------------------------------------------------------------------

local function add(f, act) f.acts[#f.acts + 1] = act end

local function lock(f, name, mode) f.locks[name] = math.max(f.locks[name] or 0, mode) end

local KINDS <const> = { CONSTR_FOREIGN = "foreign key", CONSTR_CHECK = "check", CONSTR_UNIQUE = "unique", CONSTR_PRIMARY = "primary key", CONSTR_EXCLUSION = "exclude" }

local function add_constraint(f, name, c)
  local kind = KINDS[c.contype]
  if not kind then return end
  local other = c.pktable and table_of(f, c.pktable)
  if other and other ~= name then lock(f, other, WRITERS) end
  lock(f, name, kind == "foreign key" and WRITERS or ALL)
  add(f, { what = "add constraint", table = name, kind = kind, name = c.conname or kind, other = other, valid = not c.skip_validation, index = c.indexname })
end

-- ADD COLUMN's own constraints decide whether the table is written anew.
local function add_column(f, name, def)
  local act = { what = "add column", table = name, column = def.colname, type = type_of(def.typeName) }
  for _, entry in ipairs(def.constraints or {}) do
    local c = entry.Constraint
    if c.contype == "CONSTR_NOTNULL" or c.contype == "CONSTR_PRIMARY" then act.not_null = true end
    if c.contype == "CONSTR_DEFAULT" then act.default, act.volatile = true, is_volatile(c.raw_expr) end
    if c.contype == "CONSTR_IDENTITY" or c.contype == "CONSTR_GENERATED" then act.default, act.volatile = true, true end
    if c.contype ~= "CONSTR_CHECK" or not c.skip_validation then add_constraint(f, name, c) end
  end
  if act.type:find("serial") then act.default, act.volatile = true, true end
  add(f, act)
end

-- Subcommands whose lock is weaker than the whole statement's ACCESS EXCLUSIVE.
local WEAKER <const> = {
  AT_ValidateConstraint = BESIDE, AT_SetStatistics = BESIDE, AT_SetOptions = BESIDE, AT_ResetOptions = BESIDE, AT_SetRelOptions = BESIDE, AT_ResetRelOptions = BESIDE,
  AT_ClusterOn = BESIDE, AT_DropCluster = BESIDE, AT_AttachPartition = BESIDE, AT_EnableTrig = WRITERS, AT_EnableAlwaysTrig = WRITERS, AT_EnableReplicaTrig = WRITERS,
  AT_EnableTrigAll = WRITERS, AT_EnableTrigUser = WRITERS, AT_DisableTrig = WRITERS, AT_DisableTrigAll = WRITERS, AT_DisableTrigUser = WRITERS,
}

local subcommands = {
  AT_AddColumn = function (f, name, c) add_column(f, name, c.def.ColumnDef) end,
  AT_DropColumn = function (f, name, c) add(f, { what = "drop column", table = name, column = c.name, cascade = c.behavior == "DROP_CASCADE" }) end,
  AT_SetNotNull = function (f, name, c) add(f, { what = "set not null", table = name, column = c.name }) end,
  AT_AddConstraint = function (f, name, c) add_constraint(f, name, c.def.Constraint) end,
  AT_AlterColumnType = function (f, name, c)
    local def = c.def.ColumnDef
    add(f, { what = "change type", table = name, column = c.name, type = type_of(def.typeName), using = def.raw_default ~= nil })
  end,
  AT_SetLogged = function (f, name) add(f, { what = "rewrite", table = name, by = "SET LOGGED" }) end,
  AT_SetUnLogged = function (f, name) add(f, { what = "rewrite", table = name, by = "SET UNLOGGED" }) end,
  AT_SetTableSpace = function (f, name) add(f, { what = "rewrite", table = name, by = "SET TABLESPACE" }) end,
}

-- What the grammar calls an ALTER TABLE may be of an index, a view or a sequence.
local function alter_table(f, n)
  if n.objtype and n.objtype ~= "OBJECT_TABLE" then return end
  local name = table_of(f, n.relation)
  for _, item in ipairs(n.cmds) do
    local c = item.AlterTableCmd
    if c.subtype ~= "AT_AddConstraint" then lock(f, name, WEAKER[c.subtype] or ALL) end
    if subcommands[c.subtype] then subcommands[c.subtype](f, name, c) end
  end
end

local DROPS <const> = { OBJECT_TABLE = "drop table", OBJECT_INDEX = "drop index", OBJECT_MATVIEW = "drop materialized view", OBJECT_SCHEMA = "drop schema" }

local function drop(f, n)
  local what = DROPS[n.removeType]
  for _, object in ipairs(what and n.objects or {}) do
    local words = object.List and strings(object.List.items) or strings { object }
    local name = n.removeType == "OBJECT_SCHEMA" and words[1] or qualified(f, words)
    if n.removeType == "OBJECT_TABLE" then lock(f, name, ALL) end
    add(f, { what = what, table = n.removeType == "OBJECT_TABLE" and name or nil, name = name, concurrently = n.concurrent, cascade = n.behavior == "DROP_CASCADE" })
  end
end

local function each_range(list, fn)
  for _, item in ipairs(list or {}) do fn(item.RangeVar) end
end

-- DELETE and UPDATE; `bounded` when a WHERE limits them.
local function change(what)
  return function (f, n)
    local name, columns = table_of(f, n.relation), {}
    for i, target in ipairs(what == "update" and n.targetList or {}) do columns[i] = target.ResTarget.name end
    lock(f, name, ROWS)
    add(f, { what = what, table = name, bounded = n.whereClause ~= nil, columns = columns })
  end
end

local function opaque(by)
  return function (f) add(f, { what = "opaque", by = by }) end
end

local function calls(node)
  if type(node) ~= "table" then return false end
  if node.FuncCall then return true end
  for _, child in pairs(node) do
    if calls(child) then return true end
  end
  return false
end

local RENAMED <const> = { OBJECT_COLUMN = "column", OBJECT_TABLE = "table", OBJECT_VIEW = "view" }

local nodes = {
  AlterTableStmt = alter_table, DropStmt = drop, DeleteStmt = change "delete", UpdateStmt = change "update",
  CreateStmt = function (f, n)
    local name = table_of(f, n.relation)
    add(f, { what = "create table", table = name })
    for _, element in ipairs(n.tableElts or {}) do
      for _, entry in ipairs(element.Constraint and { element } or element.ColumnDef and element.ColumnDef.constraints or {}) do
        if entry.Constraint.pktable then lock(f, table_of(f, entry.Constraint.pktable), WRITERS) end
      end
    end
  end,
  CreateTableAsStmt = function (f, n) add(f, { what = "create table", table = table_of(f, n.into.rel) }) end,
  IndexStmt = function (f, n)
    local name = table_of(f, n.relation)
    lock(f, name, n.concurrent and BESIDE or SHARE)
    add(f, { what = "create index", table = name, name = n.idxname or "an index", concurrently = n.concurrent, unique = n.unique })
  end,
  TruncateStmt = function (f, n)
    each_range(n.relations, function (range)
      local name = table_of(f, range)
      lock(f, name, ALL)
      add(f, { what = "truncate", table = name, cascade = n.behavior == "DROP_CASCADE" })
    end)
  end,
  InsertStmt = function (f, n)
    local name = table_of(f, n.relation)
    lock(f, name, ROWS)
    add(f, { what = "insert", table = name })
  end,
  RenameStmt = function (f, n)
    local of = RENAMED[n.renameType]
    if not of or not n.relation then return end
    local name = table_of(f, n.relation)
    lock(f, name, ALL)
    add(f, { what = "rename", table = name, of = of, name = n.subname or n.relation.relname, to = n.newname })
  end,
  AlterObjectSchemaStmt = function (f, n)
    if n.objectType ~= "OBJECT_TABLE" then return end
    local name = table_of(f, n.relation)
    lock(f, name, ALL)
    add(f, { what = "rename", table = name, of = "table", name = n.relation.relname, to = n.newschema .. "." .. n.relation.relname })
  end,
  AlterEnumStmt = function (f, n)
    local words = strings(n.typeName)
    local name = qualified(f, words)
    if n.oldVal then add(f, { what = "rename", of = "enum value", name = name .. "." .. n.oldVal, to = n.newVal })
    elseif n.newVal then add(f, { what = "add value", type = name, value = n.newVal }) end
  end,
  CreateEnumStmt = function (f, n) add(f, { what = "create enum", type = qualified(f, strings(n.typeName)) }) end,
  CreateTrigStmt = function (f, n) lock(f, table_of(f, n.relation), WRITERS) end,
  RefreshMatViewStmt = function (f, n) lock(f, table_of(f, n.relation), n.concurrent and READERS or ALL) end,
  LockStmt = function (f, n) each_range(n.relations, function (range) lock(f, table_of(f, range), n.mode) end) end,
  ClusterStmt = function (f, n)
    if not n.relation then return end
    lock(f, table_of(f, n.relation), ALL)
    add(f, { what = "rewrite", table = table_of(f, n.relation), by = "CLUSTER" })
  end,
  DropdbStmt = function (f, n) add(f, { what = "drop database", name = n.dbname }) end,
  DoStmt = opaque "a DO block", CallStmt = opaque "a CALL", ExecuteStmt = opaque "an EXECUTE",
  SelectStmt = function (f, n)
    if calls(n) then add(f, { what = "opaque", by = "a SELECT of functions" }) end
  end,
}

local function collect(node, into)
  if type(node) ~= "table" then return into end
  local text = node.A_Const and node.A_Const.sval and node.A_Const.sval.sval
  if text then into[text] = true end
  for _, child in pairs(node) do collect(child, into) end
  return into
end

--- A statement as facts: `text` on one line, `kind` ("alter table"), `alone` (not inside a transaction), `locks` by table (the number of the mode in
--- MODES), `acts`, and `literals`, every text constant in it.
---@param text string one statement
---@param schema? string where an unqualified name lives ("public")
---@return { text: string, kind: string, alone: boolean, locks: table<string, integer>, acts: table[], literals: table<string, boolean> }
---@effect pure
function M.of(text, schema)
  local whole = sql.read(text)
  local f = { text = text:gsub("%s+", " "):match("^%s*(.-)%s*$"), kind = whole.kind, alone = whole.alone, schema = schema or "public", locks = {}, acts = {}, literals = {} }
  if whole.kind == "insert" and #text > 65536 then return f end          -- rows by the thousand: what they hold is nobody's risk
  local node, fields = sql.node(text)
  if node and nodes[node] then nodes[node](f, fields) end
  f.literals = collect(fields, {})
  return f
end

--- The strongest lock of a statement as people call it, nil when it takes none of a table that can be told from its text.
---@param f table
---@return string|nil
---@effect pure
function M.strongest(f)
  local most = 0
  for _, mode in pairs(f.locks) do most = math.max(most, mode) end
  return M.MODES[most]
end

return M
