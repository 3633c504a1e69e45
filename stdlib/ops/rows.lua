--- Rows of a table by the value of one column, for runbooks whose table and column are parameters.
--
-- Names are as the catalogue has them (Session, app.Session); they are quoted here and nowhere else. Values are compared as text, which is
-- right for the identifiers people paste (text, uuid, whole numbers).

local M = {}

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

--- A table's name as a statement needs it.
---@param name string
---@return string
---@effect pure
function M.name(name)
  local schema, table_name = name:match("^([^.]+)%.(.+)$")
  return schema and quote(schema) .. "." .. quote(table_name) or quote(name)
end

--- The condition "this column is $1".
---@param column string
---@return string
---@effect pure
function M.where(column) return quote(column) .. "::text = $1" end

--- How many rows there are, or how many fit.
---@param db table
---@param from string
---@param where? string a condition with $1
---@param value? any
---@return integer
---@effect read
function M.count(db, from, where, value)
  if not where then return db:value("SELECT count(*) FROM " .. M.name(from)) end
  return db:value(("SELECT count(*) FROM %s WHERE %s"):format(M.name(from), where), value)
end

return M
