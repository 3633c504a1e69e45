--- A script of SQL, executed as a migration tool would: all of it or nothing.

local sql = require "client.sql"

local M = {}

-- What changes rows, or may: the body of DO and of a procedure is opaque.
local ROWS <const> = { insert = true, update = true, delete = true, merge = true, truncate = true, copy = true, ["do"] = true, call = true }

--- The statements of a script, without BEGIN, COMMIT and their like. `alone`: PostgreSQL takes it in no transaction; `rows`: it changes rows, or may.
---@param text string
---@return { text: string, kind: string, alone: boolean, rows: boolean }[]
---@effect pure
function M.read(text)
  local list = {}
  for _, statement in ipairs(sql.split(text)) do
    local found = sql.read(statement)
    if not found.transaction then
      list[#list + 1] = { text = statement, kind = found.kind or "", alone = found.alone, rows = ROWS[found.kind] or (found.kind == "select" and not found.reads) or false }
    end
  end
  return list
end

--- Execute a script: in one transaction, all or nothing, unless a statement of it takes none.
---@param db table
---@param text string
---@effect write
function M.execute(db, text)
  local list, whole = M.read(text), true
  for _, statement in ipairs(list) do whole = whole and not statement.alone end
  if not whole then
    for _, statement in ipairs(list) do db:exec(statement.text) end
  elseif #list > 0 then
    db:transaction(function (tx)
      for _, statement in ipairs(list) do tx:exec(statement.text) end
    end)
  end
end

return M
