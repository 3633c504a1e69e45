--- What can be asked about a folder of migrations and the database that records them. Only questions; the words
--- that write are in `ops.migrations`, those about the folder alone in `ops.migration_folder`, what differs between tools in
--- `ops.prisma` and `ops.drizzle`.
--
-- Nothing of the database is remembered between two questions: each asks it, and the folder, again. A database that does
-- not exist has an empty history. Rejected: asking the tool (`migrate status`): it says nothing about edited,
-- missing or late-merged migrations, and its exit code has more than one meaning.

local catalog = require "ops.catalog"
local folders = require "ops.migration_folder"
local raise = require "core.raise"

local history = {}
history.__index = history
for name, method in pairs(folders) do history[name] = method end

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

-- Of rows of a history.
local function counts(row) return row.finished and not row.rolled_back end
local function is_edited(row) return row.known and not row.matches end
local function is_missing(row) return not row.known end

local function names_of(rows)
  local names = {}
  for i, row in ipairs(rows) do names[i] = row.name end
  return names
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

-- Questions about the database ----------------------------------------------------------------------------

--- Every row of the history with what the folder says about it: `known` (a folder or entry of that name is
--- here), `matches` (its checksum is the file's), `failed` (begun, neither finished nor rolled back).
---@return { name: string, checksum: string, finished: boolean, rolled_back: boolean, failed: boolean, steps: integer?, known: boolean, matches: boolean, started_at: string?, logs: string? }[] rows
---@return table[] files
---@return string[] faults of the folder
---@effect read
function history:recorded()
  local files, faults = self:files()
  if not self.db:exists(self.database) then return {}, files, faults end
  local db, from, dialect = self:there(), self:from(), self:dialect()
  if not db:has("SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL", from) then return {}, files, faults end
  local rows, by_name = dialect.recorded(db, from, files), {}
  for _, file in ipairs(files) do by_name[file.name] = file end
  for _, row in ipairs(rows) do
    local file = by_name[row.name]
    row.known, row.matches = file ~= nil, file ~= nil and file.sha256 == row.checksum
    row.failed = not row.finished and not row.rolled_back
  end
  return rows, files, faults
end

--- The rows that count: finished and not rolled back.
---@return table[] rows
---@effect read
function history:applied()
  return filter(self:recorded(), counts)
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
  return names_of(filter(self:applied(), is_edited))
end

--- Migrations that the database has and the folder has not.
---@return string[] names
---@effect read
function history:missing()
  return names_of(filter(self:applied(), is_missing))
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
  local rows, files, list = self:recorded()
  for _, row in ipairs(rows) do
    if row.failed then
      list[#list + 1] = ("%q failed (begun %s) and was not settled: %s"):format(row.name, row.started_at,
        (row.logs or ""):match("[^\r\n]+") or "the tool kept no text")
    end
  end
  local applied = filter(rows, counts)
  sentences(list, names_of(filter(applied, is_edited)), "%q was edited after it was applied: its checksum is not the file's")
  sentences(list, names_of(filter(applied, is_missing)), "%q is recorded in the database and is not in the folder")
  sentences(list, self:dialect().skipped(files, rows), "%q was merged late: it is older than the newest recorded one, so drizzle would skip it and say nothing")
  local tables = self:tables()
  if #tables > 0 and #rows == 0 then
    list[#list + 1] = ("the database has %d tables and no history, beginning with %s (Prisma's P3005)"):format(#tables, tables[1])
  end
  return list
end

return history
