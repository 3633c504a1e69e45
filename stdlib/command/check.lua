-- `neap check`: is the runbook valid, and with --env: could it run now? The second question is the
-- preview reduced to its checks; it writes nothing.
local clients = require "command.clients"
local json = require "show.json"
local runbooks = require "command.runbooks"
local text = require "core.text"

local M = {}

local function only_load(parsed, context)
  local found = parsed.found or runbooks.inspect(parsed.operands[1], context)
  if context.json then
    context.out(json.line { schema = json.schema, kind = "check", runbook = found.name, steps = #found.steps, ok = true } .. "\n")
  elseif not context.quiet then
    local s = context.style
    local line = ("%s: %s, %s"):format(found.title, text.count(#found.steps, "step"), text.count(#found.params, "parameter"))
    context.lines { s:mark("ok") .. " " .. s:clean(line) }
  end
  return 0
end

local function failed_lines(data, style)
  local out = {}
  for _, step in ipairs(data.steps) do
    for _, line in ipairs(step.lines or {}) do
      if line.ok == false then
        local words = ("step %s: %s"):format(tostring(step.number), line.text or "a check")
        if line.note ~= nil then words = words .. " (" .. tostring(line.note) .. ")" end
        out[#out + 1] = style:mark("failed") .. " " .. style:clean(words)
      end
    end
  end
  return out
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  if not parsed.options.env then return only_load(parsed, context) end
  local data = require("engine.plan").run {
    state = context.state, inventory = parsed.options.inventory, environment = parsed.options.env, runbook = operands[1], found = parsed.found,
    arguments = parsed.arguments or {}, confirm = {}, interactive = false, share = context.share, clients = clients.all(),
    secrets = require "native.secret",
  }
  local failed = failed_lines(data, context.style)
  if context.json then
    context.out(json.line { schema = json.schema, kind = "check", runbook = data.runbook, ok = data.exit ~= 1, tally = data.tally } .. "\n")
  elseif data.exit == 1 then context.lines(failed)
  elseif not context.quiet then
    context.lines { context.style:mark("ok") .. " " .. context.style:clean(data.title .. " could run now") }
  end
  return data.exit == 1 and 1 or 0
end

return M
