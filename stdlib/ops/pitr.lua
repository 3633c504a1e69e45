--- Point-in-time recovery: which moments an archive of the log can take a base backup to, and the way there. Reads names, labels and commits; what
-- is made of it is a cluster of its own (client/cluster.lua).
--
--   pitr.moments(bases, archive)                          what can be reached, as a table for the page
--   pitr.newest(bases, archive, time)                     the base backup to begin from
--   pitr.way { bases =, archive =, base =, time = }       everything about one way, good or not; pitr.truths(way, clock) says what must hold
--
-- The folder of bases holds base backups as pg_basebackup leaves them, one in a directory: plain, or in the tar format. The
-- earliest moment is the end of the base backup: before that its files do not agree with one another. The latest is the last
-- commit in the segments that follow without a gap, because recovery stops at the first commit behind the target and calls it
-- unreached when there is none. For exactly the last commit the place of its record is the target, where a time would find nothing behind it.

local M = {}

local base_backups = require("ops.base_backups")
local bytes = require("core.bytes")
local instant = require("core.instant")
local raise = require("core.raise")
local wal = require("ops.wal")
local wal_archive = require("ops.wal_archive")

-- ---- one way ----

-- When it was over: as the archive's own note of it says, or at the first commit that is behind its end.
local function ended(way)
  local base = way.base
  local note = ("%s.%08X.backup"):format(wal.name(base.timeline, base.from // way.size, way.size), base.from % way.size)
  local us = way.names[note] and wal.label(way.archive:read(note)).ended_us
  if us then return us + 999999 end                    -- it is told in whole seconds
  for i, segment in ipairs(way.segments) do
    if segment.number > (base.to - 1) // way.size then
      local found = wal_archive.commits(way, way.segments[i].name)
      if found.first then return found.first end
    end
  end
  return nil
end

-- The last commit in the segments up to the i-th, and in which it is.
local function last_until(way, i)
  while i >= 1 do
    local found = wal_archive.commits(way, way.segments[i].name)
    if found.last then return found, i end
    i = i - 1
  end
  return {}, 0
end

-- How many segments it takes until one holds a commit behind the target.
local function needed(way, us)
  local low, high = 1, way.latest_in
  while low < high do
    local middle = (low + high) // 2
    local found = last_until(way, middle)
    if found.last and found.last > us then high = middle else low = middle + 1 end
  end
  return low
end

local function trace(way, timeline)
  local base = way.base
  base_backups.add_segments(way.there, way.bases, base, way.size)
  way.timeline = timeline or wal.newest_timeline(base.timeline, base.to, way.histories)
  local leads = wal.way(way.timeline, way.histories)
  if way.timeline ~= base.timeline and not wal.leads_over(leads, base.timeline, base.to) then
    raise("check", ("timeline %d does not lead over \"%s\", which is on timeline %d"):format(way.timeline, base.name, base.timeline), "Leave --timeline out, or name another base backup.")
  end
  way.segments, way.missing, way.beyond = wal.run { from = base.from, size = way.size, way = leads, names = way.there }
  local last, i = last_until(way, #way.segments)
  way.earliest, way.latest, way.latest_at, way.latest_in = ended(way), last.last, last.begins, i
end

local function new_way(bases, archive, seen, base)
  local there = {}
  for name, where in pairs(seen.names) do there[name] = where end
  return { bases = bases, archive = archive, base = base, there = there, names = seen.names, histories = seen.histories, lost = seen.lost, size = seen.size, system = seen.system,
    major = seen.major }
end

--- Every base backup with the moments it can be taken to.
---@param bases table the folder of base backups
---@param archive table the folder of segments
---@param timeline? integer the newest that can be reached when omitted
---@return table[] ways the earliest first
---@effect read
function M.ways(bases, archive, timeline)
  local seen, list = wal_archive.look(archive), {}
  for _, name in ipairs(bases:list()) do
    local base = base_backups.of(bases, name)
    if base then
      local way = new_way(bases, archive, seen, base)
      trace(way, timeline)
      list[#list + 1] = way
    end
  end
  table.sort(list, function (a, b) return a.base.from < b.base.from end)
  return list
end

local function shown(us) return us and instant.exact(us) or nil end

--- What can be reached, for the page.
---@return table grid
---@effect read
function M.moments(bases, archive, timeline)
  local rows = {}
  for i, way in ipairs(M.ways(bases, archive, timeline)) do
    rows[i] = { way.base.name, way.base.format, shown(way.earliest), shown(way.latest), way.timeline, way.beyond and way.missing }
  end
  return { title = "Moments that can be reached", columns = { "base", "format", "from", "to", "timeline", "missing" }, rows = rows,
    remark = "missing: the first segment that is not in the archive, where a later one is." }
end

--- The base backup to begin from: the newest that was over by then; the oldest where none was, so that it is said why not.
---@param time string|nil
---@return string|nil name
---@effect read
function M.newest(bases, archive, time)
  local us, best = time and instant.parse(time), nil
  if not us then return nil end
  for _, way in ipairs(M.ways(bases, archive)) do
    if not best or way.earliest and way.earliest <= us then best = way.base.name end
  end
  if not best then raise("check", "the folder of bases holds no base backup", "It holds directories as pg_basebackup leaves them, each with its backup_manifest.") end
  return best
end

--- Everything about the way from a base backup to a moment. What is wrong with it is for `truths` to say.
---@param wanted { bases: table, archive: table, base: string, time: string, timeline: integer? }
---@return table way
---@effect read
function M.way(wanted)
  local base = base_backups.of(wanted.bases, wanted.base)
  if not base then
    raise("check", ("\"%s\" is no base backup with a backup_manifest"):format(wanted.base), "Without one nobody can tell whether it is whole; take it with pg_basebackup.")
  end
  local way = new_way(wanted.bases, wanted.archive, wal_archive.look(wanted.archive), base)
  trace(way, wanted.timeline)
  way.time, way.us = wanted.time, instant.parse(wanted.time)
  way.log = {}
  for i = 1, way.latest and way.us <= way.latest and needed(way, way.us) or 0 do
    if way.there[way.segments[i].name] == "archive" then table.insert(way.log, way.segments[i].name) end
  end
  for timeline in pairs(way.histories) do table.insert(way.log, ("%08X.history"):format(timeline)) end
  table.sort(way.log)
  way.mark = { base = base.name, time = way.time, timeline = way.timeline, system = way.system }
  way.recovery = { recovery_target_timeline = tostring(way.timeline) }
  if way.us == way.latest then way.recovery.recovery_target_lsn = wal.text(way.latest_at)
  else way.recovery.recovery_target_time = way.time:gsub("Z$", "+00") end
  return way
end

--- The newest timeline that leads over a base backup.
---@param name string|nil
---@return integer|nil
---@effect read
function M.timeline(bases, archive, name)
  local base = name and base_backups.of(bases, name)
  return base and wal.newest_timeline(base.timeline, base.to, wal_archive.look(archive).histories)
end

--- The files of the log that a way needs, and how large a segment is.
---@return string[] names
---@return integer bytes
---@effect pure
function M.log(way) return way.log, way.size end

--- What must hold before anything is made of a way: list of { holds, truth, what is so instead }.
---@param way table
---@param clock integer now, in microseconds since 1970
---@return table[]
---@effect pure
function M.truths(way, clock)
  local base = way.base
  local gap = #way.segments == 0 or way.beyond ~= nil and (not way.latest or way.us > way.latest)
  local first = ("the first missing one is %s%s"):format(way.missing, way.beyond and (", and %s is there"):format(way.beyond) or "")
  local lost = way.lost and ("; timeline %d is in the archive without its %08X.history"):format(way.lost, way.lost) or ""
  return {
    { way.us <= clock, "{time} is not in the future", "it is " .. instant.exact(clock) },
    { not base.system or base.system == way.system, "the archive is of the server that {base} was taken from",
      ("%s is of %s, the archive of %s"):format(base.name, tostring(base.system), way.system) },
    { not base.major or base.major == way.major, "the archive is of the version that {base} is of",
      ("%s is of %s, the archive of %s"):format(base.name, tostring(base.major), tostring(way.major)) },
    { not base.spaces, "{base} has no tablespaces: they would be put where the first cluster has its own", "it has" },
    { not gap, "the archive has every segment from {base} to {time}", first },
    { way.earliest ~= nil and way.us >= way.earliest, "{base} was over before {time}",
      way.earliest and "it ended " .. instant.exact(way.earliest) or "no commit after its end is in the archive" },
    { way.latest ~= nil and way.us <= way.latest, "{time} is not after the last commit in the archive",
      (way.latest and "the last one was at " .. instant.exact(way.latest) or "there is none") .. lost },
  }
end

-- ---- the second cluster ----

-- The state that its mark tells, when it is made of this very way.
local function state_of(second, way)
  local mark = second:look().mark
  for name, value in pairs(way.mark) do
    if not mark or mark[name] ~= value then return nil end
  end
  return mark.state
end

--- Is it made of this way, and unpacked to the end?
---@effect read
function M.is_unpacked(second, way)
  local state = state_of(second, way)
  return state ~= nil and state ~= "begun"
end

--- Was it compared with its manifest?
---@effect read
function M.is_checked(second, way)
  local state = state_of(second, way)
  return state == "checked" or state == "promoted"
end

--- Why nothing can be made there, each reason a sentence. What is ours and belongs to this very way may be gone on with.
---@param spare integer bytes that must stay free
---@return string[]
---@effect read
function M.obstacles(second, way, spare)
  local is, list = second:look(), {}
  local same = is.what == "ours"
  for name, value in pairs(way.mark) do same = same and is.mark[name] == value end
  local function no(...) list[#list + 1] = string.format(...) end
  if is.mark and not same then no("it holds the cluster made from %s for %s by run %s", is.mark.base, is.mark.time, is.mark.run)
  elseif is.closed then no("%s is closed to the user it runs as", is.closed)
  elseif is.what == "foreign" then no("%s is not empty: it holds %s", second:path(), table.concat(is.holds, ", ")) end
  if is.user == "root" then no("PostgreSQL does not run as root: name a user with as = in the inventory") end
  if is.within then no("%s is another cluster, and it would be inside", is.within) end
  local major = second:major()
  if major ~= way.major then no("its programs are of PostgreSQL %d, the log is of %s", major, tostring(way.major)) end
  if is.taken then no("somebody listens on port %d", second:port()) end
  local wants = way.base.bytes + way.base.bytes // 20 + (#way.log + 4) * way.size + spare
  if is.free < wants then no("%s are free, %s are needed", bytes.format(is.free), bytes.format(wants)) end
  return list
end

--- Does it take writes, on a timeline of its own?
---@effect read
function M.is_promoted(second, way)
  if not state_of(second, way) or not second:look().running then return false end
  local replay = second:replay()
  return not replay.recovering and replay.timeline > way.timeline
end

--- Does it stand at the moment: paused there, or promoted from there?
---@effect read
function M.is_replayed(second, way)
  local is = second:look()
  if not is.running or not state_of(second, way) then return false end
  return is.reached and second:replay().paused or M.is_promoted(second, way)
end

--- Where it stands and how it is looked at, in a line.
---@param last_us integer|nil the last transaction's end
---@return string
---@effect read
function M.words(second, last_us)
  local replay = second:replay()
  local stands = replay.recovering and ("paused at %s, last transaction %s"):format(replay.at, shown(last_us) or "before the base backup")
    or ("promoted, on timeline %d"):format(replay.timeline)
  return ("%s; psql -h %s/run -p %d"):format(stands, second:path(), second:port())
end

return M
