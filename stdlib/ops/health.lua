--- How a PostgreSQL server is doing: each word is one read-only question and answers with a table.
--
--   report(health.locks(db))
--
-- An answer is { title, columns, rows, remark? }: `columns` in order, each row a list in the same order with a
-- hole where the server says NULL, `remark` what the reader must know about the numbers (their age, what is missing).
-- The columns of the statistics views are relname and indexrelname; the mean time of a statement is
-- mean_exec_time in pg_stat_statements 1.8 and later (PostgreSQL 13), mean_time before: the view is asked,
-- not the server's version, because an upgraded server keeps the old view until ALTER EXTENSION.
--
-- Rejected: one big query per screen (one missing privilege would hide everything), and sizes as words
-- ("12 MB"): numbers sort and compare, the views make words of them.

local duration = require "core.duration"
local locks = require "ops.locks"
local raise = require "core.raise"

local M = {}

local function answer(title, columns, found, remark)
  local rows = {}
  for r, row in ipairs(found) do
    rows[r] = {}
    for c, column in ipairs(columns) do rows[r][c] = row[column] end
  end
  return { title = title, columns = columns, rows = rows, remark = remark }
end

local function count(limit)
  return limit or 20
end

-- Sessions ------------------------------------------------------------------------------------------------

--- How many connections there are, and how many there may be.
---@param db table
---@return table answer
---@effect read
function M.connections(db)
  return answer("Connections", { "connections", "max_connections", "reserved", "left" }, db:rows [[
    SELECT c.connections, s.most AS max_connections, s.reserved, s.most - s.reserved - c.connections AS left
      FROM (SELECT count(*) AS connections FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') c,
           (SELECT pg_catalog.current_setting('max_connections')::bigint AS most,
                   pg_catalog.current_setting('superuser_reserved_connections')::bigint AS reserved) s]])
end

--- Connections of this server by database and state.
---@param db table
---@return table answer
---@effect read
function M.states(db)
  return answer("Connections by state", { "database", "state", "connections", "oldest_s" }, db:rows [[
    SELECT datname::text AS database, coalesce(state, 'unknown') AS state, count(*) AS connections,
           max(extract(epoch FROM pg_catalog.now() - state_change))::bigint AS oldest_s
      FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'
     GROUP BY datname, state ORDER BY connections DESC, database, state]])
end

--- Connections by the application that opened them.
---@param db table
---@return table answer
---@effect read
function M.applications(db)
  return answer("Connections by application", { "application", "role", "connections", "active" }, db:rows [[
    SELECT coalesce(nullif(application_name, ''), '(none)') AS application, usename::text AS role, count(*) AS connections,
           count(*) FILTER (WHERE state = 'active') AS active
      FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'
     GROUP BY application_name, usename ORDER BY connections DESC, application, role]])
end

--- Statements and transactions that have been running for longer than this.
---@param db table
---@param than? string a duration ("5m")
---@return table answer
---@effect read
function M.long(db, than)
  than = than or "5m"
  return answer("Running for longer than " .. than,
    { "pid", "database", "role", "application", "state", "statement_s", "transaction_s", "query" }, db:rows([[
    SELECT pid, datname::text AS database, usename::text AS role, application_name AS application, state,
           extract(epoch FROM pg_catalog.clock_timestamp() - query_start)::bigint AS statement_s,
           extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::bigint AS transaction_s, left(query, 200) AS query
      FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() AND state <> 'idle'
       AND pg_catalog.clock_timestamp() - xact_start > make_interval(secs => $1::bigint / 1000.0)
     ORDER BY xact_start, pid]], duration.parse(than)))
end

-- Sizes ---------------------------------------------------------------------------------------------------

-- Measuring a relation waits for its lock, and this is asked when locks are the trouble: whatever somebody holds
-- or wants for himself alone is left unmeasured (NULL).
local unlocked <const> = [[
    WITH held AS MATERIALIZED (SELECT relation FROM pg_catalog.pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL)
]]

local function size(measure, oid)
  return ("CASE WHEN %s NOT IN (SELECT relation FROM held) THEN pg_catalog.%s(%s) END"):format(oid, measure, oid)
end

--- Every database of the server that one may connect to, with its size.
---@param db table
---@return table answer
---@effect read
function M.databases(db)
  return answer("Databases", { "database", "bytes", "transactions_old" }, db:rows [[
    SELECT datname::text AS database,
           CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) END AS bytes,
           pg_catalog.age(datfrozenxid) AS transactions_old
      FROM pg_catalog.pg_database WHERE datallowconn ORDER BY bytes DESC NULLS LAST, database]])
