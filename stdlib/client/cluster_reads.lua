--- What a runbook may ask of a cluster that a run makes: all of it by commands that only read, as the cluster's own user, and by SQL once it runs.

local methods = {}

local bytes = require("core.bytes")
local place = require("client.cluster_place")
local raise = require("core.raise")
local text = require("native.text")

-- One look at everything, because each command is a way to a host and back. "$1" the directory, "$2" the programs.
local LOOK <const> = [[
d=$1; bin=$2
date -u '+now %s'; id -un | sed 's/^/user /'
"$bin/postgres" --version | sed 's/^/version /'
up=$d; while [ ! -e "$up" ]; do up=${up%/*}; up=${up:-/}; done
df -Pk "$up" | awk 'NR == 2 { print "free " $4 }'
at=$d; while [ "$at" != / ]; do at=${at%/*}; at=${at:-/}; if [ -e "$at/PG_VERSION" ]; then echo "within $at"; fi; done
awk '$4 == "0A" { print "listens " $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
if [ ! -e "$d" ]; then echo 'what absent'; [ -w "$up" ] || echo "closed $up"; exit 0; fi
if [ -f "$d/neap.json" ]; then echo 'what ours'; sed 's/^/mark /' "$d/neap.json"
elif [ ! -d "$d" ] || [ ! -r "$d" ] || [ ! -w "$d" ]; then echo 'what foreign'; echo "closed $d"
elif [ -z "$(ls -A "$d")" ]; then echo 'what empty'
else echo 'what foreign'; ls -A "$d" | head -n 3 | sed 's/^/holds /'; fi
if [ -e "$d/data/postmaster.pid" ] && "$bin/pg_ctl" -D "$d/data" status >/dev/null 2>&1; then head -n 1 "$d/data/postmaster.pid" | sed 's/^/pid /'; fi
if [ -e "$d/server.log" ]; then
  grep -q 'pausing at the end of recovery' "$d/server.log" && echo 'reached yes'
  grep -q 'archive recovery complete' "$d/server.log" && echo 'passed yes'
  grep -E ' (FATAL|PANIC):|recovery has paused' "$d/server.log" | tail -n 1 | sed 's/^/last /'
fi
exit 0]]

local LISTS <const> = { listens = true, holds = true }

-- { now, user, version, free, within, closed, what, mark, pid, reached, last, listens = {…}, holds = {…} }
local function look(o)
  local said = place.read(o, { "sh", "-c", LOOK, "sh", o.directory, o.spec.bin })
  local is = { listens = {}, holds = {} }
  for name, value in said:out():gmatch("(%l+) ([^\n]*)") do
    if LISTS[name] then table.insert(is[name], value) else is[name] = value end
  end
  is.free = (tonumber(is.free) or 0) * 1024
  if is.mark then is.mark = raise.check(text.parse(is.mark)) end
  return is
end

local function is_taken(o, is)
  for _, address in ipairs(is.listens) do
    if tonumber(address:match(":(%x+)$"), 16) == o.spec.port then return true end
  end
  return false
end

--- What there is: what = "absent", "empty", "ours" (with the mark that was laid into it) or "foreign" (with what it holds, or closed: nobody lets us
--- in); within: a data directory that it would lie in; taken: somebody listens on its port and it is not this cluster; running; free bytes.
---@return { what: string, user: string, mark: table?, holds: string[], within: string?, closed: string?, taken: boolean, running: boolean, free: integer }
---@effect read
function methods.look(o)
  local is = look(o)
  return { what = is.what, user = is.user, mark = is.mark, holds = is.holds, within = is.within, closed = is.closed, running = is.pid ~= nil, free = is.free,
    taken = is.pid == nil and is_taken(o, is), reached = is.reached ~= nil, passed = is.passed ~= nil, last = is.last }
end

--- The major version of the programs.
---@return integer
---@effect read
function methods.major(o)
  local said = look(o).version
  local major = said and said:match("(%d+)")
  if not major then raise("config", ("\"%s\": there is no PostgreSQL server in %s"):format(o.role, o.spec.bin), "Name the directory that postgres and pg_ctl are in.") end
  return math.tointeger(tonumber(major))
end

--- The clock of its machine, in microseconds since 1970. It is told in whole seconds, so this is the last moment of the one that runs: what
--- happened in it a moment ago is not in the future.
---@return integer
---@effect read
function methods.clock(o) return math.tointeger(tonumber(look(o).now)) * 1000000 + 999999 end

--- The port it listens on.
---@return integer
---@effect pure
function methods.port(o) return o.spec.port end

--- Where it is, as its machine names it.
---@return string
---@effect pure
function methods.path(o) return o.directory end

--- The names in a directory of it, each with its size in bytes.
---@param name string "wal"
---@return table<string, integer>
---@effect read
function methods.files(o, name)
  local said = place.read(o, { "find", o.directory .. "/" .. name, "-maxdepth", "1", "-type", "f", "-printf", "%f %s\\n" }, { allow = { 1 } })
  local sizes = {}
  for file, size in said:out():gmatch("([^\n]+) (%d+)\n") do sizes[file] = math.tointeger(tonumber(size)) end
  return sizes
end

--- Those of the files of the log that it does not hold, or not whole.
---@param names string[]
---@param whole integer bytes of each segment
---@return string[]
---@effect read
function methods.lacks(o, names, whole)
  local there, list = methods.files(o, "wal"), {}
  for _, name in ipairs(names) do
    local size = there[name]
    if not size or #name == 24 and size ~= whole then list[#list + 1] = name end
  end
  return list
end

--- What its control file says, by the words of pg_controldata.
---@return table<string, string>
---@effect read
function methods.control(o)
  local said = place.read(o, { o.spec.bin .. "/pg_controldata", "-D", o.data }):out()
  local control = {}
  for name, value in said:gmatch("([^\n:]+):%s*([^\n]*)") do control[name] = value end
  return control
end

--- Does the unpacked base agree with its manifest, every file's checksum? True, or false and what pg_verifybackup says.
---@return boolean
---@return string why not
---@effect read
function methods.verified(o)
  local said = place.read(o, { o.spec.bin .. "/pg_verifybackup", "-n", "-q", "-m", o.directory .. "/manifest", o.data }, { allow = { 1 } })
  return said:status() == 0, ((said:err():match("[^\n]*%S[^\n]*") or ""):gsub("^pg_verifybackup: ", ""))
end

--- How far it is: in recovery, paused, where the log was replayed to, the last transaction's end in microseconds since 1970, and its timeline.
---@return { recovering: boolean, paused: boolean, at: string?, last_us: integer?, timeline: integer? }
---@effect read
function methods.replay(o)
  local sql = methods.on(o)
  local row = sql.methods.row(sql, [[
    SELECT pg_catalog.pg_is_in_recovery() AS recovering,
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() = 'paused' ELSE false END AS paused,
           pg_catalog.pg_last_wal_replay_lsn()::text AS at,
           (extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint AS last_us,
           CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                THEN ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline]])
  return { recovering = row.recovering, paused = row.paused, at = row.at, last_us = row.last_us, timeline = row.timeline }
end

-- Whoever answers must run in this very directory: a role that may not ask cannot know.
local function prove(o, sql, pid)
  if o.proved == pid then return end
  local ok, data = pcall(sql.methods.value, sql, "SELECT pg_catalog.current_setting('data_directory')")
  if not ok then
    local err = raise.of(data)
    if err.sqlstate == "42501" then err.hint = ("\"%s\" is asked as a superuser; name one with user = in the inventory."):format(o.role) end
    error(err, 0)
  end
  if data ~= o.data then
    raise("refused", ("\"%s\" should be the server in %s, and the one that answers has its data in %s"):format(o.role, o.data, data), "Nothing was asked of it and nothing done.")
  end
  o.proved = pid
end

--- A database of the cluster, which must run; every word of a PostgreSQL target.
---@param database? string
---@return table object
---@effect read
function methods.on(o, database)
  local is = look(o)
  if not is.pid then raise("check", ("\"%s\" does not run"):format(o.role), is.last and ("Its log says: %s"):format(is.last:sub(1, 300)) or "There is no server in its directory.") end
  local sql = place.sql(o)
  prove(o, sql, is.pid)
  return database and database ~= (o.spec.database or "postgres") and sql.methods.on(sql, database) or sql
end

local STATES <const> = { absent = "there is none: it comes to exist during the run", empty = "an empty directory: it comes to exist during the run",
  foreign = "a directory that holds something else" }

--- Where it is and how it is, for the plan.
---@return table card { kind, id, lines }
---@effect read
function methods.card(o)
  local is = look(o)
  local mark = is.mark or {}
  local ours = ("made from %s by run %s, %s"):format(tostring(mark.base), tostring(mark.run), is.pid and "running" or "stopped")
  local lines = { { "state", STATES[is.what] or ours }, { "port", tostring(o.spec.port) },
    { "programs", is.version and is.version:gsub("^postgres %(PostgreSQL%) ", "PostgreSQL ") or "none" },
    { "runs as", is.user }, { "free", bytes.format(is.free) } }
  local wrong
  if not is.version then wrong = raise.new("config", ("there is no PostgreSQL server in %s"):format(o.spec.bin), "Name the directory that postgres and pg_ctl are in.")
  elseif is.user == "root" then wrong = raise.new("config", "PostgreSQL does not run as root", "Name the user it runs as: as = \"postgres\".") end
  return { kind = o.kind, id = place.id(o), lines = lines, wrong = wrong, made_of = not o.place and { "process:" .. o.role } or nil }
end

return methods
