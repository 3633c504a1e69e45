--- A container as a runbook sees it: native.docker, made to raise.
--
--   dbc = container { project = "shop", service = "db" }                    of the Engine that docker here would ask
--   dbc = container { name = "shop-db-1", on = "hermes" }                   of the Engine on hermes
--   db  = postgres { url = "postgresql://app@localhost/shop", on = "dbc" }  what runs in it, by its own address, no port published
--
-- One entry is one container: none and several are errors that say what there is. It is known by its id and by when it was started, so
-- that a container that was made anew under the old name is not taken for the one that was meant.

local M = {}

local engines = require("client.container_engine")
local files = require("client.container_files")
local guardians = require("client.container_guardians")
local keeper = require("client.keeper")
local raise = require("core.raise")
local reads = require("client.container_reads")
local writes = require("client.container_writes")

M.kind = "container"

M.fields = {
  project = { type = "string", help = "the compose project it belongs to" },
  service = { type = "string", help = "the compose service it belongs to" },
  index = { type = "number", help = "its number within the service, where there are several" },
  name = { type = "string", help = "its name, whole" },
  image = { type = "string", help = "the image it is made of, as docker ps shows it" },
  id = { type = "string", help = "its id, at least the twelve digits docker ps shows" },
  on = { type = "string", help = "the host whose Engine it belongs to; without it the Engine that docker would ask here" },
  context = { type = "string", help = "a docker context, instead of the one that is current" },
  docker = { type = "string", help = "where the Engine listens: unix:///run/docker.sock, tcp://host:2376; with `on` its socket there" },
  user = { type = "string", help = "who commands in it run as, instead of its own user" },
  pin = { type = "string", help = "the identity it must have: docker:<engine>/<container>, with @<started> also when it was started" },
}

local methods = {}
for _, part in ipairs { reads, files, writes } do
  for name, method in pairs(part) do methods[name] = method end
end

local function new(role, spec, context, place)
  local o = { kind = M.kind, role = role, methods = methods, guardians = guardians, ways = engines.ways, spec = spec, context = context, place = place }
  -- Another container on the same Engine, which this one closes.
  function o.beside(id, name)
    local other = new(name, { id = id, on = spec.on, context = spec.context, docker = spec.docker }, context, place)
    other.engine, other.engine_at, other.id = o.engine, o.engine_at, id
    return other
  end
  return o
end

local FOUND_BY <const> = { "project", "service", "name", "image", "id" }

--- Bind a container of the inventory. Asks nobody.
---@param role string
---@param spec table see M.fields
---@param context table {application=, environment=, target=, progress=}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  local any
  for _, field in ipairs(FOUND_BY) do any = any or spec[field] end
  if not any then
    raise("config", ("\"%s\" does not say which container it is"):format(role), "Write container { project = \"shop\", service = \"db\" }, or its name, image or id.")
  end
  if spec.index and not math.tointeger(spec.index) then raise("config", ("\"%s\": index is a whole number"):format(role)) end
  if spec.context and (spec.docker or spec.on) then
    raise("config", ("\"%s\": a context says where the Engine is, and so does %s"):format(role, spec.on and "on" or "docker"), "Keep one of them.")
  end
  if spec.on and spec.docker and not spec.docker:find("^unix:///") then
    raise("config", ("\"%s\": on a host the Engine is reached by a socket"):format(role), "Write docker = \"unix:///run/docker.sock\", or leave it out.")
  end
  return new(role, spec, context, spec.on and context.target(spec.on, { "host" }))
end

--- Let the lock and the Engine go.
function M.close(o)
  keeper.let_go(o)
  o.engine = nil
end

return M
