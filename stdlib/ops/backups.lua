--- The catalogue of backups in a folder: what each one is, whether it was ever restored, which of them may go.
--
--   NAME            the dump
--   NAME.manifest   what it is: rows and shape of every table at its very instant, SHA-256, size, from where, when; written last, so that a
--                   dump with a manifest was made to its end and read back to its end
--   NAME.globals    the roles of the server, without passwords
--   NAME.proof      written by a drill: when it was restored, how long that took
--
-- A manifest is first written as "begun" and names what is being made: a run that died finds its own half and makes it again. Whatever has no
-- manifest is nobody's business here: never listed, never counted, never removed. A proof counts for the bytes it was made with.
--
-- Rejected: telling backups by a pattern of names (what the pattern misses stays for ever, what it hits by accident is lost), a table of
-- backups in a database (it dies with the server), one index file (two hosts write it).

local bytes = require "core.bytes"
local instant = require "core.instant"
local json = require "core.json"
local raise = require "core.raise"
local text = require "client.text"

local M = {}

local ENDINGS <const> = { custom = ".dump", plain = ".sql", directory = ".tar" }
local COMPRESSED <const> = { none = "", gzip = ".gz", zstd = ".zst" }
local BESIDE <const> = { ".manifest", ".globals", ".proof" }
local FIRST <const> = { "name", "state", "database", "server", "taken_at", "format", "compression", "bytes", "sha256" }

--- What a dump is called that begins at this moment.
---@param database string
---@param stamp string what stamp() says
---@param format string
---@param compress string
---@return string
---@effect pure
function M.name(database, stamp, format, compress) return ("%s-%s%s%s"):format(database:gsub("[^%w_.-]", "_"), stamp, ENDINGS[format], COMPRESSED[compress]) end

local function write(folder, name, facts) return folder:write(name, json.encode(facts, { first = FIRST }) .. "\n") end

local function read(folder, name)
  if not folder:has(name) then return nil end
  local facts = text.parse(folder:read(name))
  return type(facts) == "table" and facts or raise("invalid", ("%s is no manifest"):format(name))
end

--- What a backup is, by its manifest; nil for what is not in the catalogue, or not made to its end.
---@param folder table
---@param name string
---@return table|nil manifest { counts, shape, sha256, bytes, format, compression, database, server, taken_at, … }
---@effect read
function M.manifest(folder, name)
  local facts = read(folder, name .. ".manifest")
  return facts and facts.state == "whole" and facts or nil
end

--- When and how it was last restored; nil when it never was, or when the dump is another one now.
---@param folder table
---@param name string
---@return table|nil proof { proven_at, seconds, server, … }
---@effect read
function M.proof(folder, name)
  local proof, manifest = read(folder, name .. ".proof"), M.manifest(folder, name)
  return proof and manifest and proof.sha256 == manifest.sha256 and proof or nil
end

--- Record that a drill brought everything back.
---@param folder table
---@param name string
---@param facts table { proven_at = stamp(), seconds = … }
---@effect write
function M.prove(folder, name, facts)
  local all = { name = name, sha256 = (M.manifest(folder, name) or {}).sha256 }
  for key, value in pairs(facts) do all[key] = value end
  return write(folder, name .. ".proof", all)
end

local function parsed(folder, file)
  local ok, facts = pcall(function () return text.parse(folder:read(file)) end)
  if not ok and raise.of(facts).code ~= "invalid" then error(facts, 0) end
  return ok and type(facts) == "table" and facts or nil
end

-- Read with as few questions as may be: a folder on a host answers each in a round trip.
local function entry(folder, name, there)
  local facts = parsed(folder, name .. ".manifest")
  if not facts or facts.name ~= name or not instant.of_compact(facts.taken_at or "") then return nil end
  local proof = there[name .. ".proof"] and facts.state == "whole" and parsed(folder, name .. ".proof")
  facts.proof = proof and proof.sha256 == facts.sha256 and proof or nil
  return facts
end

