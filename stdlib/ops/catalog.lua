--- What a database holds, as far as its users made it: nothing of the server, nothing of an extension.
--
-- Each word is one read. Names come as "schema.name", sorted by bytes, so that two lists compare everywhere.

local M = {}

local mine <const> = [[
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = o.tableoid AND e.objid = o.oid AND e.deptype = 'e')
 ORDER BY (n.nspname || '.' || o.%s) COLLATE "C"]]

local relations <const> = [[
SELECT n.nspname || '.' || o.relname AS name
  FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace
 WHERE o.relkind = ANY (pg_catalog.string_to_array($1, ','))]] .. mine:format("relname")

local enums <const> = [[
SELECT n.nspname || '.' || o.typname AS name
  FROM pg_catalog.pg_type o JOIN pg_catalog.pg_namespace n ON n.oid = o.typnamespace
 WHERE o.typtype = 'e']] .. mine:format("typname")

local function names(rows)
  local list = {}
  for i, row in ipairs(rows) do list[i] = row.name end
  return list
end

--- Tables, partitioned and foreign ones too.
---@param db table
---@return string[] names
---@effect read
function M.tables(db)
  return names(db:rows(relations, "r,p,f"))
end

--- Everything that holds or shows rows: tables, views, materialized views, sequences.
---@param db table
---@return string[] names
---@effect read
function M.relations(db)
  return names(db:rows(relations, "r,p,f,v,m,S"))
end

--- Enum types.
---@param db table
---@return string[] names
---@effect read
function M.enums(db)
  return names(db:rows(enums))
end

return M
