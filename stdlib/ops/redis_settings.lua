--- Settings of a running Redis server, and whether they outlive it.
--
-- CONFIG SET changes the process that runs. Only a server that was started with a configuration file can write them down (CONFIG REWRITE);
-- one that was started with arguments alone, as most containers are, forgets them at its next start, and says nothing about
-- it while it runs. What its file holds the server does not tell either: a run that changed nothing cannot know whether it is so there, and one
-- that did knows it by how often the server has rewritten the file (it counts its commands, CONFIG REWRITE by itself since Redis 7).

local raise = require "core.raise"

local M = {}

--- The value of a setting, as the server spells it.
---@param cache table
---@param name string "maxmemory-policy"
---@return string
---@effect read
function M.value(cache, name)
  local pair = cache:read("CONFIG", "GET", name)
  if not pair or not pair[2] then raise("remote", ("the server has no setting \"%s\""):format(name), "It may be an older Redis than the setting.") end
  return pair[2]
end

--- The values of several settings, in their order.
---@param cache table
---@param names string[]
---@return string[]
---@effect read
function M.values(cache, names)
  local list = {}
  for i, name in ipairs(names) do list[i] = M.value(cache, name) end
  return list
end

-- Successful CONFIG REWRITEs since the server was started.
local function rewrites(cache)
  local line = tostring(cache:info("commandstats")["cmdstat_config|rewrite"] or "")
  return math.tointeger(tonumber(line:match("calls=(%d+)") or 0) - tonumber(line:match("failed_calls=(%d+)") or 0))
end

--- How things are before they are changed: the values of these settings, and last how often the file was rewritten.
---@param cache table
---@param names string[]
---@return string[]
---@effect read
function M.found(cache, names)
  local list = M.values(cache, names)
  list[#list + 1] = tostring(rewrites(cache))
  return list
end

--- Has the server rewritten its file since?
---@param cache table
---@param found string[] what M.found gave
---@return boolean
---@effect read
function M.is_written_down(cache, found)
  return rewrites(cache) > (math.tointeger(tonumber(found[#found])) or 0)
end

--- Has the server these values?
---@param cache table
---@param wanted table[] { { "maxmemory-policy", "noeviction" }, … }
---@return boolean
---@effect read
function M.are(cache, wanted)
  for _, pair in ipairs(wanted) do
    if M.value(cache, pair[1]) ~= tostring(pair[2]) then return false end
  end
  return true
end

--- Set them all, in this order and with nothing between. What the server refuses raises; those before it are set.
---@param cache table
---@param wanted table[] { { name, value }, … }
---@effect write
function M.set(cache, wanted)
  local commands = {}
  for i, pair in ipairs(wanted) do commands[i] = { "CONFIG", "SET", pair[1], tostring(pair[2]) } end
  local answers = cache:transaction(commands)
  if type(answers) ~= "table" then return end                                   -- withheld, in a preview
  for i, answer in ipairs(answers) do
    if type(answer) == "table" then
      raise("remote", ("%s cannot be set to %s: %s"):format(wanted[i][1], tostring(wanted[i][2]), answer.message or "the server refuses it"))
    end
  end
end

--- The configuration file that the server was started with, as the server sees it; nil when there was none, and before Redis 7, of which
--- nobody could tell whether it was rewritten.
---@param cache table
---@return string|nil
---@effect read
function M.file(cache)
  local server = cache:info "server"
  local major, path = tonumber(tostring(server.redis_version):match("^%d+")) or 0, server.config_file
  if major < 7 or type(path) ~= "string" or path == "" then return nil end
  return path
end

--- What is to be said when what was set is forgotten at the server's next start: the words for its start command.
---@param wanted table[] { { name, value }, … }
---@return string
---@effect pure
function M.for_command(wanted)
  local words = {}
  for i, pair in ipairs(wanted) do words[i] = ("--%s %s"):format(pair[1], tostring(pair[2])) end
  return "not persistent: the server has no configuration file (or is older than Redis 7) and forgets it at its next start; add "
    .. table.concat(words, " ") .. " to its command (compose: command)"
end

--- Write what is set into the server's configuration file, by the server's own hand.
---@param cache table
---@effect write
function M.write_down(cache)
  cache:write("CONFIG", "REWRITE")
end

--- Set them back, and in the file too where there is one.
---@param cache table
---@param wanted table[] { { name, value }, … }
---@param path string|nil the configuration file
---@effect write
function M.set_back(cache, wanted, path)
  M.set(cache, wanted)
  if path then M.write_down(cache) end
end

return M
