--- A PostgreSQL cluster that a run makes, beside the one it came from: a directory of its own, a server that runs there, and later perhaps nothing.
--
--   second = cluster { directory = "/var/lib/postgresql/restored", bin = "/usr/lib/postgresql/15/bin", port = 5499, as = "postgres", on = "hermes" }
--
-- A restored cluster has the system identifier of the one it was made from: asked over a connection who they are, both say the same. So this one is
-- known by where it is, machine and directory, which is true before it exists and after it is gone, and nobody is asked over an address: what
-- starts, promotes, stops and removes it are commands that name the directory; SQL goes through the socket in it, and the server behind
-- that must say that its data lie there. A directory counts as ours by the mark that is laid into it before anything else. No other directory
-- is ever written to or removed, and no server that runs elsewhere can be reached by these words.
--
-- It has a configuration of its own, not that of the first: no archive_command that writes into the first one's archive, no preloaded
-- libraries whose jobs would begin (cron), no subscriptions' workers, no standby it would wait for, no address but this machine's own.
--
--   absent -> made (marked, half unpacked) -> unpacked -> replaying -> paused at the target -> promoted -> absent
--
-- Rejected: an entry of kind postgres whose server is not there yet (its identity would be the first one's), and asking the port who listens.

local M = {}

local guardians = require("client.cluster_guardians")
local keeper = require("client.keeper")
local postgres = require("client.postgres")
local raise = require("core.raise")
local reads = require("client.cluster_reads")
local writes = require("client.cluster_writes")

M.kind = "cluster"

M.fields = {
  directory = { type = "string", help = "where it is made: a directory that is not there yet, or empty; its parent belongs to the user it runs as" },
  bin = { type = "string", help = "where the server's programs are, of the right major version: \"/usr/lib/postgresql/15/bin\"" },
  port = { type = "number", help = "the port it listens on, on its machine only" },
  as = { type = "string", help = "the user it runs as; PostgreSQL does not run as root" },
  on = { type = "string", help = "the host of this environment that it is made on; without it this machine" },
  user = { type = "string", help = "a superuser of the database server, \"postgres\"" },
  password = { type = "secret", help = "of that role: then it is asked over its port; without it through the socket in its directory, which only its user and root can reach" },
  database = { type = "string", help = "a database that is there in any case, \"postgres\"" },
}

local methods = {}
for _, part in ipairs { reads, writes } do
  for name, method in pairs(part) do methods[name] = method end
end

local LONGEST_SOCKET <const> = 107

local function check_path(role, field, path)
  if type(path) ~= "string" or not path:find("^/[%w._/-]+$") or path:find("/../", 1, true) or path:find("//", 1, true) or path:find("[/.]$") then
    raise("config", ("cluster \"%s\": %s is a whole path, of letters, digits, \".\", \"_\" and \"-\""):format(role, field), "Write directory = \"/var/lib/postgresql/restored\".")
  end
  return path
end

local function check(role, spec)
  check_path(role, "bin", spec.bin)
  local directory = check_path(role, "directory", spec.directory)
  if not directory:find("^/[^/]+/") then raise("config", ("cluster \"%s\": %s is no place for a cluster"):format(role, directory), "Name a directory below another one.") end
  if math.type(spec.port) ~= "integer" or spec.port < 1 or spec.port > 65535 then raise("config", ("cluster \"%s\" needs a port"):format(role), "Write port = 5499.") end
  if #directory + #"/run/.s.PGSQL.65535" > LONGEST_SOCKET then
    raise("config", ("cluster \"%s\": %s is too long a name, its socket would have more than %d bytes"):format(role, directory, LONGEST_SOCKET), "Name a shorter one.")
  end
  for _, field in ipairs { "as", "user" } do
    if spec[field] and not spec[field]:find("^[%a_][%w_-]*$") then raise("config", ("cluster \"%s\": %s is a user's name"):format(role, field)) end
  end
end

--- Bind a cluster of the inventory. Asks nobody.
---@param role string
---@param spec table see M.fields
---@param context table {application=, target=, progress=}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  check(role, spec)
  return { kind = M.kind, role = role, methods = methods, guardians = guardians, spec = spec, context = context,
    place = spec.on and context.target(spec.on, { "host" }), directory = spec.directory, data = spec.directory .. "/data" }
end

--- Let the lock and the connections go.
function M.close(o)
  keeper.let_go(o)
  if o.sql then postgres.close(o.sql) end
  o.sql = nil
end

return M
