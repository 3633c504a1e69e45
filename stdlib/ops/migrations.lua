--- Migration histories in words that fit every tool: what a folder holds, what a database has recorded, what is
--- left, what is wrong between the two, and the few things one may do about it.
--
--   local history = migrations.of { folder = folder, db = db, database = "app", tool = migrate }
--
-- The history table is the truth: a tool's exit code and text are only quoted when the table says that the work
-- is not done. Only `resolve`, `forget`, `roll_back`, `unsettle`, `unrecord`, `revert`,
-- `deploy` and `drop_while_empty` write, each one thing, and each refuses
-- where it would make the history lie. The questions are in `ops.history` and `ops.batch`.
--
-- Settling what failed is `resolve` (all of it is there) or `roll_back` (nothing of it is): both only edit the history, so what they say is
-- proved before (ops.trial). `unsettle` and `unrecord` take back exactly that; neither touches a migration that was executed since.

local batch = require "ops.batch"
local history = require "ops.history"
local raise = require "core.raise"
local script = require "client.script"

local M = {}

for name, method in pairs(batch) do history[name] = method end

-- Naming --------------------------------------------------------------------------------------------------

local options <const> = {
  folder = true, db = true, database = true, tool = true, config = true, variable = true, schema = true, table = true, lock = true,
}

---@class HistoryOptions
---@field folder table the folder of migrations, bound
---@field db? table any database of the server
---@field database? string the database in question
---@field tool? table the migration tool's command
---@field config? string handed to the tool as --config
---@field variable? string environment variable with the URL ("DATABASE_URL")
---@field schema? string where the tool was told to keep its history
---@field table? string and under which name
---@field lock? string how long a statement of the tool may wait for a lock ("10s"); for ever when omitted

--- A history: a folder of migrations, and the database whose table records them.
---@param given HistoryOptions
---@return table history
---@effect pure
function M.of(given)
  for key in pairs(given) do
    if not options[key] then raise("usage", ("a history has no %q"):format(key)) end
  end
  if not given.folder then raise("usage", "a history needs a folder of migrations") end
  return setmetatable({
    folder = given.folder, db = given.db, database = given.database, tool = given.tool, config = given.config,
    variable = given.variable or "DATABASE_URL", schema = given.schema, table = given.table, lock = given.lock,
  }, history)
end

-- Writes --------------------------------------------------------------------------------------------------

