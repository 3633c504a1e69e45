--- Does anybody still work in a database? Sessions, counters and the write-ahead log, looked at from another database, so that looking
-- is no activity of the one that is looked at.
--
-- A session that only sits there has written, or may write in the next second: who is connected is named. Whoever is not a session any more is
-- found by the counters of the database (transactions, rows written) and by the log's position, over a stretch of time. Autovacuum's own
-- transactions are left out. The log is the whole server's: where another database writes meanwhile its movement says nothing of this one.

local methods = {}

local duration = require("core.duration")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local swap = require("client.postgres_swap")
local task = require("native.task")

-- A checkpoint and the records a server writes for its standbys come without anybody's doing.
local NOISE_BYTES <const>, EVERY_MS <const> = 16384, 500

local SAMPLE <const> = [[
  SELECT d.xact_commit + d.xact_rollback AS transactions, d.tup_inserted + d.tup_updated + d.tup_deleted AS rows,
    (SELECT sum(o.tup_inserted + o.tup_updated + o.tup_deleted)::bigint FROM pg_catalog.pg_stat_database o WHERE o.datname <> $1) AS elsewhere,
    (pg_catalog.pg_current_wal_lsn() - '0/0')::bigint AS log,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datname = $1 AND a.backend_type = 'autovacuum worker') AS vacuums
    FROM pg_catalog.pg_stat_database d WHERE d.datname = $1]]

local function name_of(s)
  return ("pid %d, %s of %s from %s, %s"):format(s.pid, s.application ~= "" and s.application or "a session", s.role or "?", s.client or "a local socket", s.state or "?")
end

-- What moved between two samples, as words; nil when nothing did.
local function moved(a, b)
  if a.rows ~= b.rows then return ("%d rows were written"):format(b.rows - a.rows) end
  if a.transactions ~= b.transactions and a.vacuums + b.vacuums == 0 then return ("%d transactions ended"):format(b.transactions - a.transactions) end
  if b.log - a.log > NOISE_BYTES and a.elsewhere == b.elsewhere and a.vacuums + b.vacuums == 0 then
    return ("the write-ahead log grew by %d bytes, and no other database writes"):format(b.log - a.log)
  end
  return nil
end

--- Wait until nobody works in this database: no sessions of others, and counters and log flat for a stretch of time. True; or false and who
--- or what still does, when `within` is over ("0s": at the first sign of anybody).
---@param wanted? { flat: string?, within: string?, sessions: boolean? } flat: "3s"; within: "30s"; sessions = false: who only sits there does not count
---@return boolean quiet
---@return string[]|nil who
---@effect read
function methods.quiet(o, wanted)
  wanted = wanted or {}
  local name = o.database or reads.card(o).database
  local m = swap.elsewhere(o, name, name) or raise("refused", ("there is no other database to look at \"%s\" from"):format(name))
  local flat, ends = duration.parse(wanted.flat or "3s"), task.now_ms() + duration.parse(wanted.within or "30s")
  local since, last = task.now_ms(), reads.row(m, SAMPLE, name)
  while true do
    local there = wanted.sessions == false and {} or reads.strangers(m, name)
    local now = reads.row(m, SAMPLE, name)
    local what = moved(last, now)
    if what or #there > 0 then
      local who = { what }
      for i = 1, math.min(#there, 5) do table.insert(who, i, name_of(there[i])) end
      if task.now_ms() >= ends then return false, who end
      since, last = task.now_ms(), now
    end
    if task.now_ms() - since >= flat then return true end
    task.sleep(math.min(EVERY_MS, flat))
  end
end

return methods
