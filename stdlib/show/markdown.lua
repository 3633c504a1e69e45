-- A runbook as a Markdown page that an engineer can follow by hand when neap itself is what is missing, or read in a review: what it is for, the
-- roles and parameters, and of each step what it needs, does, proves, undoes and destroys, and what a person does. Given a preview, it also holds
-- what would be done now in that environment, word for word.
--
-- Two sources, never mixed up: the text of the runbook (comments, truths that are checked, code of the clauses) and the preview. Everything is
-- somebody else's text: prose is escaped for Markdown, code stands in a fence that is longer than any fence in it, and control characters of
-- either are spelled out. A clause that a step does not have is not mentioned, but for undo: why there is none must be said.
--
-- Rejected: a description of what each word of a clause does, in our own words, which would be a second truth beside the code.
local native = require "native.text"
local text = require "core.text"

local M = {}

-- ---- text from outside ----

-- Escaped where it could mean something. A sign that only means something at the beginning of a line stays bare elsewhere, so that the page can be read
-- as it stands.
local function prose(words)
  local escaped = native.markdown(native.redact(tostring(words)))
  local bare = escaped:gsub("\\([%.%-%(%)!\"'=+{}%%])", "%1"):gsub("\\:%f[%s\0]", ":")
  return (bare:gsub("^([%-+=])", "\\%1"):gsub("^(%d+)([.)])", "%1\\%2"))
end

