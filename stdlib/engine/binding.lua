--- The things of an environment, bound: each entry once per run, whoever asks for it.
--
-- An entry may stand on another one of its environment (`on = "hermes"`): its client then asks `context.target "hermes"`
-- while it is bound and is given the bound object, of whatever kind. That one's secrets are fetched first, and it may stand
-- on a third. A circle and a name that is not there are refused, naming both. What an entry stands on is proved before
-- the entry itself is asked anything: a password must not travel a road that leads elsewhere.
--
-- What something can stand on has `ways`, a closed table beside its methods that no runbook reaches: dial(object, host, port) and
-- dial_unix(object, path) give a dialer of native.net's kind, from there to an address as it looks from there.
--
-- After `seal` nothing new is bound: what a clause could still bring in would have been neither proved nor shown.
--
-- Rejected: binding the whole environment (a runbook that needs one database would fetch every secret), and working out
-- from the fields who stands on whom (only the client knows which of its fields name a role).

local M = {}

local inventory = require("engine.inventory")
local raise = require("core.raise")
local text = require("core.text")

local Binding = {}
Binding.__index = Binding

--- Nothing is bound yet.
---@param environment table {name, targets = {role = {kind, spec}}}
---@param clients table<string, table> kind -> client module
---@param context table handed to each client's bind, with `target` added
---@param secrets table native.secret
---@return table binding
function M.new(environment, clients, context, secrets)
  return setmetatable({ environment = environment, clients = clients, context = context, secrets = secrets,
    objects = {}, order = {}, stands_on = {}, path = {} }, Binding)
end

-- "a" needs "b", which needs "c", which needs "a"
local function circle(path, role)
  local first = 1
  while path[first] ~= role do first = first + 1 end
  local words = ("\"%s\" needs \"%s\""):format(role, path[first + 1] or role)
  for i = first + 2, #path do words = words .. (", which needs \"%s\""):format(path[i]) end
  return path[first + 1] and words .. (", which needs \"%s\""):format(role) or words
end

local function list_of(kinds)
  local words = {}
  for i, kind in ipairs(kinds) do words[i] = "a " .. kind end
  return #words < 2 and words[1] or table.concat(words, ", ", 1, #words - 1) .. " or " .. words[#words]
end

-- What `user` is given for the role it names.
local function referred(self, user, role, kinds)
  if type(role) ~= "string" then raise("config", ("\"%s\" names what it stands on by a role, not by a %s"):format(user, type(role))) end
  local entry = self.environment.targets[role]
  if not entry then
    raise("config", ("\"%s\" stands on \"%s\", which environment \"%s\" does not have"):format(user, role, self.environment.name),
      text.suggest(role, text.keys(self.environment.targets)))
  end
  local fits = not kinds
  for _, kind in ipairs(kinds or {}) do fits = fits or kind == entry.kind end
  if not fits then
    raise("config", ("\"%s\" stands on \"%s\", which is a %s and not %s"):format(user, role, entry.kind, list_of(kinds)))
  end
  local below = self.stands_on[user]
  local known
  for _, name in ipairs(below) do known = known or name == role end
  if not known then below[#below + 1] = role end
  return self:get(role)
end

local function context_of(self, user)
  --- The bound object of another entry. `kinds` lists those that will do; without it any.
  local function other(role, kinds) return referred(self, user, role, kinds) end
  return setmetatable({ target = other }, { __index = self.context })
end

local function bind(self, role, entry)
  inventory.resolve_secrets(self.environment, { role }, self.secrets)
  return self.clients[entry.kind].bind(role, entry.spec, context_of(self, role))
end

--- The bound object of a role. Waits, when secrets must be fetched.
---@param role string
---@return table object
function Binding:get(role)
  if self.objects[role] then return self.objects[role] end
  for _, name in ipairs(self.path) do
    if name == role then
      raise("config", circle(self.path, role), "Take `on` out of one of them: something must stand by itself.")
    end
  end
  if self.sealed then raise("bug", ("\"%s\" would be bound in the middle of a run"):format(role)) end
  local entry = self.environment.targets[role]
  self.path[#self.path + 1] = role
  self.stands_on[role] = {}
  local ok, object = pcall(bind, self, role, entry)
  self.path[#self.path] = nil
  if not ok then error(object, 0) end
  self.objects[role] = object
  self.order[#self.order + 1] = role
  return object
end

--- The roles that this one stands on directly, in the order it asked for them.
---@param role string a bound one
---@return string[]
function Binding:below(role) return self.stands_on[role] end

--- From now on only what is bound can be had.
function Binding:seal() self.sealed = true end

-- Its card; an error knows whose it is (`role`), because the other side knows only addresses.
local function card_of(self, role)
  local object = self.objects[role]
  local ok, card = pcall(object.methods.card, object)
  if ok then return card end
  local err = raise.of(card)
  err.role = err.role or role
  error(err, 0)
end

--- Ask a bound role who it is, and whoever it stands on before it. Refuses what is not what the inventory pins. Waits.
---@param role string
---@param cards table<string, table> those that were asked already, filled in
---@return table card {kind, id, lines, trusted}
function Binding:identify(role, cards)
  if cards[role] then return cards[role] end
  for _, name in ipairs(self.stands_on[role]) do self:identify(name, cards) end
  local card = card_of(self, role)
  local pin = self.environment.targets[role].spec.pin
  if pin and pin ~= card.id and pin ~= card.lasting then
    raise("refused", ("\"%s\" is %s, the inventory pins %s"):format(role, card.id, pin),
      "Somebody moved the target, or the tunnel leads elsewhere; look before you change the pin.")
  end
  cards[role] = card
  return card
end

--- Let every connection go, the newest binding first: what stands on a host goes before the host.
function Binding:close()
  for i = #self.order, 1, -1 do
    local role = self.order[i]
    local client = self.clients[self.environment.targets[role].kind]
    if client.close then client.close(self.objects[role]) end
  end
  self.order = {}
end

return M
