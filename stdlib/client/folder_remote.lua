--- A folder that lies on a host: what native.file says of this machine, said through the host's session.

local M = {}

local raise = require("core.raise")
local session = require("client.host_session")

-- The session's word for each of native.file's.
local WORDS <const> = { stat = "stat", list = "list", read = "read_file", hash = "hash", hashes = "hashes", space = "space", write = "write_file", remove = "remove" }

--- The directory, as the host is told.
---@param role string
---@param path string
---@return string
function M.root(role, path)
  if path:sub(1, 1) ~= "/" then
    raise("config", ("folder \"%s\" lies on a host, and its path does not begin with /"):format(role), "Write path = \"/srv/backups\".")
  end
  local root = path:gsub("/+", "/"):gsub("(.)/$", "%1")
  return root
end

--- The functions of native.file that a folder needs; they raise where those give nil, err.
---@param place table a host
---@return table
function M.files(place)
  local all = {}
  for name, word in pairs(WORDS) do
    all[name] = function (...)
      local arguments = table.pack(...)
      return session.use(place, function (s) return s[word](s, table.unpack(arguments, 1, arguments.n)) end)
    end
  end
  function all.open(path, mode, options)
    return session.use(place, function (s)
      if mode == "w" then return s:create(path, options) end
      return s:open_file(path, options)
    end)
  end
  function all.probe(evidence) return session.use(place, function (s) return s:probe_file(evidence) end) end
  return all
end

--- What the identity of a folder begins with: the host's.
function M.id(place) return session.of(place):card().id end

return M
