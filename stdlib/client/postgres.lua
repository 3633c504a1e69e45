--- A PostgreSQL database as a runbook sees it: native.pg, made to raise.
--
-- An object is one database of one server. It opens what it needs when it needs it (postgres_connections.lua). `on` gives
-- the object of another database of the same server; it exists before its database does. In a preview
-- reads use the inventory's preview role, on the standby if there is one.
--
-- Rejected: one connection for both (a fence that is taken down for writes is no fence), and reads inside
-- `transaction` going over the fenced connection (they would not see what the transaction did).

local M = {}

local connections = require("client.postgres_connections")
local dump = require("client.postgres_dump")
local guardians = require("client.postgres_guardians")
local quiet = require("client.postgres_quiet")
local raise = require("core.raise")
local readback = require("client.postgres_readback")
local reads = require("client.postgres_reads")
local restore = require("client.postgres_restore")
local roles = require("client.postgres_roles")
local rows = require("client.postgres_rows")
local swap = require("client.postgres_swap").methods
local upkeep = require("client.postgres_upkeep")
local watch = require("client.postgres_watch")
local writes = require("client.postgres_writes")

M.kind = "postgres"

M.fields = {
  url = { type = "string", help = "postgresql://user@host:port/database; the URLs of Prisma, Drizzle and JDBC work too" },
  on = { type = "string", help = "the host or container of this environment from which the URL's host is reached" },
  password = { type = "secret", help = "of the role; without it libpq's passfile is asked" },
  user = { type = "string", help = "instead of the URL's" },
  database = { type = "string", help = "instead of the URL's" },
  roles = { type = "table", help = "{ NAME = secret { … } }: passwords of roles that a runbook may make or log in as" },
  tools = { type = "string", help = "whose pg_dump, pg_restore and psql are used: a host or container of this environment, or \"local\"; what it stands on, else this machine" },
  tools_path = { type = "string", help = "the directory of these programs there, when it is not on their PATH: \"/usr/lib/postgresql/16/bin\"" },
  preview = { type = "table", help = "{ user =, password = } of a role that only reads, for previews" },
  standby = { type = "string", help = "URL of a hot standby: previews read there" },
  tls = { type = "string", help = "\"off\": it is known that the server's certificate is not verified" },
  pin = { type = "string", help = "the identity this must be: pg:<system identifier>/<database>" },
  connect_within = { type = "string", help = "time to connect, \"15s\"" },
  read_within = { type = "string", help = "time for one read, \"30s\"" },
}

local methods = {}
for _, part in ipairs { reads, writes, rows, roles, upkeep, dump, restore, readback, swap, quiet, watch } do
  for name, method in pairs(part) do methods[name] = method end
end

local function new(role, spec, context, server, parent, database)
  return { kind = M.kind, role = role, methods = methods, guardians = guardians, spec = spec, context = context, server = server,
    parent = parent, database = database, idle = {}, actors = {} }
end

--- Bind a role to what the inventory says. Connects to nothing.
---@param role string
---@param spec table see M.fields
---@param context table {application=, environment=, max_rows=function|nil, notice=function|nil, progress=function|nil, rows=table|nil}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  if not spec.url then raise("config", ("\"%s\" has no url"):format(role), "postgresql://user@host:port/database") end
  local place = spec.on and context.target(spec.on, { "host", "container" })
  local tools = spec.tools == "local" and false or spec.tools and context.target(spec.tools, { "host", "container" })
  return new(role, spec, context, { place = place, tools = tools }, nil, nil)
end

--- The object of another database of the server, which need not exist yet.
---@param database string
---@return table object
---@effect pure
function methods.on(o, database)
  if type(database) ~= "string" or database == "" then raise("usage", "on() needs a database's name") end
  local top = o.parent or o
  top.others = top.others or {}
  top.others[database] = top.others[database] or new(o.role, o.spec, o.context, o.server, top, database)
  return top.others[database]
end

--- Close every connection of the object.
M.close = connections.close

return M
