-- `neap settle`: a thin wrapper, as run.lua is.
local raise = require "core.raise"
local run = require "command.run"
local view = require "command.view"

local M = {}

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  local engine = run.engine_context(parsed, context)
  engine.run, engine.reason = operands[1], parsed.options.reason
  if not engine.run:match("^%x%x%x%x+$") then raise("usage", ('"%s" is not the id of a run'):format(engine.run), "The words that keep a target name it: run 7f3a… of …") end
  if not engine.reason then raise("usage", "a reason is missing", "Say what was found and mended: --reason \"app started by hand, checked by anna\".") end
  return view.while_open(engine.view, function() return require("engine.settle").run(engine) end)
end

return M
