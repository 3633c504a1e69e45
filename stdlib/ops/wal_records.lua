--- What stands in a segment of the write-ahead log: whose it is, and when which transaction was committed. Pure: the bytes of one segment in.
--
-- Only this tells the truth about time: a file has the time of its last copy, and a segment that was archived at noon may hold nothing newer than
-- a commit of midnight. A record is a header (its length, where the one before it began, who it belongs to) and data; it may go on on the
-- next page, behind that page's header. Whatever is not chained to the record before it is left over from an older use of the
-- file, and ends the reading. A commit whose record ends in the next segment is not told here: nobody has all of it.
--
-- Rejected: pg_waldump (it is where the servers are, not where the archive is, and the newest segment's last record is an error to it), and summing
-- every record up (the server does, when it replays).

local M = {}

local raise = require("core.raise")

-- The page magic of each major version.
local MAJOR <const> = { [0xD097] = 10, [0xD098] = 11, [0xD101] = 12, [0xD106] = 13, [0xD10D] = 14, [0xD110] = 15, [0xD113] = 16, [0xD116] = 17, [0xD118] = 18 }

local SHORT <const>, LONG <const>, RECORD <const> = 24, 40, 24
local XLOG <const>, TRANSACTION <const> = 0, 1
local SWITCH <const>, COMMIT <const>, COMMIT_PREPARED <const> = 0x40, 0x00, 0x30
local EPOCH_US <const> = 946684800 * 1000000       -- 2000-01-01, where PostgreSQL's clock begins

--- How many bytes of a segment `head` wants to see.
M.HEAD = LONG

--- What the first page says: which server's, which version's, how large.
---@param bytes string at least HEAD bytes
---@return { major: integer|nil, magic: integer, timeline: integer, start: integer, system: string, size: integer, page: integer }
---@effect pure
function M.head(bytes)
  if #bytes < LONG then raise("invalid", ("%d bytes are no segment of the log"):format(#bytes)) end
  local magic, info, timeline, start, rest, system, size, page = ("<I2I2I4I8I4xxxxI8I4I4"):unpack(bytes)
  if magic & 0xFF00 ~= 0xD000 and magic & 0xFF00 ~= 0xD100 or info & 2 == 0 or page < 512 or size < page or size % page ~= 0 then
    raise("invalid", "this is no segment of the write-ahead log")
  end
  return { major = MAJOR[magic], magic = magic, timeline = timeline, start = start, system = ("%u"):format(system), size = size, page = page, rest = info & 1 == 1 and rest or 0 }
end

-- Where one is after `count` more bytes of records, headers of pages left out; nil behind the end.
local function advance(head, at, count)
  local page, size = head.page, head.size
  while true do
    local room = page - at % page
    if count <= room then return at + count end
    count, at = count - room, at + room + SHORT
    if at >= size then return nil end
  end
end

-- That many bytes of records from there; nil when they go on behind the end.
local function gather(head, bytes, at, count)
  local page = head.page
  if count <= page - at % page then return bytes:sub(at + 1, at + count) end
  local parts = {}
  while count > 0 do
    if at >= head.size then return nil end
    local piece = math.min(count, page - at % page)
    parts[#parts + 1] = bytes:sub(at + 1, at + piece)
    count, at = count - piece, at + piece + SHORT
  end
  return table.concat(parts)
end

-- Data of a transaction's record begins behind short headers: of the log's origin, of the transaction above, and of itself.
local function time_in(data)
  local at = 1
  while at <= #data do
    local id = data:byte(at)
    if id == 255 then at = at + 2 break
    elseif id == 254 then at = at + 5 break
    elseif id == 253 then at = at + 3
    elseif id == 252 then at = at + 5
    else return nil end
  end
  return #data >= at + 7 and (("<i8"):unpack(data, at)) + EPOCH_US or nil
end

-- On the page that begins there: the first byte behind its header; nil when it is not a page of this very segment.
local function enter(head, bytes, at)
  local magic, _, _, place = ("<I2I2I4I8"):unpack(bytes, at + 1)
  if magic ~= head.magic or place ~= head.start + at then return nil end
  return at + (at == 0 and LONG or SHORT)
end

--- Every commit of a segment, in the order of the log.
---@param bytes string the whole segment
---@param each fun(us: integer, ends: integer, begins: integer) when, in microseconds since 1970, and where its record ends and begins
---@return table head
---@effect pure
function M.commits(bytes, each)
  local head = M.head(bytes)
  if #bytes ~= head.size then raise("invalid", ("a segment of %d bytes has %d"):format(head.size, #bytes)) end
  local at, before = LONG, nil
  if head.rest > 0 then at = advance(head, at, head.rest) end
  while at do
    at = (at + 7) // 8 * 8
    if at >= head.size then break end
    if at % head.page == 0 then at = enter(head, bytes, at) end
    local length = at and ("<I4"):unpack(bytes, at + 1) or 0
    if length < RECORD then break end
    local ends = advance(head, at, length)
    local header = ends and gather(head, bytes, at, RECORD)
    if not header then break end
    local _, _, previous, info, owner = ("<I4I4I8BB"):unpack(header)
    if before and previous ~= before then break end
    before = head.start + at
    local kind = info & 0x70
    if owner == TRANSACTION and (kind == COMMIT or kind == COMMIT_PREPARED) then
      local us = time_in(gather(head, bytes, at, math.min(length, RECORD + 32)):sub(RECORD + 1))
      if us then each(us, head.start + ends, before) end
    elseif owner == XLOG and info & 0xF0 == SWITCH then break end
    at = ends
  end
  return head
end

return M
