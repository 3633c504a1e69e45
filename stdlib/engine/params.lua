--- Parameters: declared as data, given as flags, checked before anything else, the same for the whole run.
--
-- While the runbook declares, reading one raises: a value that is read at load time would be frozen into the
-- text of a step. In clauses `p.name` is the value; in texts it is `{name}`.

local M = {}

local bytes = require("core.bytes")
local duration = require("core.duration")
local instant = require("core.instant")
local raise = require("core.raise")
local text = require("core.text")

local FIELDS = { kind = true, default = true, choices = true, pattern = true, min = true, max = true, optional = true, example = true }

local function number_in_range(spec, value)
  if spec.min and value < spec.min then return nil, ("must be at least %s"):format(spec.min) end
  if spec.max and value > spec.max then return nil, ("must be at most %s"):format(spec.max) end
  return value
end

--- Each kind: what it is called in help, and how its text is read. A reader returns the value, or nil and why not.
M.KINDS = {
  text = { help = "text", read = function (_, s) return s end },
  name = {
    help = "a name: no slash, no control character, not empty, at most 63 bytes",
    read = function (_, s)
      if s == "" or #s > 63 or s:find("[%c/]") or s:sub(1, 1) == "-" then
        return nil, "must be a name: 1 to 63 bytes, no slash, no control character, no leading dash"
      end
      return s
    end,
  },
  path = {
    help = "a file's path",
    read = function (_, s)
      if s == "" or s:find("%z") then return nil, "must be a path" end
      return s
    end,
  },
  integer = {
    help = "a whole number",
    read = function (spec, s)
      local n = math.tointeger(tonumber(s))
      if not n then return nil, "must be a whole number" end
      return number_in_range(spec, n)
    end,
  },
  number = {
    help = "a number",
    read = function (spec, s)
      local n = tonumber(s)
      if not n then return nil, "must be a number" end
      return number_in_range(spec, n)
    end,
  },
  boolean = {
    help = "yes or no",
    read = function (_, s)
      local value = ({ ["true"] = true, yes = true, on = true, ["false"] = false, no = false, off = false })[s]
      if value == nil then return nil, "must be yes or no" end
      return value
    end,
  },
  duration = {
    help = "a duration: 30s, 5m",
    read = function (_, s)
      local ok = pcall(duration.parse, s)
      if not ok then return nil, "must be a duration with its unit: 30s, 5m" end
      return s
    end,
  },
  moment = {
    help = "a moment with its time zone: 2026-04-25 02:00:05Z",
    read = function (_, s)
      local us, why, hint = instant.parse(s)
      if not us then return nil, ("%s. %s"):format(why, hint) end
      return instant.exact(us)
    end,
  },
  bytes = {
    help = "a size: 512MiB",
    read = function (_, s)
      local ok, n = pcall(bytes.parse, s)
      if not ok then return nil, "must be a size with its unit: 512MiB" end
      return n
    end,
  },
  runbook = {
    help = "the name of a runbook",
    read = function (_, s)
      if s == "" or s:find("%c") or s:find("..", 1, true) then return nil, "must be the name of a runbook" end
      return s
    end,
  },
  choice = {
    help = "one of its choices",
    read = function (spec, s)
      for _, choice in ipairs(spec.choices) do
        if choice == s then return s end
      end
      return nil, ("must be one of %s"):format(table.concat(spec.choices, ", "))
    end,
  },
  list = {
    help = "several texts, separated by commas",
    read = function (_, s)
      local list = {}
      for item in (s .. ","):gmatch("([^,]*),") do
        if item ~= "" then list[#list + 1] = item end
      end
      return list
    end,
  },
}

local NUMBERS = { integer = true, number = true, bytes = true }

-- A default is a value (5, true, a list of texts) or the text that could have been given; either way it is what the kind allows.
local function fits(spec, value)
  local kind = M.KINDS[spec.kind]
  if type(value) == "string" then return kind.read(spec, value) end
  if type(value) == "userdata" then return value end
  if type(value) == "boolean" and spec.kind == "boolean" then return value end
  if type(value) == "number" and NUMBERS[spec.kind] then
    if spec.kind ~= "number" and math.type(value) ~= "integer" then return nil, "must be a whole number" end
    return number_in_range(spec, value)
  end
  if type(value) ~= "table" or spec.kind ~= "list" then return nil, ("must be %s, not a %s"):format(kind.help, type(value)) end
  for key, item in pairs(value) do
    if math.type(key) ~= "integer" or type(item) ~= "string" or item:find(",", 1, true) then return nil, "must be a list of texts without commas" end
  end
  return value
end

local function check_spec(name, spec, where)
  local function no(message, hint) raise("invalid", ("param \"%s\" %s"):format(name, message), hint, { where = where }) end
  if not tostring(name):match("^[%a_][%w_]*$") then no("is not a name", "Use letters, digits and underscores.") end
  if type(spec) ~= "table" or type(spec[1]) ~= "string" then no("needs a description", "Write name = { \"what it is\", kind = \"name\" }.") end
  for field in pairs(spec) do
    if field ~= 1 and not FIELDS[field] then no(("has no field \"%s\""):format(tostring(field)), text.suggest(field, text.keys(FIELDS))) end
  end
  spec.kind = spec.kind or (spec.choices and "choice") or "text"
  if not M.KINDS[spec.kind] then no(("has an unknown kind \"%s\""):format(tostring(spec.kind)), text.suggest(spec.kind, text.keys(M.KINDS))) end
  if spec.kind == "choice" and type(spec.choices) ~= "table" then no("has no choices") end
  if spec.kind == "runbook" and type(spec.default) == "function" or spec.kind == "runbook" and spec.optional then
    no("names a runbook: it is given, or its default is a text", "What a step runs is known when the runbook is loaded.")
  end
  if type(spec.default) ~= "function" and spec.default ~= nil then
    local read, why = fits(spec, spec.default)
    if read == nil then no("has a default that does not fit: it " .. why) end
  end
end

--- The value of a default; raises when it is not what the parameter's kind allows.
local function checked(name, spec, value)
  local read, why = fits(spec, value)
  if read == nil then raise("invalid", ("the default of --%s: it %s"):format(name, why), spec[1]) end
  if spec.pattern and type(read) == "string" and not read:match(spec.pattern) then
    raise("invalid", ("the default of --%s does not match %s"):format(name, spec.pattern), spec[1])
  end
  return read
end

--- An empty set of parameters; `values` is filled before the first clause runs.
function M.new()
  return { specs = {}, names = {}, values = nil }
end

--- The word `params`: returns what the runbook calls `p`.
---@param set table
---@param specs table<string, table>
---@param where string|nil file:line
function M.declare(set, specs, where)
  if next(set.specs) then raise("invalid", "params is declared twice", nil, { where = where }) end
  if type(specs) ~= "table" then raise("invalid", "params needs a table", nil, { where = where }) end
  for _, name in ipairs(text.keys(specs)) do
    check_spec(name, specs[name], where)
    set.specs[name] = specs[name]
    set.names[#set.names + 1] = name
  end
  return setmetatable({}, {
    __index = function (_, name)
      if not set.specs[name] then
        raise("invalid", ("there is no param \"%s\""):format(tostring(name)), text.suggest(name, set.names))
      end
      if not set.values then
        raise("invalid", ("param \"%s\" has no value while the runbook is being declared"):format(name),
          "Use it in a clause, or {" .. name .. "} in a text.")
      end
      return set.values[name]
    end,
    __newindex = function () raise("usage", "parameters cannot be changed during a run") end,
    __metatable = false,
  })
end

--- Check what was given as flags against the specs.
---@param set table
---@param given table<string, string>
---@return table values without the defaults that are functions
function M.read(set, given)
  local values = {}
  for _, name in ipairs(text.keys(given)) do
    local spec = set.specs[name]
    if not spec then raise("usage", ("the runbook has no parameter --%s"):format(name), text.suggest(name, set.names)) end
    local value, why = M.KINDS[spec.kind].read(spec, given[name])
    if value == nil then raise("usage", ("--%s \"%s\": it %s"):format(name, given[name], why), spec[1]) end
    if spec.pattern and not tostring(value):match(spec.pattern) then
      raise("usage", ("--%s \"%s\" does not match %s"):format(name, given[name], spec.pattern), spec[1])
    end
    values[name] = value
  end
  return values
end

--- Fill in defaults. `call` runs a function default under the read guard.
---@param set table
---@param values table
---@param call fun(name: string, f: function): any
function M.complete(set, values, call)
  local missing = {}
  set.values = values
  for _, name in ipairs(set.names) do
    local spec = set.specs[name]
    if values[name] == nil and spec.default ~= nil then
      local default = spec.default
      if type(default) == "function" then default = call(name, default) end
      if default ~= nil then values[name] = checked(name, spec, default) end
    end
    if values[name] == nil and not spec.optional then missing[#missing + 1] = "--" .. name end
  end
  if #missing > 0 then
    raise("usage", ("missing: %s"):format(table.concat(missing, ", ")), "neap run RUNBOOK --help lists its parameters.")
  end
  return values
end

--- Put recorded values back (resume): they were checked when the run began. A list was recorded as people write it.
---@param set table
---@param recorded table<string, any>
---@return table values
function M.restore(set, recorded)
  local values = {}
  for name, value in pairs(recorded) do
    local spec = set.specs[name]
    values[name] = spec and spec.kind == "list" and type(value) == "string" and M.KINDS.list.read(spec, value) or value
  end
  set.values = values
  return values
end

--- A value as a text: a list as people write it, a secret by its label.
function M.shown(value)
  return type(value) == "table" and table.concat(value, ",") or tostring(value)
end

--- What help shows: a list of {name, help, kind, default, optional, choices}.
function M.describe(set)
  local list = {}
  for _, name in ipairs(set.names) do
    local spec = set.specs[name]
    list[#list + 1] = {
      name = name, help = spec[1], kind = spec.kind, choices = spec.choices, optional = spec.optional, example = spec.example,
      default = type(spec.default) == "function" and "worked out when the run begins" or spec.default,
    }
  end
  return list
end

return M
