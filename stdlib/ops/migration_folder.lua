--- What can be asked about a folder of migrations alone: methods of a history (ops.history).
--
-- As few requests as may be: a folder on a host answers each in a round trip, so names and hashes of all files are one. Two things are
-- remembered: which tool a folder belongs to, and what a file holds, by the very SHA-256 that was asked for a moment ago.
-- Rejected: remembering by size and time (a file may be written twice within the clock's step), and reading all files at once (a folder
-- has hundreds, and a question is about one or two).

local ddl = require "core.ddl"
local drizzle = require "ops.drizzle"
local prisma = require "ops.prisma"
local raise = require "core.raise"
local sql = require "client.sql"
local text = require "client.text"

local dialects <const> = { prisma, drizzle }

local folder = {}

local function names_of(files)
  local names = {}
  for i, file in ipairs(files) do names[i] = file.name end
  return names
end

-- By the folder, for as long as a run lasts.
local spoken = setmetatable({}, { __mode = "k" })

--- The tool this folder belongs to.
---@return table dialect with `name` "prisma" or "drizzle"
---@effect read
function folder:dialect()
  if spoken[self.folder] then return spoken[self.folder] end
  for _, dialect in ipairs(dialects) do
    if dialect.knows(self.folder) then
      spoken[self.folder] = dialect
      return dialect
    end
  end
  raise("check", "the folder is neither Prisma's nor drizzle's",
    "A Prisma folder has migration_lock.toml, a drizzle folder has meta/_journal.json.")
end

--- The migrations of the folder, in the order in which the tool takes them.
---@return { name: string, file: string, sha256: string, when: integer? }[] files
---@return string[] faults what is wrong with the folder, in sentences
---@effect read
function folder:files()
  return self:dialect().files(self.folder)
end

--- Their names.
---@return string[]
---@effect read
function folder:names()
  return names_of((self:dialect().files(self.folder)))
end

--- The names somebody means: none given: all but the last; one number: so many from the beginning; else the very list.
---@param given string[]|nil
---@return string[]
---@effect read
function folder:superseded(given)
  if given and not (#given == 1 and given[1]:match("^%d+$")) then return given end
  local names = self:names()
  local count = given and math.tointeger(tonumber(given[1])) or #names - 1
  return table.move(names, 1, math.max(math.min(count, #names), 0), 1, {})
end

--- Some of the migrations, by their exact names.
---@param names string[]
---@return { name: string, file: string, sha256: string, when: integer? }[]
---@effect read
function folder:some(names)
  if #names == 0 then return {} end
  local files, by_name, list = self:files(), {}, {}
  for _, file in ipairs(files) do by_name[file.name] = file end
  for i, name in ipairs(names) do
    list[i] = by_name[name]
      or raise("check", ("the folder has no migration %q"):format(name), "Names are exact: it has " .. table.concat(names_of(files), ", ") .. ".")
  end
  return list
end

--- One of them.
---@param name string
---@return { name: string, file: string, sha256: string, when: integer? }
---@effect read
function folder:file(name) return self:some({ name })[1] end

-- By their SHA-256: what a file held whose hash was just asked for again is what it holds.
local contents = {}

--- What these migrations hold, in this order.
---@param names string[]
---@return { name: string, text: string }[]
---@effect read
function folder:texts(names)
  local list = {}
  for i, file in ipairs(self:some(names)) do
    local held = contents[file.sha256]
    if not held then
      held = { text = self.folder:read(file.file) }
      if text.sha256(held.text) == file.sha256 then contents[file.sha256] = held end
    end
    list[i] = { name = file.name, text = held.text }
  end
  return list
end

--- What these migrations leave behind on an empty database, executed in this order.
---@param names string[]
---@return { tables: string[], enums: string[], uses: string[] } see core.ddl
---@effect read
function folder:makes(names)
  local scripts = {}
  for i, held in ipairs(self:texts(names)) do scripts[i] = held.text end
  return ddl.read(scripts)
end

--- These migrations as statements, in this order.
---@param names string[]
---@return { name: string, statements: string[] }[]
---@effect read
function folder:scripts(names)
  local list, pieces = {}, self:dialect().pieces
  for i, held in ipairs(self:texts(names)) do
    list[i] = { name = held.name, statements = {} }
    for _, piece in ipairs(pieces(held.text)) do
      local found = sql.split(piece)
      table.move(found, 1, #found, #list[i].statements + 1, list[i].statements)
    end
  end
  return list
end

return folder
