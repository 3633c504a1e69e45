--- Work on a PostgreSQL database that may hold others up, and ending what holds others up.
--
--   db:maintain("VACUUM (FULL) orders", { lock_within = "3s", blocks = { sessions = 0, within = "5s" } })
--
-- The statement has a connection of its own, with a lock_timeout from its start (VACUUM and REINDEX CONCURRENTLY must be alone, so a
-- SET LOCAL cannot stand before them). While it runs a watcher on another connection counts the sessions that wait for it,
-- directly or behind it in the queue of a lock; when more than `sessions` have waited longer than `within` it cancels the
-- statement. That is a write of its own in the journal. The watcher also says how far the server is.
--
-- A session is ended by its pid and the moment it began (pg_admin.c); first its statement is cancelled, so that a
-- well-behaved program keeps its connection pool.

local answer = require("client.answer")
local connections = require("client.postgres_connections")
local duration = require("core.duration")
local file = require("native.file")
local guard = require("native.guard")
local native = require("native.pg")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local task = require("native.task")
local writes = require("client.postgres_writes")

local methods = {}

local LOOK_MS <const> = 200

-- Sessions -------------------------------------------------------------------------------------------------

local THERE <const> = [[
  SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = $1::bigint AND backend_start = $2::timestamptz]]

local function there(o, session) return reads.rows(o, THERE, session.pid, session.started)[1] end

local function signal(o, verb, session, own)
  local connection = connections.actor(o)
  local done, err = connection[verb](connection, { pid = session.pid, started = session.started, own = own })
  connections.tell(o, connection)
  if done == nil then error(err, 0) end
  return done
end

local function check_session(session)
  if type(session) ~= "table" or math.type(session.pid) ~= "integer" or type(session.started) ~= "string" then
    raise("usage", "a session is { pid =, started = }: a pid alone may be somebody else's by now")
  end
end

--- Is this very session still there? false, or what it is in: "active", "idle", "idle in transaction".
---@param session { pid: integer, started: string }
---@return string|boolean
---@effect read
function methods.session_state(o, session)
  check_session(session)
  local found = there(o, session)
  return found and (found.state or "unknown") or false
end

local function until_it(o, session, ms, holds)
  local ends = task.now_ms() + ms
  repeat
    if holds(there(o, session)) then return true end
    task.sleep(50)
  until task.now_ms() > ends
  return false
end

--- End one session: its statement is cancelled, and after `grace`, or as soon as it is idle, the session is terminated. Never
--- ourselves, never another run of neap, never what is no client.
---@param session { pid: integer, started: string }
---@param wanted? { grace: string } time for the statement to end ("5s")
---@return { gone: function } answer
---@effect write
function methods.end_session(o, session, wanted)
  check_session(session)
  local grace = duration.parse(wanted and wanted.grace or "5s")
  local cancelled = signal(o, "cancel_session", session)
  if guard.mode() ~= "plan" and cancelled.rows[1].reached > 0 then
    until_it(o, session, grace, function (now) return not now or now.state ~= "active" end)
  end
  local ended = signal(o, "end_session", session)
  if guard.mode() == "plan" then return ended end
  if until_it(o, session, grace, function (now) return not now end) then return answer.of("gone", true) end
  if ended.rows[1].reached == 0 then
    raise("refused", ("session %d is not one that may be ended"):format(session.pid), "Ourselves, other runs of neap, replication and the server's own processes are never ended.")
  end
  return answer.of("gone", false)
end

--- Cancel what a session is doing; the session stays.
---@param session { pid: integer, started: string }
---@return { reached: function } answer
---@effect write
function methods.cancel_session(o, session)
  check_session(session)
  local done = signal(o, "cancel_session", session)
  return guard.mode() == "plan" and done or answer.of("reached", done.rows[1].reached > 0)
end

-- The disk -------------------------------------------------------------------------------------------------

local LOCAL <const> = { ["127.0.0.1"] = true, ["::1"] = true, localhost = true }

-- The data directory, when it is on this machine and proves to be that of the server that answers: its control file begins with
-- the system identifier.
local function data_directory(o)
  local card = reads.card(o)
  if o.server.place or not card.host or not (card.host:sub(1, 1) == "/" or LOCAL[card.host]) then return nil, "the server is on another machine" end
  local asked, dir = pcall(reads.value, o, "SELECT pg_catalog.current_setting('data_directory')")
  if not asked then return nil, "this role may not know where the server's files are" end
  local head = file.read(dir .. "/global/pg_control", { limit = 65536 })
  if not head or tostring(string.unpack("<i8", head)) ~= card.system then return nil, "the server's files cannot be seen from here" end
  return dir
end

