--- The probe statements: everything that was found to get through a read-only transaction, everything
--- that was found refused, and the tricks by which one hides behind the other. Part one of the fence (guard/sql.c) is tried
--- on this list in sql_spec.lua; the whole fence is tried on it against a real server.
---
--- A row is { sql=, what=, part= } or { sql=, what=, reads=true }. `part` names the part of the fence that must stop it
--- at the latest:
---   "parse"     the grammar says it is not a read
---   "function"  it calls a function that pg_proc says is volatile, and that is not vetted
---   "session"   the server refuses it in a read-only transaction, or because of the session's settings
---   "tripwire"  it ran, and the transaction id it took gives it away; the preview fails loudly and rolls back
--- The statements of M.common are run once beforehand, as superuser, and M.undo takes them back. A row may bring more:
--- `setup`, statements to be run first outside the fence, with `undo`, and `extension`, without which it means nothing.

---@class probe
---@field sql string      the statement, as a runbook might try it
---@field what string     what it would do
---@field part? "parse"|"function"|"session"|"tripwire"
---@field reads? boolean  true: it must be let through
---@field setup? string[] statements to be run first, outside the fence
---@field undo? string[]  and what takes them back
---@field extension? string

local M = {}

M.common = {
  "CREATE TABLE probe (id int PRIMARY KEY, v text)",
  "INSERT INTO probe VALUES (1, 'one'), (2, 'two')",
  "CREATE SEQUENCE probe_seq",
  "CREATE FUNCTION probe_write() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO probe VALUES (9) RETURNING id'",
  "CREATE FUNCTION probe_stable() RETURNS int LANGUAGE plpgsql STABLE"
    .. " AS 'BEGIN INSERT INTO probe VALUES (8); RETURN 8; END'",
  "CREATE FUNCTION probe_row(probe) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1 FROM pg_notify(''p'', ''x'')'",
  "CREATE FUNCTION probe_lock() RETURNS int LANGUAGE plpgsql VOLATILE"
    .. " AS 'BEGIN LOCK TABLE probe IN ACCESS EXCLUSIVE MODE; RETURN 1; END'",
  "CREATE FUNCTION probe_plain(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'",
  "CREATE VIEW probe_next AS SELECT nextval('probe_seq') AS n",
  "CREATE VIEW probe_xid AS SELECT txid_current() AS x",
  "CREATE VIEW probe_locking AS SELECT probe_lock() AS n",
  "CREATE VIEW probe_large AS SELECT lo_create(0) AS n",
  "CREATE VIEW probe_writing AS SELECT probe_write() AS n",
  "CREATE VIEW probe_for_update AS SELECT * FROM probe FOR UPDATE",
  "CREATE MATERIALIZED VIEW probe_copy AS SELECT * FROM probe",
  "CREATE PROCEDURE probe_call() LANGUAGE sql AS 'INSERT INTO probe VALUES (7)'",
  "CREATE SCHEMA probe_elsewhere",
  "CREATE FUNCTION probe_elsewhere.timeofday() RETURNS float LANGUAGE sql VOLATILE"
    .. " AS 'SELECT 1.0 FROM pg_notify(''p'', ''x'')'",
}

M.undo = {
  "DROP SCHEMA probe_elsewhere CASCADE",
  "DROP VIEW probe_for_update, probe_writing, probe_large, probe_locking, probe_xid, probe_next",
  "DROP MATERIALIZED VIEW probe_copy", "DROP PROCEDURE probe_call()",
  "DROP FUNCTION probe_write(), probe_stable(), probe_row(probe), probe_lock(), probe_plain(int)",
  "DROP SEQUENCE probe_seq", "DROP TABLE probe",
}

