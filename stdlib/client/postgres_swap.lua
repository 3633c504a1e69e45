--- One database in place of another, and back: db:swap("shop", scratch "trial"), db:swap_back("shop"), db:kept("shop").
--
--   carry    what belongs to the live database and is in no dump (owner, grants, settings, limit, comment) → the one that comes
--   hold     the words of this run on the live database → the one that comes, before it has the name
--   let go   our own sessions of both, and with them the lock
--   clear    everybody else's: refused, naming them, or ended
--   rename   live → live__kept__RUN and the other → live, in one statement
--   hand over in the ledger, lock again
--
-- The rename is one transaction: whoever asks sees the old database or the new one under the name, never none and never half of one. While the
-- server renames it lets nobody into either (its lock on the database comes before its count of sessions), so an application that
-- connects again and again cannot slip in; one that is waiting then is told that the database was renamed, and its next try arrives. A run
-- that dies is told by the transaction's id what became of it. Nothing has to be taken back afterwards.
--
-- The replaced database is nobody's temporary thing: neap gc does not know it, and only a word that asks by its name drops it. Taken back, the other
-- one has its scratch name again and is in the ledger again.
--
-- Rejected: ALLOW_CONNECTIONS false around the renames (a run that dies in between leaves a database that not even resume can connect to),
-- and DROP and CREATE (the only copy is then a file).

local M = {}

local connections = require("client.postgres_connections")
local guard = require("native.guard")
local guardians = require("client.postgres_guardians")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local task = require("native.task")
local temporary = require("client.temporary")
local tools = require("client.postgres_tools")
local writes = require("client.postgres_writes")

local methods = {}

M.methods = methods

local DENIED <const> = "42501"
local MOST_BYTES <const>, LOOK_MS <const>, OWN_MS <const>, END_MS <const>, LOCK_MS <const> = 63, 100, 2000, 10000, 10000

-- ---- names ----

