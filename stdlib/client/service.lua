--- Something that runs and can be started and stopped, whoever sees to it: docker compose, systemd, pm2, or two commands.
--
--   app = service { compose = { project = "shop", service = "api" }, on = "hermes" }
--   app = service { systemd = "shop.service", on = "hermes" }
--   app = service { pm2 = "shop", on = "hermes" }
--   app = service { start = { "/srv/app/up" }, stop = { "/srv/app/down" }, status = { "/srv/app/is-up" } }
--
-- A service is asked before it is told: whether it runs is a read (of containers the Engine's own word, else a command that only reads). To
-- start or stop it is what it is below, a change of a container, a job on a host, a process here, and a run that died asks that about it.
--
-- Rejected: `docker compose` itself (needs its files, its version and its working directory; containers carry what is needed as labels).

local M = {}

local compose = require("client.service_compose")
local duration = require("core.duration")
local guard = require("native.guard")
local guardians = require("client.service_guardians")
local keeper = require("client.keeper")
local managers = require("client.service_managers")
local raise = require("core.raise")
local task = require("native.task")

M.kind = "service"

M.fields = {
  compose = { type = "table", help = "{ project =, service = }: all containers of a compose service" },
  systemd = { type = "string", help = "a unit: \"shop.service\"" },
  pm2 = { type = "string", help = "the name of a process of pm2" },
  start = { type = "table", help = "the command that starts it, as a list" },
  stop = { type = "table", help = "the command that stops it, as a list" },
  status = { type = "table", help = "the command that ends with status 0 when it runs, as a list" },
  on = { type = "string", help = "the host it runs on, or the container; without it this machine" },
  context = { type = "string", help = "with compose: a docker context, instead of the one that is current" },
  docker = { type = "string", help = "with compose: where the Engine listens" },
  pin = { type = "string", help = "the identity it must have, as neap doctor shows it" },
}

local methods = {}

-- How it is now. After an act that a preview could not follow to its end nobody knows.
local function state(o)
  o.identity = o.identity or o.manager.id(o)
  local step = guard.withheld(o.identity)
  if step then error(raise.new("withheld", step), 0) end
  return o.manager.state(o)
end

--- Does it run? Of several containers all must.
---@return boolean
---@effect read
function methods.running(o) return state(o).running end

--- Does it run, and is it well, as far as whoever sees to it can tell?
---@return boolean
---@return string? why not
---@effect read
function methods.healthy(o)
  local is = state(o)
  if not is.running then return false, is.words end
  if is.unwell then return false, is.unwell end
  return true
end

--- How often it was started again by itself; nil where nobody counts.
---@return integer|nil
---@effect read
function methods.restarts(o) return state(o).restarts end

local EVERY_MS <const> = 500

--- Wait until it is well `times` times in a row.
---@param wanted? { within: string?, times: integer? } within: "60s"; times: 1
---@return true
---@effect read
function methods.wait_healthy(o, wanted)
  wanted = wanted or {}
  local ends, good = task.now_ms() + duration.parse(wanted.within or "60s"), 0
  while true do
    local well, why = methods.healthy(o)
    good = well and good + 1 or 0
    if good >= (wanted.times or 1) then return true end
    if task.now_ms() >= ends then raise("timeout", ("\"%s\" is not well: %s"):format(o.role, why or "it was only just")) end
    task.sleep(EVERY_MS)
  end
end

--- The last of what it logged, as text.
---@param wanted? { tail: integer? } tail: so many lines, 50
---@return string
---@effect read
function methods.logs(o, wanted)
  if not o.manager.logs then raise("usage", ("nobody knows where \"%s\" logs"):format(o.role)) end
  return o.manager.logs(o, wanted and wanted.tail or 50)
end

--- Start it. One that runs is fine.
---@effect write
function methods.start(o) o.manager.start(o) end

--- Stop it. One that is stopped is fine.
---@effect write
function methods.stop(o) o.manager.stop(o) end

--- Stop it and start it again.
---@effect write
function methods.restart(o) o.manager.restart(o) end

--- What it is and how it is, for the plan.
---@return table card { kind, id, lines }
---@effect read
function methods.card(o)
  local is = state(o)
  local lines = { { o.manager.name, o.manager.what(o) }, { "state", is.words } }
  if is.unwell then lines[#lines + 1] = { "unwell", is.unwell } end
  if is.restarts and is.restarts > 0 then lines[#lines + 1] = { "restarts", tostring(is.restarts) } end
  return { kind = M.kind, id = o.identity, lines = lines, made_of = o.manager.made_of and o.manager.made_of(o) }
end

-- ---- binding ----

local WAYS <const> = { "compose", "systemd", "pm2", "start" }

local function check_words(role, spec)
  for _, field in ipairs { "start", "stop", "status" } do
    local argv = spec[field]
    if type(argv) ~= "table" or #argv == 0 then
      raise("config", ("service \"%s\" needs start, stop and status as lists of words"):format(role), "status is the command that ends with 0 when it runs.")
    end
    for _, word in ipairs(argv) do
      if type(word) ~= "string" then raise("config", ("service \"%s\": %s is a list of words"):format(role, field)) end
    end
  end
end

local function manager_of(role, spec)
  local named
  for _, way in ipairs(WAYS) do
    if spec[way] and named then raise("config", ("service \"%s\" is both %s and %s"):format(role, named, way), "Keep one of them.") end
    named = named or spec[way] and way
  end
  if not named then
    raise("config", ("service \"%s\" does not say who sees to it"):format(role), "Write compose = { project =, service = }, systemd, pm2, or start, stop and status.")
  end
  if named == "compose" and (type(spec.compose.project) ~= "string" or type(spec.compose.service) ~= "string") then
    raise("config", ("service \"%s\": compose names a project and a service"):format(role), "Write compose = { project = \"shop\", service = \"api\" }.")
  end
  if named == "start" then check_words(role, spec) end
  return named == "compose" and compose or managers[named]
end

--- Bind a service of the inventory. Asks nobody.
---@param role string
---@param spec table see M.fields
---@param context table {application=, environment=, target=}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  local manager = manager_of(role, spec)
  local place = spec.on and context.target(spec.on, manager == compose and { "host" } or { "host", "container" })
  return { kind = M.kind, role = role, methods = methods, guardians = guardians, spec = spec, context = context, place = place, manager = manager }
end

--- Let the lock and the Engine go.
function M.close(o)
  keeper.let_go(o)
  o.engine = nil
end

return M
