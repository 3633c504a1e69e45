--- Copies of what a Redis server has on its disk, from its directory into the folder of backups.
--
-- A snapshot is one file that the server replaces by renaming: whoever has it open reads the whole of one. The append-only file is, since
-- Redis 7, a set: a base, what was appended since, and a manifest that names them, in a directory of their own. The files of a set but the
-- last never change, the last only grows, and a rewrite makes another set and removes this one. So the manifest is read before and after
-- the copy; when it has changed the copy is nothing and is made again.
--
-- The copies of a set carry the name of the backup, and so does the manifest that names them: a Redis whose appenddirname is the folder and
-- whose appendfilename is the manifest's name without ".manifest" starts from it as it stands.

local bytes = require "core.bytes"
local raise = require "core.raise"

local M = {}

--- Copy one file, and read the copy again: it has the bytes that were sent. A file that still grows is copied as far as it is there.
---@param from table folder
---@param name string
---@param to table folder
---@param as string
---@return { name: string, bytes: integer, sha256: string }|userdata copied withheld in a preview
---@effect write
function M.copy(from, name, to, as)
  local source <close> = from:open(name)
  local moved = to:copy_in(source, as, { total = from:size(name) })
  if type(moved) == "userdata" then return moved end
  if to:hash(as) ~= moved.sha256 then raise("remote", ("%s is not what was written to it"):format(as), "Look at the disk it is on.") end
  return { name = as, bytes = moved.bytes, sha256 = moved.sha256 }
end

--- Room that a backup needs: what the server holds in memory, which a snapshot is never larger than by much.
---@param cache table
---@param folder table
---@return boolean fits
---@return string shown
---@effect read
function M.has_room(cache, folder)
  local need, free = cache:info("memory").used_memory, (folder:space())
  return free > need, ("%s are free, the server holds %s in memory"):format(bytes.format(free), bytes.format(need))
end

-- Sets ----------------------------------------------------------------------------------------------------

--- The files that a manifest names, and what each is for.
---@param text string
---@return { name: string, sequence: integer, type: string }[] type: "b" base, "i" appended, "h" to be removed
---@effect pure
function M.manifest(text)
  local files = {}
  for line in text:gmatch("[^\n]+") do
    local name, sequence, type = line:match("^file%s+(%S+)%s+seq%s+(%d+)%s+type%s+(%a)%s*$")
    if not name and not line:find("^#") then
      raise("remote", ("the manifest has a line that nobody knows: %s"):format(line), "It may be that of a newer Redis; or a name with blanks in it.")
    end
    if name and type ~= "h" then files[#files + 1] = { name = name, sequence = math.tointeger(tonumber(sequence)), type = type } end
  end
  return files
end

local function setting(cache, name) return cache:read("CONFIG", "GET", name)[2] end

--- Where the append-only set of the server is: its directory and its manifest, within the server's own directory.
---@param cache table
---@return { directory: string, manifest: string, name: string }|nil nil before Redis 7, where it is one file
---@effect read
function M.set_of(cache)
  local directory = setting(cache, "appenddirname")
  if not directory then return nil end
  local name = setting(cache, "appendfilename")
  return { directory = directory, manifest = ("%s/%s.manifest"):format(directory, name), name = name }
end

local function read_manifest(cache, data)
  local set = M.set_of(cache)
  if not set then raise("remote", "this Redis is older than 7: its append-only file is one file", "Copy the snapshot, which holds everything; or upgrade.") end
  if not data:has(set.manifest) then
    raise("remote", ("there is no %s"):format(set.manifest), "Is the folder the directory of this server, and has the first rewrite ended?")
  end
  return set, data:read(set.manifest)
end

--- What the copy of a set is called in the folder of backups: its manifest, which is written last.
---@param cache table
---@param name string of the backup
---@return string
---@effect read
function M.manifest_copy(cache, name) return ("%s.%s.manifest"):format(name, setting(cache, "appendfilename")) end

--- Copy the append-only set, file by file and the manifest last.
---@param cache table
---@param data table the server's directory
---@param backups table
---@param name string of the backup
---@return { name: string, bytes: integer, sha256: string }[]
---@effect write
function M.copy_set(cache, data, backups, name)
  local set, before = read_manifest(cache, data)
  local copies, lines = {}, {}
  for i, file in ipairs(M.manifest(before)) do
    local as = ("%s.%s"):format(name, file.name)
    local path = ("%s/%s"):format(set.directory, file.name)
    if not data:has(path) then break end                               -- rewritten meanwhile, which the manifest shows
    copies[i] = M.copy(data, path, backups, as)
    lines[i] = ("file %s seq %d type %s\n"):format(as, file.sequence, file.type)
  end
  local _, after = read_manifest(cache, data)
  if after ~= before then raise("remote", "the server rewrote its append-only file while it was copied", "Copy it again.") end
  backups:write(M.manifest_copy(cache, name), table.concat(lines))
  return copies
end

--- Do all files that the copied manifest names lie beside it? Those that do not.
---@param backups table
---@param manifest string
---@return string[] missing
---@return integer files
---@effect read
function M.missing(backups, manifest)
  local missing, files = {}, M.manifest(backups:read(manifest))
  for _, file in ipairs(files) do
    if not backups:has(file.name) then missing[#missing + 1] = file.name end
  end
  return missing, #files
end

--- Remove every file of the backup of this name.
---@param backups table
---@param name string
---@effect destroy
function M.remove(backups, name)
  for _, file in ipairs(backups:list(name .. "*")) do backups:remove(file) end
end

return M
