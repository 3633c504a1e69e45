--- SQL as its grammar sees it: the raising face of native.sql, for those who judge statements and send none.

local native = require "native.sql"
local raise = require "core.raise"

local M = {}

--- The statements of a script, without the blanks between them.
---@param script string
---@return string[] statements
---@effect pure
function M.split(script)
  return raise.check(native.split(script))
end

--- One statement as its node of the parse tree: what libpg_query calls the node, and its fields; nil for no statement.
---@param statement string
---@return string|nil node "AlterTableStmt"
---@return table|nil fields
---@effect pure
function M.node(statement)
  local first = raise.check(native.tree(statement)).stmts
  if not first or not first[1] then return nil end
  return next(first[1].stmt)
end

--- What a statement is as a whole: { kind =, alone =, transaction =, bounded =, hides =, … }, see native.sql.read.
---@param statement string
---@return table
---@effect pure
function M.read(statement)
  return raise.check(native.read(statement))
end

return M
