--- Where a container keeps what it must not lose, before somebody makes it anew.
--
-- What lies in the container itself, or in a volume without a name, is gone with the next `up`: the new container begins empty, and says nothing. The images of
-- PostgreSQL moved their place with 18, from /var/lib/postgresql/data to /var/lib/postgresql/18/docker, and declare the volume one directory higher; a volume that
-- is mounted where 17 wanted it is then beside the data, which lies in a volume without a name. So the mounts are held against the major version of the image, that
-- of the container or that of the one that will take its place.

local M = {}

local NEW_PLACE <const> = 18        -- the first major version whose image keeps its data below /var/lib/postgresql

local function setting(inspected, name)
  for _, line in ipairs(inspected.Config.Env or {}) do
    local value = line:match("^" .. name .. "=(.*)$")
    if value then return value end
  end
  return nil
end

local function places_of(major)
  if major >= NEW_PLACE then return ("/var/lib/postgresql/%d/docker"):format(major), "/var/lib/postgresql" end
  return "/var/lib/postgresql/data", "/var/lib/postgresql/data"
end

local function holds(directory, path) return path == directory or path:sub(1, #directory + 1) == directory .. "/" end

-- A volume that nobody named has the name Docker made up for it.
local function is_kept(mount) return mount.Type == "bind" or mount.Type == "volume" and not (mount.Name or ""):find("^" .. ("%x"):rep(64) .. "$") end

local function called(mount) return ("%s, at %s"):format(mount.Type == "volume" and "the volume " .. mount.Name or mount.Source, mount.Destination) end

-- The mount that holds the path, of those a new container would get again, and what would be put over them without a name.
local function mount_of(inspected, path, declared)
  local best, others = nil, {}
  for _, mount in ipairs(inspected.Mounts or {}) do
    if is_kept(mount) then
      others[#others + 1] = called(mount)
      if holds(mount.Destination, path) and (not best or #mount.Destination > #best.Destination) then best = mount end
    end
  end
  local covered = declared and holds(declared, path) and (not best or #declared > #best.Destination)
  return not covered and best or nil, others
end

--- What is wrong with where a container of PostgreSQL keeps its data; nil when a container that takes its place finds them again.
---@param container table
---@param given? { major: integer?, data: string? } major: of the image that will take its place, its own when omitted; data: where PGDATA points then
---@return string? fault
---@return string where the data lie
---@effect read
function M.data_fault(container, given)
  given = given or {}
  local inspected = container:inspect()
  local own = math.tointeger(tonumber(setting(inspected, "PG_MAJOR")))
  local major = given.major or own
  if not major then return "nothing says which major version of PostgreSQL the image has: it has no PG_MAJOR", "" end
  local usual, declared = places_of(major)
  local set = setting(inspected, "PGDATA")
  local data = given.data or set and (not own or set ~= places_of(own)) and set or usual
  local mount, others = mount_of(inspected, data, declared)
  if mount then return nil, ("%s is in %s"):format(data, called(mount)) end
  local there = #others > 0 and "; there is " .. table.concat(others, "; ") or ""
  return ("an image of PostgreSQL %d keeps its data in %s, and nothing with a name is mounted there: a container made anew begins empty%s"):format(major, data, there), ""
end

return M
