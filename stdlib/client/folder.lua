--- A directory as a target, of this machine or of a host: names inside it, never outside.
--
--   migrations = folder { path = "/srv/app/prisma/migrations" }
--   backups = folder { path = "/srv/backups", on = "iris" }
--
-- The words are the same in both places; on a host they go through its session (client/folder_remote.lua).
-- A name is relative to the folder and has no ".." in it, so that what a runbook can reach is what its inventory
-- names. A link that lies in the folder is followed; whoever can lay links there owns the folder anyway.
-- Patterns are those of a shell ("*.sql"): "*" and "?" do not cross a "/".

local bytes = require "core.bytes"
local copy = require "client.copy"
local file = require "native.file"
local raise = require "core.raise"
local remote = require "client.folder_remote"
local system = require "native.system"
local temporary = require "client.temporary"

local M = { kind = "folder" }

M.fields = {
  path = { type = "string", help = "the directory; a relative one counts from where neap is started" },
  on = { type = "string", help = "the host of this environment that it lies on" },
  pin = { type = "string", help = "the identity it must have: \"file:/srv/app/migrations\", \"host:SHA256:…/srv/backups\"" },
}

local methods, guardians = {}, {}
local meta = { __index = methods, __name = "folder" }

local function absolute(path)
  if path:sub(1, 1) ~= "/" then path = system.cwd() .. "/" .. path end
  return system.realpath(path) or path
end

--- Bind a folder of the inventory.
---@param role string
---@param spec { path: string, on: string? }
---@param context? table
---@return table folder
function M.bind(role, spec, context)
  if type(spec.path) ~= "string" or spec.path == "" then
    raise("config", ("folder \"%s\" has no path"):format(role), "Write folder { path = \"/srv/app/migrations\" } in the inventory.")
  end
  local object = { kind = M.kind, role = role, context = context or {}, methods = methods, guardians = guardians }
  if spec.on then
    object.place = context.target(spec.on, { "host" })
    object.root, object.files = remote.root(role, spec.path), remote.files(object.place)
  else
    object.root, object.files = absolute(spec.path), file
  end
  return setmetatable(object, meta)
end

local function inside(self, name)
  if type(name) ~= "string" or name == "" then raise("usage", "a name in a folder is a string that is not empty") end
  if name:sub(1, 1) == "/" or ("/" .. name .. "/"):find("/../", 1, true) then
    raise("usage", ("\"%s\" leads out of the folder \"%s\""):format(name, self.role), "Name things relative to the folder, without \"..\".")
  end
  return (self.root == "/" and "" or self.root) .. "/" .. name
end

-- What an error calls a file of it.
local function known_as(self, path) return self.place and ("%s on %s"):format(path, self.place.name) or path end

-- Whose write it is, is not the runbook's to say: who is asked about it after a run died is found by its role.
local function options(self, given)
  local all = {}
  for key, value in pairs(given or {}) do all[key] = value end
  all.role = self.role
  return all
end

local function id_of(self) return (self.place and remote.id(self.place) or "file:") .. self.root end

-- What is begun under this name is in the ledger before it is.
local function enter(self, name, always)
  return temporary.enter(self, name, function () return id_of(self) .. "/" .. name end, always)
end

--- Where a name of the folder is, as an absolute path.
---@param name? string
---@return string
---@effect pure
function methods:path(name)
  return name and inside(self, name) or self.root
end

--- The role of the host it lies on; nil: this machine.
---@return string|nil
---@effect pure
function methods:host() return self.place and self.place.role end

-- "a?b*.sql" -> a Lua pattern for the whole name.
local function pattern_of(glob)
  local escaped = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0")
  return "^" .. escaped:gsub("%*", "[^/]*"):gsub("%?", "[^/]") .. "$"
end

