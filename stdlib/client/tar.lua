--- One file as a tar archive and back, byte by byte on the way: what the Engine takes and gives instead of files.
--
-- An archive is blocks of 512 bytes: a header, the file, zeros to the end of the block; two blocks of zeros end it. A header before the
-- file's may hold what does not fit into it (PAX records "x" and "g", GNU's long names "L" and "K"). A sum guards each header; nothing guards
-- the file but its size, so whoever copies compares hashes as well.
--
-- Rejected: an archive with many files (a directory is packed where it is, by tar, and moved as one stream).

local M = {}

local raise = require("core.raise")

local BLOCK <const>, RECORD_MOST <const>, PIECE <const> = 512, 1024 * 1024, 64 * 1024

local KINDS <const> = { ["0"] = "file", ["\0"] = "file", ["7"] = "file", ["1"] = "link", ["2"] = "link", ["5"] = "directory", ["3"] = "device", ["4"] = "device",
  ["6"] = "pipe" }

-- ---- making ----

local function octal(value, width)
  local digits = ("%o"):format(value)
  if #digits > width - 1 then return nil end
  return ("0"):rep(width - 1 - #digits) .. digits .. "\0"
end

-- Beyond eight gibibytes: the number in base 256, with the topmost bit set, as GNU tar and Go write and read it.
local function number(value, width) return octal(value, width) or "\x80" .. ("\0"):rep(width - 9) .. (">I8"):pack(value) end

local function block(fields, sum)
  local header = table.concat { fields.name, ("\0"):rep(100 - #fields.name), octal(fields.mode, 8), octal(fields.uid, 8), octal(fields.gid, 8),
    number(fields.size, 12), number(fields.mtime, 12), sum, fields.kind, ("\0"):rep(100), "ustar\00000", ("\0"):rep(32 + 32 + 8 + 8 + 155 + 12) }
  return header
end

local function sum_of(header)
  local sum = 0
  for i = 1, BLOCK do sum = sum + header:byte(i) end
  return sum
end

local function header_of(fields)
  local sum = sum_of(block(fields, (" "):rep(8)))
  return block(fields, ("%06o\0 "):format(sum))
end

local function padding(size) return ("\0"):rep(-size % BLOCK) end

--- What goes before a file of `size` bytes, and what after it.
---@param name string
---@param size integer
---@param more? { mode: integer?, uid: integer?, gid: integer?, mtime: integer? } mtime: seconds
---@return string before
---@return string after
function M.wrap(name, size, more)
  more = more or {}
  local fields = { name = name, size = size, mode = more.mode or tonumber("644", 8), uid = more.uid or 0, gid = more.gid or 0, mtime = more.mtime or 0, kind = "0" }
  local long = ""
  if #name > 99 then
    long = header_of { name = "././@LongLink", size = #name + 1, mode = 0, uid = 0, gid = 0, mtime = 0, kind = "L" } .. name .. "\0" .. padding(#name + 1)
    fields.name = name:sub(1, 99)
  end
  return long .. header_of(fields), padding(size) .. ("\0"):rep(2 * BLOCK)
end

-- ---- reading ----

local function broken(why) raise("protocol", "the archive is broken: " .. why) end

local function exactly(stream, count)
  local parts = {}
  while count > 0 do
    local piece = raise.check(stream:read(count))
    if not piece then broken("it ends too early") end
    parts[#parts + 1] = piece
    count = count - #piece
  end
  return table.concat(parts)
end

local function number_of(field)
  if field:byte(1) & 0x80 ~= 0 then
    local value = (">I8"):unpack(field, #field - 7)
    if value < 0 or field:sub(1, -9) ~= "\x80" .. ("\0"):rep(#field - 9) then broken("a number in it is too large") end
    return value
  end
  local digits = field:match("^ *([0-7]*)[ \0]*$")
  return digits and (tonumber(digits, 8) or 0) or broken("a number in it is none")
end

-- "27 path=a/b\n11 size=7\n"
local function records_of(text, into)
  local at = 1
  while at <= #text do
    local digits = text:match("^(%d+) ", at)
    local length = tonumber(digits)
    local record = length and length > #digits + 1 and text:sub(at, at + length - 1)
    local key, value = (record or ""):sub((digits and #digits or 0) + 2):match("^([^=]+)=(.*)\n$")
    if not key then broken("a record in it is none") end
    into[key] = value
    at = at + length
  end
end

local function text_of(field) return (field:gsub("%z.*$", "")) end

local function check_sum(header)
  local wanted = number_of(header:sub(149, 156))
  if sum_of(header:sub(1, 148) .. (" "):rep(8) .. header:sub(157)) ~= wanted then broken("a header's sum is wrong") end
end

local function extension(stream, kind, size, records)
  if size > RECORD_MOST then broken("a record in it is too long") end
  local text = exactly(stream, size)
  exactly(stream, -size % BLOCK)
  if kind == "x" or kind == "g" then records_of(text, records)
  elseif kind == "L" then records.path = text_of(text)
  else records.linkpath = text_of(text) end
end

--- The first entry of an archive; its bytes come next. Nil when the archive is empty.
---@param stream userdata
---@return { name: string, kind: string, size: integer, mode: integer, mtime_ms: integer, link: string? }? entry
function M.entry(stream)
  local records = {}
  while true do
    local header = exactly(stream, BLOCK)
    if not header:find("[^\0]") then return nil end
    check_sum(header)
    local kind, size = header:sub(157, 157), number_of(header:sub(125, 136))
    if not kind:find("[xgLK]") then
      local link = records.linkpath or text_of(header:sub(158, 257))
      return { name = records.path or text_of(header:sub(1, 100)), kind = KINDS[kind] or "something else", size = math.tointeger(tonumber(records.size)) or size,
        mode = number_of(header:sub(101, 108)) & 4095, uid = number_of(header:sub(109, 116)), gid = number_of(header:sub(117, 124)),
        mtime_ms = number_of(header:sub(137, 148)) * 1000, link = link ~= "" and link or nil }
    end
    extension(stream, kind, size, records)
  end
end

--- Hand the bytes of the entry that was just read to `take`, piece by piece.
---@param stream userdata
---@param size integer
---@param take fun(piece: string)
function M.each_piece(stream, size, take)
  while size > 0 do
    local piece = raise.check(stream:read(math.min(size, PIECE)))
    if not piece then broken("it ends too early") end
    take(piece)
    size = size - #piece
  end
end

return M
