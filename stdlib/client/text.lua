--- Texts of the world made into values: the raising face of native.text.

local native = require "native.text"
local raise = require "core.raise"

local M = {}

--- The value that a JSON text stands for.
---@param json string
---@return any
---@effect pure
function M.parse(json)
  return raise.check(native.parse(json))
end

return M
