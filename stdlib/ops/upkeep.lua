--- Keeping tables and indexes of a PostgreSQL database in shape: what there is to do, what it takes, what stands in the way.
--
-- Names are "schema.name" as the catalogue has them; `sql` is the same name as a statement needs it. VACUUM and REINDEX CONCURRENTLY
-- cannot be in a transaction, not even in the one that a client makes of two statements sent together ("ANALYZE; VACUUM;"): each
-- object is a statement of its own, so it can also be skipped, watched and gone on with by itself.

local bytes = require "core.bytes"
local duration = require "core.duration"

local M = {}

local TABLES <const> = [[
  SELECT n.nspname || '.' || c.relname AS key, format('%I.%I', n.nspname, c.relname) AS sql, pg_catalog.pg_relation_filenode(c.oid)::bigint AS file,
         pg_catalog.pg_table_size(c.oid) AS bytes, pg_catalog.pg_total_relation_size(c.oid) AS total, s.n_dead_tup AS dead, s.n_live_tup AS live,
         greatest(s.last_vacuum, s.last_autovacuum)::text AS vacuumed,
         coalesce((SELECT pg_catalog.pg_tablespace_location(t.oid) FROM pg_catalog.pg_tablespace t
            WHERE t.oid = coalesce(nullif(c.reltablespace, 0), (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))), '') AS place
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_stat_user_tables s ON s.relid = c.oid
   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
     AND ($1::text IS NULL OR n.nspname || '.' || c.relname = ANY (pg_catalog.string_to_array($1, E'\n')) OR c.relname = ANY (pg_catalog.string_to_array($1, E'\n')))
     AND ($2::bigint IS NULL OR s.n_dead_tup > $2::bigint)
   ORDER BY (n.nspname || '.' || c.relname) COLLATE "C"]]

--- Tables by name, or those with more dead rows than `dead`: what they hold and what they take.
---@param db table
---@param given { names: string[]?, dead: integer? }
---@return { key: string, sql: string, file: integer, bytes: integer, total: integer, dead: integer, live: integer, vacuumed: string?, place: string }[]
---@effect read
function M.tables(db, given)
  return db:rows(TABLES, given.names and table.concat(given.names, "\n") or nil, given.dead)
end

--- One table of that key as it is now, nil when it is gone.
---@param db table
---@param key string
---@return table|nil
---@effect read
function M.of(db, key) return M.tables(db, { names = { key } })[1] end

