--- A database of a Redis server as a runbook sees it: native.redis, made to raise.
--
--   cache = redis { url = "redis://app@cache:6379/0", password = secret { env = "CACHE_PASSWORD" } }
--   cache = redis { url = "redis://localhost/0", on = "hermes" }        as hermes sees it
--
-- It opens what it needs when it needs it (redis_connections.lua). In a preview reads use the inventory's preview user, whose ACL keeps it
-- from writing; without one neap filters the commands itself, and the plan says "declared".

local M = {}

local connections = require("client.redis_connections")
local guardians = require("client.redis_guardians")
local raise = require("core.raise")
local reads = require("client.redis_reads")
local writes = require("client.redis_writes")

M.kind = "redis"

M.fields = {
  url = { type = "string", help = "redis://user@host:6379/0, rediss:// for TLS, unix:///path/redis.sock?db=0; or a secret" },
  password = { type = "secret", help = "of the user; instead of the URL's" },
  user = { type = "string", help = "instead of the URL's" },
  database = { type = "number", help = "instead of the URL's" },
  on = { type = "string", help = "the role of a host or container: the URL is as that one sees it" },
  preview = { type = "table", help = "{ user =, password = } of a user whose ACL only lets it read, for previews" },
  tls = { type = "string", help = "\"off\": it is known that the connection is not encrypted" },
  ca = { type = "string", help = "file of the authorities that the server's certificate is checked against" },
  cert = { type = "string", help = "file of our own certificate, where the server wants one" },
  key = { type = "string", help = "file of the key to it" },
  server_name = { type = "string", help = "the name in the server's certificate, where it is not the host's" },
  pin = { type = "string", help = "the identity this must be: redis:<run_id>/<db>; a restarted server is another one" },
  lock = { type = "boolean", help = "false: nobody else is kept out, and nothing can be changed; for a user who may only read" },
  prefix = { type = "string", help = "of neap's own keys, \"neap:\"; the user's ACL must allow <prefix>lock:<db> and <prefix>hold:<db>" },
  connect_within = { type = "string", help = "time to connect, \"15s\"" },
  read_within = { type = "string", help = "time for one command, \"30s\"" },
}

local methods = {}
for _, part in ipairs { reads, writes } do
  for name, method in pairs(part) do methods[name] = method end
end

--- Bind a role to what the inventory says. Connects to nothing.
---@param role string
---@param spec table see M.fields
---@param context table {application=, environment=, target=, notice=, progress=}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  if not spec.url then raise("config", ("\"%s\" has no url"):format(role), "redis://user@host:6379/0") end
  local o = { kind = M.kind, role = role, methods = methods, guardians = guardians, spec = spec, context = context, actors = {} }
  connections.place(o)
  return o
end

--- Let the lock go and close every connection of the object.
M.close = connections.close

return M
