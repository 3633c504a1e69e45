--- Files of a host, by absolute paths. What is written has its name only when it is whole: PATH.part, read back there, renamed.

local files = {}

local answer = require("client.answer")
local copy = require("client.copy")
local raise = require("core.raise")
local session = require("client.host_session")
local temporary = require("client.temporary")

-- Options are the last argument; whose write it is, is not the runbook's to say.
local function call(o, method, ...)
  local arguments = table.pack(...)
  local given = arguments[arguments.n]
  if type(given) == "table" then
    arguments[arguments.n] = {}
    for key, value in pairs(given) do arguments[arguments.n][key] = value end
    arguments[arguments.n].role = o.role
  end
  return session.use(o, function (s) return s[method](s, table.unpack(arguments, 1, arguments.n)) end)
end

-- What is begun under this path is in the ledger before it is.
local function enter(o, path, always, kind)
  return temporary.enter(o, path, function () return session.of(o):card().id .. path end, always, kind)
end

local function name_of(o, path) return ("%s on %s"):format(path, o.name) end

--- What is there; false when there is nothing. A link is told as what it leads to.
---@param path string
---@return { kind: "file"|"directory"|"link"|"other", size: integer, mode: integer, mtime_ms: integer, uid: integer, gid: integer }|false
---@effect read
function files.stat(o, path) return (call(o, "stat", path)) end

--- Is there something of that name?
---@param path string
---@return boolean
---@effect read
function files.has(o, path) return call(o, "stat", path) ~= false end

--- The names in a directory, sorted by bytes.
---@param path string
---@return string[]
---@effect read
function files.list(o, path)
  local names = {}
  for i, entry in ipairs(call(o, "list", path)) do names[i] = entry.name end
  return names
end

--- The bytes of a file.
---@param path string
---@param given? { limit: integer } most bytes; 16 MiB when omitted
---@return string
---@effect read
function files.read_file(o, path, given) return (call(o, "read_file", path, given)) end

--- The SHA-256 of a file, in hex.
---@param path string
---@return string
---@effect read
function files.hash(o, path) return (call(o, "hash", path)) end

--- The size of a file in bytes.
---@param path string
---@return integer
---@effect read
function files.size(o, path)
  local stat = call(o, "stat", path)
  if not stat then raise("remote", ("there is no \"%s\" on %s"):format(path, o.name)) end
  return stat.size
end

--- Bytes that are free where the path is, and bytes in all.
---@param path string
---@return integer free
---@return integer total
---@effect read
function files.space(o, path)
  local space = call(o, "space", path)
  return space.free, space.total
end

--- Write a file as a whole: nobody ever sees half of it.
---@param path string
---@param content string|userdata text, a secret, a stream, or a command whose output it is
---@param given? { mode: integer, total: integer, within: string, stall: string } mode of a new file; total: bytes, where they are known
---@return table { bytes: integer, sha256: string }
---@effect write
function files.write_file(o, path, content, given)
  if copy.is_source(content) then return files.copy_in(o, content, path, given) end
  enter(o, path)
  return (call(o, "write_file", path, content, given))
end

--- A stream to read from, or with "w" one to write to; a file that is written gets its name when the stream is closed.
---@param path string
---@param mode? "r"|"w"
---@return userdata stream
---@effect write
function files.open(o, path, mode)
  if mode ~= nil and mode ~= "r" and mode ~= "w" then raise("usage", ("a file is opened with \"r\" or \"w\", not \"%s\""):format(tostring(mode))) end
  if mode == "w" then enter(o, path, true) end
  o.streaming = true
  return (call(o, mode == "w" and "create" or "open_file", path))
end

--- Remove a file, a link or an empty directory.
---@param path string
---@effect destroy
function files.remove(o, path)
  call(o, "remove", path)
  temporary.leave(o, path, function () return session.of(o):card().id .. path end)
end

--- Make a directory and those above it; `made` of the answer is false when it was there.
---@param path string
---@param given? { mode: integer }
---@return { made: function } answer
---@effect write
function files.mkdir(o, path, given)
  enter(o, path, false, "directory")
  return answer.of("made", (call(o, "mkdir", path, given)))
end

--- Give a file another name in the same file system; what has that name is replaced.
---@param from string
---@param to string
---@effect write
function files.rename(o, from, to) call(o, "rename", from, to) end

--- Copy to the host, in one pass: from a file of this machine (its path), a stream, or a command that was started: then all it prints,
--- and nothing when it fails.
---@param from string|userdata
---@param path string
---@param given? { mode: integer, total: integer, within: string, stall: string, compress: string, expand: string }
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string }
---@effect write
function files.copy_in(o, from, path, given)
  o.streaming = true
  local entry = enter(o, path, true)
  local moved = copy.into(o.context, from, function () return (call(o, "create", path, given)) end, name_of(o, path), given)
  temporary.whole(o, entry)
  return moved
end

--- Copy from the host, in one pass: to a file of this machine (its path) or into a stream, which stays open.
---@param path string
---@param to string|userdata
---@param given? { within: string, stall: string, compress: string, expand: string }
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string }
---@effect write
function files.copy_out(o, path, to, given)
  o.streaming = true
  return copy.out(o.context, function () return call(o, "open_file", path) end, to, name_of(o, path), given)
end

return files
