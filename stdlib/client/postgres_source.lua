--- Where a dump comes from: a file of a folder, a path of this machine, a stream, a command that was started. Its beginning is read before the
-- rest, and handed to the copy as `ahead`, so that one pass is enough for whatever cannot be read twice.

local M = {}

local archive = require("client.postgres_archive")
local file = require("native.file")
local pipe = require("client.pipe")
local raise = require("core.raise")
local result = require("client.result")

local function is_command(from) return type(from) == "userdata" and from.stdout ~= nil and from.wait ~= nil end

--- Open it. `own` is what its opener closes.
---@param from table|string|userdata { folder, name }, a path, a stream, a command
---@return { stream: userdata, own: userdata?, command: userdata?, name: string, total: integer? }
function M.open(from)
  if type(from) == "string" then
    local stream = raise.check(file.open(from, "r"))
    return { stream = stream, own = stream, name = from, total = raise.check(file.stat(from)).size }
  end
  if type(from) == "table" then
    local folder, name = from[1], from[2]
    local stream = folder:open(name)
    return { stream = stream, own = stream, name = name, total = folder:size(name) }
  end
  if type(from) ~= "userdata" then raise("usage", "a dump is { folder, name }, a path, a stream, or a command that was started") end
  if is_command(from) then return { stream = from:stdout(), command = from, name = (tostring(from):gsub(" %b()$", "")) } end
  return { stream = from, name = "the dump" }
end

--- Refuse a file that is not what was made, before anything is done with it: it is read once more, where it is.
---@param from table|string|userdata
---@param sha256 string?
function M.check_hash(from, sha256)
  if not sha256 or type(from) ~= "table" then return end
  local hash = from[1]:hash(from[2])
  if hash ~= sha256 then raise("invalid", ("%s is not what was made: its SHA-256 is %s, not %s"):format(from[2], hash, sha256), "Take another backup; look at the disk of this one.") end
end

--- Its first bytes.
---@return string
function M.head(source)
  local parts, size = {}, 0
  while size < archive.HEAD do
    local piece = raise.check(source.stream:read(archive.HEAD - size))
    if not piece then break end
    parts[#parts + 1] = piece
    size = size + #piece
  end
  return table.concat(parts)
end

--- Listen to what a command says meanwhile; nil where there is none.
---@return table? task
function M.listen(source) return source.command and pipe.drain(source.command:stderr()) end

--- It was read to its end. A command's status counts: what it printed is only whole when it ended with 0.
function M.finish(source, said)
  if source.own then raise.check(source.own:close()) end
  if not source.command then return end
  local ended = raise.check(source.command:wait())
  local _, words = said:join()
  result.of("what was read is not whole: " .. source.name, { status = ended.status, signal = ended.signal, err = words, out = "" })
end

return M
