-- `neap resume` and `neap undo`: find the run by the beginning of its id, tell the view what has
-- already happened, and let the engine go on.
local journal = require "native.journal"
local run = require "command.run"
local runs = require "command.runs"
local view = require "command.view"

local M = {}

---@param what string "run" or "undo" of engine.resume
local function go_on(what, operands, parsed, context)
  local row = runs.find(operands[1], context)
  local engine = run.engine_context(parsed, context)
  engine.run = row.run
  local records = journal.read(context.state, row.run)
  if records then engine.view:replay(records) end
  return view.while_open(engine.view, function() return require("engine.resume")[what](engine) end)
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  return go_on("run", operands, parsed, context)
end

---@return integer exit code
function M.undo(operands, parsed, context)
  return go_on("undo", operands, parsed, context)
end

return M