local function add(part, rows)
  for _, row in ipairs(rows) do
    local probe = { sql = row[1], what = row[2], setup = row.setup, undo = row.undo, extension = row.extension }
    if part == "reads" then probe.reads = true else probe.part = part end
    M[#M + 1] = probe
  end
end

-- Refused by the server as well: the first row of the table.
add("parse", {
  { "INSERT INTO probe VALUES (3, 'x')", "inserts a row" },
  { "INSERT INTO probe VALUES (3, 'x') RETURNING id", "inserts a row and looks like a query" },
  { "UPDATE probe SET v = 'x'", "updates every row" },
  { "DELETE FROM probe", "deletes every row" },
  { "MERGE INTO probe USING probe p ON probe.id = p.id WHEN MATCHED THEN DELETE", "merges" },
  { "TRUNCATE probe", "empties a table" },
  { "WITH gone AS (DELETE FROM probe RETURNING id) SELECT * FROM gone", "deletes in a WITH query" },
  { "WITH a AS (SELECT 1), b AS (INSERT INTO probe VALUES (3) RETURNING id) SELECT * FROM a",
    "inserts in a WITH query nobody reads" },
  { "SELECT * FROM (WITH u AS (UPDATE probe SET v = 'x' RETURNING id) SELECT id FROM u) s",
    "updates in a nested WITH query" },
  { "WITH a AS (WITH b AS (DELETE FROM probe RETURNING id) SELECT * FROM b) SELECT * FROM a",
    "deletes two WITH queries deep" },
  { "SELECT 1 UNION ALL (WITH d AS (DELETE FROM probe RETURNING id) SELECT id FROM d)", "deletes in an arm of UNION" },
  { "SELECT * FROM probe FOR UPDATE", "locks rows" },
  { "SELECT * FROM probe FOR NO KEY UPDATE", "locks rows" },
  { "SELECT * FROM probe FOR SHARE", "locks rows" },
  { "SELECT * FROM probe FOR KEY SHARE", "locks rows" },
  { "SELECT * FROM probe FOR UPDATE SKIP LOCKED", "takes rows like a queue" },
  { "SELECT * FROM probe FOR SHARE OF probe NOWAIT", "locks rows of one table" },
  { "SELECT * FROM (SELECT * FROM probe FOR UPDATE) s", "locks rows in a sub-select" },
  { "WITH l AS (SELECT * FROM probe FOR SHARE) SELECT count(*) FROM l", "locks rows in a WITH query" },
  { "SELECT EXISTS (SELECT 1 FROM probe FOR KEY SHARE)", "locks rows in an expression" },
  { "TABLE probe FOR UPDATE", "locks rows, spelled TABLE" },
  { "SELECT * INTO probe_new FROM probe", "creates a table" },
  { "SELECT * INTO TEMP probe_new FROM probe", "creates a temporary table" },
  { "SELECT 1 AS a INTO UNLOGGED TABLE probe_new", "creates an unlogged table" },
  { "(SELECT 1 AS a INTO probe_new) UNION SELECT 2", "creates a table in an arm of UNION" },
  { "CREATE TABLE probe_new (a int)", "creates a table" },
  { "CREATE TEMP TABLE probe_new (a int)", "creates a temporary table" },
  { "CREATE TABLE probe_new AS SELECT * FROM probe", "creates a table from a query" },
  { "CREATE VIEW probe_new AS SELECT 1", "creates a view" },
  { "CREATE INDEX ON probe (v)", "creates an index" },
  { "CREATE INDEX CONCURRENTLY ON probe (v)", "creates an index outside a transaction" },
  { "CREATE FUNCTION probe_new() RETURNS int LANGUAGE sql AS 'SELECT 1'", "creates a function" },
  { "CREATE ROLE probe_new", "creates a role" },
  { "CREATE EXTENSION IF NOT EXISTS dblink", "installs an extension" },
  { "CREATE SERVER probe_new FOREIGN DATA WRAPPER postgres_fdw", "opens a way to another server" },
  { "ALTER TABLE probe ADD c int", "changes a table" },
  { "ALTER ROLE CURRENT_USER SET default_transaction_read_only = off", "undoes the fence for later sessions" },
  { "ALTER DATABASE postgres SET work_mem = '1MB'", "changes a setting of the database" },
  { "DROP TABLE probe", "drops a table" },
  { "DROP OWNED BY CURRENT_USER", "drops everything of a role" },
  { "REFRESH MATERIALIZED VIEW probe_copy", "rewrites a materialized view" },
  { "COMMENT ON TABLE probe IS 'x'", "writes to the catalogue" },
  { "SECURITY LABEL ON TABLE probe IS 'x'", "writes to the catalogue" },
  { "GRANT SELECT ON probe TO PUBLIC", "opens a table to everybody" },
  { "REVOKE SELECT ON probe FROM PUBLIC", "closes a table" },
  { "GRANT pg_monitor TO CURRENT_USER", "gives a role" },
  { "REASSIGN OWNED BY CURRENT_USER TO CURRENT_USER", "changes owners" },
  { "CREATE DATABASE probe_new", "creates a database" },
  { "DROP DATABASE IF EXISTS probe_new", "drops a database" },
  { "ALTER DATABASE template0 SET TABLESPACE pg_default", "moves a database" },
  { "VACUUM probe", "vacuums" },
  { "VACUUM (FULL) probe", "rewrites a table" },
  { "CLUSTER", "rewrites every clustered table" },
  { "ALTER SYSTEM SET work_mem = '1MB'", "writes postgresql.auto.conf" },
  { "IMPORT FOREIGN SCHEMA public FROM SERVER probe_new INTO public", "creates foreign tables" },
})

-- Got through the read-only transaction: the second and third row.
add("parse", {
  { "COPY probe FROM STDIN", "loads rows" },
  { "COPY probe FROM '/dev/null'", "loads a file of the server" },
  { "COPY probe FROM PROGRAM 'true'", "runs a program on the server" },
  { "COPY probe TO '/dev/null'", "writes a file on the server" },
  { "COPY (SELECT 1) TO '/dev/null' WITH (FORMAT csv)", "writes a file on the server" },
  { "COPY probe TO PROGRAM 'true'", "runs a program on the server" },
  { "COPY (SELECT 1) TO PROGRAM 'true'", "runs a program on the server" },
  { "COPY probe TO STDOUT", "switches to another protocol: a word of its own does it" },
  { "COPY (DELETE FROM probe RETURNING id) TO STDOUT", "deletes, and looks like an export" },
  { "NOTIFY probe, 'x'", "notifies" },
  { "LISTEN probe", "listens" },
  { "UNLISTEN *", "stops listening" },
  { "LOCK TABLE probe IN ACCESS EXCLUSIVE MODE", "stops every reader of a table" },
  { "LOCK TABLE probe IN ACCESS SHARE MODE", "locks a table weakly" },
  { "LOCK TABLE ONLY probe NOWAIT", "locks a table, spelled otherwise" },
  { "REINDEX TABLE probe", "rebuilds indexes" },
  { "REINDEX INDEX CONCURRENTLY probe_pkey", "rebuilds an index" },
  { "REINDEX (VERBOSE) DATABASE postgres", "rebuilds all indexes" },
  { "ANALYZE probe", "writes statistics" },
  { "ANALYZE", "writes statistics of everything" },
  { "CHECKPOINT", "writes all buffers" },
  { "LOAD 'auto_explain'", "loads code into the server" },
  { "PREPARE TRANSACTION 'probe'", "leaves a transaction behind" },
  { "COMMIT PREPARED 'probe'", "ends somebody's transaction" },
  { "ROLLBACK PREPARED 'probe'", "ends somebody's transaction" },
  { "SET work_mem = '1MB'", "changes the session" },
  { "SET LOCAL statement_timeout = 0", "lifts the limit of the fence" },
  { "SET ROLE postgres", "becomes somebody else" },
  { "SET SESSION AUTHORIZATION postgres", "becomes somebody else" },
  { "SET standard_conforming_strings = off", "makes the server read strings otherwise than the fence" },
  { "RESET ALL", "forgets the settings of the fence" },
  { "DISCARD ALL", "forgets the session" },
  { "DISCARD TEMP", "drops temporary tables" },
  { "DECLARE c CURSOR FOR SELECT 1", "opens a cursor" },
  { "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM probe", "opens a cursor that outlives the transaction" },
  { "FETCH ALL FROM c", "reads from a cursor" },
  { "MOVE 1 IN c", "moves a cursor" },
  { "CLOSE ALL", "closes cursors" },
  { "PREPARE p AS INSERT INTO probe VALUES (3)", "prepares a write for later" },
  { "PREPARE p AS SELECT 1", "prepares a read for later" },
  { "EXECUTE p", "runs what was prepared" },
  { "DEALLOCATE ALL", "forgets what was prepared" },
  { "DO 'BEGIN INSERT INTO probe VALUES (3); END'", "runs code" },
  { "DO LANGUAGE plpgsql $$ BEGIN PERFORM pg_notify('p', 'x'); END $$", "runs code" },
  { "CALL probe_call()", "calls a procedure" },
  { "SET CONSTRAINTS ALL IMMEDIATE", "runs deferred triggers" },
})

-- Undoing the fence: the fourth row.
add("parse", {
  { "SET TRANSACTION READ WRITE", "makes the transaction writable" },
  { "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "makes later transactions writable" },
  { "SET default_transaction_read_only = off", "makes later transactions writable" },
  { "SET transaction_read_only TO off", "makes the transaction writable, as a setting" },
  { "COMMIT", "ends the fence" },
  { "COMMIT AND CHAIN", "ends the fence and begins another transaction" },
  { "ROLLBACK AND CHAIN", "ends the fence and begins another transaction" },
  { "END", "ends the fence, spelled otherwise" },
  { "ABORT", "ends the fence, spelled otherwise" },
  { "BEGIN READ WRITE", "begins a writable transaction" },
  { "START TRANSACTION", "begins a transaction" },
  { "SAVEPOINT s", "opens a subtransaction" },
  { "ROLLBACK TO s", "goes back in a subtransaction" },
  { "RELEASE s", "ends a subtransaction" },
  { "COMMIT AND CHAIN; SET TRANSACTION READ WRITE; INSERT INTO probe VALUES (3); COMMIT", "the way that wrote a row" },
})

-- Tricks of writing.
add("parse", {
  { "SELECT 1; INSERT INTO probe VALUES (3)", "a second statement" },
  { "SELECT 1;;;DELETE FROM probe;", "a second statement behind empty ones" },
  { "SELECT 1; SELECT 2", "two reads: one call, one statement" },
  { "", "nothing" },
  { " ; -- nothing", "nothing, with a comment" },
  { "/* SELECT 1 */ DELETE FROM probe", "a read in a comment" },
  { "/* /* nested */ SELECT 1; */ TRUNCATE probe", "a comment in a comment" },
  { "-- SELECT 1\nDELETE FROM probe", "a line comment in front" },
  { "SELECT 1 --\n; DELETE FROM probe", "a comment that ends before the semicolon" },
  { "SELECT $$;$$; DROP TABLE probe", "a dollar quote, then a second statement" },
  { "SELECT $a$ $$ $a$; DROP TABLE probe", "a tagged dollar quote" },
  { "SELECT '\\'; DROP TABLE probe; --'", "a backslash that ends the string only here" },
  { "SELECT E'\\'' ; DROP TABLE probe", "an escape string" },
  { "SELECT U&'\\0027'; DROP TABLE probe", "a unicode escape" },
  { "WITH U&\"g\\006fne\" AS (DELETE FROM probe RETURNING 1) SELECT 1", "a unicode escape as a name" },
  { "EXPLAIN ANALYZE SELECT 1", "runs what it explains" },
  { "EXPLAIN ANALYZE VERBOSE DELETE FROM probe", "runs what it explains" },
  { "EXPLAIN (ANALYZE) SELECT nextval('probe_seq')", "runs what it explains" },
  { "EXPLAIN (ANALYZE ON) SELECT 1", "runs what it explains" },
  { "EXPLAIN (ANALYZE TRUE, VERBOSE) SELECT 1", "runs what it explains" },
  { "EXPLAIN (COSTS OFF, ANALYZE 1) SELECT 1", "runs what it explains" },
  { "EXPLAIN (ANALYZE 'on') SELECT 1", "runs what it explains" },
  { "EXPLAIN (ANALYZE OFF) SELECT 1", "spellings of no are not read" },
  { "EXPLAIN (analyse) SELECT 1", "the British spelling" },
  { "EXPLAIN (WAL) SELECT 1", "needs ANALYZE" },
  { "EXPLAIN (SERIALIZE) SELECT 1", "an option of a later version" },
  { "EXPLAIN EXECUTE p", "explains what was prepared" },
  { "EXPLAIN CREATE TABLE probe_new AS SELECT 1", "explains the creation of a table" },
  { "EXPLAIN DECLARE c CURSOR FOR SELECT 1", "explains a cursor" },
  { "EXPLAIN SELECT * FROM probe FOR UPDATE", "takes ROW SHARE on the table" },
  { "SELECT * FROM probe TABLESAMPLE probe_method(1)", "calls somebody's sampling method" },
  { "SELECT \"pg_catalog.random\"()", "a function whose name looks like a schema and a name" },
  { "SELECT JSON_TABLE FROM FROM", "not SQL" },
})

-- Functions: volatile and not vetted.
add("function", {
  { "SELECT nextval('probe_seq')", "moves a sequence" },
  { "SELECT setval('probe_seq', 1)", "sets a sequence" },
  { "SELECT set_config('transaction_read_only', 'off', false)", "undoes the fence" },
  { "SELECT set_config('statement_timeout', '0', false)", "lifts the limit of the fence" },
  { "SELECT 1 WHERE pg_catalog.set_config('work_mem', '1MB', false) IS NULL", "changes the session in WHERE" },
  { "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE false", "ends sessions" },
  { "SELECT pg_cancel_backend(0)", "cancels a statement" },
  { "SELECT pg_reload_conf()", "reloads the settings" },
  { "SELECT pg_rotate_logfile()", "rotates the log" },
  { "SELECT pg_switch_wal()", "switches the WAL file" },
  { "SELECT pg_create_restore_point('probe')", "writes WAL" },
  { "SELECT pg_create_physical_replication_slot('probe')", "keeps WAL for ever" },
  { "SELECT pg_create_logical_replication_slot('probe', 'test_decoding')", "keeps WAL for ever" },
  { "SELECT pg_drop_replication_slot('probe')", "breaks a replica" },
  { "SELECT * FROM pg_logical_slot_get_changes('probe', NULL, NULL)", "consumes changes" },
  { "SELECT pg_logical_emit_message(true, 'p', 'x')", "writes WAL" },
  { "SELECT pg_logical_emit_message(false, 'p', 'x')", "writes WAL that no rollback takes back" },
  { "SELECT pg_stat_reset()", "forgets statistics" },
  { "SELECT pg_stat_reset_shared('bgwriter')", "forgets statistics" },
  { "SELECT pg_backup_start('probe')", "begins a backup" },
  { "SELECT * FROM pg_backup_stop()", "ends a backup" },
  { "SELECT pg_advisory_lock(1)", "locks for the session" },
  { "SELECT pg_try_advisory_lock(1)", "locks for the session if it can" },
  { "SELECT pg_advisory_xact_lock_shared(1)", "locks for the transaction" },
  { "SELECT pg_advisory_unlock_all()", "unlocks" },
  { "SELECT pg_export_snapshot()", "writes a file" },
  { "SELECT pg_notify('probe', 'x')", "notifies" },
  { "SELECT pg_import_system_collations('pg_catalog')", "writes to the catalogue" },
  { "SELECT lo_create(0)", "creates a large object" },
  { "SELECT lo_creat(-1)", "creates a large object" },
  { "SELECT lo_import('/etc/hostname')", "reads a file into a large object" },
  { "SELECT lo_export(1, '/dev/null')", "writes a file on the server" },
  { "SELECT lo_from_bytea(0, 'x')", "creates a large object" },
  { "SELECT lo_unlink(1)", "drops a large object" },
  { "SELECT lo_put(1, 0, 'x')", "writes to a large object" },
  { "SELECT pg_promote()", "makes a standby a primary" },
  { "SELECT pg_wal_replay_pause()", "stops a standby" },
  { "SELECT pg_replication_origin_create('probe')", "writes to the catalogue" },
  { "SELECT pg_log_backend_memory_contexts(1)", "fills the log" },
  { "SELECT pg_sleep(0)", "keeps a snapshot open" },
  { "SELECT pg_read_file('postgresql.conf')", "reads a file of the machine" },
  { "SELECT pg_stat_file('postgresql.conf')", "looks at a file of the machine" },
  { "SELECT * FROM pg_ls_dir('.')", "lists files of the machine" },
  { "SELECT setseed(0.5)", "changes the session" },
  { "SELECT currval('probe_seq')", "depends on the session" },
  { "SELECT query_to_xml('DELETE FROM probe', true, true, '')", "runs SQL in a string" },
  { "SELECT * FROM ts_stat('SELECT to_tsvector(v) FROM probe')", "runs SQL in a string" },
  { "SELECT dblink_exec('dbname=postgres', 'INSERT INTO probe VALUES (3)')",
    "writes over another connection", extension = "dblink" },
  { "SELECT * FROM dblink('dbname=postgres', 'DELETE FROM probe') AS t(a text)",
    "writes over another connection", extension = "dblink" },
  { "SELECT pg_file_write('probe', 'x', false)", "writes a file on the server", extension = "adminpack" },
  { "SELECT brin_summarize_new_values('probe_pkey')", "writes to an index" },
  { "SELECT probe_write()", "a function that writes" },
  { "SELECT * FROM probe_write()", "a function that writes, in FROM" },
  { "SELECT * FROM ROWS FROM (probe_write(), generate_series(1, 2))", "a function that writes, in ROWS FROM" },
  { "SELECT * FROM probe, LATERAL probe_write()", "a function that writes, in LATERAL" },
  { "SELECT 1 FROM probe ORDER BY probe_write()", "a function that writes, in ORDER BY" },
  { "SELECT 1 GROUP BY probe_write() HAVING probe_write() > 0", "a function that writes, in GROUP BY and HAVING" },
  { "SELECT 1 LIMIT probe_write()", "a function that writes, in LIMIT" },
  { "SELECT sum(id) FILTER (WHERE probe_write() > 0) FROM probe", "a function that writes, in FILTER" },
  { "SELECT sum(id) OVER (ORDER BY probe_write()) FROM probe", "a function that writes, in a window" },
  { "SELECT CASE WHEN true THEN (SELECT probe_write()) END", "a function that writes, in CASE" },
  { "VALUES (probe_write())", "a function that writes, in VALUES" },
  { "SELECT ARRAY[1, probe_write()]", "a function that writes, in an array" },
  { "SELECT ('{1,2}'::int[])[probe_write()]", "a function that writes, as a subscript" },
  { "SELECT 1 FROM probe a JOIN probe b ON probe_write() > a.id", "a function that writes, in ON" },
  { "WITH w AS (SELECT probe_write()) SELECT 1", "a function that writes, in a WITH query nobody reads" },
  { "SELECT \"probe_write\"()", "a function that writes, quoted" },
  { "SELECT U&\"probe\\005fwrite\"()", "a function that writes, in unicode escapes" },
  { "SELECT public . probe_write ( /* */ )", "a function that writes, with blanks" },
  { "SELECT probe_elsewhere.timeofday()", "a vetted name in another schema" },
  { "SELECT p.probe_row FROM probe p", "a function of the row, written like a column" },
  { "SELECT (p).probe_row FROM probe p", "a function of the row, written like a field" },
  { "EXPLAIN SELECT probe_write()", "not run, but not let through either" },
})

-- Parts three and six: what the text and the catalogue do not show.
add("session", {
  { "SELECT probe_stable()", "a STABLE function that writes: the server forbids it" },
  { "SELECT * FROM probe_next", "a view that hides nextval" },
  { "SELECT * FROM probe_writing", "a view that hides a function that writes" },
  { "SELECT * FROM probe_for_update", "a view that locks rows" },
})

add("tripwire", {
  { "SELECT txid_current()", "STABLE, and takes a transaction id" },
  { "SELECT pg_current_xact_id()", "STABLE, and takes a transaction id" },
  { "SELECT * FROM probe_xid", "a view that takes a transaction id" },
  { "SELECT * FROM probe_locking", "a view that hides LOCK TABLE" },
  { "SELECT * FROM probe_large", "a view that hides lo_create (refused by the server from 16 on)" },
})

-- What a preview needs.
add("reads", {
  { "SELECT 1", "a constant" },
  { "SELECT * FROM probe WHERE id = 1", "rows" },
  { "TABLE probe", "rows, spelled TABLE" },
  { "VALUES (1, 'a'), (2, 'b')", "constants" },
  { "SELECT ';'", "a semicolon in a string" },
  { "SELECT $$DELETE FROM probe; COMMIT$$", "a write in a string" },
  { "SELECT 1 /* ; DROP TABLE probe */", "a write in a comment" },
  { "SELECT 'FOR UPDATE' AS \"INTO\"", "keywords in quotes" },
  { "SHOW transaction_read_only", "a setting" },
  { "EXPLAIN SELECT * FROM probe", "a plan" },
  { "EXPLAIN (FORMAT JSON, COSTS OFF) DELETE FROM probe", "the plan of a write" },
  { "EXPLAIN INSERT INTO probe VALUES (3)", "the plan of a write, and whether it is allowed" },
  { "SELECT pg_database_size(current_database()), clock_timestamp(), random()", "vetted volatile readers" },
  { "SELECT pg_catalog.pg_is_in_recovery()", "a vetted volatile reader, with its schema" },
  { "SELECT system_identifier FROM pg_control_system()", "the identity of the cluster" },
  { "SELECT probe_plain(id) FROM probe", "an IMMUTABLE function of the database" },
  { "SELECT count(*), max(v) FROM probe GROUP BY id HAVING count(*) > 0 ORDER BY 1 LIMIT 3", "aggregates" },
  { "SELECT * FROM pg_stat_activity WHERE datname = current_database()", "sessions" },
  { "SELECT '\\' , ' , lo_create(0) --'",
    "two strings, and a call where the role reads strings the old way",
    setup = { "ALTER ROLE ALL SET standard_conforming_strings = off" },
    undo = { "ALTER ROLE ALL RESET standard_conforming_strings" } },
})

return M
