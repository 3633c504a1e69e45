--- The proof that writes have stopped, before a database is replaced or upgraded: not that a service says so, but that nothing moves.
--
--   verify = function () quiet.prove(db:on(p.database), { flat = "3s", within = "30s" }) end

local raise = require("core.raise")

local M = {}

--- Does nobody work in the database?
---@param db table the database
---@param wanted? { flat: string?, within: string?, sessions: boolean? } nothing may move for `flat` ("3s"), within `within` ("30s");
---   sessions = false: who only sits there does not count
---@return boolean
---@effect read
function M.holds(db, wanted) return (db:quiet(wanted)) end

--- Raises {check}, naming who still works and what moved.
---@param db table the database
---@param wanted? table as for holds
---@return true
---@effect read
function M.prove(db, wanted)
  local is_quiet, who = db:quiet(wanted)
  if is_quiet then return true end
  raise("check", ("somebody still works in the database: %s"):format(table.concat(who, "; ")), "Stop whoever it is; postgres/terminate ends sessions.")
end

return M
