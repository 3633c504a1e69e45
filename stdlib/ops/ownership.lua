--- Whose a database is, and what a role may do in it: what is not as it should be, as a list of single statements that put it right, each with the one
-- that takes it back.
--
--   local wanted = { role = "jarvis", schemas = { "public" }, own = true, privileges = { "SELECT", … }, makers = { "postgres" } }
--   for _, item in ipairs(ownership.missing(db, wanted)) do … item.key, item.act, item.undo
--
-- The order is the one in which they can be done: the database's owner, CONNECT, the schemas, the objects, privileges, default privileges. Grants do not give
-- ownership ("must be owner of table" stays), so with `own` every object is transferred by itself and its old owner stands in `undo`; what
-- belongs to a column (a serial's sequence), to an extension or to a table (an index) follows its table. What had been granted to the role before is granted again
-- when it is no longer the owner, because becoming it swallowed that. A privilege that the role has already, by itself or by
-- another role, is not granted; what is granted is revoked by `undo` and nothing more. Default privileges belong to whoever will make the
-- objects, so they are asked of each maker.
--
-- Rejected: GRANT … ON ALL TABLES (what it changed cannot be told afterwards), REASSIGN OWNED (the same, and it takes other schemas along).

local raise = require "core.raise"

local M = {}

local OBJECTS <const> = [[
  SELECT o.kind || ' ' || n.nspname || '.' || o.name AS key, o.word || ' ' || o.sql AS sql, r.rolname AS owner, o.class || '/' || o.oid AS id
    FROM (
      SELECT c.relnamespace AS space, c.relname AS name, c.relowner AS owner, c.oid, 'pg_class'::regclass AS class, format('%I.%I', s.nspname, c.relname) AS sql,
             CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind,
             CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS word
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
             WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)
      UNION ALL
      SELECT t.typnamespace, t.typname, t.typowner, t.oid, 'pg_type'::regclass, format('%I.%I', s.nspname, t.typname),
             CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace s ON s.oid = t.typnamespace
       WHERE t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
      UNION ALL
      SELECT p.pronamespace, p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')', p.proowner, p.oid, 'pg_proc'::regclass,
             format('%I.%I(%s)', s.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)), 'routine', 'ROUTINE'
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
       WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
    ) o JOIN pg_catalog.pg_namespace n ON n.oid = o.space JOIN pg_catalog.pg_roles r ON r.oid = o.owner
   WHERE n.nspname = ANY (pg_catalog.string_to_array($1, E'\n'))
     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')
   ORDER BY o.kind = 'routine', o.kind = 'type', (o.kind || n.nspname || '.' || o.name) COLLATE "C"]]

-- What was granted to the role before. A role that becomes the owner and is it no longer has lost that: PostgreSQL makes one entry of the two. `id` is the
-- object whose transfer does it: a serial's sequence goes with its table.
local BEFORE <const> = [[
  SELECT t.class || '/' || t.home AS id, format('GRANT %s ON %s TO %I%s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), t.what, $1::text,
           CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
    FROM (
      SELECT 'pg_class'::regclass AS class, coalesce((SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
               AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0), c.oid) AS home, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('%I.%I', s.nspname, c.relname) AS what,
             c.relacl AS acl
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
       WHERE s.nspname = ANY (pg_catalog.string_to_array($2, E'\n')) AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      UNION ALL SELECT 'pg_type'::regclass, y.oid, 'TYPE ' || format('%I.%I', s.nspname, y.typname), y.typacl FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace s ON s.oid = y.typnamespace
       WHERE s.nspname = ANY (pg_catalog.string_to_array($2, E'\n'))
      UNION ALL SELECT 'pg_proc'::regclass, p.oid, 'ROUTINE ' || format('%I.%I(%s)', s.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)), p.proacl
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace WHERE s.nspname = ANY (pg_catalog.string_to_array($2, E'\n'))
      UNION ALL SELECT 'pg_database'::regclass, b.oid, 'DATABASE ' || format('%I', b.datname), b.datacl FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database()
    ) t, pg_catalog.aclexplode(t.acl) a
   WHERE a.grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::text)
   GROUP BY t.class, t.home, t.what, a.is_grantable ORDER BY t.what]]

