--- An archive of the log: a folder that archive_command fills, as whole segments beside the histories of timelines and the notes of base backups.
--
-- Whose it is and how large its segments are, one of them tells. Segments are read once: what an archive holds does not change.

local M = {}

local raise = require("core.raise")
local records = require("ops.wal_records")
local wal = require("ops.wal")

local SEGMENT_MOST <const> = 1 << 26

local function head_of(archive, name)
  local stream <close> = archive:open(name, "r")
  local first = ""
  while #first < records.HEAD do
    local piece = raise.check(stream:read(records.HEAD - #first))
    if not piece then break end
    first = first .. piece
  end
  local ok, head = pcall(records.head, first)
  if not ok then raise("invalid", ("\"%s\" in the archive: %s"):format(name, raise.of(head).message), "Only whole segments, as archive_command gets them, can be replayed.") end
  return head
end

--- What an archive holds. names: each file's, with the word "archive"; lost: a timeline whose history is not there.
---@param archive table the folder of segments
---@return { names: table<string, string>, histories: table<integer, table>, lost: integer?, size: integer, system: string, major: integer? }
---@effect read
function M.look(archive)
  local names, histories, sample = {}, {}, nil
  for _, name in ipairs(archive:list()) do
    names[name] = "archive"
    local timeline = name:match("^(%x%x%x%x%x%x%x%x)%.history$")
    if timeline then histories[tonumber(timeline, 16)] = wal.history(archive:read(name)) end
    if not sample and #name == 24 and name:find("^[%dA-F]+$") then sample = name end
  end
  if not sample then raise("check", "the archive holds no segment of the log", "Is it the folder that archive_command fills, and are its files not compressed?") end
  local head, lost = head_of(archive, sample), nil
  for name in pairs(names) do
    local is = wal.segment(name, head.size)
    if is and is.timeline > 1 and not histories[is.timeline] then lost = math.max(lost or 0, is.timeline) end
  end
  if head.size > SEGMENT_MOST then raise("invalid", ("segments of %d bytes are larger than neap reads"):format(head.size)) end
  return { names = names, histories = histories, lost = lost, size = head.size, system = head.system, major = head.major }
end

local known = setmetatable({}, { __mode = "k" })          -- folder -> path -> commits

--- The first and the last commit of one segment (microseconds), and where the last one's record begins; empty where there is none, or nobody
--- can read it.
---@param way table see ops/pitr.lua
---@param name string
---@return { first: integer?, last: integer?, begins: integer? }
---@effect read
function M.commits(way, name)
  local from = way.there[name]
  if from == "packed" then return {} end
  local folder = from == "archive" and way.archive or way.bases
  local path = from == "archive" and name or way.base.name .. "/pg_wal/" .. name
  known[folder] = known[folder] or {}
  if known[folder][path] then return known[folder][path] end
  local found = {}
  local head = records.commits(folder:read(path, { limit = way.size }), function (us, _, begins)
    found.first = found.first or us
    found.last, found.begins = us, begins
  end)
  if head.system ~= way.system then raise("check", ("\"%s\" is of another server: %s, and not %s"):format(name, head.system, way.system), "Two clusters have archived into the same folder.") end
  known[folder][path] = found
  return found
end

return M
