--- Whose policy is asked about what stands `on` something: the machine where it is, by the name that `hosts` of the inventory lists.
--
-- An address seen from elsewhere is no machine's name: "localhost" on hermes is hermes. A list that allows "localhost" allows this
-- machine, and nothing that is reached through another one.

local M = {}

-- An address as the place sees it that means the place.
local function is_itself(address)
  return address == nil or address == "" or address == "localhost" or address == "::1" or address == "[::1]"
    or address:match("^127%.") ~= nil or address:sub(1, 1) == "/" or address:sub(1, 1) == "@"
end

--- Is it another machine, that is reached through the place and is not on it? What would change the place does not change it.
---@param place table
---@param address string|nil
---@return boolean
function M.is_beyond(place, address) return place.kind ~= "container" and not is_itself(address) end

--- The machine that is written to when `address` is dialed from a place. A container's own address is its host's business.
---@param place table a bound object with ways
---@param address string|nil as the place sees it; nil: a socket
---@return string|nil machine nil: this one
function M.machine(place, address)
  if M.is_beyond(place, address) then return address end
  local ways = place.ways
  if ways.machine then return ways.machine(place) end
  return place.role or place.kind
end

return M
