--- The first questions when a PostgreSQL server is in trouble, asked so that they cannot make it worse, and what their answers mean.
--
-- Every word reads; none waits for a lock. What a role may not see is said in the answer's remark instead of ending the triage. Nothing here, and no
-- verb anywhere, touches pg_wal: a log file that is removed by hand is a database that does not start.
--
-- A finding is { what, evidence, next }: a sentence, the numbers behind it, and what one does about it.

local bytes = require "core.bytes"
local raise = require "core.raise"

local M = {}

local PRIVATE <const> = { ["42501"] = true }

-- Ask; what the role may not see is told apart from what is broken.
local function ask(title, columns, fn, remark)
  local ok, found = pcall(fn)
  local rows = {}
  if not ok and not (raise.is(found) and PRIVATE[found.sqlstate]) then error(found, 0) end
  for r, row in ipairs(ok and found or {}) do
    rows[r] = {}
    for c, column in ipairs(columns) do rows[r][c] = row[column] end
  end
  if not ok then remark = "Not shown: " .. found.message .. "." end
  return { title = title, columns = columns, rows = rows, remark = remark }
end

-- The write-ahead log -------------------------------------------------------------------------------------

--- Does the archiver get rid of what it is given?
---@param db table
---@return table answer
---@effect read
function M.archiver(db)
  return ask("Archiver", { "mode", "archived", "last_archived", "archived_s_ago", "failed", "last_failed", "failed_s_ago", "failing" }, function ()
    return db:rows [[
      SELECT pg_catalog.current_setting('archive_mode') AS mode, archived_count AS archived, last_archived_wal AS last_archived,
             extract(epoch FROM pg_catalog.now() - last_archived_time)::bigint AS archived_s_ago, failed_count AS failed, last_failed_wal AS last_failed,
             extract(epoch FROM pg_catalog.now() - last_failed_time)::bigint AS failed_s_ago,
             pg_catalog.current_setting('archive_mode') <> 'off' AND coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing
        FROM pg_catalog.pg_stat_archiver]]
  end)
end

--- Replication slots and how much log each keeps from being reused.
---@param db table
---@return table answer
---@effect read
function M.slots(db)
  return ask("Replication slots", { "slot", "kind", "active", "kept_bytes", "state" }, function ()
    return db:rows [[
      SELECT slot_name::text AS slot, slot_type AS kind, active, wal_status AS state,
             pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)::bigint AS kept_bytes
        FROM pg_catalog.pg_replication_slots ORDER BY kept_bytes DESC NULLS LAST, slot]]
  end)
end

--- How much log there is, and how much there should be at most.
---@param db table
---@return table answer
---@effect read
function M.log(db)
  return ask("Write-ahead log", { "files", "bytes", "most_bytes", "kept_bytes", "checkpoint_s_ago" }, function ()
    return db:rows [[
      SELECT count(*) AS files, sum(w.size)::bigint AS bytes,
             (SELECT setting::bigint * 1024 * 1024 FROM pg_catalog.pg_settings WHERE name = 'max_wal_size') AS most_bytes,
             (SELECT setting::bigint * 1024 * 1024 FROM pg_catalog.pg_settings WHERE name = 'wal_keep_size') AS kept_bytes,
             (SELECT extract(epoch FROM pg_catalog.now() - checkpoint_time)::bigint FROM pg_catalog.pg_control_checkpoint()) AS checkpoint_s_ago
        FROM pg_catalog.pg_ls_waldir() w]]
  end, "The log is never removed by hand: the server reuses it when archiver, slots and checkpoint let it.")
end

--- What else takes room: files that statements are writing now, and the server's own log.
---@param db table
---@return table answer
---@effect read
function M.files(db)
  return ask("Other files", { "what", "files", "bytes" }, function ()
    return db:rows [[
      SELECT 'temporary files' AS what, count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes FROM pg_catalog.pg_ls_tmpdir()
      UNION ALL SELECT 'temporary files so far, ' || datname, temp_files, temp_bytes FROM pg_catalog.pg_stat_database WHERE temp_bytes > 0]]
  end)
end

-- Damage --------------------------------------------------------------------------------------------------

--- Does the server check its pages, and has a check failed?
---@param db table
---@return table answer
---@effect read
function M.checksums(db)
  return ask("Page checksums", { "database", "checked", "failures", "last_failure" }, function ()
    return db:rows [[
      SELECT coalesce(datname::text, '(shared)') AS database, pg_catalog.current_setting('data_checksums') AS checked, checksum_failures AS failures,
             checksum_last_failure::text AS last_failure
        FROM pg_catalog.pg_stat_database WHERE datname IS NULL OR datname NOT LIKE 'template_'
       ORDER BY failures DESC NULLS LAST, database]]
  end, "Failures count pages that were read; a page that nobody read was not checked.")
end