--- Run the tool against this database. How it ended is for the caller to judge. `touches` tells a preview that what
--- it would do is done to the database, so that later questions about it are not answered from before.
---@param words string[]
---@return { status: integer, text: string }|nil said nil in a preview: nothing was run
---@effect write
function history:call(words)
  if not self.tool then raise("usage", "this word needs the tool's command") end
  local argv, db = { table.unpack(words) }, self:there()
  if self.config then table.move({ "--config", self.config }, 1, 2, #argv + 1, argv) end
  local url = db:url { prisma = self:dialect().url.prisma, at = self.tool.sees and self.tool:sees(), lock_within = self.lock }
  local result = self.tool:run(argv, { env = { [self.variable] = url }, allow = "any", touches = { db:subject() } })
  if type(result) == "userdata" then return nil end
  return { status = result:status(), text = result:err() .. "\n" .. result:out() }
end

-- Tools warn at length before and after they say what is wrong.
local function words_of(text)
  local words = text:gsub("%s+", " "):match("^%s*(.-)%s*$")
  if words == "" then return "It said nothing." end
  local at = words:find("[Ee]rror") or math.max(#words - 299, 1)
  return "It said: " .. words:sub(at, at + 299)
end

--- The tool did not do it: say so in its words, and in ours.
local function complain(self, said, fact)
  local code = said.text:match("%f[%w]P%d%d%d%d%f[%W]")
  local meaning = code and self:dialect().meaning[code]
  raise("remote", ("%s; the tool ended with status %d"):format(fact, said.status), meaning and ("%s: %s"):format(code, meaning) or words_of(said.text))
end

--- Record a migration as applied without executing it. Prisma's own word does it, or for drizzle the row that
--- the tool would have written.
---@param name string
---@effect write
function history:resolve(name)
  local said = self:dialect().record(self, self:file(name))
  if said and not self:has(name) then complain(self, said, ("%q is still not recorded"):format(name)) end
end

--- Take back the row that `resolve` made, if it is there. Refused once a table exists: then the row is the truth.
---@param name string
---@effect write
function history:forget(name)
  if not self:has(name) then return end
  local tables = self:tables()
  if #tables > 0 then raise("check", ("%q stays recorded: the database has %d tables"):format(name, #tables)) end
  local count = self:there():exec(self:dialect().forget(self:from(), self:file(name))):count()
  if count ~= 1 then raise("check", ("%d rows of %q were taken back instead of one"):format(count, name)) end
end

--- Let the tool execute what is pending, and judge by the history whether it did. Who waits for whom in the database meanwhile is said.
---@param names string[] what it is expected to execute
---@effect write
function history:deploy(names)
  local said = self:there():watched(function () return self:call(self:dialect().deploy) end)
  if not said then return end
  local failed = self:failed()[1]
  if failed then
    local why = (failed.logs or ""):match("ERROR: +([^\r\n]+)")
    complain(self, said, ("%q failed on the server%s"):format(failed.name, why and ": " .. why or ""))
  end
  for _, name in ipairs(self:without(names)) do complain(self, said, ("%q is still pending"):format(name)) end
end

--- Drop the database, if it is there, as long as it holds nothing but a history.
---@effect destroy
function history:drop_while_empty()
  if not self.db:exists(self.database) then return end
  if not self:empty() then raise("check", ("%q is no longer empty and stays"):format(self.database)) end
  self.db:drop_database(self.database)
end

-- Settling what failed ------------------------------------------------------------------------------------

--- The failed migrations, each once, with the rows that say so: what settling one of them is taken back by.
---@return { key: string, ids: string[] }[] items
---@effect read
function history:failures()
  local list, by_name = {}, {}
  for _, row in ipairs(self:failed()) do
    local item = by_name[row.name]
    if not item then
      item = { key = row.name, ids = {} }
      by_name[row.name], list[#list + 1] = item, item
    end
    item.ids[#item.ids + 1] = row.id
  end
  return list
end

--- Is there a failed row of this name?
---@param name string
---@return boolean
---@effect read
function history:has_failed(name)
  for _, row in ipairs(self:failed()) do
    if row.name == name then return true end
  end
  return false
end

--- Record that nothing of a failed migration is there, so that the tool executes it again. It reverts nothing: that comes first.
---@param name string
---@effect write
function history:roll_back(name)
  local said = self:dialect().roll_back(self, name)
  if said and self:has_failed(name) then complain(self, said, ("%q is still recorded as failed"):format(name)) end
end

--- Take back what `resolve` or `roll_back` did about a failed migration: its rows are failed again.
---@param item { key: string, ids: string[] } of `failures`
---@effect write
function history:unsettle(item)
  for _, row in ipairs(self:applied()) do
    if row.name == item.key and row.steps ~= 0 then raise("check", ("%q was executed since and stays as it is"):format(item.key)) end
  end
  local statements = self:dialect().unsettle(self:from(), item.key, item.ids)
  self:there():transaction(function (tx)
    for _, statement in ipairs(statements) do tx:exec(table.unpack(statement)) end
  end)
end

--- Execute the script of that name in a migration's folder on the live database, in one transaction.
---@param name string
---@param file string "down.sql"
---@effect write
function history:revert(name, file) script.execute(self:there(), self.folder:read(name .. "/" .. file)) end

-- A history that is missing -------------------------------------------------------------------------------

--- Has the database tables, and nothing that records where they are from (Prisma's P3005)?
---@return boolean
---@effect read
function history:absent() return #self:tables() > 0 and #self:recorded() == 0 end

--- What is to be recorded when the schema is what the migrations up to `last` leave: items that know what else recording them makes.
---@param last string
---@return { key: string, last: string, makes: { table: boolean, schema: boolean } }[] items
---@effect read
function history:unrecorded(last)
  local list, db = {}, self:there()
  local _, own = self:plain()
  local makes = {
    table = not db:has("SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL", self:from()),
    schema = not db:has("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", own),
  }
  self:file(last)
  local names, missing = self:names(), {}
  for _, name in ipairs(self:without(names)) do missing[name] = true end
  for _, name in ipairs(names) do
    if missing[name] then list[#list + 1] = { key = name, last = last, makes = makes } end
    if name == last then return list end
  end
end

--- Take back the row that recording an item of `unrecorded` made, and with the last of them what was made to hold them.
---@param item { key: string, last: string, makes: { table: boolean, schema: boolean } }
---@effect write
function history:unrecord(item)
  local later, applied = false, {}
  for _, row in ipairs(self:applied()) do applied[row.name] = true end
  for _, name in ipairs(self:names()) do
    if later and applied[name] then raise("check", ("%q stays recorded: %q was executed after it"):format(item.key, name)) end
    later = later or name == item.last
  end
  local db, from, _, own = self:there(), self:from(), self:plain()
  if applied[item.key] then db:exec(self:dialect().forget(from, self:file(item.key))) end
  if item.makes.table and #self:recorded() == 0 then db:exec("DROP TABLE IF EXISTS " .. from) end
  if item.makes.schema and #self:recorded() == 0 then db:exec("DROP SCHEMA IF EXISTS " .. self.quote(own)) end
end

return M
