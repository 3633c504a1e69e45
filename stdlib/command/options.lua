-- The command line, read against the table. Flags may stand before or after operands, with "=" or
-- with a space; "--" ends them; letters may be joined ("-qv"). A flag that is not in the table is an
-- error with the nearest name and is never passed over: one mistyped flag must not run a migration.
local raise = require "core.raise"
local text = require "core.text"

local M = {}

-- A boolean parameter of a runbook is a switch that may also be told no: --loud, --loud=no.

---@class Parsed
---@field options table<string, any> switches are true, values are strings, `many` are lists
---@field operands string[]
---@field given table<string, boolean>

local function index_of(rows)
  local by_name, by_letter, names = {}, {}, {}
  for _, row in ipairs(rows) do
    by_name[row.name], names[#names + 1] = row, row.name
    if row.short then by_letter[row.short] = row end
  end
  return by_name, by_letter, names
end

local function refuse_unknown(flag, names, command)
  local near = text.nearest(flag:gsub("^%-+", ""), names)
  raise("usage", ('unknown flag "%s"'):format(flag),
    near and ("Did you mean --%s?"):format(near) or ("See: neap %s --help"):format(command or "help"))
end

local function check_value(row, value)
  if not row.among then return end
  for _, allowed in ipairs(row.among) do
    if allowed == value then return end
  end
  raise("usage", ('--%s does not take "%s"'):format(row.name, value), ("It takes %s."):format(table.concat(row.among, ", ")))
end

local function store(parsed, row, value)
  if row.value then check_value(row, value) end
  if row.many then
    local list = parsed.options[row.name] or {}
    list[#list + 1], parsed.options[row.name] = value, list
  elseif parsed.given[row.name] and (row.value or row.boolean) and parsed.options[row.name] ~= value then
    raise("usage", ("--%s was given twice with different values"):format(row.name), "Give it once.")
  else
    parsed.options[row.name] = (row.value or row.boolean) and value or true
  end
  parsed.given[row.name] = true
end

-- The value of a flag that needs one: after "=", or the next word. A next word that is itself a flag
-- is refused: "--env --quiet" is a forgotten value, not an environment of that name.
local function value_of(row, inline, argv, at)
  if inline then return inline, at end
  local following = argv[at + 1]
  if following == nil or following:match("^%-%-?%a") then
    raise("usage", ("--%s needs a value"):format(row.name), ("Write --%s=%s."):format(row.name, row.value))
  end
  return following, at + 1
end

local function read_long(parsed, context, argv, at)
  local name, inline = argv[at]:match("^%-%-([^=]+)=?(.*)$")
  local has_value = argv[at]:find("=", 1, true) ~= nil
  local row = context.by_name[name or ""]
  if not row then refuse_unknown("--" .. (name or ""), context.names, context.command) end
  if row.boolean then
    store(parsed, row, has_value and inline or "true")
    return at
  end
  if not row.value then
    if has_value then raise("usage", ("--%s takes no value"):format(name), "It is a switch: leave out what follows the \"=\".") end
    store(parsed, row, true)
    return at
  end
  local value
  value, at = value_of(row, has_value and inline or nil, argv, at)
  store(parsed, row, value)
  return at
end

local function read_short(parsed, context, argv, at)
  local letters = argv[at]:sub(2)
  while letters ~= "" do
    local row = context.by_letter[letters:sub(1, 1)]
    if not row then refuse_unknown("-" .. letters:sub(1, 1), context.names, context.command) end
    local rest = letters:sub(2)
    if row.value then
      local value
      value, at = value_of(row, rest ~= "" and rest:gsub("^=", "") or nil, argv, at)
      store(parsed, row, value)
      return at
    end
    store(parsed, row, true)
    letters = rest
  end
  return at
end

---Reads words against rows of options.
---@param argv string[]
---@param rows table[] options that may be given
---@param command? string for the hint
---@return Parsed
function M.parse(argv, rows, command)
  local by_name, by_letter, names = index_of(rows)
  local context = { by_name = by_name, by_letter = by_letter, names = names, command = command }
  local parsed = { options = {}, operands = {}, given = {} }
  local at = 1
  while at <= #argv do
    local word = argv[at]
    if word == "--" then
      for rest = at + 1, #argv do parsed.operands[#parsed.operands + 1] = argv[rest] end
      break
    elseif word:match("^%-%-") then at = read_long(parsed, context, argv, at)
    elseif word:match("^%-.") then at = read_short(parsed, context, argv, at)
    else parsed.operands[#parsed.operands + 1] = word end
    at = at + 1
  end
  return parsed
end

---The first operand of words whose flags are not all known yet: the runbook, whose own parameters
---are flags. A word after an unknown flag may be that flag's value, so a later word is preferred.
---@param argv string[]
---@param rows table[]
---@return string|nil
function M.first_operand(argv, rows)
  local by_name, by_letter = index_of(rows)
  local doubtful, at = nil, 1
  while at <= #argv do
    local word = argv[at]
    if word == "--" then return argv[at + 1] or doubtful end
    local name, short = word:match("^%-%-([^=]+)$"), word:match("^%-(%a)$")
    local row = by_name[name] or by_letter[short]
    if word:match("^%-.") then
      if row and row.value then at = at + 1
      elseif not row and name and argv[at + 1] and not argv[at + 1]:match("^%-") then
        doubtful, at = doubtful or argv[at + 1], at + 1
      end
    else return word end
    at = at + 1
  end
  return doubtful
end

---Checks the number of operands against the command's arguments.
---@param command table
---@param operands string[]
---@param usage string
function M.check_operands(command, operands, usage)
  for n, argument in ipairs(command.arguments) do
    local value = operands[n]
    if value == nil and not argument.optional then
      raise("usage", ("%s is missing"):format(argument[1]), "Usage: " .. usage)
    end
    if value and argument.among then
      local near = text.nearest(value, argument.among)
      local known = false
      for _, name in ipairs(argument.among) do known = known or name == value end
      if not known then
        raise("usage", ('%s cannot be "%s"'):format(argument[1], value),
          near and ('Did you mean "%s"?'):format(near) or ("It is one of %s."):format(table.concat(argument.among, ", ")))
      end
    end
  end
  if #operands > #command.arguments then
    raise("usage", ('"%s" is one word too many'):format(operands[#command.arguments + 1]), "Usage: " .. usage)
  end
end

---"name=value" pairs as a table.
---@param list string[]|nil
---@return table<string, string>
function M.pairs(list)
  local map = {}
  for _, item in ipairs(list or {}) do
    local name, value = item:match("^([%a_][%w_%-]*)=(.*)$")
    if not name then raise("usage", ('"%s" is not NAME=VALUE'):format(item), "Write the name, an equals sign and the value.") end
    map[name:gsub("%-", "_")] = value
  end
  return map
end

return M
