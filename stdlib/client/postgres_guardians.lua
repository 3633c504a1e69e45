--- What the engine asks of a PostgreSQL object and runbooks do not: who has it, that it stays ours, and what became of a write
-- whose run died.

local connections = require("client.postgres_connections")
local guard = require("native.guard")
local native = require("native.pg")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local shape = require("client.postgres_shape")
local task = require("native.task")
local tools = require("client.postgres_tools")
local text = require("native.text")
local writes = require("client.postgres_writes")

local guardians = {}

local function key_of(o)
  return text.sha256("neap lock " .. reads.subject(o)):sub(1, 16)
end

--- What the lock of the database and the hold on it are called.
function guardians.key(o) return key_of(o) end

--- Take the database for this run until the connection ends: true, or nil and who has it.
function guardians.lock(o)
  local key = key_of(o)
  local ok, err = connections.locker(o):lock(key)
  if ok and guard.mode() ~= "plan" then o.lock_key = key end
  return ok, err
end

--- Is the lock still ours? Asks the server.
function guardians.prove(o)
  local connection = o.locking
  return connection ~= nil and connection:is_open() and connection:has_lock(key_of(o)) == true
end

--- The text of the hold on the database, whoever left it; nil when there is none.
function guardians.held(o)
  local held, more = connections.locker(o):hold_get(key_of(o))
  if held == nil and type(more) == "table" then error(more, 0) end
  return held
end

--- Leave a hold: the text stays when this run dies.
function guardians.hold(o, words) return raise.check(connections.locker(o):hold_set(key_of(o), words)) end

--- Take the hold away.
function guardians.release(o) return raise.check(connections.locker(o):hold_clear(key_of(o))) end

-- The database a pg.create or pg.drop was about: the subject is "pg:<system identifier>/<name>".
local function named(evidence) return evidence.subject and evidence.subject:match("^pg:[^/]+/(.+)$") end

