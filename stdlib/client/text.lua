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

--- The SHA-256 of a text, in hex.
---@param content string
---@return string
---@effect pure
function M.sha256(content)
  return raise.check(native.sha256(content))
end

return M
