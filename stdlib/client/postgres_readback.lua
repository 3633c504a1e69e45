--- Reading a dump to its end, without a database: is it one, is it whole, what was it made by.
--
-- An archive is read by pg_restore, which writes it nowhere and fails where a block is cut or does not expand; text by its footer. Neither finds
-- every flipped byte (a letter in a table's name, a row of text): for that there is the SHA-256 of what was made, which whoever has it compares.

local methods = {}

local archive = require("client.postgres_archive")
local connections = require("client.postgres_connections")
local file = require("native.file")
local pipe = require("client.pipe")
local raise = require("core.raise")
local sources = require("client.postgres_source")
local tools = require("client.postgres_tools")

local function broken(source, why) raise("invalid", ("%s is not whole: %s"):format(source.name, why), "Make it again, and look at what made it.") end

local function move(o, source, head, facts, to)
  return pipe.move(o.context, source.stream, to, { from = source.name, to = "pg_restore", total = source.total, text = "reading " .. source.name,
    expand = facts.compression, ahead = head })
end

local function whole(source, facts, moved)
  local wrong = archive.cut(facts, moved.tail, moved.written)
  if wrong then broken(source, wrong) end
  return moved
end

-- Into pg_restore. It is not told of the end of a tar that is cut: it looks for the rest of it for ever. When it ends early its words say more than the stream that broke.
local function through_program(o, source, head, facts)
  local command <close> = tools.start(o, "pg_restore", { "--format=" .. (facts.format == "directory" and "tar" or "custom"), "--file=/dev/null" },
    { application = o.context.application or "neap", reads = true })
  local printed, said = pipe.drain(command:stdout()), pipe.drain(command:stderr())
  local ok, moved = pcall(move, o, source, head, facts, command:stdin())
  if ok then ok, moved = pcall(whole, source, facts, moved) end
  if not ok and type(moved) == "table" and moved.to_status ~= "failed" then
    command:stop()
    error(moved, 0)
  end
  if ok then pcall(function () command:stdin():shut() end) end
  local ended = raise.check(command:wait())
  local _, words = said:join()
  printed:join()
  if ended.signal or ended.status ~= 0 then broken(source, ("pg_restore says: %s"):format((words:match("[^\n]+") or "nothing"):sub(1, 300))) end
  if not ok then error(moved, 0) end
  return moved
end

local function through_nothing(o, source, head, facts)
  local nothing <close> = raise.check(file.nothing())
  return whole(source, facts, move(o, source, head, facts, nothing))
end

--- Read a dump to its end: what it is. Raises when it is none, is cut or damaged, or newer than the tools.
---@param from table|string|userdata { folder, name }, a path, a stream, a command that was started
---@return { bytes: integer, sha256: string, format: string, compression: string?, server: string?, made_by: string? }
---@effect read
function methods.read_dump(o, from)
  local source = sources.open(from)
  local _ <close> = source.own
  local head = sources.head(source)
  local facts = archive.of(head, source.name)
  archive.check_age(facts, source.name, "pg_restore " .. tools.where(o), tools.version(o, "pg_restore"))
  local heard = sources.listen(source)
  local moved = (facts.format == "plain" and through_nothing or through_program)(o, source, head, facts)
  sources.finish(source, heard)
  return { bytes = moved.bytes, sha256 = moved.sha256, format = facts.format, compression = facts.compression, server = facts.server, made_by = facts.made_by }
end

--- The programs that make and read dumps of this database: are they as new as the server, and what is said about that.
---@return boolean fit
---@return string shown "pg_dump 15.20 in dbc, PostgreSQL 15.20"
---@effect read
function methods.tools_fit(o)
  local ok, err = pcall(tools.check_version, o, "pg_dump")
  if not ok then
    err = raise.of(err)
    if err.code ~= "config" then error(err, 0) end
    return false, err.message
  end
  local _, version = tools.version(o, "pg_dump")
  return true, ("pg_dump %s %s, PostgreSQL %s"):format(version, tools.where(o), connections.reader(o):card().version:match("^%S+"))
end

return methods