-- Names have 63 bytes; of a long one the beginning tells what it was.
local function kept_name(o, live)
  local behind = "__kept__" .. tools.run_of(o)
  local before = live:sub(1, MOST_BYTES - #behind)
  while #before < #live and before:byte(-1) and before:byte(-1) >= 0x80 do before = before:sub(1, -2) end
  return before .. behind
end

local function on(o, name) return o.methods.on(o, name) end

local KEPT <const> = [[SELECT datname AS name FROM pg_catalog.pg_database WHERE starts_with(datname, $1) ORDER BY 1]]

--- The databases that swaps put aside and nobody dropped, by any run.
---@param live string
---@return string[] names
---@effect read
function methods.kept_all(o, live)
  local names, whole = {}, kept_name(o, live)
  for i, row in ipairs(reads.rows(o, KEPT, whole:sub(1, #whole - #tools.run_of(o)))) do names[i] = row.name end
  return names
end

--- The database that a swap put aside: this run's, else the one that another run's swap did; nil when there is none. Raises {check} when
--- several runs put one aside and it is none of this one's.
---@param live string
---@return string|nil name
---@effect read
function methods.kept(o, live)
  local own = kept_name(o, live)
  if reads.exists(o, own) then return own end
  local names = methods.kept_all(o, live)
  if #names > 1 then raise("check", ("several databases were put aside for \"%s\": %s"):format(live, table.concat(names, ", ")), "Name the one that is meant.") end
  return names[1]
end

--- Has this run put `beside` in the place of `live`?
---@param live string
---@param beside string
---@return boolean
---@effect read
function methods.swapped(o, live, beside)
  return reads.exists(o, kept_name(o, live)) and reads.exists(o, live) and not reads.exists(o, beside)
end

-- ---- where from ----

local ELSEWHERE <const> = [[
  SELECT datname AS name FROM pg_catalog.pg_database WHERE datallowconn AND datname NOT IN ($1, $2) AND has_database_privilege(oid, 'CONNECT')
   ORDER BY datname <> 'postgres', datistemplate, datname LIMIT 1]]

--- The object of a database that is neither of the two, to act from; nil when there is none.
function M.elsewhere(o, live, beside)
  local top = o.parent or o
  local own = reads.card(top).database
  if own ~= live and own ~= beside then return top end
  local found = reads.rows(o, ELSEWHERE, live, beside)[1]
  return found and on(o, found.name)
end

-- ---- what stands in the way ----

local OBSTACLES <const> = [[
  SELECT why FROM (
    SELECT 1 AS n, 'role ' || current_user || ' may not rename databases: it needs CREATEDB' AS why FROM pg_catalog.pg_roles
     WHERE rolname = current_user AND NOT rolsuper AND NOT rolcreatedb
    UNION ALL SELECT 2, 'role ' || current_user || ' does not own ' || $1 FROM pg_catalog.pg_database
     WHERE datname = $1 AND NOT pg_catalog.pg_has_role(datdba, 'USAGE')
    UNION ALL SELECT 3, 'transaction ' || gid || ' of ' || owner || ' is prepared in ' || $1 FROM pg_catalog.pg_prepared_xacts WHERE database = $1
    UNION ALL SELECT 4, 'replication slot ' || slot_name || ' stays with the old database' FROM pg_catalog.pg_replication_slots WHERE database = $1
    UNION ALL SELECT 5, 'subscription ' || subname || ' works in ' || $1 FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
     WHERE d.datname = $1) AS found ORDER BY n, why]]

--- What would make a swap fail that no session is to blame for, as sentences.
---@param live string
---@return string[]
---@effect read
function methods.swap_obstacles(o, live)
  local list = {}
  for i, row in ipairs(reads.rows(o, OBSTACLES, live)) do list[i] = row.why end
  if not M.elsewhere(o, live, live) then list[#list + 1] = "there is no other database on the server that this role may connect to" end
  return list
end

-- ---- carry ----

-- Settings whose values are lists of names stand in the catalogue as they are written; others as plain text.
local CARRY <const> = [[
  WITH d AS (SELECT * FROM pg_catalog.pg_database WHERE datname = $1)
  SELECT sql FROM (
    SELECT 1 AS n, format('ALTER DATABASE %I CONNECTION LIMIT %s', $2::text, datconnlimit) AS sql FROM d WHERE datconnlimit >= 0
    UNION ALL SELECT 2, format('COMMENT ON DATABASE %I IS %L', $2::text, c.description) FROM d JOIN pg_catalog.pg_shdescription c ON c.objoid = d.oid
     WHERE c.classoid = 'pg_catalog.pg_database'::regclass
    UNION ALL SELECT 3, format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $2::text) FROM d WHERE datacl IS NOT NULL
    UNION ALL SELECT 4, format('GRANT %s ON DATABASE %I TO %s%s', string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), $2::text,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
      FROM d, aclexplode(d.datacl) AS a WHERE a.grantee <> d.datdba GROUP BY a.grantee, a.is_grantable
    UNION ALL SELECT 5, format(CASE s.setrole WHEN 0 THEN 'ALTER DATABASE %2$I SET %3$I TO %4$s' ELSE 'ALTER ROLE %1$I IN DATABASE %2$I SET %3$I TO %4$s' END,
        pg_get_userbyid(s.setrole), $2::text, split_part(c, '=', 1),
        CASE WHEN split_part(c, '=', 1) IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
             THEN substr(c, strpos(c, '=') + 1) ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END)
      FROM d JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid CROSS JOIN unnest(s.setconfig) AS c WHERE NOT starts_with(c, 'neap.hold_')
    UNION ALL SELECT 6, format('ALTER DATABASE %I OWNER TO %I', $2::text, pg_get_userbyid(datdba)) FROM d WHERE pg_get_userbyid(datdba) <> current_user) AS all_of_it
  ORDER BY n, sql]]

-- What this role may not give (a setting of another role) is told, and not a reason to leave a database down.
local function carry(o, live, beside)
  for _, row in ipairs(reads.rows(o, CARRY, live, beside)) do
    local ok, err = pcall(writes.exec, on(o, beside), row.sql)
    if not ok and err.sqlstate ~= DENIED then error(err, 0) end
    if not ok and o.context.notice then o.context.notice("warning", ("not carried over, %s may not: %s"):format(o.role, row.sql), o.role) end
  end
end

-- ---- sessions ----

-- Sessions of others, and those that are called like ours.
local function sessions_of(m, names)
  local foreign, own = {}, {}
  for _, name in ipairs(names) do
    for _, s in ipairs(reads.sessions(m, name)) do
      local list = s.application == m.context.application and own or foreign
      list[#list + 1] = { database = name, session = s }
    end
  end
  return foreign, own
end

local function name_of(found)
  local s = found.session
  return ("pid %d, %s of %s from %s in %s, %s"):format(s.pid, s.application ~= "" and s.application or "a session", s.role or "?", s.client or "a local socket",
    found.database, s.state or "?")
end

local function refuse(foreign)
  local words = {}
  for i = 1, math.min(#foreign, 5) do words[i] = name_of(foreign[i]) end
  if #foreign > 5 then words[6] = ("and %d more"):format(#foreign - 5) end
  raise("busy", ("somebody is connected: %s"):format(table.concat(words, "; ")), "Stop whoever it is, or let the swap end them: { sessions = \"end\" }.")
end

local function end_all(m, list, except_own)
  local said = {}
  for _, found in ipairs(list) do
    if m.context.notice then m.context.notice("warning", "ending " .. name_of(found), m.role) end
    if not said[found.database] then writes.terminate(m, { database = found.database, except_own = except_own }) end
    said[found.database] = true
  end
end

-- Everybody else out of both, and ours gone. All that this process has was let go: what is still called like ours after a while was left by
-- one that died, and nobody is behind it.
local function clear(m, names, ends_them)
  local begun, own_left = task.now_ms(), true
  while true do
    local foreign, own = sessions_of(m, names)
    if #foreign == 0 and #own == 0 then return end
    if #foreign > 0 and not ends_them then refuse(foreign) end
    if #foreign > 0 then end_all(m, foreign, true) end
    if #own > 0 and own_left and task.now_ms() - begun > OWN_MS then
      end_all(m, own, false)
      own_left = false
    end
    if task.now_ms() - begun > END_MS then raise("busy", ("a session does not end: %s"):format(name_of(foreign[1] or own[1]))) end
    task.sleep(LOOK_MS)
  end
end

-- Until the databases have their names: whoever was still coming in when the rename began is shown out, because the server waits for that.
local function show_out(m, names, door)
  while not door.closed do
    task.sleep(LOOK_MS)
    local foreign = sessions_of(m, names)
    if #foreign > 0 then end_all(m, foreign, true) end
  end
end

-- ---- our own place ----

-- The lock and the hold are on the database that the role names. When that is the live one they move with the name.
local function take_hold(o, beside)
  local top = o.parent or o
  local words = top.locking and guardians.held(top)
  if words then raise.check(connections.locker(on(o, beside)):hold_set(guardians.key(top), words)) end
  return words
end

local function lock_again(o)
  local ends = task.now_ms() + LOCK_MS
  while true do
    local ok, err = guardians.lock(o)
    if ok then return end
    if task.now_ms() > ends then error(err, 0) end
    task.sleep(LOOK_MS)
  end
end

-- Our sessions of a database, whichever object has them.
local function let_go(o, own, name)
  local top = o.parent or o
  if own == name then connections.let_go(top) end
  connections.let_go(on(o, name))
end

local function rename(m, list)
  local connection = connections.actor(m)
  local done, err = connection:rename_databases(list)
  connections.tell(m, connection)
  if done == nil then error(err, 0) end
  return done
end

local function rename_closed(m, list, names, ends_them)
  clear(m, names, ends_them)
  local door = {}
  local doorman = ends_them and task.spawn(show_out, m, names, door)
  local done, why = pcall(rename, m, list)
  door.closed = true
  if doorman then pcall(doorman.join, doorman) end
  if not done then error(why, 0) end
end

-- `goes` gets the name `aside`, `comes` gets the name of `goes`. The lock is given back whatever happens.
local function exchange(o, goes, comes, aside, ends_them)
  local top, m = o.parent or o, M.elsewhere(o, goes, comes)
  if not m then raise("refused", "there is no other database on the server that this role may connect to", "A database cannot be renamed from within.") end
  local own = reads.card(top).database
  local locked = top.locking ~= nil and own == goes
  local words = locked and take_hold(o, comes)
  for _, name in ipairs { goes, comes } do let_go(o, own, name) end
  local done, why = pcall(rename_closed, m, { { from = goes, to = aside }, { from = comes, to = goes } }, { goes, comes }, ends_them)
  if locked then lock_again(top) end
  if not done then error(why, 0) end
  if words then raise.check(connections.locker(on(o, aside)):hold_clear(guardians.key(top))) end
  connections.let_go(on(o, aside))
end

-- In a preview: what would be sent, and what nobody knows afterwards.
local function preview(o, live, beside, aside, ends_them)
  local m = M.elsewhere(o, live, live)
  carry(o, live, beside)
  for _, name in ipairs(ends_them and { live, beside } or {}) do writes.terminate(m, { database = name, except_own = true }) end
  rename(m, { { from = live, to = aside }, { from = beside, to = live } })
  for _, name in ipairs { live, beside, aside } do guard.mark(reads.subject(on(o, name)), task.step()) end
end

local SWAP <const> = { sessions = true }

--- Put one database in the place of another, which is kept under the name that `kept` tells. Owner, grants, settings, connection limit and
--- comment of the live one go with its name. Raises {busy}, naming them, while somebody else is connected to either.
---@param live string
---@param beside string
---@param wanted? { sessions: "refuse"|"end" } "end": sessions of others are ended
---@effect write
function methods.swap(o, live, beside, wanted)
  for field in pairs(wanted or {}) do
    if not SWAP[field] then raise("usage", ("swap has no field \"%s\""):format(tostring(field)), "It takes sessions = \"end\".") end
  end
  local aside, ends_them = kept_name(o, live), wanted ~= nil and wanted.sessions == "end"
  if guard.mode() == "plan" then return preview(o, live, beside, aside, ends_them) end
  if reads.exists(o, aside) then raise("refused", ("this run has put \"%s\" aside already, as \"%s\""):format(live, aside), "Take that back first: db:swap_back.") end
  carry(o, live, beside)
  exchange(o, live, beside, aside, ends_them)
  local ours = temporary.scratch(o, "database", beside, function () return reads.subject(on(o, beside)) end)
  if ours then o.context.ledger.hand_over(ours) end
end

--- Take a swap of this run back: the database that was replaced has its name again, the other one the name it had. Nothing where there was no
--- swap, or it was taken back; where what was replaced was dropped since, that is told. Sessions of others are ended.
---@param live string
---@effect write
function methods.swap_back(o, live)
  local aside, ledger = kept_name(o, live), o.context.ledger
  if guard.mode() == "plan" then
    rename(M.elsewhere(o, live, aside), { { from = aside, to = live } })
    return
  end
  local before = ledger and ledger.latest("database")
  if not reads.exists(o, aside) then
    if not reads.exists(o, live) then raise("refused", ("neither \"%s\" nor \"%s\" is there"):format(live, aside)) end
    if before and before.state == "handed over" and o.context.notice then
      o.context.notice("warning", ("\"%s\" was dropped since: what \"%s\" was before only a backup can bring back"):format(aside, live), o.role)
    end
    return
  end
  local beside = before and before.name or "back__" .. tools.run_of(o)
  if ledger then ledger.enter { role = o.role, kind = "database", name = beside, subject = reads.subject(on(o, beside)) } end
  exchange(o, live, aside, beside, true)
end

return M