local function fence(code, language)
  local longest = 2
  for run in code:gmatch("`+") do longest = math.max(longest, #run) end
  local mark = ("`"):rep(longest + 1)
  return ("%s%s\n%s\n%s"):format(mark, language or "", native.escape(native.redact(code), { lines = true }):gsub("%s+$", ""), mark)
end

-- A word of ours in a line, as code: `--database NAME`.
local function code(words)
  local clean = native.escape(native.redact(words)):gsub("`", "'")
  return "`" .. clean .. "`"
end

local function cell(words) return (prose(words):gsub("\n", " ")) end

local function indented(block, margin) return margin .. block:gsub("\n", "\n" .. margin) end

-- ---- the page ----

local Page = {}
Page.__index = Page

function Page:add(block) self[#self + 1] = block end

function Page:table(columns, rows)
  local lines = { "| " .. table.concat(columns, " | ") .. " |", "|" .. (" --- |"):rep(#columns) }
  for _, row in ipairs(rows) do lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |" end
  self:add(table.concat(lines, "\n"))
end

local ON_FAILURE <const> = {
  undo = "When a step fails, what it and the steps before it did is taken back, newest first, where they can be undone.",
  hold = "When a step fails, everything is left as it is, and what is owed is listed.",
  abort = "When a step fails, the run ends there: nothing is taken back but what a step owes in any case.",
}
local WINDOW <const> = {
  needed = "It belongs into a maintenance window: a protected environment without one refuses it.",
  anytime = "It may run outside of the environment's maintenance window.",
}

local function commands(data)
  local words = {}
  for _, param in ipairs(data.params) do
    if param.default == nil and not param.optional then words[#words + 1] = (" --%s %s"):format(param.name:gsub("_", "-"), (param.kind or "text"):upper()) end
  end
  local list = {}
  for i, verb in ipairs { "plan", "run" } do list[i] = ("neap %s %s --env %s%s"):format(verb, data.name, data.plan and data.plan.environment or "ENVIRONMENT", table.concat(words)) end
  return table.concat(list, "\n")
end

local function head(page, data)
  page:add("# " .. prose(data.title))
  if data.retired then page:add("**Retired: it is kept to be read, and refuses to run.** " .. prose(data.retired)) end
  if data.why then page:add("Why: " .. prose(text.sentence(data.why))) end
  if data.about then page:add(prose(data.about)) end
  local rules = { data.window and WINDOW[data.window] or nil }
  rules[#rules + 1] = ON_FAILURE[data.on_failure]
  page:add(table.concat(rules, " "))
  page:add("With neap, preview and then run:\n\n" .. fence(commands(data)))
end

local function targets(page, data)
  page:add("## Targets")
  if #data.targets == 0 then return page:add("None: it touches nothing but this machine.") end
  local rows = {}
  for i, t in ipairs(data.targets) do
    rows[i] = { code(t.role), cell(t.kind) }
    if data.plan then
      local lines = {}
      for _, line in ipairs(t.lines or {}) do lines[#lines + 1] = cell(line[2] or line[1]) end
      rows[i][3], rows[i][4] = code(t.id or "?"), table.concat(lines, ", ")
    end
  end
  page:table(data.plan and { "role", "kind", "identity", "which is" } or { "role", "kind" }, rows)
end

local function shown(value)
  if type(value) == "table" then return #value == 0 and "none" or table.concat(value, ", ") end
  return tostring(value)
end

local function parameters(page, data)
  page:add("## Parameters")
  if #data.params == 0 then return page:add("None.") end
  local rows = {}
  for i, param in ipairs(data.params) do
    local default = param.default ~= nil and shown(param.default) or param.optional and "may be omitted" or "must be given"
    local help = param.help .. (param.choices and (" (%s)"):format(table.concat(param.choices, ", ")) or "")
    rows[i] = { code("--" .. param.name:gsub("_", "-")), cell(help), cell(param.kind or "text"), cell(default) }
    if data.plan then rows[i][5] = cell(shown(data.plan.params[param.name] == nil and "" or data.plan.params[param.name])) end
  end
  page:table(data.plan and { "flag", "what", "kind", "when omitted", "here" } or { "flag", "what", "kind", "when omitted" }, rows)
  page:add("Below, a name in braces stands for the parameter of that name.")
end

-- ---- steps ----

-- The clauses in the order in which they matter to who does it by hand, and what each is called.
local CLAUSES <const> = {
  { "each", "For each of" }, { "done", "Skip it when this is so already, else it is so afterwards" }, { "needs", "Needs" }, { "act", "Do" }, { "verify", "Prove" },
  { "undo", "To take it back" }, { "after", "Afterwards, whatever happened" },
}

local function clause(page, name, words, item)
  local lines = { ("- **%s**%s"):format(words, item.item and item.item:find("%S") and name ~= "each" and (", for each " .. code(item.item)) or "") }
  if page.checks and name == "verify" then lines[1] = "- **Check**" end
  if item.note then lines[1] = lines[1] .. ": " .. prose(item.note) end
  for _, truth in ipairs(item.truths) do lines[#lines + 1] = "  - " .. prose(truth) end
  lines[#lines + 1] = "\n" .. indented(fence(item.code, "lua"), "  ")
  page:add(table.concat(lines, "\n"))
end

local BOUNDS <const> = {
  { "within", "%s at the most" }, { "takes", "about %s" }, { "max_rows", "no write touches more than %s rows" }, { "limit", "%s items side by side" },
  { "stop_after", "no new item begins once %s have failed" },
}

local function bounds(step)
  local parts = {}
  for _, bound in ipairs(BOUNDS) do
    if step.bounds[bound[1]] then parts[#parts + 1] = bound[2]:format(prose(step.bounds[bound[1]])) end
  end
  local retry = step.bounds.retry
  if type(retry) == "table" then parts[#parts + 1] = ("tried %s more times, every %s"):format(retry.times or "no", prose(retry.every or "1s"))
  elseif retry then parts[#parts + 1] = ("tried %d more times"):format(retry) end
  return #parts > 0 and table.concat(parts, "; ") or nil
end

local function without_undo(step)
  if step.kind == "change" then
    return "- **To take it back**: there is no undo" .. (step.no_undo and ": " .. prose(text.sentence(step.no_undo)) or ".")
  end
  if step.kind == "check" then return "- **To take it back**: nothing, it only looks." end
end

local function predicted(page, step)
  local lines = {}
  for _, line in ipairs(step.plan and step.plan.lines or {}) do
    if line.text and line.label ~= nil then
      local where = line.target and line.target ~= "" and " → " .. code(line.target) or ""
      lines[#lines + 1] = ("  - %s: %s%s"):format(line.label, line.label == "predicted" and code(line.text) or prose(line.text), where)
    end
  end
  if step.plan and step.plan.withheld then lines[#lines + 1] = ("  - unknown: depends on step %s"):format(step.plan.withheld) end
  if #lines > 0 then page:add("- **Previewed here**\n" .. table.concat(lines, "\n")) end
end

local function one_step(page, step)
  page.checks = step.kind == "check"
  page:add(("### %d. %s"):format(step.number, prose(step.title)))
  if step.comment then page:add(prose(step.comment)) end
  if step.destroys then page:add(("- **Destroys** %s. Its name is typed before."):format(prose(step.destroys))) end
  if step.manual then page:add(("- **By hand**: %s Whoever did it says so."):format(prose(text.sentence(step.manual)))) end
  if step.runs then page:add(("- **Runs another runbook**: %s. Its page is %s."):format(code(step.runs), code(("neap show %s --markdown"):format(step.runs)))) end
  for _, known in ipairs(CLAUSES) do
    local item = step.clauses[known[1]]
    if item then clause(page, known[1], known[2], item)
    elseif known[1] == "undo" then
      local words = without_undo(step)
      if words then page:add(words) end
    end
  end
  local limits = bounds(step)
  if limits then page:add("- **Bounds**: " .. limits .. ".") end
  predicted(page, step)
end

local function helpers(page, data)
  if #data.helpers == 0 then return end
  page:add("## Words of this runbook")
  page:add("What the code above calls by these names.")
  for _, helper in ipairs(data.helpers) do page:add((helper.comment and prose(helper.comment) .. "\n\n" or "") .. fence(helper.code, "lua")) end
end

--- The page.
---@param data table { name, title, why, about, retired, window, on_failure, hash, params, targets, steps, helpers, plan? } as command.guide makes it
---@return string
function M.page(data)
  local page = setmetatable({}, Page)
  head(page, data)
  targets(page, data)
  parameters(page, data)
  page:add("## Steps")
  for _, step in ipairs(data.steps) do one_step(page, step) end
  helpers(page, data)
  page:add(("---\n\nMade by neap from %s, SHA-256 %s."):format(code(data.name), code(data.hash:sub(1, 16))))
  return table.concat(page, "\n\n") .. "\n"
end

return M
