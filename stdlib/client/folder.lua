--- A directory of this machine as a target: names inside it, never outside.
--
--   migrations = folder { path = "/srv/app/prisma/migrations" }
--
-- A name is relative to the folder and has no ".." in it, so that what a runbook can reach is what its inventory
-- names. A link that lies in the folder is followed; whoever can lay links there owns the folder anyway.
-- Patterns are those of a shell ("*.sql"): "*" and "?" do not cross a "/".

local bytes = require "core.bytes"
local file = require "native.file"
local raise = require "core.raise"
local system = require "native.system"

local M = { kind = "folder" }

M.fields = {
  path = { type = "string", help = "the directory; a relative one counts from where neap is started" },
  pin = { type = "string", help = "the identity it must have: \"file:/srv/app/migrations\"" },
}

local methods, guardians = {}, {}
local meta = { __index = methods, __name = "folder" }

local function absolute(path)
  if path:sub(1, 1) ~= "/" then path = system.cwd() .. "/" .. path end
  return system.realpath(path) or path
end

--- Bind a folder of the inventory.
---@param role string
---@param spec { path: string }
---@return table folder
function M.bind(role, spec)
  if type(spec.path) ~= "string" or spec.path == "" then
    raise("config", ("folder \"%s\" has no path"):format(role), "Write folder { path = \"/srv/app/migrations\" } in the inventory.")
  end
  return setmetatable({ kind = M.kind, role = role, root = absolute(spec.path), methods = methods, guardians = guardians }, meta)
end

local function inside(self, name)
  if type(name) ~= "string" or name == "" then raise("usage", "a name in a folder is a string that is not empty") end
  if name:sub(1, 1) == "/" or ("/" .. name .. "/"):find("/../", 1, true) then
    raise("usage", ("\"%s\" leads out of the folder \"%s\""):format(name, self.role), "Name things relative to the folder, without \"..\".")
  end
  return self.root .. "/" .. name
end

local function options(self, given)
  local all = { role = self.role }
  for key, value in pairs(given or {}) do all[key] = value end
  return all
end

--- Where a name of the folder is, as an absolute path.
---@param name? string
---@return string
---@effect pure
function methods:path(name)
  return name and inside(self, name) or self.root
end

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
  for _, entry in ipairs(raise.check(file.list(dir, options(self)))) do
    if not fits or entry.name:find(fits) then names[#names + 1] = below .. entry.name end
  end
  return names
end

--- Is there something of that name?
---@param name string
---@return boolean
---@effect read
function methods:has(name)
  return raise.check(file.stat(inside(self, name), options(self))) ~= false
end

--- The bytes of a file.
---@param name string
---@param given? { limit: integer } most bytes; 16 MiB when omitted
---@return string
---@effect read
function methods:read(name, given)
  return (raise.check(file.read(inside(self, name), options(self, given))))
end

--- The SHA-256 of a file, in hex.
---@param name string
---@return string
---@effect read
function methods:hash(name)
  return (raise.check(file.hash(inside(self, name), options(self))))
end

--- The size of a file in bytes.
---@param name string
---@return integer
---@effect read
function methods:size(name)
  local stat = raise.check(file.stat(inside(self, name), options(self)))
  if not stat then raise("remote", ("there is no \"%s\" in the folder \"%s\""):format(name, self.role)) end
  return stat.size
end

--- Bytes that are free where the folder is, and bytes in all.
---@return integer free
---@return integer total
---@effect read
function methods:space()
  local space = raise.check(file.space(self.root, options(self)))
  return space.free, space.total
end

--- Write a file as a whole: nobody ever sees half of it.
---@param name string
---@param content string|userdata text or a secret
---@param given? { mode: integer } mode of a new file
---@return table { bytes: integer, sha256: string, stale: boolean }
---@effect write
function methods:write(name, content, given)
  return (raise.check(file.write(inside(self, name), content, options(self, given))))
end

--- A stream to read from, or with "w" one to write to; a file that is written gets its name when the stream is closed.
---@param name string
---@param mode? "r"|"w"
---@return userdata stream
---@effect write
function methods:open(name, mode)
  return (raise.check(file.open(inside(self, name), mode or "r", options(self))))
end

--- Remove a file, a link or an empty directory.
---@param name string
---@effect destroy
function methods:remove(name)
  raise.check(file.remove(inside(self, name), options(self)))
end

--- What this folder is, for the plan.
---@return table card { kind, id, lines }
---@effect read
function methods:card()
  local stat = raise.check(file.stat(self.root, options(self)))
  local lines = { { "path", self.root } }
  if not stat then lines[2] = { "entries", "there is no such directory" }
  elseif stat.kind ~= "directory" then lines[2] = { "entries", "it is a " .. stat.kind .. ", not a directory" }
  else
    lines[2] = { "entries", tostring(#self:list()) }
    lines[3] = { "free", bytes.format((self:space())) }
  end
  return { kind = M.kind, id = "file:" .. self.root, lines = lines }
end

-- ---- for the engine ----

--- What became of a write whose run died: "done", "not begun", "half" (a .part lies beside the name) or nil. Told by looking:
--- what wrote the file was neap itself, so nothing can be left working.
---@param _ table the folder
---@param evidence table the intent
function guardians.probe(_, evidence)
  local found, err = file.probe(evidence)
  if err then error(err, 0) end
  return found
end

return M
