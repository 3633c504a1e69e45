--- Sessions of a PostgreSQL server one by one: who they are, which of them may be ended, what came back.
--
-- A session is its pid and the moment it began; a pid alone is somebody else's a second later. What must not be ended is
-- never in the list that is acted on, it is listed apart with the reason: ourselves and other runs of neap, replication and the
-- server's own processes, and whatever is taking or loading a backup (ended, it leaves half a file that looks like a whole one).

local duration = require "core.duration"
local raise = require "core.raise"

local M = {}

local COLUMNS <const> = [[
  SELECT s.pid, to_char(s.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS started,
         to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS seen, s.datname::text AS database,
         s.usename::text AS role, s.application_name AS application, coalesce(host(s.client_addr), 'local') AS client, coalesce(s.state, 'unknown') AS state,
         s.wait_event_type || ' ' || s.wait_event AS waits,
         extract(epoch FROM pg_catalog.clock_timestamp() - s.backend_start)::bigint AS session_s,
         extract(epoch FROM pg_catalog.clock_timestamp() - s.xact_start)::bigint AS transaction_s,
         CASE WHEN s.state = 'active' THEN extract(epoch FROM pg_catalog.clock_timestamp() - s.query_start)::bigint END AS statement_s,
         left(regexp_replace(s.query, '\s+', ' ', 'g'), 120) AS query,
         CASE WHEN s.backend_start IS NULL THEN 'this role may not see it (pg_read_all_stats)'
              WHEN s.pid = pg_catalog.pg_backend_pid() OR s.application_name LIKE 'neap:%' THEN 'a run of neap'
              WHEN s.backend_type <> 'client backend' THEN 'the server''s own: ' || s.backend_type
              WHEN s.application_name ~* '^(pg_dump|pg_dumpall|pg_restore|pg_basebackup|pg_receivewal|pgbackrest|barman|wal-g)'
                OR (s.state = 'active' AND s.query ~* '^\s*copy\s.*\sto\s+stdout') THEN 'a running backup' END AS spared
    FROM pg_catalog.pg_stat_activity s]]

-- Every condition that was given must hold; the list of pids stands by itself.
local CHOSEN <const> = COLUMNS .. [[

   WHERE ($1::text IS NULL OR s.datname = $1) AND ($2::text IS NULL OR s.application_name = $2) AND ($3::text IS NULL OR s.usename = $3)
     AND ($4::bigint IS NULL OR pg_catalog.clock_timestamp() - s.xact_start > make_interval(secs => $4::bigint / 1000.0))
     AND ($5::text IS NULL OR s.pid = ANY (pg_catalog.string_to_array($5, ',')::int[])) AND ($6::text IS NULL OR s.state LIKE $6 || '%')
   ORDER BY s.xact_start NULLS LAST, s.backend_start, s.pid]]

local FIELDS <const> = { database = true, application = true, role = true, longer = true, pids = true, state = true }

--- The sessions that fit, and those that fit and are spared. Without any condition nobody is meant, and that is refused.
---@param db table
---@param given { database: string?, application: string?, role: string?, longer: string?, pids: string[]?, state: string? } longer: of the transaction
---@return table[] chosen each with key = "pid@started"
---@return table[] spared each with `spared`, the reason
---@effect read
function M.find(db, given)
  local any = false
  for field in pairs(given) do
    if not FIELDS[field] then raise("usage", ("sessions have no %q"):format(tostring(field))) end
    any = true
  end
  if not any then raise("usage", "say which sessions are meant: by database, application, role, state, pids or how long their transaction takes") end
  for _, pid in ipairs(given.pids or {}) do
    if not tostring(pid):find("^%d+$") then raise("usage", ("\"%s\" is no pid"):format(pid)) end
  end
  local chosen, spared = {}, {}
  for _, row in ipairs(db:rows(CHOSEN, given.database, given.application, given.role, given.longer and duration.parse(given.longer) or nil,
    given.pids and table.concat(given.pids, ",") or nil, given.state)) do
    row.key = row.pid .. "@" .. (row.started or "?")
    local list = row.spared and spared or chosen
    list[#list + 1] = row
  end
  return chosen, spared
end

local SHOWN <const> = { "pid", "application", "role", "client", "state", "waits", "session_s", "transaction_s", "statement_s", "query" }

--- Sessions as a table to be shown.
---@param title string
---@param list table[]
---@return table answer
---@effect pure
function M.table(title, list)
  local columns, rows = { table.unpack(SHOWN) }, {}
  if list[1] and list[1].spared then table.insert(columns, 2, "spared") end
  for r, session in ipairs(list) do
    rows[r] = {}
    for c, column in ipairs(columns) do rows[r][c] = session[column] end
  end
  return { title = title, columns = columns, rows = rows }
end

local SINCE <const> = COLUMNS .. [[

   WHERE s.backend_start > $1::timestamptz AND s.datname = $2 AND s.application_name = $3 AND s.usename = $4 ORDER BY s.backend_start, s.pid]]

--- The sessions that the same program has opened since this one was seen.
---@param db table
---@param gone table a session as `find` gave it
---@return table[] sessions
---@effect read
function M.returned(db, gone)
  return db:rows(SINCE, gone.seen, gone.database, gone.application, gone.role)
end

return M
