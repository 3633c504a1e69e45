--- Prisma Migrate's side of a migration history: the folder, `_prisma_migrations`, the rule of what is pending.
--
-- The table is made by `migrate resolve` or the first `migrate deploy`, before any table of the application:
--
--   row of a name            finished_at  rolled_back_at  applied_steps_count
--   executed                 set          null            1 or more
--   marked as applied        set          null            0
--   failed                   null         null            0          deploy refuses everything after it (P3009)
--   rolled back              any          set             any        as if it were not there
--
-- A name may have several rows. The checksum is the sha256 of migration.sql; only `migrate dev` compares it,
-- so `deploy` and `status` say nothing about a file that was edited or has gone: `ops.migrations` does.

local M = { name = "prisma", schema = "public", table = "_prisma_migrations" }

--- The session lock that `deploy` and `resolve` take first (pg_advisory_lock, one key).
M.lock = 72707369

M.deploy = { "migrate", "deploy" }
M.resolve = { "migrate", "resolve", "--applied" }
M.rolled_back = { "migrate", "resolve", "--rolled-back" }
M.url = { prisma = true }

--- What the codes of the tool mean for the person who reads them at night.
M.meaning = {
  P1000 = "The server turned the role of DATABASE_URL away.",
  P1001 = "The server of DATABASE_URL does not answer from where the tool runs.",
  P1002 = "Another session holds Prisma's advisory lock, or the server is too slow to connect in time.",
  P1003 = "The database of DATABASE_URL does not exist.",
  P3005 = "The database has tables and no history: baseline it with its own migrations, never by deploying into it.",
  P3008 = "The migration is recorded as applied already.",
  P3009 = "A failed migration is in the history: settle it first (revert or finish its changes, prove it, then resolve).",
  P3011 = "The history has no such migration to roll back.",
  P3012 = "Only a failed migration can be marked as rolled back.",
  P3015 = "A folder of the migrations has no migration.sql.",
  P3017 = "The folder has no migration of that name where the tool looks for it.",
  P3018 = "The migration failed on the server; its first statements may have been kept.",
}

--- Each file is sent as one text: a transaction of its own, unless it is a single statement.
M.whole = false

--- The texts that the tool sends one by one.
---@param script string
---@return string[]
---@effect pure
function M.pieces(script) return { script } end

--- Is this folder Prisma's?
---@param folder table a bound folder
---@return boolean
---@effect read
function M.knows(folder)
  return folder:has("migration_lock.toml")
end

--- The migrations of the folder in the order in which Prisma takes them, and what is wrong with the folder.
---@param folder table
---@return { name: string, file: string, sha256: string }[] files
---@return string[] faults
---@effect read
function M.files(folder)
  local files, faults, there = {}, {}, {}
  for i, found in ipairs(folder:hashes("*/migration.sql")) do
    local name = found.name:match("^[^/]+")
    files[i], there[name] = { name = name, file = found.name, sha256 = found.sha256 }, true
  end
  for _, name in ipairs(folder:list()) do
    if name:find("^%d+_") and not there[name] then faults[#faults + 1] = ("%q has no migration.sql (P3015)"):format(name) end
  end
  table.sort(files, function (a, b) return a.name < b.name end)
  return files, faults
end

--- Every row of the history, oldest first.
---@param db table the database, bound
---@param from string the quoted name of the table
---@return table[] rows
---@effect read
function M.recorded(db, from)
  return db:rows([[
    SELECT id, migration_name AS name, checksum, started_at::text AS started_at, finished_at IS NOT NULL AS finished,
           rolled_back_at IS NOT NULL AS rolled_back, applied_steps_count AS steps, logs
      FROM ]] .. from .. [[ ORDER BY started_at, migration_name]])
end

--- Prisma's rule: pending is every folder without a row of its name that was not rolled back.
---@param files table[]
---@param rows table[]
---@return string[] names
---@effect pure
function M.pending(files, rows)
  local there, names = {}, {}
  for _, row in ipairs(rows) do
    if not row.rolled_back then there[row.name] = true end
  end
  for _, file in ipairs(files) do
    if not there[file.name] then names[#names + 1] = file.name end
  end
  return names
end

--- Prisma never leaves one out: whatever is not recorded is pending.
---@return string[]
---@effect pure
function M.skipped()
  return {}
end

--- Who holds Prisma's advisory lock in this database, if anybody.
---@param db table
---@return { pid: integer, application: string, role: string, client: string, since: string }|nil
---@effect read
function M.holder(db)
  return db:rows([[
    SELECT l.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename::text, '') AS role,
           coalesce(host(a.client_addr), 'local') AS client, coalesce(a.backend_start::text, '') AS since
      FROM pg_catalog.pg_locks l
      JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
      LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = 0 AND l.objid = $1::bigint::oid
     LIMIT 1]], M.lock)[1]
end

--- Record one migration as applied without executing it, by Prisma's own word.
---@param history table
---@param file table
---@return { status: integer, text: string } said
---@effect write
function M.record(history, file)
  local words = { table.unpack(M.resolve) }
  words[#words + 1] = file.name
  return history:call(words)
end

--- Record that nothing of a failed migration is there, by Prisma's own word.
---@param history table
---@param name string
---@return { status: integer, text: string } said
---@effect write
function M.roll_back(history, name)
  local words = { table.unpack(M.rolled_back) }
  words[#words + 1] = name
  return history:call(words)
end

--- The statements that make the rows of these ids failed again: the row that `resolve --applied` added goes, theirs are open again.
---@param from string
---@param name string
---@param ids string[]
---@return any[][] statements each with its parameters
---@effect pure
function M.unsettle(from, name, ids)
  return {
    { "DELETE FROM " .. from .. " WHERE migration_name = $1 AND applied_steps_count = 0 AND finished_at IS NOT NULL AND rolled_back_at IS NULL AND id <> ALL ($2::text[])", name, ids },
    { "UPDATE " .. from .. " SET rolled_back_at = NULL WHERE migration_name = $1 AND id = ANY ($2::text[]) AND finished_at IS NULL AND rolled_back_at IS NOT NULL", name, ids },
  }
end

--- The statement that takes back one row made by `record`, and its parameters.
---@param from string
---@param file table
---@return string sql
---@return ...
---@effect pure
function M.forget(from, file)
  return "DELETE FROM " .. from .. " WHERE migration_name = $1 AND applied_steps_count = 0"
    .. " AND finished_at IS NOT NULL AND rolled_back_at IS NULL", file.name
end

return M
