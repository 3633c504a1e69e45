--- Roles of a PostgreSQL server and their passwords, which a runbook never holds.
--
--   db = postgres { url = …, roles = { jarvis = secret { env = "JARVIS_PASSWORD" } } }
--   db:create_role("jarvis", { login = true })        db:set_password("jarvis")        db:login("jarvis")
--
-- The password is the inventory's, by the role's name; the server is sent what libpq makes of it (pg_role.c), so that it is neither in an
-- argument list, nor in the server's log, nor in ours. Rejected: a parameter that is a secret (it would have to be typed or stand in a crontab).

local connections = require("client.postgres_connections")
local guard = require("native.guard")
local native = require("native.pg")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local writes = require("client.postgres_writes")

local methods = {}

local function act(o, verb, ...)
  local connection = connections.actor(o)
  local done, err = connection[verb](connection, ...)
  connections.tell(o, connection)
  if done == nil then error(err, 0) end
end

local function password_of(o, name, needed)
  local password = o.spec.roles and o.spec.roles[name]
  if not password and needed then
    raise("config", ("the inventory has no password for the role \"%s\""):format(name),
      ("Give \"%s\" roles = { %s = secret { env = \"NAME\" } }."):format(o.role, name:match("^[%a_][%w_]*$") or ("[%q]"):format(name)))
  end
  return password
end

--- Does the inventory know this role's password?
---@param name string
---@return boolean
---@effect pure
function methods.has_password(o, name) return password_of(o, name) ~= nil end

--- Make a role, with the password of the inventory when it can log in.
---@param name string
---@param wanted? { login: boolean?, createdb: boolean? }
---@effect write
function methods.create_role(o, name, wanted)
  local given = { login = wanted and wanted.login, createdb = wanted and wanted.createdb }
  if given.login then given.password = password_of(o, name, true) end
  act(o, "create_role", name, given)
end

--- Drop a role, if it is there. The server refuses as long as anything is its own or granted to it.
---@param name string
---@effect destroy
function methods.drop_role(o, name)
  if reads.has(o, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", name) then writes.exec(o, 'DROP ROLE "' .. name:gsub('"', '""') .. '"') end
end

--- Give a role the password of the inventory.
---@param name string
---@effect write
function methods.set_password(o, name) act(o, "set_password", name, password_of(o, name, true)) end

--- Can the role log in to this database with the password of the inventory? false and the server's words when it cannot.
---@param name string
---@return boolean
---@return string|nil why
---@effect read
function methods.login(o, name)
  local subject = connections.subject(o)
  if guard.mode() == "plan" and subject and guard.withheld(subject) then error(raise.new("withheld", guard.withheld(subject)), 0) end
  local connection <close> = raise.check(native.new(connections.options(o, { user = name, password = password_of(o, name, true), fenced = true })))
  local ok, err = connection:open()
  if ok then return true end
  if err.code ~= "auth" and not err.sqlstate then error(err, 0) end
  return false, err.message
end

return methods