-- "CREATE INDEX CONCURRENTLY name ON table (…": the index's name and the table as it is written, nil for every other way to say it.
local function index_of(sql)
  local rest = sql:match("^%s*[Cc][Rr][Ee][Aa][Tt][Ee]%s+(.*)$")
  local words = rest and rest:upper():match("^UNIQUE%s+INDEX%s+CONCURRENTLY%s+") or rest and rest:upper():match("^INDEX%s+CONCURRENTLY%s+")
  if not words then return nil end
  rest = rest:sub(#words + 1)
  rest = rest:sub(#(rest:upper():match("^IF%s+NOT%s+EXISTS%s+") or "") + 1)
  local plain, on = rest:match("^([%a_][%w_$]*)%s+[Oo][Nn]%s+(.*)$")
  local quoted
  if not plain then quoted, on = rest:match("^\"([^\"]+)\"%s+[Oo][Nn]%s+(.*)$") end
  local name = quoted or plain and plain:lower()
  local there = on and (on:match("^[%w_$.]+") or on:match("^\"[^\"]+\"%.?\"?[^\"(]*\"?"))
  return name and there and { index = name, table = there:match("^(.-)%s*$") }
end

-- What became of the one session that a signal was meant for; nil when it was meant for a whole database.
local function one_session(o, evidence)
  local pid, started = (evidence.text or ""):match("WHERE pid = (%d+) AND backend_start = '([^']+)'")
  if not pid then return nil end
  local there = reads.rows(o, "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = $1::bigint AND backend_start = $2::timestamptz", math.tointeger(pid), started)
  return #there == 0 and "done" or "not begun"
end

-- Databases that were given other names, all or none of them. Each of the names is bound to a run, but for the one that both bear in turn.
local function renamed(o, evidence)
  local before, after = {}, {}
  for from, to in (evidence.text or ""):gmatch("ALTER DATABASE \"([^\"]+)\" RENAME TO \"([^\"]+)\"") do before[from], after[to] = true, true end
  local done, begun = 0, 0
  for name in pairs(before) do if not after[name] then begun = begun + (reads.exists(o, name) and 1 or 0) end end
  for name in pairs(after) do if not before[name] then done = done + (reads.exists(o, name) and 1 or 0) end end
  return done > 0 and begun == 0 and "done" or begun > 0 and done == 0 and "not begun" or "half"
end

local SIGNALS <const> = { ["pg.terminate"] = true, ["pg.cancel"] = true }

-- Writes that leave no transaction behind are judged by what is there, once nobody works on them any more.
local LOOK <const> = {
  ["pg.create"] = function (o, evidence)
    local name = named(evidence)
    return name and (reads.exists(o, name) and "done" or "not begun")
  end,
  ["pg.drop"] = function (o, evidence)
    local name = named(evidence)
    local limits = name and reads.rows(o, "SELECT datconnlimit AS most FROM pg_catalog.pg_database WHERE datname = $1", name)
    if not limits then return nil end
    if not limits[1] then return "done" end
    return limits[1].most == -2 and "half" or "not begun"     -- -2: a drop that was interrupted
  end,
  ["pg.rename"] = renamed,
  -- Sessions are not brought back by a rollback. To one that is still there the signal may be sent again.
  ["pg.terminate"] = function (o, evidence)
    local found = one_session(o, evidence)
    if found then return found end
    local name = named(evidence)
    return name and (#reads.sessions(o, name) == 0 and "done" or "half")
  end,
  ["pg.cancel"] = one_session,
  -- An index that was being built beside the writers is there and valid, there and invalid, or not there.
  ["pg.exec"] = function (o, evidence)
    local made = index_of(evidence.text or "")
    if not made then return nil end
    local there = evidence.database and evidence.database ~= reads.card(o).database and o.methods.on(o, evidence.database) or o
    local rows = reads.rows(there, [[
      SELECT i.indisvalid AND i.indisready AS valid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
       WHERE c.relname = $1 AND i.indrelid = pg_catalog.to_regclass($2)]], made.index, made.table)
    if not rows[1] then return "not begun" end
    return rows[1].valid and "done" or "half"
  end,
}

-- A restore is one transaction, into what was empty: there is something in it, or nothing. Its session outlives the program for as long as the
-- server needs to notice; meanwhile it is running, and with `end_it` it is ended. One of several sessions is whole or half, nobody can tell: it begins
-- again, for it drops what is there first.
local function restored(o, evidence, patience)
  local name = tools.database_of(evidence.text or "")
  local found = name and tools.probe(o, evidence, patience)
  if not name or found then return found end
  local ends = task.now_ms() + patience.within_ms
  while reads.has(o, "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND application_name = $2", name, tools.RESTORING .. tools.run_of(o)) do
    if task.now_ms() >= ends then return "running" end
    task.sleep(100)
  end
  if not reads.exists(o, name) or evidence.text:find("--jobs=", 1, true) then return "not begun" end
  return shape.things(o.methods.on(o, name)) > 0 and "done" or "not begun"
end

local RUNS <const> = { ["process.run"] = true, ["host.run"] = true, ["docker.exec"] = true }

--- What became of a write whose run died: "done", "not begun", "half", "running" (after `within_ms`; with `end_it` its backend
--- is ended) or nil: nobody knows. Any database of the server can tell.
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  if not o.parent then reads.subject(o) end
  if RUNS[evidence.primitive] then return restored(o, evidence, patience) end
  local connection <close> = raise.check(native.new(connections.options(o)))
  local found, why = native.orphan(connection, evidence, patience)
  local look = LOOK[evidence.primitive]
  if look and (found == "ended" or (found == "not begun" and SIGNALS[evidence.primitive])) then return look(o, evidence) end
  if not found and why ~= "" then error(raise.new("unknown", why), 0) end
  return found ~= "ended" and found or nil
end

-- ---- the ledger ----

--- Is a database of the ledger still there? Raises {refused} where this is another server than the one it was made on.
---@param entry { kind: string, name: string, subject: string }
---@return boolean
function guardians.there(o, entry)
  local subject = reads.subject(o.methods.on(o, entry.name))
  if subject ~= entry.subject then
    raise("refused", ("\"%s\" is not the server that %s was made on: that was %s"):format(o.role, entry.name, entry.subject), "Somebody moved the target, or the inventory has changed.")
  end
  return reads.exists(o, entry.name)
end

--- Remove a database of the ledger. Raises {busy} while somebody is connected to it: whoever looks at it may want to keep it.
---@param entry { kind: string, name: string, subject: string }
---@effect destroy
function guardians.discard(o, entry)
  local who = reads.sessions(o, entry.name)[1]
  if who then
    raise("busy", ("%s is in use: pid %d, %s of %s since %s"):format(entry.name, who.pid, who.application ~= "" and who.application or "a session", who.role, who.since),
      "End that session, then let neap gc run again.")
  end
  writes.drop_database(o, entry.name)
end

return guardians
