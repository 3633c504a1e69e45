--- A host as a runbook sees it: the machine that the user's own `ssh NAME` reaches.
--
--   hermes = host { ssh = "hermes" }
--   root = host { ssh = "app@hermes", sudo = true, pin = "host:SHA256:…" }
--
-- Address, port, user, keys, agent and jumps are what ssh_config says of the name. The identity is the host key, so two names of one
-- machine are one target. Databases, folders and web pages of the environment may stand `on` a host: then they are reached from there.
--
-- `ways` is for them and not for runbooks: a connection from the host to anywhere would pass no gate of its own.

local M = {}

local commands = require("client.host_commands")
local files = require("client.host_files")
local guardians = require("client.host_guardians")
local raise = require("core.raise")
local session = require("client.host_session")

M.kind, M.guardians = "host", guardians

M.fields = {
  ssh = { type = "string", help = "the name you write behind ssh: \"hermes\", \"app@hermes\"" },
  config = { type = "string", help = "an ssh_config file to read instead of your own" },
  backend = { type = "string", help = "\"auto\", \"libssh2\" or \"program\": who speaks SSH" },
  sudo = { type = "boolean or string", help = "true, or a user's name: commands and files are that user's, by sudo -n" },
  pin = { type = "string", help = "the identity it must have: host:SHA256:…, its key's fingerprint" },
  connect_within = { type = "string", help = "time to connect, \"15s\"" },
}

local methods = {}
for _, part in ipairs { commands, files } do
  for name, method in pairs(part) do methods[name] = method end
end

--- From the host to elsewhere, as it looks from there: for what stands on it.
local ways = {}

---@return userdata dialer to an address that the host reaches; "localhost" is the host itself
function ways.dial(o, address, port) return session.of(o):dial_tcp(address, port) end

---@return userdata dialer to a unix socket of the host
function ways.dial_unix(o, path) return session.of(o):dial_unix(path) end

---@return string the machine, by the name that ssh_config gives it: what `hosts` of an environment lists
function ways.machine(o) return session.of(o):card().hostname end

---@return userdata session of native.ssh, which stays the host's
function ways.session(o) return session.of(o) end

--- A host of this name; `spec` says how it is reached.
function M.new(role, name, spec, context)
  return { kind = M.kind, role = role, name = name, spec = spec, context = context, methods = methods, guardians = guardians, ways = ways }
end

--- Bind a role to what the inventory says. Connects to nothing.
---@param role string
---@param spec table see M.fields
---@param context table
---@return table object
---@effect pure
function M.bind(role, spec, context)
  if type(spec.ssh) ~= "string" or spec.ssh == "" then
    raise("config", ("\"%s\" does not say which host it is"):format(role), "Write host { ssh = \"hermes\" }, with the name you write behind ssh.")
  end
  return M.new(role, spec.ssh, spec, context)
end

local function add(lines, label, value)
  if value and value ~= "" then lines[#lines + 1] = { label, value } end
end

-- Whether sudo lets us is asked before a run needs it; what is wrong is for doctor to say.
local function sudo_fails(o)
  if not o.spec.sudo then return nil end
  local ok, err = pcall(methods.read, o, { "true" })
  return not ok and raise.of(err) or nil
end

--- Who answers, by which key and which back end.
---@return table card { kind, id, lines }
---@effect read
function methods.card(o)
  local known, lines = session.of(o):card(), {}
  add(lines, "address", known.address)
  add(lines, "user", known.user)
  if o.spec.sudo then add(lines, "sudo", o.spec.sudo == true and "root" or o.spec.sudo) end
  add(lines, "host key", known.key_type)
  add(lines, "server", known.banner)
  add(lines, "back end", known.backend)
  add(lines, "why", known.why)
  add(lines, "login", known.authenticated)
  return { kind = M.kind, id = known.id, lines = lines, wrong = sudo_fails(o) }
end

--- Let the lock and the connection go.
M.close = session.close

return M