--- The names among these that are no table.
---@param db table
---@param names string[]
---@return string[]
---@effect read
function M.missing(db, names)
  local there, list = {}, {}
  for _, found in ipairs(M.tables(db, { names = names })) do there[found.key], there[found.key:match("%.(.*)$")] = true, true end
  for _, name in ipairs(names) do
    if not there[name] then list[#list + 1] = name end
  end
  return list
end

local HORIZON <const> = [[
  SELECT format('session %s of %s (%s, %s), %s s in its transaction', pid, coalesce(nullif(application_name, ''), 'a program without a name'), usename, state,
           extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::bigint) AS who, xact_start AS since
    FROM pg_catalog.pg_stat_activity WHERE (datname = pg_catalog.current_database() OR backend_type = 'walsender') AND pid <> pg_catalog.pg_backend_pid()
     AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND application_name NOT LIKE 'neap:%'
     AND pg_catalog.clock_timestamp() - xact_start > make_interval(secs => $1::bigint / 1000.0)
  UNION ALL
  SELECT format('prepared transaction %s of %s', gid, owner), prepared FROM pg_catalog.pg_prepared_xacts
   WHERE database = pg_catalog.current_database() AND pg_catalog.clock_timestamp() - prepared > make_interval(secs => $1::bigint / 1000.0)
  UNION ALL
  SELECT format('replication slot %s (%s)', slot_name, CASE WHEN active THEN 'active' ELSE 'nobody reads it' END), NULL::timestamptz
    FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL AND pg_catalog.age(xmin) > 100000
   ORDER BY since]]

--- What keeps dead rows from being removed, in sentences: whoever may still want to see them. Vacuum works and frees nothing as long as they stay.
---@param db table
---@param longer string how long a transaction may take before it counts
---@return string[]
---@effect read
function M.horizon(db, longer)
  local list = {}
  for i, row in ipairs(db:rows(HORIZON, duration.parse(longer))) do list[i] = row.who end
  return list
end

--- Bytes as people read them: "12.4 MiB".
M.size = bytes.format

--- Is there room to write something of this size anew? Asked of the disk where that can be, else of what a human measured.
---@param db table
---@param need integer bytes
---@param place string tablespace's directory, "" for the server's own
---@param measured integer|nil free bytes that a human says there are
---@return boolean room
---@return string actual
---@effect read
function M.room(db, need, place, measured)
  local free, why = db:disk_free(place)
  free = free or measured
  if not free then return false, why .. "; measure it on the server and give --free" end
  return free >= need, ("%s are free, %s are needed"):format(bytes.format(free), bytes.format(need))
end

-- Indexes -------------------------------------------------------------------------------------------------

local INDEXES <const> = [[
  SELECT n.nspname || '.' || c.relname AS key, format('%I.%I', n.nspname, c.relname) AS sql, tn.nspname || '.' || t.relname AS "table",
         pg_catalog.pg_relation_filenode(c.oid)::bigint AS file, pg_catalog.pg_table_size(c.oid) AS bytes, NOT i.indisexclusion AS beside,
         CASE WHEN i.indisprimary THEN 'primary key' WHEN i.indisexclusion THEN 'exclusion' WHEN i.indisunique THEN 'unique' ELSE '' END AS rule,
         i.indisvalid AS valid, NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AS leftover, '' AS place
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
   WHERE c.relkind = 'i' AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema' AND t.relpersistence <> 't'
     AND ($1::text IS NULL OR tn.nspname || '.' || t.relname = ANY (pg_catalog.string_to_array($1, E'\n')) OR t.relname = ANY (pg_catalog.string_to_array($1, E'\n'))
       OR n.nspname || '.' || c.relname = ANY (pg_catalog.string_to_array($1, E'\n')))
   ORDER BY (n.nspname || '.' || c.relname) COLLATE "C"]]

local function indexes(db, names, fits)
  local list = {}
  for _, row in ipairs(db:rows(INDEXES, names and table.concat(names, "\n") or nil)) do
    if fits(row) then list[#list + 1] = row end
  end
  return list
end

--- The indexes of these tables (of all when omitted) that can be rebuilt. `beside` is false for those of exclusion constraints, which cannot
--- be rebuilt beside their readers and writers.
---@param db table
---@param tables string[]|nil
---@return table[]
---@effect read
function M.indexes(db, tables)
  return indexes(db, tables, function (row) return not row.leftover and not row.key:find("^pg_toast") end)
end

--- What an interrupted REINDEX CONCURRENTLY left: invalid, written on every change, used by nobody.
---@param db table
---@param tables string[]|nil
---@return table[]
---@effect read
function M.leftovers(db, tables)
  return indexes(db, tables, function (row) return row.leftover end)
end

--- One index of that key as it is now, nil when it is gone.
---@param db table
---@param key string
---@return table|nil
---@effect read
function M.index(db, key)
  return indexes(db, { key }, function (row) return row.key == key end)[1]
end

--- Who is building or rebuilding an index of this table right now, in a sentence; nil when nobody is.
---@param db table
---@param name string
---@return string|nil
---@effect read
function M.builder(db, name)
  return db:value([[SELECT string_agg(format('pid %s: %s, %s', p.pid, p.command, p.phase), '; ') FROM pg_catalog.pg_stat_progress_create_index p
    JOIN pg_catalog.pg_class t ON t.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
   WHERE p.datname = pg_catalog.current_database() AND n.nspname || '.' || t.relname = $1]], name)
end

--- Drop what a rebuild of this table's indexes left behind, if anything.
---@param db table
---@param name string of the table
---@param lock_within string
---@effect write
function M.drop_leftovers(db, name, lock_within)
  for _, index in ipairs(M.leftovers(db, { name })) do db:maintain("DROP INDEX CONCURRENTLY " .. index.sql, { lock_within = lock_within }) end
end

--- Indexes as a table to be shown.
---@param title string
---@param list table[]
---@param remark string|nil
---@return table answer
---@effect pure
function M.table(title, list, remark)
  local rows = {}
  for r, index in ipairs(list) do rows[r] = { index.key, index.table, index.rule, index.valid, index.bytes } end
  return { title = title, columns = { "index", "table", "rule", "valid", "bytes" }, rows = rows, remark = remark }
end

return M
