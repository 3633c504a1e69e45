--- What a write answered, read by a method: db:terminate { … }:count().
--
-- In a preview a write gives a withheld value, and whoever reads that is told so: the step's preview ends there as unknown. A bare number or
-- a truth could not tell: Lua compares unlike kinds without asking, so `cache:write("INCR", "n") == 1` would quietly be false in a
-- preview, and the preview would go on along the wrong branch.

local M = {}

--- An answer with one method; a withheld value as it is.
---@param name string the method
---@param value any
---@return table|userdata answer
---@effect pure
function M.of(name, value)
  if type(value) == "userdata" then return value end
  return { [name] = function () return value end }
end

return M
