--- Where a container is: its Engine, which one it is there, and the ways from here to it.
--
--   here ──► the Engine docker itself would ask (context, docker = "tcp://…")      or      the host of `on` ──► its socket,
--                                                                                          else `docker system dial-stdio`
--
-- Exactly one container fits the entry; it is looked for once, and from then on its id is what is asked about: a second one that comes
-- up meanwhile is another container. What is inside is reached at its own address on its network, which its host can reach and nobody
-- else needs to; no port must be published. Nothing in here starts anything in the container.

local M = {}

local guard = require "native.guard"
local native = require "native.docker"
local net = require "native.net"
local places = require "client.place"
local raise = require "core.raise"

local SOCKET <const> = "/var/run/docker.sock"

-- ---- the Engine ----

local function local_dialer(o)
  local where = raise.check(native.endpoint { context = o.spec.context, host = o.spec.docker })
  if where.scheme == "unix" then return net.unix(where.path), "unix://" .. where.path, nil end
  if where.scheme == "ssh" then
    raise("config", ("\"%s\": its Engine is behind ssh://%s (%s)"):format(o.role, where.host, where.source),
      "Make that host an entry of the environment, and write on = \"…\" instead.")
  end
  local way = net.tcp(where.host, where.port)
  local shown = ("tcp://%s:%d"):format(where.host, where.port)
  if where.tls then way = raise.check(net.tls(way, { name = where.host, ca = where.tls.ca, cert = where.tls.cert, key = where.tls.key, verify = where.tls.verify })) end
  o.open_road = not where.tls and not where.host:match("^127%.") and where.host ~= "localhost" and where.host ~= "::1"
  return way, shown, where.host
end

local function open(o, way, host) return native.open(way, { role = o.role, host = host }) end

-- The socket first: it needs no program over there. Whoever may not use it may still be allowed to say `docker`, perhaps by sudo.
local function open_on_host(o)
  local path, machine = (o.spec.docker or SOCKET):gsub("^unix://", ""), places.machine(o.place)
  o.engine_at = ("%s on %s"):format(path, o.spec.on)
  local engine, err = open(o, o.place.ways.dial_unix(o.place, path), machine)
  if engine or o.spec.docker then return engine, err end
  local other, why = open(o, o.place.ways.session(o.place):dial_docker(), machine)
  if other then o.engine_at = "docker system dial-stdio on " .. o.spec.on end
  return other, why and raise.new(err.code, ("%s; and docker system dial-stdio: %s"):format(err.message, why.message), why.hint or err.hint)
end

--- The Engine, opened when it is first needed. Two tasks may ask at once: the first one's is kept.
---@return userdata engine of native.docker
function M.engine(o)
  if o.engine then return o.engine end
  local made, err
  if o.place then made, err = open_on_host(o)
  else
    local way, shown, host = local_dialer(o)
    o.engine_at = shown
    o.machine = host
    made, err = open(o, way, host)
  end
  raise.check(made, err)
  o.engine = o.engine or made
  return o.engine
end

-- ---- the container ----

local FOUND_BY <const> = { "project", "service", "index", "name", "id", "image" }

local function wanted_of(o)
  local wanted = { stopped = true }
  for _, field in ipairs(FOUND_BY) do wanted[field] = o.spec[field] end
  if wanted.index then wanted.index = math.tointeger(wanted.index) end
  return wanted
end

local function name_of(listed) return ((listed.Names or {})[1] or listed.Id:sub(1, 12)):gsub("^/", "") end

local MOST_LISTED <const> = 12

