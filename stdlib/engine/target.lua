--- Roles: what a runbook calls `db`. Declaring one binds nothing; `--env` does, before anything runs.
--
-- The role the runbook holds is a mask: it passes method calls on to the bound object and gives
-- back masks where a method returns another object (db:on "x"), so that no field of a client object can be
-- reached. A mask that is not bound refuses: "only clauses may use it".

local M = {}

local raise = require("core.raise")
local text = require("core.text")

local masked = setmetatable({}, { __mode = "k" })   -- mask -> function () return object end

--- The object behind a mask (or the value itself): for clients that take another target as an argument.
function M.reveal(value)
  local object = masked[value]
  return object and object() or value
end

local function is_object(value)
  return type(value) == "table" and type(rawget(value, "kind")) == "string" and type(rawget(value, "methods")) == "table"
end

local mask

local function hide(...)
  local list = table.pack(...)
  for i = 1, list.n do
    if is_object(list[i]) then
      local object = list[i]
      list[i] = mask(function () return object end, object.role or object.kind)
    end
  end
  return table.unpack(list, 1, list.n)
end

-- Methods are looked up in the object's closed table `methods`, never in the object.
function mask(get, role, slot)
  local self
  local function is_bound()
    if not slot.absent then get() end
    return not slot.absent
  end
  self = setmetatable({}, {
    __index = function (_, name)
      if name == "is_bound" and slot then return is_bound end
      local object = get()
      local method = object.methods[name]
      if not method then
        local names = {}
        for known in pairs(object.methods) do names[#names + 1] = known end
        local near = text.nearest(tostring(name), names)
        raise("invalid", ("%s (a %s) has no method \"%s\""):format(role, object.kind, tostring(name)),
          near and ("Did you mean %s?"):format(near))
      end
      return function (_, ...)
        local arguments = table.pack(...)
        for i = 1, arguments.n do arguments[i] = M.reveal(arguments[i]) end
        return hide(method(object, table.unpack(arguments, 1, arguments.n)))
      end
    end,
    __newindex = function () raise("usage", ("%s cannot be changed"):format(role)) end,
    __tostring = function () return role end,
    __close = function ()                       -- local now <close> = db:snapshot()
      local object = get()
      local meta = getmetatable(object)
      if type(meta) == "table" and meta.__close then meta.__close(object) end
    end,
    __metatable = false,
  })
  masked[self] = get
  return self
end

local OPTIONS <const> = { optional = true }

local function check_options(where, kind, options)
  if options ~= nil and type(options) ~= "table" then raise("invalid", ("what follows the role of target.%s is { optional = true }"):format(kind), nil, { where = where }) end
  for name in pairs(options or {}) do
    if not OPTIONS[name] then raise("invalid", ("target.%s has no option \"%s\""):format(kind, tostring(name)), "It takes optional = true.", { where = where }) end
  end
end

-- What a clause gets that uses a role which nothing is bound to.
local function unbound(slot)
  if slot.absent then
    raise("config", ("environment \"%s\" has no \"%s\""):format(slot.absent, slot.role), ("The role is optional: ask %s:is_bound() first, or add it to the inventory."):format(slot.role))
  end
  raise("invalid", ("role \"%s\" is not bound while the runbook is being declared"):format(slot.role), "Only clauses may use it.")
end

--- The word `target`: target.postgres "db"; target.service ("app", { optional = true }) need not be in every environment.
function M.word(model, where_of)
  return setmetatable({}, {
    __index = function (_, kind)
      return function (role, options)
        local where = where_of(1)
        if type(role) ~= "string" or not role:match("^[%a_][%w_]*$") then
          raise("invalid", ("target.%s needs a role's name: target.%s \"db\""):format(kind, kind), nil, { where = where })
        end
        if model.targets[role] then raise("invalid", ("role \"%s\" is declared twice"):format(role), nil, { where = where }) end
        check_options(where, kind, options)
        local slot = { role = role, kind = kind, where = where, optional = options and options.optional or nil }
        model.targets[role] = slot
        model.roles = model.roles or {}
        model.roles[#model.roles + 1] = slot
        return mask(function () return slot.object or unbound(slot) end, role, slot)
      end
    end,
    __metatable = false,
  })
end

--- Bind every role of the model to what the environment has. Refuses before anything runs.
---@param model table
---@param binding table engine.binding
function M.bind(model, binding)
  local environment, clients = binding.environment, binding.clients
  for _, slot in ipairs(model.roles or {}) do
    if not clients[slot.kind] then
      local near = text.nearest(slot.kind, text.keys(clients))
      raise("invalid", ("target.%s: there is no such kind of target"):format(slot.kind),
        near and ("Did you mean target.%s?"):format(near), { where = slot.where })
    end
    local entry = environment.targets[slot.role]
    slot.absent = not entry and slot.optional and environment.name or nil
    if not entry and not slot.optional then
      raise("config", ("environment \"%s\" has no \"%s\""):format(environment.name, slot.role),
        ("Add %s = %s { … } to it in the inventory."):format(slot.role, slot.kind))
    end
    if entry and entry.kind ~= slot.kind then
      raise("config", ("\"%s\" is a %s in environment \"%s\", the runbook wants a %s"):format(slot.role, entry.kind, environment.name, slot.kind))
    end
  end
  for _, slot in ipairs(model.roles or {}) do slot.object = not slot.absent and binding:get(slot.role) or nil end
end

--- The bound objects, in the order of their declaration: list of {role, kind, object}. An optional role that the environment lacks is none.
function M.bound(model)
  local list = {}
  for _, slot in ipairs(model.roles or {}) do
    if not slot.absent then list[#list + 1] = { role = slot.role, kind = slot.kind, object = slot.object } end
  end
  return list
end

return M
