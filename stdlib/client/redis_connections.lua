--- The connections behind a Redis object, opened when they are needed.
--
-- One reads; acting ones write, as many as tasks act side by side (client/connections.lua), because a command that is stopped takes its
-- connection with it; one keeps the lock. A scan reads over the reading one. In a preview nothing acts: writes are shown
-- over the reading one, and never sent. Whoever answers must stay who answered first: a server that was restarted, or another one
-- behind the same address, ends the run.
--
-- What the object stands on (`on`) has `ways`: { dial = function (object, host, port), dial_unix = function (object, path) }, each
-- giving a dialer of native.net's kind.

local M = {}

local connections = require("client.connections")
local duration = require("core.duration")
local guard = require("native.guard")
local native = require("native.redis")
local net = require("native.net")
local places = require("client.place")
local raise = require("core.raise")

local BELOW <const> = { "host", "container" }

--- Where the server is, by url and fields: o.where.
function M.place(o)
  local spec = o.spec
  local where, err = native.url(spec.url)
  if not where then error(raise.new("config", ("\"%s\": %s"):format(o.role, err.message), err.hint), 0) end
  where.user = spec.user or where.user
  where.password = spec.password or where.password
  where.db = spec.database or where.db or 0
  if spec.on then
    if not o.context.target then raise("config", ("\"%s\" stands on \"%s\", which is not bound here"):format(o.role, spec.on)) end
    o.below = o.context.target(spec.on, BELOW)
    if not o.below.ways then raise("config", ("\"%s\" cannot be reached through \"%s\""):format(o.role, spec.on)) end
    o.beyond = places.is_beyond(o.below, where.host) and spec.on or nil
  end
  o.where = where
  o.prefix = spec.prefix or "neap:"
end

local function dialer_of(o)
  local where, below = o.where, o.below
  local way
  if where.unix then way = below and below.ways.dial_unix(below, where.unix) or net.unix(where.unix)
  else way = below and below.ways.dial(below, where.host, where.port) or net.tcp(where.host, where.port) end
  if not where.tls then return way end
  return raise.check(net.tls(way, { name = o.spec.server_name or where.host, ca = o.spec.ca, cert = o.spec.cert, key = o.spec.key }))
end

local function milliseconds(value) return value and duration.parse(value) end

local function options(o, preview)
  local where, login = o.where, preview or o.where
  local machine = where.host
  if o.below then machine = places.machine(o.below, where.host) end
  return {
    user = login.user, password = login.password, db = where.db, role = o.role, host = machine, application = o.context.application,
    acting = where.user, enforced = preview ~= nil, within_ms = milliseconds(o.spec.read_within), connect_ms = milliseconds(o.spec.connect_within),
  }
end

-- Remember who answers, and refuse whoever is somebody else.
local function learn(o, connection)
  local id = connection:card().id
  if o.subject and o.subject ~= id then
    connection:close()
    raise("refused", ("\"%s\" was %s and is now %s"):format(o.role, o.subject, id),
      "The server was restarted, or another one took its place; look what became of its data, then resume.")
  end
  o.subject = id
end

local function open(o, preview)
  local connection = raise.check(native.open(dialer_of(o), options(o, preview)))
  learn(o, connection)
  return connection
end

local function open_reader(o) return open(o, guard.mode() == "plan" and o.spec.preview or nil) end

--- The connection that reads.
function M.reader(o) return connections.of(o, "reading", open_reader) end

--- A connection to act on; in a preview one that only shows.
function M.actor(o)
  if guard.mode() == "plan" then return M.reader(o) end
  if o.spec.lock == false or o.unlocked then
    raise("refused", ("\"%s\" is not locked, so nothing is changed"):format(o.role), "A replica is only read, and so is an entry with lock = false.")
  end
  local connection = connections.free(o)
  if connection then return connection end
  connection = open(o)
  o.actors[#o.actors + 1] = connection
  return connection
end

--- The connection that keeps the lock.
function M.locker(o) return connections.of(o, "locking", open) end

--- The names of neap's own keys, which no sweep touches.
function M.own_keys(o) return { ("%slock:%d"):format(o.prefix, o.where.db), ("%shold:%d"):format(o.prefix, o.where.db) } end

--- Let the lock go, and close every connection. The lock of an object that cannot say good-bye any more expires.
function M.close(o)
  if o.locking and o.locking:is_open() then pcall(o.locking.unlock, o.locking) end
  for _, slot in ipairs { "reading", "locking" } do
    if o[slot] then o[slot]:close() end
    o[slot] = nil
  end
  for _, connection in ipairs(o.actors) do connection:close() end
  o.actors = {}
end

return M
