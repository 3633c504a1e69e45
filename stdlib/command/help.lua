-- Help out of the table: five lines and two examples when somebody only forgot, everything with
-- --help. Help on a runbook shows its parameters as the flags they are, and what it destroys.
local codes = require "core.codes"
local json = require "show.json"
local raise = require "core.raise"
local commands = require "command.table"
local text = require "core.text"

local M = {}

local groups = {
  { "do", { "plan", "run", "check", "resume", "undo" } }, { "look", { "list", "show", "history", "watch" } },
  { "keep", { "journal", "gc", "doctor" } }, { "learn", { "help", "man", "completion", "version" } },
}

local function add(out, lines)
  for _, line in ipairs(lines) do out[#out + 1] = line end
end

---`neap` alone: what it is, the commands in groups, two examples.
---@param style table
---@return string[]
function M.front(style)
  local out = { style:paint("bold", "neap") .. " runs maintenance as checked, recorded, resumable steps.", "" }
  for _, group in ipairs(groups) do add(out, style:labelled(group[1], table.concat(group[2], "  "), { column = 6 })) end
  out[#out + 1] = ""
  local column = { column = 32, label_paint = "cyan" }
  add(out, style:labelled("neap plan restore --env staging", "preview: what would happen, what would be lost", column))
  add(out, style:labelled("neap run restore --env staging", "do it", column))
  out[#out + 1] = ""
  add(out, style:wrap("neap COMMAND --help explains a command, neap run RUNBOOK --help a runbook.", style.width))
  return out
end

---Every command with its line.
---@param style table
---@return string[]
function M.all(style)
  local out = { style:paint("bold", "neap") .. " COMMAND [options]", "" }
  for _, command in ipairs(commands.commands) do
    add(out, style:labelled(command.name, command.line, { column = 11, label_paint = "bold" }))
  end
  out[#out + 1] = ""
  out[#out + 1] = "Options of every command"
  add(out, M.option_lines(commands.everywhere, style))
  return out
end

local function flag_of(row)
  local flag = (row.short and "-" .. row.short .. ", " or "    ") .. "--" .. row.name
  return row.value and flag .. " " .. row.value or flag
end

local function shown(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for n, item in ipairs(value) do parts[n] = tostring(item) end
  return #parts == 0 and "none" or table.concat(parts, ", ")
end

local function words_of(row)
  local words = row.help or ""
  if row.among then words = words .. ": " .. table.concat(row.among, ", ") end
  if row.default ~= nil then words = words .. (" (%s)"):format(shown(row.default)) end
  if row.example then words = words .. (", as in %s"):format(shown(row.example)) end
  if row.required then words = words .. " (required)" end
  if row.env then words = words .. " [" .. row.env .. "]" end
  return words
end

---Options as two columns.
---@param rows table[]
---@param style table
---@return string[]
function M.option_lines(rows, style)
  local out = {}
  for _, row in ipairs(rows) do
    add(out, style:labelled(style:clean(flag_of(row)), style:clean(words_of(row)), { column = 24, label_paint = "cyan" }))
  end
  return out
end

local function examples(command, style)
  local out, widest = {}, 0
  for _, example in ipairs(command.examples) do widest = math.max(widest, #example[1]) end
  for _, example in ipairs(command.examples) do
    if widest + 6 + 20 > style.width then
      out[#out + 1] = "  " .. style:paint("cyan", example[1])
      add(out, style:labelled("", example[2], { column = 2 }))
    else
      add(out, style:labelled(example[1], example[2], { column = widest, label_paint = "cyan" }))
    end
  end
  return out
end

---Five lines and two examples.
---@param command table
---@param style table
---@return string[]
function M.short(command, style)
  local out = style:wrap(("neap %s: %s"):format(command.name, command.line), style.width)
  add(out, style:wrap("usage: " .. style:say(commands.usage(command)), style.width))
  local names = {}
  for _, row in ipairs(command.options) do names[#names + 1] = "--" .. row.name end
  if #names > 0 then add(out, style:wrap("options: " .. table.concat(names, " "), style.width)) end
  out[#out + 1] = ("more: neap %s --help"):format(command.name)
  add(out, examples(command, style))
  return out
end

---Everything about a command.
---@param command table
---@param style table
---@return string[]
function M.full(command, style)
  local out = { style:paint("bold", "neap " .. command.name) }
  add(out, style:wrap(command.line, style.width))
  out[#out + 1] = ""
  add(out, style:wrap("usage: " .. style:say(commands.usage(command)), style.width))
  out[#out + 1] = ""
  add(out, style:wrap(command.text, style.width))
  if #command.options > 0 then
    add(out, { "", "Options" })
    add(out, M.option_lines(command.options, style))
  end
  add(out, { "", "Options of every command" })
  add(out, M.option_lines(commands.everywhere, style))
  add(out, { "", "Examples" })
  add(out, examples(command, style))
  return out
end

---A runbook: why, parameters as flags, targets, steps, and what it destroys.
---@param info table engine.load.inspect
---@param rows table[] its flags
---@param style table
---@return string[]
function M.runbook(info, rows, style)
  local out = { style:paint("bold", style:clean(info.title)) }
  if info.why then add(out, style:wrap(style:clean(info.why, true), style.width)) end
  if #rows > 0 then
    add(out, { "", "Parameters" })
    add(out, M.option_lines(rows, style))
  end
  if info.targets and #info.targets > 0 then
    add(out, { "", "Targets the inventory must name" })
    for _, t in ipairs(info.targets) do add(out, style:labelled(style:clean(t.role), style:clean(t.kind) .. (t.optional and ", where there is one" or ""), { column = 24 })) end
  end
  add(out, { "", "Steps" })
  for _, step in ipairs(info.steps) do
    add(out, style:labelled(tostring(step.number), style:clean(step.title), { column = 3 }))
    if step.destroys then add(out, style:labelled("", "destroys " .. style:clean(step.destroys), { column = 3, paint = "red" })) end
  end
  out[#out + 1] = ""
  for _, line in ipairs(style:wrap("The options of every run (--env, --confirm, --no-input, ...) are in neap run --help.", style.width)) do
    out[#out + 1] = style:paint("dim", line)
  end
  return out
end

local topics = {}

function topics.exit(style)
  local out = { style:paint("bold", "Exit codes"), "" }
  local column = { column = 5, label_paint = "bold" }
  for _, row in ipairs(codes.meanings) do add(out, style:labelled(style:lead(tostring(row[1]), 3), row[2], column)) end
  add(out, style:labelled("128+n", "ended by signal n", column))
  return out
end

function topics.events(style)
  local out = { style:paint("bold", "Events") .. (" (--json), schema %d"):format(json.schema), "" }
  add(out, style:wrap("Each line is an object with schema, seq, at (milliseconds since 1970), kind, step and body. "
    .. "Within a schema version fields are only added.", style.width))
  out[#out + 1] = ""
  for _, row in ipairs(json.kinds) do add(out, style:labelled(row[1], row[2], { column = 8, label_paint = "bold" })) end
  return out
end

function topics.environment(style)
  local out = { style:paint("bold", "Environment"), "" }
  local seen = {}
  for _, command in ipairs(commands.commands) do
    for _, row in ipairs(commands.options(command)) do
      if row.env and row.env:match("^NEAP_") and not seen[row.env] then
        seen[row.env] = true
        add(out, style:labelled(row.env, ("the same as --%s"):format(row.name), { column = 16, label_paint = "bold" }))
      end
    end
  end
  for _, row in ipairs(commands.environment) do add(out, style:labelled(row[1], row[2], { column = 16, label_paint = "bold" })) end
  return out
end

---@return string[] names of commands and topics
function M.topics()
  local names = commands.names()
  for _, name in ipairs(text.keys(topics)) do names[#names + 1] = name end
  return names
end

---@param operands string[]
---@param _ Parsed
---@param context table
---@return integer exit code
function M.run(operands, _, context)
  local topic = operands[1]
  if not topic then context.lines(M.all(context.style)) return 0 end
  local command = commands.find(topic)
  if command then context.lines(M.full(command, context.style)) return 0 end
  if topics[topic] then context.lines(topics[topic](context.style)) return 0 end
  local near = text.nearest(topic, M.topics())
  return raise("usage", ('there is no help on "%s"'):format(topic),
    near and ('Did you mean "%s"?'):format(near) or "neap help lists the commands.")
end

return M
