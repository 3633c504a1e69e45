-- Manual pages as roff, made from the same table as everything else. No date is written into them:
-- the same neap makes the same bytes.
local codes = require "core.codes"
local commands = require "command.table"
local manual = require "command.manual"
local raise = require "core.raise"
local system = require "native.system"
local text = require "core.text"

local M = {}

---Text for roff: backslashes, hyphens as minus signs, other signs by their number, and lines that begin like a request.
---@param s string
---@return string
function M.escape(s)
  local clean = s:gsub("\\", "\\e"):gsub("%-", "\\-")
  clean = clean:gsub("[\xc2-\xf4][\x80-\xbf]+", function(char) return ("\\[u%04X]"):format(utf8.codepoint(char)) end)
  clean = ("\n" .. clean):gsub("\n([.'])", "\n\\&%1"):sub(2)
  return clean
end

local function head(name, section)
  return { ('.TH "%s" "%d" "" "neap %s" "neap manual"'):format(M.escape(name:upper()), section, system.version()), ".nh", ".ad l" }
end

local function add_list(out, rows)
  for _, row in ipairs(rows) do
    out[#out + 1] = ".TP"
    out[#out + 1] = "\\fB" .. M.escape(row[1]) .. "\\fR"
    out[#out + 1] = M.escape(row[2] or "")
  end
end

local function add_code(out, code)
  out[#out + 1] = ".PP\n.nf\n.RS 4"
  out[#out + 1] = M.escape((code:gsub("\n$", "")))
  out[#out + 1] = ".RE\n.fi"
end

local function add_section(out, section)
  out[#out + 1] = '.SH "' .. section[1] .. '"'
  for n = 2, #section do
    local part = section[n]
    if type(part) == "string" then
      if n > 2 then out[#out + 1] = ".PP" end
      out[#out + 1] = M.escape(part)
    elseif part.list then add_list(out, part.list)
    else add_code(out, part.code) end
  end
end

local function page(name, section, sections)
  local out = head(name, section)
  for _, one in ipairs(sections) do add_section(out, one) end
  return table.concat(out, "\n") .. "\n"
end

local function option_rows(rows)
  local list = {}
  for n, row in ipairs(rows) do
    local flag = (row.short and "-" .. row.short .. ", " or "") .. "--" .. row.name .. (row.value and " " .. row.value or "")
    local words = row.help or ""
    if row.among then words = words .. ": " .. table.concat(row.among, ", ") end
    if row.env then words = words .. ". Environment: " .. row.env end
    list[n] = { flag, words .. "." }
  end
  return list
end

local function exit_rows()
  local rows = {}
  for n, row in ipairs(codes.meanings) do rows[n] = { tostring(row[1]), row[2] } end
  return rows
end

local function example_code(examples)
  local lines = {}
  for _, example in ipairs(examples) do
    lines[#lines + 1] = "# " .. example[2]
    lines[#lines + 1] = example[1]
  end
  return { code = table.concat(lines, "\n") }
end

local function command_page(command)
  local sections = {
    { "NAME", ("neap-%s - %s"):format(command.name, command.line) }, { "SYNOPSIS", commands.usage(command) },
    { "DESCRIPTION", command.text },
  }
  if #command.options > 0 then sections[#sections + 1] = { "OPTIONS", { list = option_rows(command.options) } } end
  sections[#sections + 1] = { "OPTIONS OF EVERY COMMAND", { list = option_rows(commands.everywhere) } }
  sections[#sections + 1] = { "EXIT STATUS", { list = exit_rows() } }
  sections[#sections + 1] = { "EXAMPLES", example_code(command.examples) }
  sections[#sections + 1] = { "SEE ALSO", "neap(1), neap-runbook(7), neap-inventory(5)" }
  return page("neap-" .. command.name, 1, sections)
end

local function main_page()
  local list = {}
  for n, command in ipairs(commands.commands) do list[n] = { command.name, command.line } end
  return page("neap", 1, {
    { "NAME", "neap - run maintenance as checked, recorded, resumable steps" }, { "SYNOPSIS", "neap COMMAND [options]" },
    { "DESCRIPTION", "neap runs runbooks: Lua files of steps that say what must hold, what is done, and how it is proved. A preview "
      .. "writes nothing; a run records each intent before it acts, and can be resumed after any interruption." },
    { "COMMANDS", { list = list } }, { "OPTIONS OF EVERY COMMAND", { list = option_rows(commands.everywhere) } },
    { "ENVIRONMENT", { list = commands.environment } }, { "EXIT STATUS", { list = exit_rows() } },
    { "SEE ALSO", "neap-run(1), neap-plan(1), neap-runbook(7), neap-inventory(5)" },
  })
end

---Every page: name with its section -> function that makes it.
---@return table<string, fun(): string>
function M.pages()
  local pages = {
    ["neap.1"] = main_page,
    ["neap-runbook.7"] = function() return page("neap-runbook", 7, manual.runbook()) end,
    ["neap-inventory.5"] = function() return page("neap-inventory", 5, manual.inventory()) end,
  }
  for _, command in ipairs(commands.commands) do
    pages["neap-" .. command.name .. ".1"] = function() return command_page(command) end
  end
  return pages
end

local function find(pages, name)
  for _, candidate in ipairs { name, name .. ".1", name .. ".7", name .. ".5", "neap-" .. name .. ".1", "neap-" .. name .. ".5",
    "neap-" .. name .. ".7" } do
    if pages[candidate] then return pages[candidate] end
  end
  local near = text.nearest(name, text.keys(pages))
  return raise("usage", ('there is no page "%s"'):format(name), near and ("Did you mean %s?"):format(near)
    or "It has: " .. text.join(text.keys(pages)) .. ".")
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  local pages = M.pages()
  if parsed.options.list then
    context.lines(text.keys(pages))
    return 0
  end
  context.out(find(pages, operands[1] or "neap")())
  return 0
end

return M