-- What the role has, by itself or by another one; nothing when there is no such role.
local PRIVILEGES <const> = [[
  SELECT o.kind || ' ' || o.name AS key, o.word || ' ' || o.sql AS sql, w.privilege,
         coalesce((SELECT CASE o.kind WHEN 'database' THEN pg_catalog.has_database_privilege(r.oid, o.oid, w.privilege) WHEN 'schema' THEN pg_catalog.has_schema_privilege(r.oid, o.oid, w.privilege)
           WHEN 'sequence' THEN pg_catalog.has_sequence_privilege(r.oid, o.oid, w.privilege) ELSE pg_catalog.has_table_privilege(r.oid, o.oid, w.privilege) END
           FROM pg_catalog.pg_roles r WHERE r.rolname = $1), false) AS has
    FROM (
      SELECT 1 AS part, 'database' AS kind, datname::text AS name, 'DATABASE' AS word, format('%I', datname) AS sql, oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
      UNION ALL SELECT 2, 'schema', nspname, 'SCHEMA', format('%I', nspname), oid FROM pg_catalog.pg_namespace WHERE nspname = ANY (pg_catalog.string_to_array($2, E'\n'))
      UNION ALL SELECT 3, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname || '.' || c.relname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
             format('%I.%I', n.nspname, c.relname), c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname = ANY (pg_catalog.string_to_array($2, E'\n'))
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    ) o JOIN (SELECT split_part(x, ' ', 1) AS kind, split_part(x, ' ', 2) AS privilege, at
             FROM pg_catalog.unnest(pg_catalog.string_to_array($3, E'\n')) WITH ORDINALITY AS u(x, at)) w ON w.kind = o.kind
   ORDER BY o.part, o.name COLLATE "C", w.at]]

local DEFAULTS <const> = [[
  SELECT m.maker, s.space, w.kind, w.privilege, EXISTS (SELECT 1 FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
           pg_catalog.aclexplode(d.defaclacl) a WHERE d.defaclrole = r.oid AND n.nspname = s.space AND d.defaclobjtype = CASE w.kind WHEN 'table' THEN 'r' ELSE 'S' END::"char"
             AND a.privilege_type = w.privilege AND a.grantee = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)) AS has
    FROM pg_catalog.unnest(pg_catalog.string_to_array($4, E'\n')) m(maker) JOIN pg_catalog.pg_roles r ON r.rolname = m.maker,
         pg_catalog.unnest(pg_catalog.string_to_array($2, E'\n')) s(space),
         (SELECT split_part(x, ' ', 1) AS kind, split_part(x, ' ', 2) AS privilege, at FROM pg_catalog.unnest(pg_catalog.string_to_array($3, E'\n')) WITH ORDINALITY AS u(x, at)) w
   WHERE w.kind IN ('table', 'sequence') AND m.maker <> $1
   ORDER BY m.maker COLLATE "C", s.space COLLATE "C", w.kind DESC, w.at]]

local TABLE_PRIVILEGES <const> = { SELECT = true, INSERT = true, UPDATE = true, DELETE = true, TRUNCATE = true, REFERENCES = true, TRIGGER = true }

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

