--- The connections behind a PostgreSQL object, opened when they are needed.
--
-- A fenced one for reads; acting ones for writes, as many as tasks act side by side (client/connections.lua); streams (each, copy_out)
-- each have one to themselves while they run; one holds the lock. In a preview no acting connection is ever opened: its place is
-- taken by one that is only shown to the gate. A server that stands `on` a host or a container is reached through a socket in a private
-- directory (native.net.tunnel); whoever answers there shows the same identity card as any other.

local M = {}

local connections = require("client.connections")
local duration = require("core.duration")
local file = require("native.file")
local guard = require("native.guard")
local native = require("native.pg")
local net = require("native.net")
local places = require("client.place")
local raise = require("core.raise")
local sql = require("native.sql")
local task = require("native.task")

local MOST_IDLE <const>, UNLOCK_MS <const> = 4, 2000

local function milliseconds(value, otherwise)
  if value == nil then return otherwise end
  return duration.parse(value)
end

-- A container that is started again may have another address. In a preview nothing is started.
local function has_moved(server, host)
  local address = server.place.ways.address
  if not address or (server.tunnel and guard.mode() == "plan") then return false end
  local at = address(server.place, host)
  local moved = server.tunnel ~= nil and at ~= server.at
  server.at = at
  return moved
end

-- The socket that stands for the server behind `on`, made once and closed with the object's connections; and whose policy it is.
local function tunnel_of(o)
  local server = o.server
  local where = raise.check(sql.url(o.spec.url)).pairs
  local host = where.host or "localhost"
  if has_moved(server, host) then
    server.tunnel:close()
    server.tunnel = nil
  end
  if not server.tunnel then
    local place = server.place
    if host:find(",", 1, true) then
      raise("config", ("\"%s\" names several hosts and stands on \"%s\""):format(o.role, o.spec.on), "Through another host one server is reached; name that one.")
    end
    server.machine = places.machine(place, where.hostaddr or where.host)
    o.beyond = places.is_beyond(place, where.hostaddr or where.host) and o.spec.on or nil
    local way = place.ways.dial(place, host, tonumber(where.port or 5432))
    server.tunnel = server.tunnel or raise.check(net.tunnel(way, { name = ".s.PGSQL.5432" }))
  end
  return server.tunnel:dir(), server.machine
end

--- What native.pg is told to connect with.
function M.options(o, more)
  local spec = o.spec
  local socket, machine
  if o.server.place then socket, machine = tunnel_of(o) end
  local all = {
    url = spec.url, user = spec.user, password = spec.password, database = o.database or spec.database, role = o.role,
    application = o.context.application, within_ms = milliseconds(spec.connect_within, 15000),
    statement_ms = milliseconds(spec.read_within, 30000), socket = socket, machine = machine,
  }
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

--- What the guard calls the database. Another database's subject is known before it exists; the first one's only after somebody
--- answered: nil until then.
function M.subject(o)
  if o.subject then return o.subject end
  if o.parent then o.subject = o.server.root and (o.server.root .. "/" .. o.database) end
  return o.subject
end

--- Remember who answers.
function M.learn(o, connection)
  local card = connection:card()
  if not o.parent then o.server.root = card.id:match("^(.*)/") or card.id end
  o.subject = card.id
  return card
end

--- Hand the server's notices to the engine.
function M.tell(o, connection)
  local notices = connection:notices()
  for _, notice in ipairs(notices or {}) do
    if o.context.notice then o.context.notice(notice.severity:lower(), notice.message, o.role) end
  end
end

-- libpq only knows that its socket was closed; the tunnel knows why.
local function check_open(o, ok, err)
  local why = not ok and o.server.tunnel and o.server.tunnel:failure()
  if why then error(why, 0) end
  raise.check(ok, err)
end

local function open(o, more)
  if o.parent and not o.server.root then M.reader(o.parent) end
  more.subject = more.subject or M.subject(o)
  local connection = raise.check(native.new(M.options(o, more)))
  check_open(o, connection:open())
  M.tell(o, connection)
  return connection
