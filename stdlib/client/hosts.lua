--- Several hosts as one role: `web:all()` names them, `web:on(name)` is one of them.
--
--   web = hosts { names = { "web1", "web2", "web3" }, sudo = true }
--   step "restart" { each = function () return web:all() end, limit = 64, stop_after = 3,
--     act = function (item) web:on(item):run { "systemctl", "restart", "shop" } end }
--
-- A member is opened when it is first asked and let go when more than MOST_OPEN that nobody uses are open, the one that was used longest ago
-- first: a thousand hosts need no thousand connections. Every host proves its key when it is opened; the group as such has no lock.

local M = {}

local host = require("client.host")
local raise = require("core.raise")
local session = require("client.host_session")
local text = require("native.text")

local MOST_OPEN <const>, NAMED <const> = 64, 8

M.kind = "hosts"

M.fields = {
  names = { type = "table", help = "the names you write behind ssh, as a list" },
  config = host.fields.config, backend = host.fields.backend, sudo = host.fields.sudo, connect_within = host.fields.connect_within,
  pin = { type = "string", help = "the identity it must have: hosts:…, which says which names it has" },
}

local methods, guardians = {}, {}

-- Those that are open and that nobody uses, the one that was used longest ago first.
local function idle(o)
  local list = {}
  for _, member in pairs(o.members) do
    if member.session and member.users == 0 and not member.streaming then list[#list + 1] = member end
  end
  table.sort(list, function (a, b) return a.used < b.used end)
  return list
end

local function let_go(o, member)
  o.turn = o.turn + 1
  member.used = o.turn
  local list = idle(o)
  for i = 1, #list - MOST_OPEN do session.close(list[i]) end
end

local function id_of(o) return "hosts:" .. text.sha256(table.concat(o.names, "\n")):sub(1, 16) end

local function member_of(o, name)
  local known = o.members[name]
  if known then return known end
  local made = host.new(o.role, name, o.spec, o.context)
  made.users, made.used, made.group = 0, 0, id_of(o)
  function made.after_use() let_go(o, made) end
  o.members[name] = made
  return made
end

--- Bind a role to what the inventory says. Connects to nothing.
---@param role string
---@param spec table see M.fields
---@param context table
---@return table object
---@effect pure
function M.bind(role, spec, context)
  local names, seen = spec.names, {}
  for i = 1, type(names) == "table" and #names or 0 do
    if type(names[i]) ~= "string" or names[i] == "" then raise("config", ("\"%s\" has a name that is none"):format(role)) end
    if seen[names[i]] then raise("config", ("\"%s\" has \"%s\" twice"):format(role, names[i])) end
    seen[names[i]] = true
  end
  if not next(seen) then
    raise("config", ("\"%s\" names no hosts"):format(role), "Write hosts { names = { \"web1\", \"web2\" } }, with the names you write behind ssh.")
  end
  return { kind = M.kind, role = role, spec = spec, context = context, names = names, is_known = seen, members = {}, turn = 0,
    methods = methods, guardians = guardians }
end

--- The names of the hosts, in the inventory's order.
---@return string[]
---@effect pure
function methods.all(o) return table.move(o.names, 1, #o.names, 1, {}) end

--- One of the hosts.
---@param name string
---@return table host
---@effect pure
function methods.on(o, name)
  if not o.is_known[name] then
    local near = text.nearest(tostring(name), o.names)
    raise("usage", ("\"%s\" has no host \"%s\""):format(o.role, tostring(name)), near and ("Did you mean %s?"):format(near))
  end
  return member_of(o, name)
end

--- Which hosts these are. None is asked: each proves itself when it is opened.
---@return table card { kind, id, lines }
---@effect pure
function methods.card(o)
  local shown = table.concat(o.names, ", ", 1, math.min(#o.names, NAMED))
  if #o.names > NAMED then shown = ("%s and %d more"):format(shown, #o.names - NAMED) end
  return { kind = M.kind, id = id_of(o),
    lines = { { "hosts", tostring(#o.names) }, { "names", shown } } }
end

--- What became of a write whose run died: the host it was made on knows.
---@param evidence table the intent
---@param patience table
function guardians.probe(o, evidence, patience)
  if not o.is_known[evidence.ssh] then return nil end
  return host.guardians.probe(member_of(o, evidence.ssh), evidence, patience)
end

--- Let every connection go.
function M.close(o)
  for _, member in pairs(o.members) do session.close(member) end
  o.members = {}
end

return M
