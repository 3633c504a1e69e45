--- The write-ahead log by its names: segments, timelines, what a base backup says of itself, and where an archive has a gap. Pure: text in,
-- tables out; who reads the files is std.pitr.
--
-- A segment is called TTTTTTTTHHHHHHHHLLLLLLLL: timeline, then the segment's number in two parts whose second counts how many fit into 4 GiB. So
-- the number depends on the segment size, which only the segments themselves tell (ops/wal_records.lua). A place in the log is a number here, "3/2A000028" as text.
-- A cluster that was promoted goes on on a new timeline, whose history file says where it left the one before: the way to a
-- timeline is a list of timelines with the place each begins at, and the segment that is read last on one is first on the next.
--
-- Rejected: times of files (a copy has the time of the copy), and taking the newest name for the newest segment (names sort by timeline first).

local M = {}

local instant = require("core.instant")
local raise = require("core.raise")

local LOG <const> = 1 << 32

--- "3/2A000028" as a number, nil for anything else.
---@param text string
---@return integer|nil
---@effect pure
function M.place(text)
  local high, low = text:match("^(%x+)/(%x+)$")
  if not high or #high > 8 or #low > 8 then return nil end
  return tonumber(high, 16) << 32 | tonumber(low, 16)
end

--- A number as "3/2A000028".
---@param place integer
---@return string
---@effect pure
function M.text(place) return ("%X/%X"):format(place >> 32, place & (LOG - 1)) end

