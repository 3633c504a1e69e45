--- Base backups as pg_basebackup leaves them, one in a directory of a folder: plain, or in the tar format, each with its backup_manifest.
--
-- The manifest tells how large it is and which part of the log it needs, in either format; whose it is only the control file says (and from
-- PostgreSQL 17 on the manifest), which in the tar format is seen when it is unpacked. Without a manifest nobody can tell whether it is whole:
-- such a directory is no base backup here.

local M = {}

local raise = require("core.raise")
local wal = require("ops.wal")

local MANIFEST_MOST <const> = 1 << 27

local function archives_of(names, base)
  local found, spaces = {}, false
  for _, path in ipairs(names) do
    local name = path:sub(#base + 2)
    local stem = name:match("^(.-)%.tar") or name
    if name:find("%.tar") and (stem == "base" or stem == "pg_wal") then found[stem] = path end
    if name:find("^%d+%.tar") or name == "tablespace_map" then spaces = true end
  end
  return found, spaces
end

local known = setmetatable({}, { __mode = "k" })          -- folder -> name -> what it says: read once, because the manifest of a large cluster is large

--- What a directory says of itself; nil where it is no base backup.
---@param bases table the folder of base backups
---@param name string
---@return { name: string, format: "plain"|"tar", data: string?, wal: string?, bytes: integer, from: integer, to: integer, timeline: integer, system: string?, major: integer?, spaces: boolean }|nil
---   data, wal: the archives of a base in the tar format; from, to: the part of the log that makes its files agree; spaces: it has tablespaces
---@effect read
function M.of(bases, name)
  known[bases] = known[bases] or {}
  if known[bases][name] then return known[bases][name] end
  if not bases:has(name .. "/backup_manifest") then return nil end
  local manifest = wal.manifest(bases:read(name .. "/backup_manifest", { limit = MANIFEST_MOST }))
  local range, last = manifest.ranges[1], manifest.ranges[#manifest.ranges]
  if not range then raise("invalid", ("\"%s\": its backup_manifest does not say which part of the log it needs"):format(name), "Take it anew with pg_basebackup.") end
  local found, spaces = archives_of(bases:list(name .. "/*"), name)
  local base = { name = name, bytes = manifest.bytes, from = range.from, to = last.to, timeline = last.timeline, system = manifest.system, format = found.base and "tar" or "plain",
    data = found.base, wal = found.pg_wal, spaces = spaces }
  if base.format == "plain" then
    base.major = math.tointeger(tonumber((bases:read(name .. "/PG_VERSION"):match("%d+"))))
    base.system = ("%u"):format((("<I8"):unpack(bases:read(name .. "/global/pg_control"))))
    base.spaces = spaces or #bases:list(name .. "/pg_tblspc/*") > 0
  end
  known[bases][name] = base
  return base
end

--- Add the segments that it brought along: "base" those that lie beside its files, "packed" those in an archive of their own.
---@param there table<string, string> where each segment is
---@param size integer bytes of a segment
---@effect read
function M.add_segments(there, bases, base, size)
  if base.format == "plain" then
    for _, path in ipairs(bases:list(base.name .. "/pg_wal/*")) do
      local name = path:match("[^/]+$")
      if wal.segment(name, size) then there[name] = there[name] or "base" end
    end
  elseif base.wal then
    for number = base.from // size, (base.to - 1) // size do
      local name = wal.name(base.timeline, number, size)
      there[name] = there[name] or "packed"
    end
  end
end

return M
