--- The connections of one object, as its kind keeps them: one for each use that has a name, and acting ones that tasks share.
--
-- Opening waits, so two tasks may open for the same use at once; whoever comes second takes the first one's and closes its own. An
-- acting connection is taken by who acts and is free again when nothing is under way on it; there are so many and no more, and
-- then a task waits its turn on the first. Rejected: a lock around opening, which a task that is stopped would have to give back.

local M = {}

local MOST_ACTORS <const> = 8

--- The open connection of this use; made when there is none.
---@param o table the object; o[use] keeps it
---@param use string "reading"
---@param make fun(o: table): table opens one; may wait
---@param learn? fun(o: table, connection: table) told of one that is kept
---@return table connection
---@effect read
function M.of(o, use, make, learn)
  local known = o[use]
  if known and known:is_open() then return known end
  local made = make(o)
  known = o[use]
  if known and known:is_open() then
    made:close()
    return known
  end
  o[use] = made
  if learn then learn(o, made) end
  return made
end

--- One of o.actors that is free, or the first when there are as many as may be; nil: another may be opened. Those that broke are forgotten.
---@param o table
---@return table? connection
---@effect pure
function M.free(o)
  for i = #o.actors, 1, -1 do
    if not o.actors[i]:is_open() then table.remove(o.actors, i) end
  end
  for _, connection in ipairs(o.actors) do
    if connection:is_idle() then return connection end
  end
  return #o.actors >= MOST_ACTORS and o.actors[1] or nil
end

return M
