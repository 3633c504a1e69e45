--- What a Redis server has on its disk: snapshots, the append-only file, and when they are whole.
--
-- BGSAVE and BGREWRITEAOF answer at once and work in a child. Until it ends the old file lies there, byte for byte; when it fails the
-- old file stays and LASTSAVE with it. So three things are asked: does anything still work, how did the last one end, and when was
-- what lies there begun. That last one is written into the file itself, which also proves that the folder is this server's.
--
-- Rejected: LASTSAVE alone. It is the time of the end, in seconds, and a save that somebody began before us moves it too.

local instant = require "core.instant"
local raise = require "core.raise"

local M = {}

local function persistence(cache) return cache:info "persistence" end

--- Does no child of the server save or rewrite, and is none about to?
---@param cache table
---@return boolean
---@effect read
function M.is_idle(cache)
  local p = persistence(cache)
  return p.rdb_bgsave_in_progress == 0 and p.aof_rewrite_in_progress == 0 and p.aof_rewrite_scheduled == 0 and p.loading == 0
end

--- What is wrong with persistence, as sentences; nothing when all is well.
---@param cache table
---@return string[]
---@effect read
function M.faults(cache)
  local p, list = persistence(cache), {}
  if p.loading ~= 0 then list[#list + 1] = "the server is still loading its data" end
  if p.rdb_last_bgsave_status ~= "ok" then list[#list + 1] = "the last snapshot failed; its log says why (a full disk, no memory to fork)" end
  if p.aof_enabled == 1 and p.aof_last_bgrewrite_status ~= "ok" then list[#list + 1] = "the last rewrite of the append-only file failed" end
  if p.aof_enabled == 1 and p.aof_last_write_status ~= "ok" then list[#list + 1] = "the last write to the append-only file failed" end
  return list
end

--- The server's clock, in seconds since 1970.
---@param cache table
---@return integer
---@effect read
function M.clock(cache) return math.tointeger(tonumber(cache:read("TIME")[1])) end

--- A name for what is made at this time: "redis-2026-04-25-020005".
---@param seconds integer since 1970
---@return string
---@effect pure
function M.stamp(seconds)
  return ("redis-%s-%s"):format(instant.date(seconds * 1000), (instant.time(seconds * 1000):gsub(":", "")))
end

--- Keys in all databases of the server; neap's own lock and hold in this one are no data.
---@param cache table
---@return integer
---@effect read
function M.keys(cache)
  local total, here = cache:count { match = "*" }, "db" .. cache:card().db
  for name, line in pairs(cache:info "keyspace") do
    if name:find("^db%d+$") and name ~= here then total = total + math.tointeger(tonumber(tostring(line):match("keys=(%d+)") or 0)) end
  end
  return total
end

-- Snapshots -----------------------------------------------------------------------------------------------

--- Begin a snapshot. Is over when is_idle says so.
---@param cache table
---@effect write
function M.begin(cache) cache:write "BGSAVE" end

--- The name of the snapshot in the server's directory.
---@param cache table
---@return string
---@effect read
function M.snapshot(cache) return cache:read("CONFIG", "GET", "dbfilename")[2] end

-- One string of a snapshot's head at this place: the text, and where the next one begins; nil when it is none.
local function head_string(head, at)
  local first = head:byte(at)
  if not first then return nil end
  local kind, rest = first >> 6, first & 63
  if kind == 0 then return head:sub(at + 1, at + rest), at + 1 + rest end
  if kind == 1 and #head > at then
    local length = rest << 8 | head:byte(at + 1)
    return head:sub(at + 2, at + 1 + length), at + 2 + length
  end
  local bytes = kind == 3 and ({ [0] = 1, [1] = 2, [2] = 4 })[rest]
  if not bytes or #head < at + bytes then return nil end
  return tostring((string.unpack("<i" .. bytes, head, at + 1))), at + 1 + bytes
end

--- What a snapshot says of itself: { version =, ctime =, … }, the pairs at its head; nil when it is no snapshot.
---@param head string its first bytes
---@return table<string, string>|nil
---@effect pure
function M.head(head)
  if not head:find("^REDIS%d%d%d%d") then return nil end
  local facts, at = { format = head:sub(6, 9) }, 10
  while head:byte(at) == 0xFA do
    local name, value
    name, at = head_string(head, at + 1)
    if not name then break end
    value, at = head_string(head, at)
    if not value then break end
    facts[name] = value
  end
  return facts
end

local HEAD_BYTES <const> = 1024

--- When the snapshot of this name was begun, in seconds since 1970; nil when there is none, or it is none.
---@param folder table
---@param name string
---@return integer|nil
---@effect read
function M.begun(folder, name)
  if not folder:has(name) then return nil end
  local stream <close> = folder:open(name)
  local facts = M.head(stream:read(HEAD_BYTES) or "")
  return facts and math.tointeger(tonumber(facts.ctime))
end

-- The append-only file ------------------------------------------------------------------------------------

--- Is the append-only file on and whole: nothing is left of the first rewrite, and neither it nor the last write failed?
---@param cache table
---@return boolean
---@effect read
function M.is_appending(cache)
  local p = persistence(cache)
  return p.aof_enabled == 1 and p.aof_rewrite_in_progress == 0 and p.aof_rewrite_scheduled == 0
    and p.aof_last_bgrewrite_status == "ok" and p.aof_last_write_status == "ok"
end

--- Is the rewrite that turning it on began over? Raises when it failed: the server would try again and again.
---@param cache table
---@return boolean
---@effect read
function M.is_rewritten(cache)
  local p = persistence(cache)
  if p.aof_last_bgrewrite_status ~= "ok" then
    raise("remote", "the rewrite that makes the append-only file failed", "The server's log says why: a full disk, no memory to fork (vm.overcommit_memory).")
  end
  return p.aof_rewrite_in_progress == 0 and p.aof_rewrite_scheduled == 0
end

return M
