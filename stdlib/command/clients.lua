-- The kinds of targets there are: the word in the inventory and in `target.KIND`, and the module that speaks to it.
--
-- A module is loaded when something of it is first asked for. An inventory names a few kinds and a run binds fewer; the rest would be two
-- fifths of what a start reads.
local M = {}

local KINDS <const> = { "cluster", "command", "container", "folder", "host", "hosts", "postgres", "redis", "service", "url", "webhook" }

local function later(kind)
  return setmetatable({}, { __index = function (_, field) return require("client." .. kind)[field] end })
end

---@return table<string, table> kind -> client module
function M.all()
  local all = {}
  for _, kind in ipairs(KINDS) do all[kind] = later(kind) end
  return all
end

return M