end

-- A standby counts only while it is one, of this very server.
local function open_standby(o)
  local ok, connection = pcall(open, o, { url = o.spec.standby, fenced = true })
  if not ok then return nil end
  local card = connection:card()
  if card.recovery and (not o.server.root or card.id:match("^(.*)/") == o.server.root) then return connection end
  connection:close()
  return nil
end

local function open_reader(o, given)
  local more = { fenced = true, snapshot = o.snapshot_id }
  for key, value in pairs(given or {}) do more[key] = value end
  if guard.mode() == "plan" then
    if o.spec.preview then more.user, more.password = o.spec.preview.user, o.spec.preview.password end
    local standby = not given and o.spec.standby and not o.parent and open_standby(o)
    if standby then return standby end
  end
  return open(o, more)
end

--- The fenced connection.
function M.reader(o) return connections.of(o, "reading", open_reader, M.learn) end

--- The fenced connection for what may take long: counting all rows, looking at every definition. The step's own time bounds it.
function M.patient(o) return connections.of(o, "counting", function () return open_reader(o, { statement_ms = 0 }) end, M.learn) end

--- A fenced connection of its caller's own.
function M.fresh(o, more)
  local connection = open_reader(o, more)
  M.learn(o, connection)
  return connection
end

local function new_actor(o)
  local made = open(o, {})
  M.learn(o, made)
  o.actors[#o.actors + 1] = made
  return made
end

--- A connection to act on, bound to the rows this step may touch. In a preview one that goes nowhere.
function M.actor(o)
  if guard.mode() == "plan" then
    if not M.subject(o) then M.reader(o) end
    o.showing = o.showing or raise.check(native.new(M.options(o, { subject = M.subject(o) })))
    return o.showing
  end
  local connection = connections.free(o) or new_actor(o)
  connection:bound(o.context.max_rows and o.context.max_rows() or 0)
  return connection
end

--- A connection for one stream, which has it to itself while it runs.
function M.take(o)
  local connection = table.remove(o.idle)
  while connection and not connection:is_idle() do
    connection:close()
    connection = table.remove(o.idle)
  end
  connection = connection or open_reader(o)
  M.learn(o, connection)
  return connection
end

--- Keep it for the next stream.
function M.give_back(o, connection)
  if #o.idle < MOST_IDLE then o.idle[#o.idle + 1] = connection else connection:close() end
end

--- The connection that holds the lock.
function M.locker(o) return connections.of(o, "locking", function () return open(o, {}) end, M.learn) end

--- A path becomes a stream, which is also the second result for its opener to close.
function M.stream(place, mode)
  if type(place) ~= "string" then return place, nil end
  local stream = raise.check(file.open(place, mode))
  return stream, stream
end

--- Close the sessions of this database, whatever they are for; what the object stands on stays.
function M.let_go(o)
  for _, slot in ipairs { "reading", "counting", "showing", "locking" } do
    if o[slot] then o[slot]:close() end
    o[slot] = nil
  end
  for _, list in ipairs { o.idle, o.actors } do
    for _, connection in ipairs(list) do connection:close() end
  end
  o.idle, o.actors = {}, {}
end

-- A server learns that a session is over a moment after it, and whoever came in between would be told that the run still works.
local function unlock(o)
  local connection, key = o.locking, o.lock_key
  o.lock_key = nil
  if not key or not connection or not connection:is_open() then return end
  local mark = task.deadline(UNLOCK_MS)
  pcall(connection.unlock, connection, key)
  task.restore(mark)
end

--- Let the lock go, and close every connection of the object.
function M.close(o)
  pcall(unlock, o)
  M.let_go(o)
  for _, other in pairs(o.others or {}) do M.close(other) end
  if o.server.tunnel and not o.parent then
    o.server.tunnel:close()
    o.server.tunnel = nil
  end
end

return M
