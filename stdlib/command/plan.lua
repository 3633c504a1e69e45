-- `neap plan`: asks the engine for the preview and shows it. The page is the result, so it goes to the
-- standard output; nothing is journaled and nothing is locked.
local clients = require "command.clients"
local json = require "show.json"
local plan = require "show.plan"

local M = {}

local function plain_target(t) return { role = t.role, kind = t.kind, id = t.id, lines = t.lines, used_by = t.used_by } end

-- The plan as data for programs: what the engine keeps for itself (functions, objects) stays out.
local function published(data)
  local steps, targets = {}, {}
  for n, t in ipairs(data.targets or {}) do targets[n] = plain_target(t) end
  for n, step in ipairs(data.steps) do
    local lines = {}
    for i, line in ipairs(step.lines or {}) do
      lines[i] = { label = line.label, text = line.text, grid = line.grid, target = line.target, ok = line.ok, note = line.note, subject = line.subject,
        primitive = line.primitive, effect = line.effect, plan = line.plan }
    end
    steps[n] = { number = step.number, id = step.id, title = step.title, sign = step.sign, label = step.label, destroys = step.destroys,
      manual = step.manual, withheld = step.withheld, failed = step.failed, time = step.time, lines = lines }
  end
  return { schema = json.schema, kind = "plan", runbook = data.runbook, title = data.title, environment = data.environment, stamp = data.stamp,
    params = data.params, targets = targets, steps = steps, tally = data.tally, unseen = data.unseen, blocked = data.blocked, time = data.time, exit = data.exit }
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  local data = require("engine.plan").run {
    state = context.state, inventory = parsed.options.inventory, environment = parsed.options.env, runbook = operands[1], found = parsed.found,
    arguments = parsed.arguments or {}, confirm = {}, interactive = false, share = context.share, clients = clients.all(),
    secrets = require "native.secret",
  }
  if context.json then context.out(json.line(published(data)) .. "\n")
  elseif not context.quiet or data.exit == 1 then context.lines(plan.lines(data, context.style)) end
  return data.exit
end

return M