--- Settings that make damage, or hide it.
---@param db table
---@return table answer
---@effect read
function M.dangers(db)
  return ask("Dangerous settings", { "setting", "value", "should_be" }, function ()
    return db:rows [[
      SELECT s.name AS setting, s.setting AS value, w.wanted AS should_be
        FROM (VALUES ('fsync', 'on'), ('full_page_writes', 'on'), ('zero_damaged_pages', 'off'), ('ignore_checksum_failure', 'off'),
                     ('ignore_invalid_pages', 'off')) AS w(name, wanted)
        JOIN pg_catalog.pg_settings s ON s.name = w.name WHERE s.setting <> w.wanted ORDER BY s.name]]
  end)
end

--- The B-tree indexes of this database's tables, when the extension amcheck is there to check them. Those of the catalogue and of all databases
--- are checked on the server's machine: pg_amcheck --all --heapallindexed.
---@param db table
---@return { key: string, sql: string }[] indexes
---@return boolean installed
---@effect read
function M.checkable(db)
  local schema = db:rows("SELECT n.nspname AS name FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'")[1]
  if not schema then return {}, false end
  return db:rows([[
    SELECT n.nspname || '.' || c.relname AS key, format('SELECT %I.bt_index_check(%L::pg_catalog.regclass, true)', $1::text, format('%I.%I', n.nspname, c.relname)) AS sql
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_am a ON a.oid = c.relam
     WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND c.relpersistence = 'p' AND c.oid >= 16384
       AND n.nspname !~ '^pg_' ORDER BY (n.nspname || '.' || c.relname) COLLATE "C"]], schema.name), true
end

-- What it means -------------------------------------------------------------------------------------------

local function add(list, what, evidence, next) list[#list + 1] = { what, evidence, next } end

local function first(answer)
  local row = {}
  for c, column in ipairs(answer.columns) do row[column] = answer.rows[1] and answer.rows[1][c] end
  return row
end

--- Why the log grows or the disk is full, as far as the server can say.
---@param db table
---@return table[] findings
---@effect read
function M.why_full(db)
  local list, archiver, log = {}, first(M.archiver(db)), first(M.log(db))
  if archiver.failing then
    add(list, "the archiver fails, so no log is let go", ("%s failed %s s ago, %d failures"):format(archiver.last_failed, archiver.failed_s_ago, archiver.failed),
      "mend archive_command or its destination; the server tries again by itself")
  end
  for _, slot in ipairs(M.slots(db).rows) do
    if not slot[3] and (slot[4] or 0) > 0 then
      add(list, ("replication slot %s keeps log for somebody who does not come"):format(slot[1]), bytes.format(slot[4]), "bring its consumer back, or drop the slot once nobody needs it")
    end
  end
  if log.bytes and log.most_bytes and log.bytes > log.most_bytes + (log.kept_bytes or 0) then
    add(list, "there is more log than max_wal_size", ("%s, %s at most"):format(bytes.format(log.bytes), bytes.format(log.most_bytes)), "a CHECKPOINT lets go what archiver and slots do not need")
  end
  return list
end

local STUCK <const> = [[
  SELECT b.pid, b.application_name AS application, b.state, count(DISTINCT w.pid) AS waiting,
         extract(epoch FROM pg_catalog.clock_timestamp() - min(b.xact_start))::bigint AS transaction_s
    FROM pg_catalog.pg_stat_activity w JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS p(pid) ON true
    JOIN pg_catalog.pg_stat_activity b ON b.pid = p.pid
   WHERE w.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) AND b.backend_type = 'client backend'
     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.pid = b.pid AND NOT l.granted)
   GROUP BY b.pid, b.application_name, b.state ORDER BY waiting DESC, b.pid]]

--- The sessions that others wait for and that wait for nobody: ending one of these lets the others go on.
---@param db table
---@return table[] sessions { pid, application, state, waiting, transaction_s }
---@effect read
function M.blockers(db) return db:rows(STUCK) end

--- Why the server answers slowly or not at all, as far as it can still say.
---@param db table
---@param health table std.health
---@return table[] findings
---@effect read
function M.why_slow(db, health)
  local list, connections = {}, first(health.connections(db))
  if connections.left and connections.left <= connections.max_connections // 10 then
    add(list, "nearly every connection is taken", ("%d of %d"):format(connections.connections, connections.max_connections),
      "find the program that opens too many (below); end what is idle: neap run postgres/terminate --doing idle")
  end
  for _, b in ipairs(M.blockers(db)) do
    add(list, ("session %d (%s, %s) holds up %d others"):format(b.pid, b.application, b.state, b.waiting),
      ("%s s in its transaction"):format(b.transaction_s or "?"), "neap run postgres/terminate --pids " .. b.pid)
  end
  for _, finding in ipairs(M.why_full(db)) do list[#list + 1] = finding end
  return list
end

--- Findings as a table to be shown.
---@param list table[]
---@return table answer
---@effect pure
function M.table(list)
  return { title = "What explains it", columns = { "finding", "evidence", "next" }, rows = list,
    remark = #list == 0 and "Nothing that the server can see by itself: look at its machine (disk, memory, processes)." or nil }
end

return M