--- The name of a segment.
---@param timeline integer
---@param number integer which segment, from the beginning of the log
---@param size integer bytes of a segment
---@return string
---@effect pure
function M.name(timeline, number, size)
  local per_log = LOG // size
  return ("%08X%08X%08X"):format(timeline, number // per_log, number % per_log)
end

--- What a segment's name says: { timeline =, number = }; nil for every other name (histories, .backup, .partial, compressed ones).
---@param name string
---@param size integer
---@return { timeline: integer, number: integer }|nil
---@effect pure
function M.segment(name, size)
  local timeline, log, part = name:match("^(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)$")
  if not timeline or name:find("%l") then return nil end
  local per_log = LOG // size
  if tonumber(part, 16) >= per_log then return nil end
  return { timeline = tonumber(timeline, 16), number = tonumber(log, 16) * per_log + tonumber(part, 16) }
end

--- The names of whole segments among these.
---@param names string[]
---@return string[]
---@effect pure
function M.segments(names)
  local list = {}
  for _, name in ipairs(names) do
    if #name == 24 and name:find("^[%dA-F]+$") then list[#list + 1] = name end
  end
  return list
end

--- A history file: where each timeline before it was left, the oldest first.
---@param text string of 00000003.history
---@return { timeline: integer, left_at: integer }[]
---@effect pure
function M.history(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do
    local timeline, at = line:match("^%s*(%d+)%s+(%x+/%x+)")
    local place = at and M.place(at)
    if place then list[#list + 1] = { timeline = math.tointeger(tonumber(timeline)), left_at = place }
    elseif not line:find("^%s*#") and line:find("%S") then raise("invalid", ("\"%s\" is no line of a timeline's history"):format(line:sub(1, 80))) end
  end
  return list
end

--- The way from the beginning to a timeline: { timeline =, from = } each, the oldest first.
---@param timeline integer
---@param histories table<integer, table> the parsed history files, by timeline
---@return { timeline: integer, from: integer }[]
---@effect pure
function M.way(timeline, histories)
  local way, from = {}, 0
  for _, before in ipairs(histories[timeline] or {}) do
    way[#way + 1] = { timeline = before.timeline, from = from }
    from = before.left_at
  end
  way[#way + 1] = { timeline = timeline, from = from }
  return way
end

--- Does the way lead over this timeline, at this place?
---@effect pure
function M.leads_over(way, timeline, place)
  for i, one in ipairs(way) do
    local next_one = way[i + 1]
    if one.timeline == timeline then return place >= one.from and (not next_one or place <= next_one.from) end
  end
  return false
end

--- The newest timeline that can be reached from a place on another one, by the histories there are.
---@param timeline integer
---@param place integer
---@param histories table<integer, table>
---@return integer
---@effect pure
function M.newest_timeline(timeline, place, histories)
  local newest = timeline
  for other in pairs(histories) do
    if other > newest and M.leads_over(M.way(other, histories), timeline, place) then newest = other end
  end
  return newest
end

-- The timeline whose segment of that number is read: the newest that had begun in it.
local function timeline_at(way, number, size)
  for i = #way, 1, -1 do
    if way[i].from // size <= number then return way[i].timeline end
  end
  return way[1].timeline
end

--- The segments that are there without a gap, from the place where replay begins.
---@param wanted { from: integer, size: integer, way: table, names: table<string, any> } names: those that are there
---@return { name: string, number: integer, timeline: integer }[] segments
---@return string missing the first that is not there
---@return string|nil beyond a later one that is there all the same: what is missing is then a gap, and not the end
---@effect pure
function M.run(wanted)
  local number, size, list = wanted.from // wanted.size, wanted.size, {}
  local name
  while true do
    local timeline = timeline_at(wanted.way, number, size)
    name = M.name(timeline, number, size)
    if not wanted.names[name] then break end
    list[#list + 1] = { name = name, number = number, timeline = timeline }
    number = number + 1
  end
  local beyond
  for other in pairs(wanted.names) do
    local is = M.segment(other, size)
    if is and is.number > number and is.timeline == timeline_at(wanted.way, is.number, size) and (not beyond or other < beyond) then beyond = other end
  end
  return list, name, beyond
end

--- What backup_label, or the .backup file that the end of a base backup leaves in the archive, says. Times are nil where their zone is only a
-- name: "CST" is three zones.
---@param text string
---@return { start: integer|nil, segment: string|nil, timeline: integer|nil, stop: integer|nil, began_us: integer|nil, ended_us: integer|nil, label: string|nil }
---@effect pure
function M.label(text)
  local function field(name) return text:match("\n" .. name .. ": ([^\n]*)") end
  text = "\n" .. text
  local start, stop = field "START WAL LOCATION", field "STOP WAL LOCATION"
  return {
    start = start and M.place(start:match("^%S+")), segment = start and start:match("file (%x+)"), stop = stop and M.place(stop:match("^%S+")),
    timeline = math.tointeger(tonumber(field "START TIMELINE")), label = field "LABEL",
    began_us = field "START TIME" and instant.parse(field "START TIME") or nil, ended_us = field "STOP TIME" and instant.parse(field "STOP TIME") or nil,
  }
end

--- What backup_manifest says of the whole: the log it needs, its size, and from PostgreSQL 17 on whose it is.
---@param text string
---@return { ranges: { timeline: integer, from: integer, to: integer }[], bytes: integer, system: string|nil }
---@effect pure
function M.manifest(text)
  local ranges, bytes = {}, 0
  local tail = text:match("\"WAL%-Ranges\"%s*:%s*%[(.-)%]") or ""
  for range in tail:gmatch("{(.-)}") do
    local timeline, from, to = range:match("\"Timeline\"%s*:%s*(%d+)"), range:match("\"Start%-LSN\"%s*:%s*\"(.-)\""), range:match("\"End%-LSN\"%s*:%s*\"(.-)\"")
    if timeline and from and to then
      ranges[#ranges + 1] = { timeline = math.tointeger(tonumber(timeline)), from = M.place(from), to = M.place(to) }
    end
  end
  for size in text:gmatch("\"Size\"%s*:%s*(%d+)") do bytes = bytes + math.tointeger(tonumber(size)) end
  return { ranges = ranges, bytes = bytes, system = text:match("\"System%-Identifier\"%s*:%s*(%d+)") }
end

return M
