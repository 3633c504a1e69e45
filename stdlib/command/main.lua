-- The entry of the program: words in, exit code out. It finds the command in the table, reads the
-- options, and is the one place where an error of any kind becomes a page and a number. Commands are
-- loaded when they are called, so that `neap version` stays fast.
local codes = require "core.codes"
local commands = require "command.table"
local context = require "command.context"
local failure = require "show.failure"
local json = require "show.json"
local options = require "command.options"
local raise = require "core.raise"
local system = require "native.system"
local term = require "native.term"
local text = require "core.text"

local M = {}

-- Loaded when somebody asks.
local function help() return require "command.help" end

local function unknown_command(word)
  local near = text.nearest(word, commands.names())
  raise("usage", ('there is no command "%s"'):format(word),
    near and ("Did you mean neap %s?"):format(near) or "neap help lists the commands.")
end

-- The words after the command, read with the flags of the runbook when it has one.
local function read(command, words)
  local rows = commands.options(command)
  if not command.runbook then return options.parse(words, rows, command.name) end
  local runbooks = require "command.runbooks"
  local name = options.first_operand(words, rows)
  if not name then return options.parse(words, rows, command.name) end
  local info = runbooks.inspect(name, { share = context.share() }, words, command.name == "run" and system.random_id() or "plan")
  local flags = runbooks.flags(info, rows)
  for _, row in ipairs(flags) do rows[#rows + 1] = row end
  local parsed = options.parse(words, rows, command.name)
  parsed.arguments = runbooks.arguments(parsed, flags)
  parsed.found = parsed.operands[1] == name and runbooks.is_chosen(info, parsed.arguments) and info or nil
  return parsed
end

-- Asking for help must work although the rest of the line is wrong, so it is looked for first.
local function asks_for_help(words)
  for _, word in ipairs(words) do
    if word == "--" then return false end
    if word == "--help" or word == "-h" then return true end
  end
  return false
end

local function show_help(command, words, here)
  if command.runbook then
    local rows = commands.options(command)
    local name = options.first_operand(words, rows)
    if name then
      local runbooks = require "command.runbooks"
      local info = runbooks.inspect(name, here, words)
      here.lines(help().runbook(info, runbooks.flags(info, rows), here.style))
      return 0
    end
  end
  here.lines(help().full(command, here.style))
  return 0
end

-- Every NEAP_ variable stands for a flag that was not given.
local function fill_from_environment(command, parsed)
  for _, row in ipairs(commands.options(command)) do
    local name = row.env and row.env:match("^NEAP_%u+$")
    local value = name and system.env(name)
    if value and value ~= "" and parsed.options[row.name] == nil then parsed.options[row.name] = value end
  end
end

local function dispatch(command, words, state)
  if asks_for_help(words) then return show_help(command, words, state.here) end
  if #words == 0 and #command.arguments > 0 and not command.arguments[1].optional then
    state.here.err(table.concat(help().short(command, state.here.err_style), "\n") .. "\n")
    return codes.of("usage")
  end
  local parsed = read(command, words)
  fill_from_environment(command, parsed)
  state.here = context.new(parsed.options)
  options.check_operands(command, parsed.operands, commands.usage(command))
  return require("command." .. command.name).run(parsed.operands, parsed, state.here)
end

-- The flags of any command that take a value.
local function valued_flags()
  local valued = {}
  for _, command in ipairs(commands.commands) do
    for _, row in ipairs(commands.options(command)) do
      if row.value then
        valued["--" .. row.name] = true
        if row.short then valued["-" .. row.short] = true end
      end
    end
  end
  return valued
end

-- Flags before the command are moved behind it: neap --env staging run x is neap run x --env staging.
local function split(argv)
  local before, at = {}, 1
  local valued = argv[1] and argv[1]:match("^%-.") and valued_flags() or {}
  while argv[at] and argv[at]:match("^%-.") do
    before[#before + 1] = argv[at]
    if valued[argv[at]] and argv[at + 1] then
      at = at + 1
      before[#before + 1] = argv[at]
    end
    at = at + 1
  end
  local words = table.move(argv, at + 1, #argv, 1, {})
  return argv[at], table.move(before, 1, #before, #words + 1, words)
end

local function go(argv, state)
  local name, words = split(argv)
  if name == "__complete" then
    return require("command.completion").complete(table.move(argv, 2, #argv, 1, {}), state.here)
  end
  if not name and #words > 0 and words[1] == "--version" then name, words = "version", {} end
  if not name then
    state.here.lines(asks_for_help(words) and help().all(state.here.style) or help().front(state.here.style))
    return #words > 0 and not asks_for_help(words) and codes.of("usage") or 0
  end
  return dispatch(commands.find(name) or unknown_command(name), words, state)
end

-- An error as a page on the standard error, or as one line of JSON on the standard output.
local function report(err, here)
  if here.json then
    here.out(json.line { schema = json.schema, kind = "error", code = err.code, message = err.message, hint = err.hint, where = err.where,
      sqlstate = err.sqlstate, exit = codes.of(err.code) } .. "\n")
  else
    here.err(table.concat(failure.lines(err, here.err_style, {}), "\n") .. "\n")
  end
  return codes.of(err.code)
end

---@param argv string[] the words after the program's name
---@return integer exit code
function M.main(argv)
  local state = { here = context.new {} }
  for _, word in ipairs(argv) do
    if word == "--json" then state.here.json = true elseif word == "--" then break end
  end
  local ok, result = pcall(go, argv, state)
  if not ok then result = report(raise.of(result), state.here) end
  term.flush(1)
  term.flush(2)
  return result
end

return M.main
