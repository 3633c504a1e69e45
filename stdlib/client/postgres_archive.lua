--- What a dump is, by what is in it and not by its name: format, compression, who made it.
--
--   custom     "PGDMP", the numbers of the archive's version, the table of contents, then the data
--   directory  a tar whose first member is toc.dat, which begins like that; what pg_dump --format=tar prints is a directory's files
--   plain      SQL text: "-- PostgreSQL database dump" at its head, "-- PostgreSQL database dump complete" at its end
--   gzip, zstd around any of them, told by their magic
--
-- An archive says in its head which server it came from and which pg_dump made it; text says so in comments. Whether a dump is whole is known
-- only at its end: pg_restore reads a custom archive to its last block and fails where that is cut (pg_restore --list does not: it reads the
-- head), a tar ends in two blocks of zeros, text ends in its footer.

local M = {}

local raise = require("core.raise")
local text = require("native.text")

--- So much of a dump is enough to know it.
M.HEAD = 64 * 1024

-- The newest archive version that the tools of a major version read: 1.14 until 15, 1.15 in 16, 1.16 from 17 on.
local function newest_archive(major) return major < 12 and 13 or major < 16 and 14 or major == 16 and 15 or 16 end

-- ---- archives ----

-- Numbers are a sign and `width` bytes, the lowest first; texts are a number and so many bytes.
local function reader(head, at, width)
  local read = {}
  function read.number()
    local value = ("<I" .. width):unpack(head, at + 1)
    if head:byte(at) ~= 0 then value = -value end
    at = at + 1 + width
    return value
  end
  function read.text()
    local length = read.number()
    if length < 0 or length > 256 then return nil end
    at = at + length
    return head:sub(at - length, at - 1)
  end
  function read.skip(count) at = at + count end
  return read
end

-- What follows "PGDMP" in any version of the last ten years; nil where it makes no sense.
local function archive_facts(head)
  local minor, width = head:byte(7), head:byte(9)
  local read = reader(head, 12, width)
  if minor >= 15 then read.skip(1) else read.number() end
  for _ = 1, 7 do read.number() end                    -- when it was begun
  local database, server, made_by = read.text(), read.text(), read.text()
  return { database = database, server = server, made_by = made_by }
end

local function archive(head, format)
  if #head < 11 then return { format = format, archive = 0 } end
  local ok, facts = pcall(archive_facts, head)
  facts = ok and facts or {}
  facts.format, facts.archive = format, head:byte(6) * 100 + head:byte(7)
  return facts
end

-- ---- text ----

local function plain(head)
  return { format = "plain", server = head:match("\n%-%- Dumped from database version (%d[%w.]*)"), made_by = head:match("\n%-%- Dumped by pg_dump version (%d[%w.]*)") }
end

local function uncompressed(head)
  if head:sub(1, 5) == "PGDMP" then return archive(head, "custom") end
  if head:sub(1, 8) == "toc.dat\0" and head:sub(258, 262) == "ustar" then return archive(head:sub(513), "directory") end
  if head:find("^%-%-\n%-%- PostgreSQL database dump\n") or head:sub(1, 4096):find("\n--\n-- PostgreSQL database dump\n", 1, true) then return plain(head) end
  return nil
end

local MAGIC <const> = { gzip = "\x1f\x8b", zstd = "\x28\xb5\x2f\xfd" }

local function compression_of(head)
  for name, magic in pairs(MAGIC) do
    if head:sub(1, #magic) == magic then return name end
  end
  return nil
end

local function refuse(name, head)
  local what, hint = "is no dump that pg_dump makes", "A dump is custom, plain or tar, perhaps in gzip or zstd."
  if head == "" then what, hint = "is empty", "Whoever wrote it failed; look at its own messages."
  elseif head:find("-- PostgreSQL database cluster dump", 1, true) then
    what, hint = "is a dump of a whole cluster", "pg_dumpall made it: it is restored by psql into a new cluster, not into a database." end
  raise("invalid", ("%s %s"):format(name, what), hint)
end

--- What the dump is that begins with these bytes; raises when it is none.
---@param head string at least the first KiB, unless it is shorter
---@param name string what an error calls it
---@return { format: "custom"|"directory"|"plain", compression: string?, server: string?, made_by: string?, database: string?, archive: integer? }
---@effect pure
function M.of(head, name)
  local compression, inner = compression_of(head), head
  if compression then
    local expanded, err = text.expand(head, compression)
    if not expanded then raise("invalid", ("%s is damaged: %s"):format(name, err.message)) end
    inner = expanded
  end
  local facts = uncompressed(inner) or refuse(name, inner)
  facts.compression = compression
  return facts
end

--- Refuse a dump that the tools are too old for.
---@param facts table what `of` returned
---@param name string
---@param program string
---@param major integer of the program
---@param version string
---@effect pure
function M.check_age(facts, name, program, major, version)
  local made = facts.made_by and tonumber(facts.made_by:match("^%d+"))
  if made and made > major then
    raise("invalid", ("%s was made by pg_dump %s, and %s is %s"):format(name, facts.made_by, program, version),
      "Restore it with tools at least as new as those that made it: tools = \"…\" of the database.")
  end
  if facts.archive and facts.archive > 100 + newest_archive(major) then
    raise("invalid", ("%s is an archive of version %d.%d, which %s %s does not read"):format(name, facts.archive // 100, facts.archive % 100, program, version),
      "It was made by a newer pg_dump, or its head is damaged.")
  end
end

--- Is the end of what was read the end of a dump? Nil, or what is wrong with it. Of a custom archive pg_restore itself knows.
---@param facts table
---@param tail string the last KiB, expanded
---@param size integer bytes in all, expanded
---@return string|nil
---@effect pure
function M.cut(facts, tail, size)
  if facts.format == "directory" and (tail ~= ("\0"):rep(1024) or size % 512 ~= 0) then return "the tar does not end in two blocks of zeros" end
  if facts.format ~= "plain" then return nil end
  local after = tail:match("\n%-%- PostgreSQL database dump complete\n%-%-\n(.*)$")
  if after and not after:gsub("\n\\unrestrict %w+\n", "\n"):find("%S") then return nil end
  return "the line \"PostgreSQL database dump complete\" is not at its end"
end

return M
