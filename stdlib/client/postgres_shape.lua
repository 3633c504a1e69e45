--- What a database is made of, in words that do not change on the way through a dump: numbers of objects, holes of dropped columns, owners and
-- privileges are left out; names, types, defaults, constraints, indexes, triggers, policies, views, functions and types are in.
--
-- Each question is one statement that gives (name, words); the words of a table are joined in a fixed order and hashed here. Parts of extensions
-- are theirs: of an extension only its name counts.

local M = {}

local connections = require("client.postgres_connections")
local raise = require("core.raise")
local text = require("native.text")

local OURS <const> = [[ n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' AND NOT EXISTS (
  SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = '%s'::pg_catalog.regclass AND d.objid = %s AND d.deptype = 'e') ]]

local function ours(catalogue, oid) return (OURS:format(catalogue, oid)) end

local NAME <const> = "n.nspname || '.' || c.relname AS name"

local TABLES <const> = {
  "SELECT " .. NAME .. [[, pg_catalog.concat_ws(' ', 'table', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
     pg_catalog.pg_get_partkeydef(c.oid), pg_catalog.pg_get_expr(c.relpartbound, c.oid)) AS words
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND]] .. ours("pg_class", "c.oid"),
  "SELECT " .. NAME .. [[, pg_catalog.concat_ws(' ', 'column', pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
     pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, pg_catalog.pg_get_expr(f.adbin, f.adrelid),
     (SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation)) AS words
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND]] .. ours("pg_class", "c.oid"),
  "SELECT " .. NAME .. [[, 'constraint ' || k.conname || ' ' || pg_catalog.pg_get_constraintdef(k.oid) || k.convalidated AS words
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE]] .. ours("pg_class", "c.oid"),
  "SELECT " .. NAME .. [[, 'index ' || pg_catalog.pg_get_indexdef(i.indexrelid) || i.indisvalid AS words
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND]] .. ours("pg_class", "c.oid"),
  "SELECT " .. NAME .. [[, 'trigger ' || pg_catalog.pg_get_triggerdef(t.oid) || t.tgenabled::text AS words
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE NOT t.tgisinternal AND c.relkind IN ('r', 'p') AND]] .. ours("pg_class", "c.oid"),
  [[SELECT p.schemaname || '.' || p.tablename AS name, pg_catalog.concat_ws(' ', 'policy', p.policyname, p.permissive, p.roles, p.cmd, p.qual, p.with_check) AS words
    FROM pg_catalog.pg_policies p]],
  "SELECT " .. NAME .. [[, 'child of ' || h.inhparent::pg_catalog.regclass || ' ' || h.inhseqno AS words
    FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND]] .. ours("pg_class", "c.oid"),
}

local REST <const> = {
  "SELECT 'schema ' || n.nspname AS words FROM pg_catalog.pg_namespace n WHERE" .. ours("pg_namespace", "n.oid"),
  "SELECT 'extension ' || e.extname AS words FROM pg_catalog.pg_extension e",
  [[SELECT 'view ' || n.nspname || '.' || c.relname || ' ' || pg_catalog.pg_get_viewdef(c.oid) AS words FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND]] .. ours("pg_class", "c.oid"),
  [[SELECT pg_catalog.concat_ws(' ', 'sequence', n.nspname, c.relname, s.seqtypid::pg_catalog.regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcycle) AS words
     FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE]] .. ours("pg_class", "c.oid"),
  [[SELECT 'function ' || pg_catalog.pg_get_functiondef(p.oid) AS words FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind IN ('f', 'p', 'w') AND]] .. ours("pg_proc", "p.oid"),
  [[SELECT 'aggregate ' || n.nspname || '.' || p.proname || ' ' || pg_catalog.pg_get_function_identity_arguments(p.oid) AS words FROM pg_catalog.pg_proc p
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind = 'a' AND]] .. ours("pg_proc", "p.oid"),
  [[SELECT 'enum ' || n.nspname || '.' || t.typname || ' ' || (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
     FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid) AS words
     FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e' AND]] .. ours("pg_type", "t.oid"),
  [[SELECT pg_catalog.concat_ws(' ', 'domain', n.nspname, t.typname, pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
     (SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ',' ORDER BY k.conname) FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid)) AS words
     FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'd' AND]] .. ours("pg_type", "t.oid"),
  [[SELECT 'type ' || n.nspname || '.' || c.relname || ' ' || (SELECT pg_catalog.string_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ','
     ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS words
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'c' AND]] .. ours("pg_class", "c.oid"),
  "SELECT 'event trigger ' || v.evtname || ' ' || v.evtevent || v.evtenabled::text AS words FROM pg_catalog.pg_event_trigger v",
}

local function hash_of(words)
  table.sort(words)
  return text.sha256(table.concat(words, "\n"))
end

local function ask(o, statement) return raise.check(connections.patient(o):rows(statement)) end

--- See postgres_dump.lua, `shape`.
---@param o table
---@return table<string, string>
function M.of(o)
  local by_name, rest, shape = {}, {}, {}
  for _, statement in ipairs(TABLES) do
    for _, row in ipairs(ask(o, statement)) do
      by_name[row.name] = by_name[row.name] or {}
      table.insert(by_name[row.name], row.words)
    end
  end
  for _, statement in ipairs(REST) do
    for _, row in ipairs(ask(o, statement)) do rest[#rest + 1] = row.words end
  end
  for name, words in pairs(by_name) do shape[name] = hash_of(words) end
  shape[""] = hash_of(rest)
  return shape
end

-- What stands in a database that a restore would meet.
local THINGS <const> = "SELECT count(*) FROM (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE"
  .. ours("pg_class", "c.oid") .. "UNION ALL SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE"
  .. ours("pg_proc", "p.oid") .. "UNION ALL SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd') AND"
  .. ours("pg_type", "t.oid") .. "UNION ALL SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname <> 'public' AND" .. ours("pg_namespace", "n.oid")
  .. "UNION ALL SELECT l.oid FROM pg_catalog.pg_largeobject_metadata l) AS things"

--- How many relations, functions, types and schemas there are besides the system's and those of extensions.
---@param o table
---@return integer
function M.things(o) return raise.check(connections.patient(o):value(THINGS)) end

return M
