-- `neap run`: a thin wrapper. The engine runs; here are only the view, the questions and the watchers.
local clients = require "command.clients"
local view = require "command.view"
local watchers = require "command.watchers"

local M = {}

---What the engine is given, made from a parsed command line.
---@param parsed Parsed
---@param context table
---@return table
function M.engine_context(parsed, context)
  local shown = view.new(context)
  return {
    state = context.state, inventory = parsed.options.inventory, environment = parsed.options.env or context.environment,
    arguments = parsed.arguments or {}, confirm = parsed.options.confirm or {}, interactive = context.interactive,
    ask = view.asker(shown, context), view = shown, quiet = context.quiet, json = context.json, share = context.share,
    clients = clients.all(), secrets = require "native.secret", watch = watchers.server,
    lost = context.is_lost,
  }
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  if parsed.options["dry-run"] then return require("command.plan").run(operands, parsed, context) end
  local engine = M.engine_context(parsed, context)
  engine.runbook, engine.found = operands[1], parsed.found
  return view.while_open(engine.view, function() return require("engine.run").run(engine) end)
end

return M
