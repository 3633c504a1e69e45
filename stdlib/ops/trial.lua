--- What the migrations of a folder do to a schema, found out by doing it: in a scratch database, one after the other, the whole
--- schema described (ops.schema) before the first and after each.
--
--   local trial = trials.of(history, scratch "repair")        trial:make()  trial:verdict("20240101_x")  trial:matching()  trial:drop()
--
-- A failed migration is judged by what it changes between the description before it and the one after it, and by where the live database
-- stands on each of those changes:
--
--   none    each is as before               all     each is as after             some    neither
--   silent  it changes rows alone           rows    all, and it changes rows too (no catalogue shows whether those were changed)
--   fails   it fails in the scratch database as well; then it is `none` when the live database is as before in everything, else `some`
--
-- Names decide nothing: a column of the right name and the wrong type is `some`. The descriptions are kept in the scratch database and
-- are written there at the end, in one transaction, so that a trial is there whole or not at all; a run that died in the middle begins
-- it anew. A migration that fails leaves its predecessor's description; which ones failed, and why, is kept too.
--
-- Rejected: reading the SQL (core.ddl sees six kinds of statements, and not what they do to what is there), the tool's own shadow
-- database (`migrate diff` differs from tool to tool and leaves databases behind), a clone of the live database (its rows may be
-- secrets and need not fit, and the question is about the schema).

local catalog = require "ops.catalog"
local raise = require "core.raise"
local schema = require "ops.schema"
local script = require "client.script"
local text = require "client.text"

local M = {}

local trial = {}
trial.__index = trial

--- The trial of a history in a scratch database of that name, made or not.
---@param history table of ops.migrations
---@param name string of the scratch database
---@param given? { rows: string[]? } what a human found out about rows: "NAME=there" or "NAME=missing"
---@return table trial
---@effect pure
function M.of(history, name, given)
  local rows = {}
  for _, said in ipairs(given and given.rows or {}) do
    local of, what = said:match("^(.+)=(%a+)$")
    if what ~= "there" and what ~= "missing" then raise("usage", ("%q says nothing about rows"):format(said), "Write NAME=there or NAME=missing, after looking.") end
    rows[of] = what
  end
  return setmetatable({ history = history, name = name, rows = rows }, trial)
end

function trial:db() return self.history.db:on(self.name) end

-- The history is not what it records.
function trial:except()
  local plain, own = self.history:plain()
  return own == "public" and { plain } or { plain, "schema " .. own }
end

--- The live database as it is now.
---@return table description
---@effect read
function trial:live() return schema.of(self.history:there(), self:except()) end

-- Making it ------------------------------------------------------------------------------------------------

local KEPT <const> = "neap_trial.states"

--- Execute one migration; the server's words when it fails there.
local function attempt(db, sql)
  local ok, err = pcall(script.execute, db, sql)
  if ok then return nil end
  if not (raise.is(err) and (err.sqlstate or err.code == "invalid")) then error(err, 0) end
  return tostring(err.message)
end

--- Make the scratch database, execute the folder's migrations in it, and keep what each of them left.
---@effect write
function trial:make()
  local history, db = self.history, self:db()
  if history.db:exists(self.name) then history.db:drop_database(self.name) end
  history.db:create_database(self.name)
  local states = { { 0, "", schema.of(db, self:except()), nil } }
  for i, held in ipairs(history:texts(history:names())) do
    local failed = attempt(db, held.text)
    states[i + 1] = table.pack(i, held.name, schema.of(db, self:except()), failed)
    states[i + 1].n = 4
  end
  states[1].n = 4
  db:transaction(function (tx)
    tx:exec "CREATE SCHEMA neap_trial"
    tx:exec("CREATE TABLE " .. KEPT .. " (at int PRIMARY KEY, name text NOT NULL, description json NOT NULL, error text)")
    tx:exec_many("INSERT INTO " .. KEPT .. " VALUES ($1::int, $2::text, $3::json, $4::text)", states)
  end)
end

--- Was the trial made to its end?
---@return boolean
---@effect read
function trial:ready()
  return self.history.db:exists(self.name) and self:db():has("SELECT 1 WHERE pg_catalog.to_regclass($1) IS NOT NULL", KEPT)
end

--- Drop the scratch database, if it is there.
---@effect destroy
function trial:drop()
  if self.history.db:exists(self.name) then self.history.db:drop_database(self.name) end
end

-- Asking it -----------------------------------------------------------------------------------------------

--- What one state, by number (0: before the first migration) or by the migration's name, looks like.
---@param at integer|string
---@return { at: integer, name: string, description: table, error: string? }
---@effect read
function trial:state(at)
  local by = math.type(at) == "integer" and "at = $1::int" or "name = $1::text"
  local row = self:db():row("SELECT at, name, description::text AS description, error FROM " .. KEPT .. " WHERE " .. by, at)
  row.description = text.parse(row.description)
  return row
end

--- Which migrations failed in the trial, and the server's words.
---@return table<string, string> errors by name
---@effect read
function trial:errors()
  local errors = {}
  for _, row in ipairs(self:db():rows("SELECT name, error FROM " .. KEPT .. " WHERE error IS NOT NULL")) do errors[row.name] = row.error end
  return errors
end

--- How far the live database is from what the migrations up to this one leave: changes as of schema.diff, from there to here.
---@param at integer|string
---@return table[] changes
---@effect read
function trial:distance(at) return schema.diff(self:state(at).description, self:live()) end