--- Every backup of the catalogue, the newest first; the names of everything in the folder that belongs to none of them.
---@param folder table
---@param of? string only of this database
---@return table[] manifests each with `proof` where there is one
---@return string[] strange
---@effect read
function M.list(folder, of)
  local names, there, list, strange = folder:list(), {}, {}, {}
  for _, name in ipairs(names) do there[name] = true end
  for _, file in ipairs(names) do
    local name = file:match("^(.*)%.manifest$")
    local facts = name and entry(folder, name, there)
    if facts and facts.state == "whole" then
      for _, ending in ipairs { "", table.unpack(BESIDE) } do there[name .. ending] = nil end
      if not of or facts.database == of then list[#list + 1] = facts end
    end
  end
  for _, name in ipairs(names) do
    if there[name] then strange[#strange + 1] = name end
  end
  table.sort(list, function (a, b) return a.taken_at > b.taken_at or a.taken_at == b.taken_at and a.name > b.name end)
  return list, strange
end

--- The name of the newest one; nil when there is none.
---@param folder table
---@param wanted? { proven: boolean?, of: string? } proven: of those that a drill restored; of: of this database
---@return string|nil
---@effect read
function M.newest(folder, wanted)
  for _, manifest in ipairs(M.list(folder, wanted and wanted.of)) do
    if not (wanted and wanted.proven) or manifest.proof then return manifest.name end
  end
  return nil
end

--- Is it in the catalogue, and is a file of its size there?
---@param folder table
---@param name string
---@return boolean
---@effect read
function M.has(folder, name)
  local manifest = M.manifest(folder, name)
  return manifest ~= nil and folder:has(name) and folder:size(name) == manifest.bytes
end

--- Has it every byte that was made? Reads all of it.
---@param folder table
---@param name string
---@return boolean
---@return string shown
---@effect read
function M.is_intact(folder, name)
  local manifest = M.manifest(folder, name)
  if not manifest then return false, "it is not in the catalogue" end
  if not folder:has(name) then return false, "the file is gone" end
  if folder:size(name) ~= manifest.bytes then return false, ("it has %d bytes, not %d"):format(folder:size(name), manifest.bytes) end
  local hash = folder:hash(name)
  return hash == manifest.sha256, ("SHA-256 %s, %s when it was made"):format(hash, manifest.sha256)
end

-- ---- making ----

--- Why a backup of this name cannot be made; nil when it can. What is there is never written over but the half of the same name.
---@param folder table
---@param name string
---@return string|nil
---@effect read
function M.taken(folder, name)
  for _, ending in ipairs(BESIDE) do
    if name:sub(-#ending) == ending then return ("a backup cannot be called \"%s\": that is what belongs to one"):format(name) end
  end
  local facts = read(folder, name .. ".manifest")
  if facts and facts.state == "whole" then return ("there is a backup \"%s\" already, of %s"):format(name, facts.taken_at) end
  if not facts and folder:has(name) then return ("there is a file \"%s\" already, and it is in no catalogue"):format(name) end
  return nil
end

-- What stands in the dump at its instant. Of chosen tables only they, and nothing else.
local function facts_of(now, given)
  local counts, shape = now:counts(), now:shape()
  if given.tables then
    local some, hashes = {}, {}
    for _, table_name in ipairs(given.tables) do
      local whole = table_name:find(".", 1, true) and table_name or "public." .. table_name
      some[whole], hashes[whole] = counts[whole], shape[whole]
    end
    counts, shape = some, hashes
  end
  if given.schema_only then for key in pairs(counts) do counts[key] = 0 end end
  return counts, shape
end

-- One instant, one pass: rows and shape in the snapshot that the dump is of, hashed while it flows.
local function copy(db, folder, name, given)
  local now <close> = db:snapshot()
  local counts, shape = facts_of(now, given)
  local dump <close> = db:dump { format = given.format, snapshot = now, tables = given.tables, schema_only = given.schema_only }
  local moved = folder:copy_in(dump, name, { compress = given.compress ~= "none" and given.compress or nil, within = given.within, stall = given.stall })
  return moved, counts, shape
end

local function make(db, folder, name, given)
  local card = db:card()
  local moved, counts, shape = copy(db, folder, name, given)
  local read_back = db:read_dump { folder, name }
  if read_back.sha256 ~= moved.written_sha256 then
    raise("remote", ("%s is not what was written to it"):format(name), "Look at the disk it is on: what it gives back is not what it was given.")
  end
  local globals
  if given.globals then
    local roles <close> = db:dump { globals = true }
    globals = folder:copy_in(roles, name .. ".globals").sha256
  end
  return { state = "whole", name = name, database = card.database, server = card.id:match("^(.*)/") or card.id, server_version = card.version:match("^%S+"),
    made_by = read_back.made_by, taken_at = given.at, format = read_back.format, compression = read_back.compression, bytes = read_back.bytes,
    sha256 = read_back.sha256, counts = counts, shape = shape, tables = given.tables, schema_only = given.schema_only or nil, globals = globals }
end

--- Make a backup: the dump, read back to its end, and then its manifest. Refused where there is something of that name.
---@param db table the database
---@param folder table
---@param name string
---@param given { at: string, format: string, compress: string, tables: string[]?, schema_only: boolean?, globals: boolean?, within: string?, stall: string? } at: what stamp() says
---@return table manifest withheld in a preview
---@effect write
function M.take(db, folder, name, given)
  local why = M.taken(folder, name)
  if why then raise("refused", why, "Give it another name; an old backup is not written over.") end
  local begun = write(folder, name .. ".manifest", { state = "begun", name = name, taken_at = given.at })
  if type(begun) == "userdata" then
    folder:copy_in(nil, name)
    if given.globals then folder:copy_in(nil, name .. ".globals") end
    return begun
  end
  local ok, manifest = pcall(make, db, folder, name, given)
  if not ok then
    pcall(M.discard, folder, name)                    -- nothing of a name that is no backup
    error(manifest, 0)
  end
  write(folder, name .. ".manifest", manifest)
  return manifest
end

--- Remove a backup and what belongs to it; the manifest goes last, so that what is left of a removal that broke off is still known.
---@param folder table
---@param name string
---@effect destroy
function M.discard(folder, name)
  for _, file in ipairs { name, name .. ".globals", name .. ".proof", name .. ".manifest" } do
    if folder:has(file) then folder:remove(file) end
  end
end

-- ---- judging ----

local function total(counts)
  local rows, tables = 0, 0
  for _, count in pairs(counts) do rows, tables = rows + count, tables + 1 end
  return rows, tables
end

--- "41 tables, 20000 rows, 1.2 MiB".
---@param manifest table
---@return string
---@effect pure
function M.shown(manifest)
  local rows, tables = total(manifest.counts)
  return ("%d tables, %d rows, %s"):format(tables, rows, bytes.format(manifest.bytes))
end

local function is_alike(a, b)
  return a.database == b.database and a.format == b.format and a.compression == b.compression and (a.schema_only or false) == (b.schema_only or false)
    and table.concat(a.tables or {}, ",") == table.concat(b.tables or {}, ",")
end

--- Is it as large as its forerunners let expect: at least so many percent of the middle one of the last seven of its kind?
---@param folder table
---@param name string
---@param percent integer
---@return boolean
---@return string shown
---@effect read
function M.is_large_enough(folder, name, percent)
  local manifest, sizes = M.manifest(folder, name), {}
  for _, other in ipairs(M.list(folder, manifest.database)) do
    if other.name ~= name and other.taken_at <= manifest.taken_at and is_alike(manifest, other) and #sizes < 7 then sizes[#sizes + 1] = other.bytes end
  end
  if #sizes == 0 then return true, "it is the first of its kind" end
  table.sort(sizes)
  local middle = sizes[#sizes // 2 + 1]
  return manifest.bytes * 100 >= middle * percent, ("%s, %s is usual"):format(bytes.format(manifest.bytes), bytes.format(middle))
end

--- Room for another one: a fifth more than the newest of that database, or than the database itself where there is none.
---@param db table
---@param folder table
---@return boolean
---@return string shown
---@effect read
function M.has_room(db, folder)
  local newest = M.list(folder, db:card().database)[1]
  local need, free = newest and newest.bytes or db:value "SELECT pg_database_size(current_database())", (folder:space())
  return free > need * 1.2, ("%s are free, about %s are needed"):format(bytes.format(free), bytes.format(need))
end

return M
