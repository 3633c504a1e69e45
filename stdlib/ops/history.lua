--- What can be asked about a folder of migrations and the database that records them. Only questions; the words
--- that write are in `ops.migrations`, what differs between tools in `ops.prisma` and `ops.drizzle`.
--
-- Nothing is remembered between two questions: each asks the folder and the database again. A database that does
-- not exist has an empty history. Rejected: asking the tool (`migrate status`): it says nothing about edited,
-- missing or late-merged migrations, and its exit code has more than one meaning.

local catalog = require "ops.catalog"
local ddl = require "core.ddl"
local drizzle = require "ops.drizzle"
local prisma = require "ops.prisma"
local raise = require "core.raise"
local sql = require "client.sql"

local dialects <const> = { prisma, drizzle }

local history = {}
history.__index = history

--- An identifier as PostgreSQL reads it.
---@param name string
---@return string
---@effect pure
function history.quote(name)
  return '"' .. name:gsub('"', '""') .. '"'
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

local function filter(list, keep)
  local kept = {}
  for _, item in ipairs(list) do
    if keep(item) then kept[#kept + 1] = item end
  end
  return kept
end

local function names_of(rows)
  local names = {}
  for i, row in ipairs(rows) do names[i] = row.name end
  return names
end

--- The tool this folder belongs to.
---@return table dialect with `name` "prisma" or "drizzle"
---@effect read
function history:dialect()
  for _, dialect in ipairs(dialects) do
    if dialect.knows(self.folder) then return dialect end
  end
  raise("check", "the folder is neither Prisma's nor drizzle's",
    "A Prisma folder has migration_lock.toml, a drizzle folder has meta/_journal.json.")
end

--- Schema and name of the history table, as they are and joined by a dot.
---@return string plain
---@return string schema
---@return string table
---@effect read
function history:plain()
  local dialect = self:dialect()
  local schema, name = self.schema or dialect.schema, self.table or dialect.table
  return schema .. "." .. name, schema, name
end

--- The history table, quoted.
---@return string
---@effect read
function history:from()
  local _, schema, name = self:plain()
  return self.quote(schema) .. "." .. self.quote(name)
end

--- The database in question, bound, whether or not it exists.
---@return table db
---@effect pure
function history:there()
  if not self.db or not self.database then raise("usage", "this question needs a db and a database") end
  return self.db:on(self.database)
end

-- Questions about the folder ------------------------------------------------------------------------------

--- The migrations of the folder, in the order in which the tool takes them.
---@return { name: string, file: string, sha256: string, when: integer? }[] files
---@return string[] faults what is wrong with the folder, in sentences
---@effect read
function history:files()
  local files, faults = self:dialect().files(self.folder)
  for _, file in ipairs(files) do file.sha256 = self.folder:hash(file.file) end
  return files, faults
end

--- Their names.
---@return string[]
---@effect read
function history:names()
  return names_of((self:dialect().files(self.folder)))
end

--- The names somebody means: none given: all but the last; one number: so many from the beginning; else the very list.
---@param given string[]|nil
---@return string[]
---@effect read
function history:superseded(given)
  if given and not (#given == 1 and given[1]:match("^%d+$")) then return given end
  local names = self:names()
  local count = given and math.tointeger(tonumber(given[1])) or #names - 1
  return table.move(names, 1, math.max(math.min(count, #names), 0), 1, {})
end

--- One migration of the folder, by its exact name.
---@param name string
---@return { name: string, file: string, sha256: string, when: integer? }
---@effect read
function history:file(name)
  local files = self:files()
  for _, file in ipairs(files) do
    if file.name == name then return file end
  end
  raise("check", ("the folder has no migration %q"):format(name), "Names are exact: it has " .. table.concat(names_of(files), ", ") .. ".")
end

--- What these migrations leave behind on an empty database, executed in this order.
---@param names string[]
---@return { tables: string[], enums: string[], uses: string[] } see core.ddl
---@effect read
function history:makes(names)
  local scripts = {}
  for i, name in ipairs(names) do scripts[i] = self.folder:read(self:file(name).file) end
  return ddl.read(scripts)
end

--- These migrations as statements, in this order.
---@param names string[]
---@return { name: string, statements: string[] }[]
---@effect read
function history:scripts(names)
  local list, pieces = {}, self:dialect().pieces
  for i, name in ipairs(names) do
    list[i] = { name = name, statements = {} }
    for _, piece in ipairs(pieces(self.folder:read(self:file(name).file))) do
      local found = sql.split(piece)
      table.move(found, 1, #found, #list[i].statements + 1, list[i].statements)
    end
  end
  return list
end

-- Questions about the database ----------------------------------------------------------------------------

--- Every row of the history with what the folder says about it: `known` (a folder or entry of that name is
--- here), `matches` (its checksum is the file's), `failed` (begun, neither finished nor rolled back).
---@return { name: string, checksum: string, finished: boolean, rolled_back: boolean, failed: boolean, steps: integer?, known: boolean, matches: boolean, started_at: string?, logs: string? }[] rows
---@return table[] files
---@effect read
function history:recorded()
  local files, dialect = self:files(), self:dialect()
  if not self.db:exists(self.database) then return {}, files end
  local db, from = self:there(), self:from()
  if not db:has("SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL", from) then return {}, files end
  local rows, by_name = dialect.recorded(db, from, files), {}
  for _, file in ipairs(files) do by_name[file.name] = file end
  for _, row in ipairs(rows) do
    local file = by_name[row.name]
    row.known, row.matches = file ~= nil, file ~= nil and file.sha256 == row.checksum
    row.failed = not row.finished and not row.rolled_back
  end
  return rows, files
end

--- The rows that count: finished and not rolled back.
---@return table[] rows
---@effect read
function history:applied()
  return filter(self:recorded(), function (row) return row.finished and not row.rolled_back end)
end

--- Is this migration recorded as applied, executed or not?
---@param name string
---@return boolean
---@effect read
function history:has(name)
  return #filter(self:applied(), function (row) return row.name == name end) > 0
end

--- Which migrations the tool would execute now, by its own rule.
---@return string[] names
---@effect read
function history:pending()
  local rows, files = self:recorded()
  return self:dialect().pending(files, rows)
end

--- Rows that were begun and neither finished nor rolled back; Prisma deploys nothing until they are settled.
---@return table[] rows
---@effect read
function history:failed()
  return filter(self:recorded(), function (row) return row.failed end)
end

--- Migrations whose file is no longer what was applied.
---@return string[] names
---@effect read
function history:edited()
  return names_of(filter(self:applied(), function (row) return row.known and not row.matches end))
end

--- Migrations that the database has and the folder has not.
---@return string[] names
---@effect read
function history:missing()
  return names_of(filter(self:applied(), function (row) return not row.known end))
end

--- Migrations that the tool will pass over in silence, merged late with an older date (drizzle).
---@return string[] names
---@effect read
function history:skipped()
  local rows, files = self:recorded()
  return self:dialect().skipped(files, rows)
end

--- Who holds the tool's own lock in this database.
---@return { pid: integer, application: string, role: string, client: string, since: string }|nil
---@effect read
function history:holder()
  if not self.db:exists(self.database) then return nil end
  return self:dialect().holder(self:there())
end

--- The tables of the database, without the history.
---@return string[] names "schema.table", sorted
---@effect read
function history:tables()
  if not self.db:exists(self.database) then return {} end
  local own = self:plain()
  return filter(catalog.tables(self:there()), function (name) return name ~= own end)
end

--- The enum types of the database.
---@return string[] names "schema.type", sorted
---@effect read
function history:enums()
  if not self.db:exists(self.database) then return {} end
  return catalog.enums(self:there())
end

--- Does the database hold nothing but, at most, a history?
---@return boolean
---@effect read
function history:empty()
  if not self.db:exists(self.database) then return true end
  local own = self:plain()
  return #filter(catalog.relations(self:there()), function (name) return name ~= own and name ~= own .. "_id_seq" end) == 0
end

--- Tables that these migrations do not explain: all of them, but for those made by the ones that the history
--- says were executed.
---@param names string[] the migrations that may have been executed
---@return string[] tables
---@effect read
function history:foreign(names)
  local tables = self:tables()
  if #tables == 0 then return {} end
  local executed = set_of(names_of(filter(self:applied(), function (row) return row.steps ~= 0 end)))
  local made = set_of(self:makes(filter(names, function (name) return executed[name] end)).tables)
  return filter(tables, function (name) return not made[name] end)
end

local function sentences(list, names, sentence)
  for _, name in ipairs(names) do list[#list + 1] = sentence:format(name) end
end

--- Why this folder and this database cannot be trusted together, in sentences; empty when they can.
---@return string[]
---@effect read
function history:obstacles()
  local _, list = self:files()
  for _, row in ipairs(self:failed()) do
    list[#list + 1] = ("%q failed (begun %s) and was not settled: %s"):format(row.name, row.started_at,
      (row.logs or ""):match("[^\r\n]+") or "the tool kept no text")
  end
  sentences(list, self:edited(), "%q was edited after it was applied: its checksum is not the file's")
  sentences(list, self:missing(), "%q is recorded in the database and is not in the folder")
  sentences(list, self:skipped(), "%q was merged late: it is older than the newest recorded one, so drizzle would skip it and say nothing")
  local tables = self:tables()
  if #tables > 0 and #self:recorded() == 0 then
    list[#list + 1] = ("the database has %d tables and no history, beginning with %s (Prisma's P3005)"):format(#tables, tables[1])
  end
  return list
end

return history