-- "kind privilege" a line: what the role is to have on things of each kind.
local function wishes(wanted)
  local list = { "database CONNECT", "schema USAGE" }
  if wanted.own then list[3] = "schema CREATE" end
  for _, privilege in ipairs(wanted.privileges) do
    if not TABLE_PRIVILEGES[privilege] then raise("usage", ("%q is no privilege on a table"):format(privilege), "There are SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES and TRIGGER.") end
    list[#list + 1] = "table " .. privilege
  end
  for _, privilege in ipairs { "USAGE", "SELECT", "UPDATE" } do list[#list + 1] = "sequence " .. privilege end
  return table.concat(list, "\n")
end

local function granted_before(db, wanted)
  local by_id = {}
  for _, row in ipairs(db:rows(BEFORE, wanted.role, table.concat(wanted.schemas, "\n"))) do
    by_id[row.id] = by_id[row.id] or {}
    table.insert(by_id[row.id], row.statement)
  end
  return by_id
end

local function of_database(db, wanted, before)
  local row = db:row "SELECT datname AS name, pg_catalog.pg_get_userbyid(datdba) AS owner, 'pg_database/' || oid AS id FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
  return { key = "owner of database " .. row.name, has = row.owner == wanted.role, owner = row.owner, act = ("ALTER DATABASE %s OWNER TO %s"):format(quote(row.name), quote(wanted.role)),
    undo = ("ALTER DATABASE %s OWNER TO %s"):format(quote(row.name), quote(row.owner)), before = before[row.id] }
end

local function of_objects(db, wanted, before)
  local list = {}
  for i, row in ipairs(db:rows(OBJECTS, table.concat(wanted.schemas, "\n"))) do
    list[i] = { key = "owner of " .. row.key, has = row.owner == wanted.role, owner = row.owner, act = ("ALTER %s OWNER TO %s"):format(row.sql, quote(wanted.role)),
      undo = ("ALTER %s OWNER TO %s"):format(row.sql, quote(row.owner)), locks = true, before = before[row.id] }
  end
  return list
end

-- One item for all the privileges of a thing that are missing.
local function granting(key, where, role, missing, prefix)
  local words = table.concat(missing, ", ")
  return { key = key, has = #missing == 0, act = ("%sGRANT %s ON %s TO %s"):format(prefix, words, where, quote(role)), undo = ("%sREVOKE %s ON %s FROM %s"):format(prefix, words, where, quote(role)) }
end

local function grouped(rows, key_of)
  local list, by_key = {}, {}
  for _, row in ipairs(rows) do
    local key = key_of(row)
    if not by_key[key] then
      by_key[key] = { key = key, row = row, missing = {} }
      list[#list + 1] = by_key[key]
    end
    if not row.has then table.insert(by_key[key].missing, row.privilege) end
  end
  return list
end

local function of_privileges(db, wanted)
  local list = {}
  local rows = db:rows(PRIVILEGES, wanted.role, table.concat(wanted.schemas, "\n"), wishes(wanted))
  for i, group in ipairs(grouped(rows, function (row) return "privileges on " .. row.key end)) do
    list[i] = granting(group.key, group.row.sql, wanted.role, group.missing, "")
    list[i].object = group.row.key:match("^table") or group.row.key:match("^sequence")
  end
  return list
end

local function of_defaults(db, wanted)
  local list = {}
  local rows = db:rows(DEFAULTS, wanted.role, table.concat(wanted.schemas, "\n"), wishes(wanted), table.concat(wanted.makers, "\n"))
  for i, group in ipairs(grouped(rows, function (row) return ("privileges on every %s that %s will make in %s"):format(row.kind, row.maker, row.space) end)) do
    local row = group.row
    list[i] = granting(group.key, row.kind:upper() .. "S", wanted.role, group.missing, ("ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %s "):format(quote(row.maker), quote(row.space)))
  end
  return list
end

-- Everything that is to be so, in the order in which it is done, with `has`: is it?
local function survey(db, wanted)
  local list = {}
  local function add(items)
    for _, item in ipairs(items) do list[#list + 1] = item end
  end
  local privileges, before = of_privileges(db, wanted), wanted.own and granted_before(db, wanted)
  if wanted.own then add { of_database(db, wanted, before) } end
  for _, item in ipairs(privileges) do
    if not item.object then list[#list + 1] = item end
  end
  if wanted.own then add(of_objects(db, wanted, before)) end
  for _, item in ipairs(privileges) do
    if item.object and not wanted.own then list[#list + 1] = item end   -- an owner has them all
  end
  add(of_defaults(db, wanted))
  return list
end

---@class Wanted
---@field role string
---@field schemas string[] in which
---@field own boolean is it to own the database and every object?
---@field privileges string[] on tables and views; ignored on what it owns
---@field makers string[] roles that will make tables

--- What is not as it should be: one item for each statement, in their order.
---@param db table
---@param wanted Wanted
---@return { key: string, act: string, undo: string, owner: string?, locks: boolean?, before: string[]? }[] items
---@effect read
function M.missing(db, wanted)
  local list = {}
  for _, item in ipairs(survey(db, wanted)) do
    if not item.has then
      item.has, item.object = nil, nil
      list[#list + 1] = item
    end
  end
  return list
end

--- Is this so now, or is there nothing left of which it could be so?
---@param db table
---@param wanted Wanted
---@param item table of `missing`
---@return boolean
---@effect read
function M.has(db, wanted, item)
  for _, now in ipairs(survey(db, wanted)) do
    if now.key == item.key then return now.has end
  end
  return true
end

--- Put one item right. What locks a table waits for it only so long.
---@param db table
---@param item table of `missing`
---@param lock_within string
---@effect write
function M.put_right(db, item, lock_within)
  if item.locks then db:maintain(item.act, { lock_within = lock_within }) else db:exec(item.act) end
end

--- Take one item back, unless it is not so (any more), or what it was about is gone.
---@param db table
---@param wanted Wanted
---@param item table of `missing`
---@param lock_within string
---@effect write
function M.take_back(db, wanted, item, lock_within)
  for _, now in ipairs(survey(db, wanted)) do
    local ours = now.key == item.key and (now.has or now.owner == item.owner)     -- or it died between the two
    if ours and now.has then M.put_right(db, { act = item.undo, locks = item.locks }, lock_within) end
    for _, statement in ipairs(ours and item.before or {}) do db:exec(statement) end
  end
end

--- What the role that acts may not do, in sentences; empty when it may put everything right.
---@param db table
---@param items table[] of `missing`
---@return string[]
---@effect read
function M.obstacles(db, items)
  local list, seen = {}, {}
  local me = db:row "SELECT rolname AS name, rolsuper AS super FROM pg_catalog.pg_roles WHERE rolname = current_user"
  for _, item in ipairs(me.super and {} or items) do
    if item.owner and not seen[item.owner] then
      seen[item.owner] = true
      if not db:has("SELECT pg_catalog.pg_has_role(current_user, $1::name, 'MEMBER')", item.owner) then
        list[#list + 1] = ("%s is no superuser and no member of %s, to whom %s belongs"):format(me.name, item.owner, item.key:match("^owner of (.*)$"))
      end
    end
  end
  return list
end

--- Tables and sequences of these schemas on which the role lacks something, in sentences.
---@param db table
---@param wanted Wanted
---@return string[]
---@effect read
function M.lacking(db, wanted)
  local list = {}
  for _, item in ipairs(of_privileges(db, wanted)) do
    if not item.has then list[#list + 1] = ("%s lacks %s"):format(wanted.role, item.key) end
  end
  return list
end

return M
