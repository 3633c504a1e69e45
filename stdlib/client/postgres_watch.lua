--- While somebody else works in a database, a tool or a statement: who waits there, for what, behind whom.
--
--   db:watched(function () tool:run { "migrate", "deploy" } end, { longer = "1s" })
--
-- A task beside it asks on a connection of its own. Whoever has waited longer than that is said aloud, at once and once: waiter, lock and
-- those in front; when it is over, how long it took. Nobody is ended: that is a human's decision (postgres/terminate), or the
-- lock_timeout of the one who works. A watcher that cannot ask says so, once, and never fails what it watches.

local duration = require("core.duration")
local guard = require("native.guard")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local task = require("native.task")

local methods = {}

local EVERY_MS <const>, MOST <const> = 500, 50

local NAMED <const> = "format('pid %%s, %%s of %%s', %s.pid, coalesce(nullif(%s.application_name, ''), 'a session'), %s.usename)"

local WAITING <const> = ([[
  SELECT w.pid || '@' || coalesce(w.query_start::text, '') || ' ' || l.locktype AS key, %s AS who,
         l.mode || ' of ' || coalesce(n.nspname || '.' || c.relname, 'a ' || l.locktype) AS what,
         (SELECT string_agg(%s || ', ' || coalesce(b.state, b.backend_type), '; ' ORDER BY b.pid) FROM pg_catalog.pg_stat_activity b
           WHERE b.pid = ANY (pg_catalog.pg_blocking_pids(w.pid))) AS behind
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity w ON w.pid = l.pid
    LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE NOT l.granted AND w.datname = pg_catalog.current_database() ORDER BY 1]]):format(NAMED:format("w", "w", "w"), NAMED:format("b", "b", "b"))

-- One look: who waits now, since when we know, and what is to be said of it.
local function look(o, seen, longer_ms, say)
  local now, still = task.now_ms(), {}
  for _, row in ipairs(reads.rows(o, WAITING)) do
    local known = seen[row.key] or { since = now, who = row.who, what = row.what }
    still[row.key] = known
    if now - known.since >= longer_ms and known.behind ~= row.behind then
      known.behind = row.behind
      say(("%s waits for %s behind %s"):format(row.who, row.what, row.behind or "somebody who is not seen"))
    end
  end
  for key, known in pairs(seen) do
    if known.behind and not still[key] then say(("%s waited %s for %s"):format(known.who, duration.format(now - known.since), known.what)) end
  end
  return still
end

local function watch(o, longer_ms, say)
  local seen = {}
  while true do
    task.sleep(EVERY_MS)
    local ok, now = pcall(look, o, seen, longer_ms, say)
    if not ok and raise.of(now).code == "cancelled" then error(now, 0) end
    if not ok then return say("who waits for whom can no longer be seen: " .. raise.of(now).message) end
    seen = now
  end
end

--- Call fn while somebody watches who waits for whom in this database.
---@param fn fun(): any ...
---@param wanted? { longer: string } who waits longer than this is said ("1s")
---@return any ... what fn returns
---@effect read
function methods.watched(o, fn, wanted)
  if guard.mode() == "plan" then return fn() end
  local speak, said = o.context.speaker and o.context.speaker() or function () end, 0
  local function say(text)
    said = said + 1
    if said <= MOST then speak("warning", said == MOST and "more waits than are worth saying" or text, o.role) end
  end
  local watcher = task.spawn(watch, o, duration.parse(wanted and wanted.longer or "1s"), say)
  local results = table.pack(pcall(fn))
  watcher:cancel("what it watched has ended")
  watcher:join()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

return methods