--- Bytes that are free where the server keeps its files; nil and why when nobody here can say.
---@param place? string directory of a tablespace; the server's own when omitted or ""
---@return integer|nil free
---@return string|nil why
---@effect read
function methods.disk_free(o, place)
  local dir, why = data_directory(o)
  if not dir then return nil, why end
  local space, err = file.space(place and place ~= "" and place or dir)
  if not space then return nil, err.message end
  return space.free
end

-- Maintenance ----------------------------------------------------------------------------------------------

local WAITING <const> = [[
  SELECT a.pid, a.query_start::text AS since, a.application_name AS application
    FROM pg_catalog.pg_stat_activity a
   WHERE a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) AND $1::int = ANY (pg_catalog.pg_blocking_pids(a.pid))]]

local FAR <const> = [[
  SELECT done, total, phase FROM (
    SELECT pid, heap_blks_scanned AS done, heap_blks_total AS total, phase FROM pg_catalog.pg_stat_progress_vacuum
    UNION ALL SELECT pid, blocks_done, blocks_total, phase FROM pg_catalog.pg_stat_progress_create_index
    UNION ALL SELECT pid, heap_blks_scanned, heap_blks_total, phase FROM pg_catalog.pg_stat_progress_cluster) p
   WHERE pid = $1::bigint AND total > 0]]

-- How many have waited longer than `ms`; `seen` remembers since when each waits.
local function count_waiting(o, pid, seen, ms)
  local now, still, late, who = task.now_ms(), {}, 0, nil
  for _, row in ipairs(reads.rows(o, WAITING, pid)) do
    local key = row.pid .. "@" .. tostring(row.since)
    still[key] = seen[key] or now
    if now - still[key] >= ms then late, who = late + 1, who or row end
  end
  return still, late, who
end

local function watch(o, card, blocks, far)
  local seen, late, who = {}, 0, nil
  local most, ms = blocks and blocks.sessions or 0, blocks and duration.parse(blocks.within or "5s")
  while true do
    task.sleep(LOOK_MS)
    local step = reads.rows(o, FAR, card.pid)[1]
    if step then far.bytes, far.total, far.text = step.done * 8192, step.total * 8192, step.phase end
    if blocks then seen, late, who = count_waiting(o, card.pid, seen, ms) end
    if late > most then
      far.held_up = ("it held up %d %s for more than %s, first pid %d (%s)"):format(late, late == 1 and "session" or "sessions", blocks.within or "5s", who.pid, who.application)
      signal(o, "cancel_session", { pid = card.pid, started = card.backend_start }, true)
      return
    end
  end
end

local function open(o, lock_ms)
  local connection = raise.check(native.new(connections.options(o, { lock_ms = lock_ms, subject = reads.subject(o) })))
  raise.check(connection:open())
  connections.tell(o, connection)
  if connection:card().pooled then
    raise("config", "behind a pooler a lock_timeout cannot be set for a statement that must be alone", "Name the server itself in the inventory for maintenance.")
  end
  return connection
end

local MAINTAIN <const> = { lock_within = true, blocks = true }

local function explained(err, far, wanted)
  if far.held_up then
    return raise.new("timeout", ("the statement was cancelled: %s"):format(far.held_up), "Choose a quieter hour, or allow more in the parameters.", { sqlstate = err.sqlstate })
  end
  if err.sqlstate == "55P03" then
    return raise.new("timeout", ("the lock was not to be had within %s"):format(wanted.lock_within), "Somebody has the table: postgres/health shows who.", { sqlstate = err.sqlstate })
  end
  return err
end

--- One statement that may hold others up (VACUUM, REINDEX, CREATE INDEX CONCURRENTLY), on a connection of its own, watched while it runs.
---@param sql string
---@param wanted? { lock_within: string, blocks: { sessions: integer, within: string } } how long it may wait for its locks ("3s"); how many sessions may wait
--- for it longer than `within` before it is cancelled (without `blocks` nobody counts)
---@return { tag: function } result a withheld value in a preview
---@effect write
function methods.maintain(o, sql, wanted)
  wanted = wanted or {}
  for field in pairs(wanted) do
    if not MAINTAIN[field] then raise("usage", ("maintain has no field \"%s\""):format(tostring(field)), "It takes lock_within and blocks.") end
  end
  if guard.mode() == "plan" then return writes.exec(o, sql) end
  wanted.lock_within = wanted.lock_within or "3s"
  local connection <close> = open(o, duration.parse(wanted.lock_within))
  local far = { bytes = 0 }
  local watcher = task.spawn(watch, o, connection:card(), wanted.blocks, far)
  local following <close> = o.context.progress and o.context.progress(function () return far.bytes, far.total, far.text end)
  local done, err = connection:exec(sql)
  watcher:cancel("the statement has ended")
  local watched, why = watcher:join()
  connections.tell(o, connection)
  if done then return { tag = function () return done.tag end } end
  if not watched and not far.held_up and why and why.code ~= "cancelled" then err.hint = err.hint or why.message end
  error(explained(err, far, wanted), 0)
end

return methods
