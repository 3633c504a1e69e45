--- The inventory: Lua data that names environments and what lives in them, read in the sandbox.
--
-- A file is code only in form: it runs with nothing but constructors, cannot loop for long, and yields a table.
-- Secrets are references (secret { env = … }); the value is fetched when the environment is bound.

local M = {}

local raise = require("core.raise")
local sandbox = require("engine.sandbox")
local text = require("core.text")
local window = require("core.window")

local SETTINGS = {
  protected = "boolean", never = "table", hosts = "table", max_rows = "number", window = "string", note = "string",
}
local SECRET_SOURCES = { "env", "file", "command", "of" }

-- A secret may stand wherever a text may. A field may take two types: "boolean or string".
local function check_type(kind, field, wanted, value)
  local secret = type(value) == "table" and rawget(value, "secret_reference") ~= nil
  if secret and (wanted == "secret" or wanted == "string") then return end
  for one in wanted:gmatch("%a+") do
    if not secret and type(value) == one then return end
  end
  raise("config", ("%s: %s must be a %s, not a %s"):format(kind, field, wanted, secret and "secret" or type(value)),
    wanted == "secret" and "Write secret { env = \"NAME\" }; the inventory itself holds no secrets." or nil)
end

-- A constructor for each kind of target: postgres { … } -> {kind=, spec=}.
local function target_word(kind, client)
  return function (spec)
    if type(spec) ~= "table" then raise("config", ("%s needs its fields in braces"):format(kind)) end
    for field, value in pairs(spec) do
      if not client.fields[field] then
        raise("config", ("%s has no field \"%s\""):format(kind, tostring(field)), text.suggest(field, text.keys(client.fields)))
      end
      check_type(kind, field, client.fields[field].type, value)
    end
    return { kind = kind, spec = spec }
  end
end

local function secret_word(spec)
  if type(spec) ~= "table" then raise("config", "secret needs its source in braces", "secret { env = \"NAME\" }") end
  local count, known = 0, { label = true }
  for _, source in ipairs(SECRET_SOURCES) do
    known[source] = true
    if spec[source] then count = count + 1 end
  end
  for field in pairs(spec) do
    if not known[field] then
      raise("config", ("secret has no source \"%s\""):format(tostring(field)), text.suggest(field, SECRET_SOURCES))
    end
  end
  if count ~= 1 then raise("config", "secret needs exactly one source", "secret { env = \"NAME\" }, { file = \"path\" } or { command = { … } }.") end
  return setmetatable({ secret_reference = spec }, { __tostring = function () return "‹secret›" end })
end

local function check_environment(name, entries)
  local environment = { name = name, targets = {}, settings = {} }
  for key, value in pairs(entries) do
    if type(value) == "table" and value.kind and value.spec then
      environment.targets[key] = value
    elseif SETTINGS[key] then
      if type(value) ~= SETTINGS[key] then
        raise("config", ("environment \"%s\": %s must be a %s"):format(name, key, SETTINGS[key]))
      end
      environment.settings[key] = key == "window" and window.parse(value) or value
      if key == "window" then environment.settings.window.text = value end
    else
      raise("config", ("environment \"%s\": \"%s\" is neither a target nor a setting"):format(name, tostring(key)),
        text.suggest(key, text.keys(SETTINGS)))
    end
  end
  return environment
end

--- Read an inventory.
---@param source string the text of the file
---@param name string how messages call the file
---@param clients table<string, table> kind -> client module with `fields`
---@return table<string, table> environments by name
function M.read(source, name, clients)
  local environments = {}
  local words = {
    secret = secret_word,
    environment = function (title)
      if type(title) ~= "string" then raise("config", "an environment needs a name: environment \"production\" { … }") end
      return function (entries)
        if type(entries) ~= "table" then raise("config", ("environment \"%s\" needs its targets in braces"):format(title)) end
        if environments[title] then raise("config", ("environment \"%s\" is declared twice"):format(title)) end
        environments[title] = check_environment(title, entries)
      end
    end,
  }
  for kind, client in pairs(clients) do words[kind] = target_word(kind, client) end
  local chunk, err = sandbox.compile(source, name, sandbox.environment(words, "inventory"))
  if not chunk then error(raise.new("config", err.message, err.hint, { where = err.where }), 0) end
  local ok, failure = sandbox.bounded(chunk)
  if not ok then
    failure = raise.of(failure, "config")
    failure.code = "config"
    error(failure, 0)
  end
  if not next(environments) then raise("config", ("%s names no environment"):format(name), "Write environment \"production\" { … }.") end
  return environments
end

--- The environment of that name.
function M.choose(environments, name)
  local names = text.keys(environments)
  if not name then
    if #names == 1 then return environments[names[1]] end
    raise("usage", "which environment?", ("Give --env with one of: %s."):format(table.concat(names, ", ")))
  end
  local environment = environments[name]
  if not environment then raise("config", ("there is no environment \"%s\""):format(name), text.suggest(name, names)) end
  return environment
end

--- Fetch the secrets a target's spec refers to (waits).
---@param environment table
---@param secrets table native.secret
function M.resolve_secrets(environment, roles, secrets)
  local function fetch(reference, label)
    local spec = reference.secret_reference
    local value, err
    if spec.env then value, err = secrets.env(spec.env, label)
    elseif spec.file then value, err = secrets.file(spec.file, label)
    elseif spec.command then value, err = secrets.command(spec.command, label)
    else value, err = secrets.of(spec.of, label) end
    if not value then error(err, 0) end
    return value
  end
  local function walk(t, label)
    for key, value in pairs(t) do
      if type(value) == "table" then
        local path = label .. "." .. tostring(key)
        if rawget(value, "secret_reference") then t[key] = fetch(value, path) else walk(value, path) end
      end
    end
  end
  for _, role in ipairs(roles) do
    local entry = environment.targets[role]
    if entry then walk(entry.spec, role) end
  end
end

return M