--- "There is shop-db-1 (shop/db); cache, exited; …"
---@param engine userdata
---@return string
function M.what_there_is(engine)
  local list, words = raise.check(engine:list { all = true }), {}
  for _, listed in ipairs(list) do
    local labels = listed.Labels or {}
    local service = labels["com.docker.compose.service"]
    local composed = service and (" (%s/%s)"):format(labels["com.docker.compose.project"] or "?", service) or ""
    words[#words + 1] = name_of(listed) .. composed .. (listed.State ~= "running" and ", " .. tostring(listed.State) or "")
  end
  table.sort(words)
  if #words == 0 then return "That Engine has no containers." end
  local more = #words > MOST_LISTED and (" and %d more"):format(#words - MOST_LISTED) or ""
  return ("There is %s%s."):format(table.concat(words, "; ", 1, math.min(#words, MOST_LISTED)), more)
end

-- An id may be cut short in the inventory, as docker prints it; a name may not.
local function whole_id(engine, wanted)
  local id = wanted.id
  if not id or #id == 64 then return end
  local found = engine:inspect(id)
  if found and #id >= 12 and found.Id:sub(1, #id) == id then wanted.id = found.Id end
end

local function find(o, engine)
  local wanted = wanted_of(o)
  whole_id(engine, wanted)
  local found, err = engine:find(wanted)
  if found then return found.Id end
  if err.code ~= "config" then error(err, 0) end
  local several = err.message:match("^%d+ containers")
  error(raise.new("config", ("\"%s\": %s"):format(o.role, several and err.message or err.message:gsub(" is running$", " is there")),
    several and err.hint or M.what_there_is(engine)), 0)
end

--- The full id of the one container that fits, and its Engine.
---@return string id
---@return userdata engine
function M.id(o)
  local engine = M.engine(o)
  o.id = o.id or find(o, engine)
  return o.id, engine
end

--- Everything the Engine knows of the container, now.
---@return table
function M.inspect(o)
  local id, engine = M.id(o)
  local found, err = engine:inspect(id)
  if found then return found end
  if err.status == 404 then
    error(raise.new("remote", ("the container of \"%s\" (%s) is gone"):format(o.role, id:sub(1, 12)), "It was removed, or made anew; look which, then start over.", { status = 404 }), 0)
  end
  error(err, 0)
end

--- When it was started, for the journal: one that was started again is told from one that was not. Nil in a preview, where nothing is.
---@return string|nil
function M.started(engine, id)
  if guard.mode() == "plan" then return nil end
  return raise.check(engine:inspect(id)).State.StartedAt
end

--- "docker:<engine>/<container>", whatever its state: what a preview marks.
---@return string
function M.subject(o)
  local id, engine = M.id(o)
  return ("docker:%s/%s"):format(engine:id(), id)
end

-- ---- the ways to what is inside ----

--- Its address on a network, the first by name that gave it one, and that network's name; nil when it has none of its own.
---@param found table what inspect says
---@return string? address
---@return string? network
function M.address(found)
  local networks, names = (found.NetworkSettings or {}).Networks or {}, {}
  for name in pairs(networks) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local one = networks[name]
    local address = one.IPAddress ~= "" and one.IPAddress or one.GlobalIPv6Address ~= "" and one.GlobalIPv6Address
    if address then return address, name end
  end
end

local function add_all(own, list)
  for _, name in ipairs(type(list) == "table" and list or {}) do own[name] = true end
end

-- Is it itself that is meant by this name?
local function is_own(found, host)
  if host == "localhost" or host == "::1" or host:match("^127%.") then return true end
  local labels = found.Config.Labels or {}
  local own = { [found.Name:gsub("^/", "")] = true, [found.Config.Hostname or ""] = true, [labels["com.docker.compose.service"] or ""] = true }
  for _, network in pairs((found.NetworkSettings or {}).Networks or {}) do
    own[network.IPAddress or ""] = true
    add_all(own, network.Aliases)
    add_all(own, network.DNSNames)
  end
  return own[host] == true
end

local function is_address(host) return host:match("^%d+%.%d+%.%d+%.%d+$") ~= nil or host:find(":", 1, true) ~= nil end

-- Whose network it is in: its own, or that of the container it shares.
local function network_of(o, found)
  local mode = (found.HostConfig or {}).NetworkMode or ""
  local other = mode:match("^container:(.+)$")
  if not other then return found, mode end
  found = raise.check(M.engine(o):inspect(other))
  return found, (found.HostConfig or {}).NetworkMode or ""
end

-- Where a host and port seen from the container are, seen from its host.
local function seen_from_host(o, host)
  local found, mode = network_of(o, M.inspect(o))
  if mode == "host" then return host end
  if not is_own(found, host) then
    if is_address(host) then return host end
    raise("config", ("\"%s\" is not a name of the container of \"%s\""):format(host, o.role), "Write localhost for the container itself.")
  end
  local address = M.address(found)
  if address then return address end
  if found.State and not found.State.Running then raise("unreachable", ("the container of \"%s\" is %s"):format(o.role, found.State.Status or "not running"), "Start it.") end
  raise("config", ("the container of \"%s\" is in no network that its host reaches (%s)"):format(o.role, mode), "Run the client inside it instead: its read, run and start.")
end

--- A dialer to a port, as the container sees it: its own address on its network, the host's own ports where it has the host's network.
function M.dial(o, host, port)
  local there = seen_from_host(o, host)
  if o.place then return o.place.ways.dial(o.place, there, port) end
  local where = raise.check(native.endpoint { context = o.spec.context, host = o.spec.docker })
  if where.scheme == "tcp" and where.host ~= "localhost" and not where.host:match("^127%.") then
    raise("config", ("the network of \"%s\" belongs to %s and is not reached from here"):format(o.role, where.host), "Reach that Engine through the host it stands on: on = \"…\".")
  end
  return net.tcp(there, port)
end

--- A dialer to a socket that the container has mounted from its host.
function M.dial_unix(o, path)
  local best
  for _, mount in ipairs(M.inspect(o).Mounts or {}) do
    local inside = mount.Destination:gsub("/$", "")
    if path:sub(1, #inside + 1) == inside .. "/" and (not best or #inside > #best.inside) then best = { inside = inside, outside = mount.Source } end
  end
  if not best then
    raise("config", ("%s is in the container of \"%s\" alone"):format(path, o.role), "Only a socket in a directory that is mounted from its host can be reached; use its address instead.")
  end
  local there = best.outside:gsub("/$", "") .. path:sub(#best.inside + 1)
  return o.place and o.place.ways.dial_unix(o.place, there) or net.unix(there)
end

--- What others may ask of what they stand on.
M.ways = {
  dial = M.dial,
  dial_unix = M.dial_unix,
  -- Where that host is now: another address than before after it was started again, perhaps.
  address = seen_from_host,
  -- Whose list of hosts that may be written to is asked: nil is this machine.
  machine = function (o)
    if o.place then return places.machine(o.place) end
    M.engine(o)
    return o.machine
  end,
  engine = function (o)
    local id, engine = M.id(o)
    return engine, id
  end,
}

return M