end

--- The largest tables: with indexes and TOAST, alone, and how many rows the statistics believe in.
---@param db table
---@param limit? integer
---@return table answer
---@effect read
function M.sizes(db, limit)
  return answer("Largest tables", { "schema", "table", "bytes", "table_bytes", "rows_estimated" }, db:rows(unlocked .. [[
    SELECT s.schemaname::text AS schema, s.relname::text AS "table", ]] .. size("pg_total_relation_size", "s.relid") .. [[ AS bytes,
           ]] .. size("pg_table_size", "s.relid") .. [[ AS table_bytes, s.n_live_tup AS rows_estimated
      FROM pg_catalog.pg_stat_user_tables s
     ORDER BY bytes DESC NULLS LAST, schema, "table" LIMIT $1::bigint]], count(limit)),
    "Rows are the statistics' estimate, not a count; a table that somebody holds alone is not measured.")
end

--- Tables with the most dead rows, and when autovacuum last came by.
---@param db table
---@param limit? integer
---@return table answer
---@effect read
function M.bloat(db, limit)
  return answer("Dead rows", { "schema", "table", "bytes", "dead_rows", "live_rows", "dead_percent", "vacuumed", "analyzed" }, db:rows(unlocked .. [[
    SELECT schemaname::text AS schema, relname::text AS "table", ]] .. size("pg_table_size", "relid") .. [[ AS bytes,
           n_dead_tup AS dead_rows, n_live_tup AS live_rows,
           round(100.0 * n_dead_tup / nullif(n_live_tup + n_dead_tup, 0), 2)::float8 AS dead_percent,
           date_trunc('second', greatest(last_vacuum, last_autovacuum))::text AS vacuumed,
           date_trunc('second', greatest(last_analyze, last_autoanalyze))::text AS analyzed
      FROM pg_catalog.pg_stat_user_tables WHERE n_dead_tup > 0
     ORDER BY dead_rows DESC, schema, "table" LIMIT $1::bigint]], count(limit)),
    "Dead rows are the statistics' estimate; the space they hold is not measured.")
end

-- Indexes -------------------------------------------------------------------------------------------------

--- Since when the counters of this database count.
---@param db table
---@return string
---@effect read
function M.counting_since(db)
  return db:value [[
    SELECT coalesce('Counted since ' || date_trunc('second', stats_reset)::text || ' ('
             || extract(day FROM pg_catalog.now() - stats_reset)::bigint || ' days).', 'Counted since the database was made.')
      FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()]]
end

--- The most used indexes.
---@param db table
---@param limit? integer
---@return table answer
---@effect read
function M.indexes(db, limit)
  return answer("Index use", { "schema", "table", "index", "scans", "rows_read", "bytes" }, db:rows(unlocked .. [[
    SELECT schemaname::text AS schema, relname::text AS "table", indexrelname::text AS index, idx_scan AS scans,
           idx_tup_read AS rows_read, ]] .. size("pg_table_size", "indexrelid") .. [[ AS bytes
      FROM pg_catalog.pg_stat_user_indexes ORDER BY scans DESC, schema, index LIMIT $1::bigint]], count(limit)), M.counting_since(db))
end

--- Indexes that nobody has used since the counters began, without those that mean something unread: unique ones,
--- primary keys, constraints, and invalid leftovers (these are a finding of their own).
---@param db table
---@param limit? integer
---@return table answer
---@effect read
function M.unused(db, limit)
  return answer("Unused indexes", { "schema", "table", "index", "bytes" }, db:rows(unlocked .. [[
    SELECT s.schemaname::text AS schema, s.relname::text AS "table", s.indexrelname::text AS index,
           ]] .. size("pg_table_size", "s.indexrelid") .. [[ AS bytes
      FROM pg_catalog.pg_stat_user_indexes s JOIN pg_catalog.pg_index i ON i.indexrelid = s.indexrelid
     WHERE s.idx_scan = 0 AND NOT i.indisunique AND NOT i.indisprimary AND NOT i.indisexclusion AND i.indisvalid
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c WHERE c.conindid = s.indexrelid)
     ORDER BY bytes DESC NULLS LAST, schema, index LIMIT $1::bigint]], count(limit)),
    M.counting_since(db) .. " A replica counts for itself: an index unused here may be used there.")
