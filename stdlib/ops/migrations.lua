--- Migration histories in words that fit every tool: what a folder holds, what a database has recorded, what is
--- left, what is wrong between the two, and the few things one may do about it.
--
--   local history = migrations.of { folder = folder, db = db, database = "app", tool = migrate }
--
-- The history table is the truth: a tool's exit code and text are only quoted when the table says that the work
-- is not done. Only `resolve`, `forget`, `deploy` and `drop_while_empty` write, each one thing, and each refuses
-- where it would make the history lie. The questions are in `ops.history`.

local history = require "ops.history"
local raise = require "core.raise"

local M = {}

-- Naming --------------------------------------------------------------------------------------------------

local options <const> = {
  folder = true, db = true, database = true, tool = true, config = true, variable = true, schema = true, table = true,
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
    variable = given.variable or "DATABASE_URL", schema = given.schema, table = given.table,
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
  local url = db:url(self:dialect().url)
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

--- Let the tool execute what is pending, and judge by the history whether it did.
---@param names string[] what it is expected to execute
---@effect write
function history:deploy(names)
  local said = self:call(self:dialect().deploy)
  if not said then return end
  local failed = self:failed()[1]
  if failed then complain(self, said, ("%q failed on the server"):format(failed.name)) end
  for _, name in ipairs(names) do
    if not self:has(name) then complain(self, said, ("%q is still pending"):format(name)) end
  end
end

--- Drop the database, if it is there, as long as it holds nothing but a history.
---@effect destroy
function history:drop_while_empty()
  if not self.db:exists(self.database) then return end
  if not self:empty() then raise("check", ("%q is no longer empty and stays"):format(self.database)) end
  self.db:drop_database(self.database)
end

return M
