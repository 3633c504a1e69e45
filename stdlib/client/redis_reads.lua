--- What a runbook may ask of a Redis database: every command judged before it is sent (guard/redis_fence.h).

local connections = require("client.redis_connections")
local raise = require("core.raise")
local text = require("core.text")

local methods = {}

-- A key that is not there is nil without an error.
local function answer(value, err)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

--- Any command that only reads, as words: cache:read("HGET", "user:1", "name"). What is not there is nil.
---@param ... string|number the command and its arguments
---@return any answer string, integer, list (native.null inside) or nil
---@effect read
function methods.read(o, ...) return answer(connections.reader(o):read(...)) end

--- The value of a key; nil when it is not there.
---@param key string
---@return string|nil
---@effect read
function methods.get(o, key) return methods.read(o, "GET", key) end

--- Is the key there?
---@param key string
---@return boolean
---@effect read
function methods.has(o, key) return methods.read(o, "EXISTS", key) == 1 end

--- How many keys the database has.
---@return integer
---@effect read
function methods.size(o) return methods.read(o, "DBSIZE") end

--- Several reads in one flight: a list of their answers, an error among them as an error table.
---@param commands table[] { { "GET", "a" }, { "TTL", "a" } }
---@return any[]
---@effect read
function methods.pipeline(o, commands) return answer(connections.reader(o):pipeline(commands)) end

--- INFO as a table, numbers as integers; one section of it, or the default ones.
---@param section? string
---@return table<string, string|integer>
---@effect read
function methods.info(o, section) return answer(connections.reader(o):info(section)) end

--- Keys one after the other, any number of them in constant memory: for key in cache:scan { match = "session:*" } do … end
--- Keys that are there from beginning to end are all seen, some perhaps twice; keys that come meanwhile may be. neap's own lock and hold
--- are left out.
---@param wanted? { match: string?, count: integer?, type: string? } count: keys a page, 1000
---@return function iterator
---@effect read
function methods.scan(o, wanted)
  local keys = raise.check(connections.reader(o):scan(wanted or {}))
  local lock, hold = table.unpack(connections.own_keys(o))
  return function ()
    while true do
      local key, err = keys()
      if err then error(err, 0) end
      if key == nil or (key ~= lock and key ~= hold) then return key end
    end
  end
end

--- How many keys match; neap's own lock and hold are left out.
---@param wanted { match: string, count: integer?, pause_ms: integer? }
---@return integer
---@effect read
function methods.count(o, wanted)
  return answer(connections.reader(o):count_matching { match = wanted.match, count = wanted.count, pause_ms = wanted.pause_ms, spare = connections.own_keys(o) })
end

local function is_loopback(host) return host == "localhost" or host == "::1" or host:match("^127%.") ~= nil end

local function tls_of(o)
  if o.where.tls then return true, "verified" end
  if o.where.unix or o.below or is_loopback(o.where.host) then return true, nil end
  if o.spec.tls == "off" then return true, "none: passwords and data cross the network in clear (the inventory knows)" end
  return false, "none: passwords and data cross the network in clear"
end

local FENCE <const> = "neap filters the commands; give the inventory a preview user"

--- Who answers: {kind=, id=, lines=, trusted=, …}.
---@return table card
---@effect read
function methods.card(o)
  local card = connections.reader(o):card()
  local trusted, tls = tls_of(o)
  local where = o.below and ("%s, through %s"):format(card.address, o.spec.on) or card.address
  local lines = {
    { "server", ("Redis %s on %s"):format(card.version or "of a version it does not tell", where) },
    { "database", card.keys and ("%d, %s"):format(card.db, text.count(card.keys, "key")) or tostring(card.db) },
  }
  if card.user then lines[#lines + 1] = { "user", card.user } end
  if card.state == "slave" then lines[#lines + 1] = { "state", "replica: it takes no writes" } end
  if card.mode and card.mode ~= "standalone" then lines[#lines + 1] = { "mode", card.mode } end
  if not card.run_id then lines[#lines + 1] = { "identity", "unknown: the user may not ask INFO, so the address stands for it" } end
  if tls then lines[#lines + 1] = { "tls", tls } end
  if not o.spec.preview then lines[#lines + 1] = { "reads", "declared: " .. FENCE } end
  card.kind, card.lines, card.trusted, card.label = o.kind, lines, trusted, o.spec.preview and "enforced" or "declared"
  return card
end

--- What a preview calls this database when it remembers what would have changed: "redis:<run_id>/<db>".
---@return string
---@effect read
function methods.subject(o)
  if not o.subject then connections.reader(o) end
  return o.subject
end

return methods