--- The names in the folder, sorted by bytes; with a pattern ("*.sql", "2026/*") those that fit.
---@param pattern? string
---@return string[]
---@effect read
function methods:list(pattern)
  local below, glob = "", pattern
  if pattern then
    below, glob = pattern:match("^(.-)([^/]*)$")
    if below:find("[*?]") then raise("usage", ("\"%s\" has a wildcard before its last \"/\""):format(pattern)) end
  end
  local dir = below == "" and self.root or inside(self, (below:gsub("/+$", "")))
  local names, fits = {}, glob and pattern_of(glob)
  for _, entry in ipairs(raise.check(self.files.list(dir, options(self)))) do
    if not fits or entry.name:find(fits) then names[#names + 1] = below .. entry.name end
  end
  return names
end

--- Is there something of that name?
---@param name string
---@return boolean
---@effect read
function methods:has(name)
  return raise.check(self.files.stat(inside(self, name), options(self))) ~= false
end

--- The bytes of a file.
---@param name string
---@param given? { limit: integer } most bytes; 16 MiB when omitted
---@return string
---@effect read
function methods:read(name, given)
  return (raise.check(self.files.read(inside(self, name), options(self, given))))
end

--- The SHA-256 of a file, in hex.
---@param name string
---@return string
---@effect read
function methods:hash(name)
  return (raise.check(self.files.hash(inside(self, name), options(self))))
end

--- The SHA-256 of every file that fits a pattern ("*.sql", "*/migration.sql"), in one question, however many they are.
---@param pattern string
---@return { name: string, sha256: string }[] files sorted by bytes
---@effect read
function methods:hashes(pattern)
  inside(self, pattern)
  if pattern:find("[%[%]\\]") then raise("usage", ("\"%s\" is no pattern"):format(pattern), "A pattern has \"*\" and \"?\", and no brackets.") end
  local found = raise.check(self.files.hashes(self.root, pattern, options(self)))
  table.sort(found, function (a, b) return a.name < b.name end)
  return found
end

--- The size of a file in bytes.
---@param name string
---@return integer
---@effect read
function methods:size(name)
  local stat = raise.check(self.files.stat(inside(self, name), options(self)))
  if not stat then raise("remote", ("there is no \"%s\" in the folder \"%s\""):format(name, self.role)) end
  return stat.size
end

--- Bytes that are free where the folder is, and bytes in all.
---@return integer free
---@return integer total
---@effect read
function methods:space()
  local space = raise.check(self.files.space(self.root, options(self)))
  return space.free, space.total
end

--- Write a file as a whole: nobody ever sees half of it.
---@param name string
---@param content string|userdata text, a secret, a stream, or a command whose output it is
---@param given? { mode: integer, total: integer, within: string, stall: string } mode of a new file; total: bytes, where they are known
---@return table { bytes: integer, sha256: string, stale: boolean }
---@effect write
function methods:write(name, content, given)
  if copy.is_source(content) then return self:copy_in(content, name, given) end
  enter(self, name)
  return (raise.check(self.files.write(inside(self, name), content, options(self, given))))
end

--- A stream to read from, or with "w" one to write to; a file that is written gets its name when the stream is closed.
---@param name string
---@param mode? "r"|"w"
---@return userdata stream
---@effect write
function methods:open(name, mode)
  if mode == "w" then enter(self, name, true) end
  return (raise.check(self.files.open(inside(self, name), mode or "r", options(self))))
end

--- Copy into the folder, in one pass: from a file of this machine (its path), a stream, or a command that was started: then all it prints,
--- and nothing when it fails.
---@param from string|userdata
---@param name string
---@param given? { mode: integer, total: integer, within: string, stall: string, compress: string, expand: string }
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string }
---@effect write
function methods:copy_in(from, name, given)
  local path, entry = inside(self, name), enter(self, name, true)
  local moved = copy.into(self.context, from, function () return (raise.check(self.files.open(path, "w", options(self, given)))) end, known_as(self, path), given)
  temporary.whole(self, entry)
  return moved
end

--- Copy a file of the folder, in one pass: to a file of this machine (its path) or into a stream, which stays open.
---@param name string
---@param to string|userdata
---@param given? { within: string, stall: string, compress: string, expand: string }
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string }
---@effect write
function methods:copy_out(name, to, given)
  local path = inside(self, name)
  return copy.out(self.context, function () return raise.check(self.files.open(path, "r", options(self))) end, to, known_as(self, path), given)
end

--- Remove a file, a link or an empty directory.
---@param name string
---@effect destroy
function methods:remove(name)
  raise.check(self.files.remove(inside(self, name), options(self)))
  temporary.leave(self, name, function () return id_of(self) .. "/" .. name end)
end

-- Why it could not be listed, when that may be because it is no directory. Asked last: nearly every folder is one.
local function missing(self, err)
  if raise.of(err).code ~= "remote" then error(err, 0) end
  local stat = raise.check(self.files.stat(self.root, options(self)))
  if stat and stat.kind == "directory" then error(err, 0) end
  return stat and "it is a " .. stat.kind .. ", not a directory" or "there is no such directory"
end

--- What this folder is, for the plan.
---@return table card { kind, id, lines }
---@effect read
function methods:card()
  local lines = { { "path", self.root } }
  if self.place then table.insert(lines, 1, { "on", self.place.name }) end
  local listed, names = pcall(self.list, self)
  if listed then
    lines[#lines + 1] = { "entries", tostring(#names) }
    lines[#lines + 1] = { "free", bytes.format((self:space())) }
  else
    lines[#lines + 1] = { "entries", missing(self, names) }
  end
  return { kind = M.kind, id = id_of(self), lines = lines }
end

-- ---- for the engine ----

--- What became of a write whose run died: "done", "not begun" (perhaps a .part lies beside the name), "running" (on a host somebody
--- still writes) or nil. Told by looking: what wrote the file was neap itself, so nothing here can be left working.
---@param self table the folder
---@param evidence table the intent
function guardians.probe(self, evidence)
  local found, err = self.files.probe(evidence)
  if err then error(err, 0) end
  return found == "half" and "not begun" or found      -- nothing has the name before it is whole, and the next write replaces the .part
end

--- Is a file of the ledger, or what was begun of it, still there? Raises {refused} where this is another folder than the one it was made in.
function guardians.there(self, entry)
  temporary.check(self, entry, id_of(self) .. "/" .. entry.name)
  return temporary.there(self.files, inside(self, entry.name), entry, options(self))
end

--- Remove a file of the ledger, and what was begun of it.
---@effect destroy
function guardians.discard(self, entry) temporary.discard(self.files, inside(self, entry.name), entry, options(self)) end

return M
