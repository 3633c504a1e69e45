-- `neap show RUN`: what is recorded, from the journal and nothing else. With --markdown it is a runbook that is shown (command.guide).
local journal = require "native.journal"
local json = require "show.json"
local page = require "show.run"
local raise = require "core.raise"
local runs = require "command.runs"

local M = {}

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  if parsed.options.markdown then return require("command.guide").run(operands[1], parsed, context) end
  local row = runs.find(operands[1], context)
  local records, err = journal.read(context.state, row.run)
  if not records then error(err, 0) end
  if context.json then
    local view = json.new { write = context.out }
    for _, e in ipairs(records) do view:event(e) end
    return 0
  end
  local lines = page.lines(records, context.style, { step = parsed.options.step, head = row.head ~= "" and row.head or nil })
  if not lines then raise("usage", ('run %s has no step "%s"'):format(row.run, parsed.options.step), "Give the number of a step.") end
  context.lines(lines)
  return 0
end

return M