--- The migrations that leave exactly the schema that the live database has. More than one where a migration changes rows alone.
---@return string[] names
---@effect read
function trial:matching()
  local names, live = {}, self:live()
  for _, row in ipairs(self:db():rows("SELECT name, description::text AS description FROM " .. KEPT .. " WHERE at > 0 ORDER BY at")) do
    if #schema.diff(text.parse(row.description), live) == 0 then names[#names + 1] = row.name end
  end
  return names
end

--- The migration whose schema is nearest to the live one, and what still lies between them.
---@return string name
---@return table[] changes as of schema.diff
---@effect read
function trial:nearest()
  local live, name, least = self:live(), nil, nil
  for _, row in ipairs(self:db():rows("SELECT name, description::text AS description FROM " .. KEPT .. " WHERE at > 0 ORDER BY at DESC")) do
    local changes = schema.diff(text.parse(row.description), live)
    if not least or #changes < #least then name, least = row.name, changes end
  end
  return name, least or {}
end

--- What one migration changes, and where the live database stands on it: each change has `place`, "there", "missing" or "other".
---@param name string
---@return table[] changes
---@return table state
---@effect read
function trial:changes(name)
  local state = self:state(name)
  local before, live = self:state(state.at - 1).description, self:live()
  if state.error then
    local list = schema.diff(before, live)
    for _, change in ipairs(list) do change.place = "other" end
    return list, state
  end
  local list = schema.diff(before, state.description)
  for _, change in ipairs(list) do
    local is = live.objects[change.key]
    change.place = is == change.after and "there" or is == change.before and "missing" or "other"
    change.is = is
  end
  return list, state
end

function trial:changes_rows(name)
  for _, statement in ipairs(script.read(self.history:texts({ name })[1].text)) do
    if statement.rows then return true end
  end
  return false
end

-- All there, or nothing to be seen: what rows have to do with it, and what a human said about them.
function trial:with_rows(name, changes)
  local said = self.rows[name]
  if not self:changes_rows(name) then return #changes > 0 and "all" or "silent" end
  if said == "there" then return "all" end
  if #changes > 0 then return said == "missing" and "some" or "rows" end
  return said == "missing" and "none" or "silent"
end

--- How much of a migration the live database has: "none", "all", "some", "silent" or "rows"; see the top.
---@param name string
---@return string verdict
---@return table[] changes each with `place`
---@return string|nil error of the scratch database
---@effect read
function trial:verdict(name)
  local changes, state = self:changes(name)
  if state.error then return #changes == 0 and "none" or "some", changes, state.error end
  local counts = { there = 0, missing = 0, other = 0 }
  for _, change in ipairs(changes) do counts[change.place] = counts[change.place] + 1 end
  if counts.there == #changes then return self:with_rows(name, changes), changes end
  return counts.missing == #changes and "none" or "some", changes
end

--- A verdict as a table to be shown: what of a migration is there, and what is not.
---@param name string
---@return table answer
---@effect read
function trial:table(name)
  local verdict, changes, failed = self:verdict(name)
  local rows = {}
  for i, change in ipairs(changes) do
    rows[i] = { change.key, change.place, change.place == "other" and (change.is or change.after) or nil, change.after, change.before }
  end
  return { title = ("%s: %s"):format(name, verdict), columns = { "object", "is", "found", "after_it", "before_it" }, rows = rows,
    remark = failed and "It fails in the scratch database as well: " .. failed or nil }
end

-- Data ----------------------------------------------------------------------------------------------------

local function quoted(name, history)
  for _, table_name in ipairs(catalog.tables(history:there())) do
    if table_name == name then
      local own, rest = name:match("^([^.]*)%.(.*)$")
      return history.quote(own) .. "." .. history.quote(rest)
    end
  end
end

-- A default that differs from call to call (now(), a sequence) is nobody's value: whatever is not NULL counts.
local function filled(db, from, column, definition)
  local default = definition:match(" DEFAULT (.*)$")
  if default and not default:find("(", 1, true) then
    return db:value(("SELECT count(*) FROM %s WHERE %s IS DISTINCT FROM (%s)"):format(from, column, default))
  end
  return db:value(("SELECT count(%s) FROM %s"):format(column, from))
end

--- What was written since into what a failed migration made: rows of new tables, values in new columns. Empty: taking it back loses nothing.
---@param name string
---@return string[] sentences
---@effect read
function trial:written(name)
  local list, fresh, db = {}, {}, self.history:there()
  for _, change in ipairs((self:changes(name))) do
    local from = not change.before and change.place ~= "missing" and change.home and quoted(change.home, self.history)
    if from and change.key == "table " .. change.home then
      fresh[change.home] = true
      local count = db:value("SELECT count(*) FROM " .. from)
      if count > 0 then list[#list + 1] = ("%s has %d rows"):format(change.home, count) end
    end
  end
  for _, change in ipairs((self:changes(name))) do
    local column = not change.before and change.place ~= "missing" and change.home and not fresh[change.home] and change.key:match("^column (.*)$")
    if column and not (change.is or change.after):find(" GENERATED ", 1, true) then
      local from = quoted(change.home, self.history)
      local count = filled(db, from, self.history.quote(column:sub(#change.home + 2)), change.is or change.after)
      if count > 0 then list[#list + 1] = ("%s holds %d values that are not its default"):format(column, count) end
    end
  end
  return list
end

return M
