--- Services that commands see to: systemd, pm2, or the inventory's own three. Here or on what the service stands on, by the same words.
--
-- A manager has: name; what(o), what it is called there; id(o); state(o) = { running, words, unwell, restarts }; start, stop and restart; logs,
-- where it knows them.

local M = {}

local commands = require("client.command")
local raise = require("core.raise")
local system = require("native.system")
local text = require("native.text")

-- ---- commands, here or there ----

local function call(o, verb, argv, given)
  if o.place then return o.place.methods[verb](o.place, argv, given) end
  local command = commands.bind(o.role, { argv = argv })
  return command.methods[verb](command, nil, given)
end

local function read(o, argv, allow) return call(o, "read", argv, { allow = allow }) end
local function write(o, argv) return call(o, "run", argv) end

-- The machine or container whose service it is.
local function where(o)
  if not o.place then return system.host() end
  local card = o.place.methods.card(o.place)
  return card.lasting or card.id
end

local function id_of(manager)
  return function (o) return ("service:%s/%s"):format(where(o), manager.called(o)) end
end

-- ---- systemd ----

local systemd = { name = "systemd" }

function systemd.what(o) return o.spec.systemd end
function systemd.called(o) return o.spec.systemd end
systemd.id = id_of(systemd)

function systemd.state(o)
  local said = read(o, { "systemctl", "show", "--property=LoadState,ActiveState,SubState,NRestarts,Result", "--", o.spec.systemd }):out()
  local is = {}
  for name, value in said:gmatch("(%w+)=([^\n]*)") do is[name] = value end
  if is.LoadState == "not-found" then raise("config", ("\"%s\": there is no unit %s"):format(o.role, o.spec.systemd), "`systemctl list-units` there shows what there is.") end
  local running = is.ActiveState == "active" or is.ActiveState == "reloading"
  local words = ("%s (%s)"):format(is.ActiveState or "unknown", is.SubState or "?")
  if not running and is.Result and is.Result ~= "success" then words = words .. ", result " .. is.Result end
  return { running = running, words = words, restarts = math.tointeger(tonumber(is.NRestarts)) }
end

for _, verb in ipairs { "start", "stop", "restart" } do
  systemd[verb] = function (o) return write(o, { "systemctl", verb, "--", o.spec.systemd }) end
end

function systemd.logs(o, tail)
  return read(o, { "journalctl", "--no-pager", "--output=short-iso", "--lines=" .. tail, "--unit=" .. o.spec.systemd }):out()
end

-- ---- pm2 ----

local pm2 = { name = "pm2" }

function pm2.what(o) return o.spec.pm2 end
function pm2.called(o) return "pm2:" .. o.spec.pm2 end
pm2.id = id_of(pm2)

-- pm2 may greet before it answers; the list is the last line.
local function listed(o)
  local said = read(o, { "pm2", "jlist" }):out()
  local json = said:match("(%[[^\n]*)\n*$")
  local list = json and text.parse(json)
  if not list then raise("protocol", ("\"%s\": pm2 gave no list of its processes"):format(o.role)) end
  return list
end

function pm2.state(o)
  local found, names = {}, {}
  for _, process in ipairs(listed(o)) do
    names[#names + 1] = tostring(process.name)
    if process.name == o.spec.pm2 then found[#found + 1] = process.pm2_env or {} end
  end
  if #found == 0 then
    raise("config", ("\"%s\": pm2 has no process %s"):format(o.role, o.spec.pm2), #names > 0 and ("It has %s."):format(table.concat(names, ", ")) or "It has none.")
  end
  local up, restarts, unstable = 0, 0, 0
  for _, env in ipairs(found) do
    if env.status == "online" then up = up + 1 end
    restarts = restarts + (env.restart_time or 0)
    unstable = unstable + (env.unstable_restarts or 0)
  end
  local words = ("%s, %d of %d online"):format(found[1].status or "unknown", up, #found)
  return { running = up == #found, words = words, restarts = restarts, unwell = unstable > 0 and ("it was started again %d times soon after it began"):format(unstable) or nil }
end

for _, verb in ipairs { "start", "stop", "restart" } do
  pm2[verb] = function (o) return write(o, { "pm2", verb, o.spec.pm2 }) end
end

function pm2.logs(o, tail)
  local said = read(o, { "pm2", "logs", o.spec.pm2, "--nostream", "--lines", tostring(tail) })
  return said:out() .. said:err()
end

-- ---- three commands ----

local own = { name = "commands" }

function own.what(o) return text.shell(o.spec.start) end
function own.called(o) return own.what(o) end       -- not by its role: another inventory calls the same service another name
own.id = id_of(own)

function own.state(o)
  local said = read(o, o.spec.status, "any")
  local running = said:status() == 0
  local line = said:out():match("[^\n]*%S[^\n]*")
  return { running = running, words = ("%s%s"):format(running and "running" or ("not running (status %d)"):format(said:status()), line and ": " .. line:sub(1, 200) or "") }
end

function own.start(o) return write(o, o.spec.start) end
function own.stop(o) return write(o, o.spec.stop) end

function own.restart(o)
  own.stop(o)
  return own.start(o)
end

--- What a preview marks when it would change it; elsewhere that is the place.
local function made_of(o) return not o.place and { "process:" .. o.role } or nil end

systemd.made_of, pm2.made_of, own.made_of = made_of, made_of, made_of

M.systemd, M.pm2, M.start = systemd, pm2, own

return M