end

--- Indexes that a failed CREATE or REINDEX CONCURRENTLY left behind: written on every change, used by no query.
---@param db table
---@return table answer
---@effect read
function M.invalid(db)
  return answer("Invalid indexes", { "schema", "table", "index", "bytes" }, db:rows(unlocked .. [[
    SELECT n.nspname::text AS schema, t.relname::text AS "table", c.relname::text AS index, ]] .. size("pg_table_size", "c.oid") .. [[ AS bytes
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY schema, index]]))
end

-- Statements and locks ------------------------------------------------------------------------------------

local slow_columns <const> = { "mean_ms", "total_ms", "calls", "rows", "query" }

local function slow_absent(why)
  return { title = "Slowest statements", columns = slow_columns, rows = {}, remark = why }
end

--- The statements of this database with the highest mean time, when pg_stat_statements is there.
---@param db table
---@param limit? integer
---@return table answer
---@effect read
function M.slow(db, limit)
  local at = db:rows([[
    SELECT format('%I.pg_stat_statements', n.nspname) AS view,
           EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attname = 'mean_exec_time' AND NOT a.attisdropped
                      AND a.attrelid = pg_catalog.to_regclass(format('%I.pg_stat_statements', n.nspname))) AS modern
      FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'pg_stat_statements']])[1]
  if not at then return slow_absent "The extension pg_stat_statements is not installed in this database." end
  local mean, total = "mean_exec_time", "total_exec_time"
  if not at.modern then mean, total = "mean_time", "total_time" end
  local ok, found = pcall(db.rows, db, ([[
    SELECT round(s.%s::numeric, 3)::float8 AS mean_ms, round(s.%s::numeric, 3)::float8 AS total_ms, s.calls, s.rows,
           left(s.query, 200) AS query
      FROM %s s WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
     ORDER BY s.%s DESC, s.queryid LIMIT $1::bigint]]):format(mean, total, at.view, mean), count(limit))
  if ok then return answer("Slowest statements", slow_columns, found) end
  if not raise.is(found) or found.sqlstate ~= "55000" then error(found, 0) end
  return slow_absent "The extension is installed, but the server does not load it: shared_preload_libraries lacks pg_stat_statements."
end

--- Who waits for whom: every waiting session under the session that blocks it.
---@param db table
---@return table answer
---@effect read
function M.locks(db)
  return answer("Locks waited for", { "pid", "state", "database", "role", "application", "waits_s", "wants", "query" }, locks.tree(db))
end

-- All of it -----------------------------------------------------------------------------------------------

--- The questions in the order in which one reads them at night: the word, and what a step about it is called.
M.questions = {
  { "connections", "Connections" }, { "states", "Connections by state" }, { "applications", "Connections by application" },
  { "locks", "Who waits for whom" }, { "long", "Long statements and transactions" }, { "slow", "Slowest statements" },
  { "databases", "Sizes of the databases" }, { "sizes", "Largest tables" }, { "bloat", "Dead rows" },
  { "indexes", "Most used indexes" }, { "unused", "Unused indexes" }, { "invalid", "Invalid indexes" },
}

local limited <const> = { slow = true, sizes = true, bloat = true, indexes = true, unused = true }

--- Ask one question by its word. What the server will not say (a privilege, a lock) becomes the remark of the
--- answer; a server that has gone is an error.
---@param db table
---@param word string
---@param given? { limit: integer?, longer: string? } rows of the long lists (20); what is long ("5m")
---@return table answer
---@effect read
function M.ask(db, word, given)
  given = given or {}
  local ok, found = pcall(M[word], db, limited[word] and given.limit or word == "long" and given.longer or nil)
  if ok then return found end
  if not (raise.is(found) and found.code == "remote" and found.sqlstate) then error(found, 0) end
  return { title = word, columns = {}, rows = {}, remark = "The server would not say: " .. found.message }
end

return M
