--- A rehearsal: the pending migrations run on a clone of the database, before they run on the database.
--
--   rehearsal.run { history = history, into = scratch "rehearsal", names = names, data = false }
--     clone (schema, or everything) ─► is it the same as the original? ─► each migration as the tool would send it, its time and locks
--     measured inside its own transaction ─► marked as rehearsed
--
-- The clone stays until the run's end (its step's `after` drops it): what the database has become is held against it, object by object. It
-- is in the ledger from before it is made. A clone without rows finds statements that the server refuses and objects that come out
-- otherwise than meant; how long a million rows take it cannot say, `data` can.
--
-- Killed half way, a clone has no mark: the next act drops it and begins again. Rejected: CREATE DATABASE … TEMPLATE (wants the original
-- without sessions), rolling back on the original (holds its locks before everybody's eyes), and letting the tool itself run on the clone (it
-- says no more than the server does, and takes seconds for each call).

local raise = require "core.raise"
local schema = require "ops.schema"
local sql = require "client.sql"

local M = {}

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

local function literal(text) return "'" .. text:gsub("'", "''") .. "'" end

-- Which migrations were rehearsed, so that a mark of others is none.
local function mark_of(history, names)
  local words = {}
  for i, file in ipairs(history:some(names)) do words[i] = ("%s %s"):format(file.sha256:sub(1, 12), file.name) end
  return "rehearsed: " .. table.concat(words, ", ")
end

--- Were these migrations rehearsed in a clone of this name, to the end?
---@param history table ops.migrations
---@param into string
---@param names string[]
---@return boolean
---@effect read
function M.is_done(history, into, names)
  if not history.db:exists(into) then return false end
  return history.db:has("SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1 AND pg_catalog.shobj_description(oid, 'pg_database') = $2", into, mark_of(history, names))
end

-- What belongs to the tool's history is not what a migration makes.
local function without_history(history)
  local plain, home = history:plain()
  return { plain, home ~= "public" and "schema " .. home or nil }
end

--- What the two databases do not have in common, in sentences; the tool's own history is left out.
---@param history table
---@param into string the clone
---@return string[] differences
---@effect read
function M.differences(history, into)
  local except = without_history(history)
  return schema.sentences(schema.diff(schema.of(history.db:on(into), except), schema.of(history:there(), except)))
end

local CLOCK <const> = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint"

local LOCKS <const> = [[
SELECT n.nspname || '.' || c.relname AS name, l.mode FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_catalog.pg_backend_pid() AND l.granted AND c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')]]

local STRENGTH <const> = { RowExclusiveLock = 3, ShareUpdateExclusiveLock = 4, ShareLock = 5, ShareRowExclusiveLock = 6, ExclusiveLock = 7, AccessExclusiveLock = 8 }

local function strongest(rows)
  local by_table, list = {}, {}
  for _, row in ipairs(rows) do
    if not by_table[row.name] or STRENGTH[row.mode] > STRENGTH[by_table[row.name]] then by_table[row.name] = row.mode end
  end
  for name, mode in pairs(by_table) do list[#list + 1] = name .. " " .. mode:gsub("Lock$", "") end
  table.sort(list)
  return list
end

-- BEGIN and COMMIT of the script are the tool's business; here each migration is a transaction already.
local function without_transactions(statements)
  local list = {}
  for _, text in ipairs(statements) do
    if not sql.read(text).transaction then list[#list + 1] = text end
  end
  return list
end

-- One migration in a transaction: how long, and which locks. In a preview nothing is asked of a clone that is not there.
local function inside(tx, script, real)
  local begun = real and tx:value(CLOCK)
  for _, text in ipairs(without_transactions(script.statements)) do tx:exec(text) end
  if not real then return { name = script.name } end
  return { name = script.name, us = tx:value(CLOCK) - begun, locks = strongest(tx:rows(LOCKS)) }
end

-- A single statement that must be alone has no transaction in which its locks could be seen.
local function alone(there, script, real)
  local begun = real and there:value(CLOCK)
  there:exec(script.statements[1])
  return { name = script.name, us = real and there:value(CLOCK) - begun or nil, locks = {} }
end

local function execute(history, there, scripts, real)
  local list = {}
  local function each(tx)
    for i, script in ipairs(scripts) do list[i] = inside(tx, script, real) end
  end
  if history:dialect().whole then
    there:transaction(each)
    return list
  end
  for i, script in ipairs(scripts) do
    local single = #script.statements == 1 and sql.read(script.statements[1]).alone
    if single then list[i] = alone(there, script, real)
    else there:transaction(function (tx) list[i] = inside(tx, script, real) end) end
  end
  return list
end

local function clone(history, into, data)
  local original = history:there()
  if history.db:exists(into) then history.db:drop_database(into) end
  local dump <close> = original:dump { format = "custom", schema_only = not data or nil, no_owner = true }
  return type(history.db:restore { from = dump, into = into, no_owner = true }) == "table"
end

--- Clone the database and run the migrations there; raises when the clone is not the same as the original, and when the server refuses one.
---@param wanted { history: table, into: string, names: string[], data: boolean? } into: a scratch name; data: with the rows
---@return { name: string, us: integer, locks: string[] }[]|nil measured microseconds and locks of each migration; nil in a preview
---@effect write
function M.run(wanted)
  local history, into = wanted.history, wanted.into
  local scripts = history:scripts(wanted.names)
  local real = clone(history, into, wanted.data)
  if real then
    local wrong = M.differences(history, into)
    if wrong[1] then raise("check", ("the clone is not what the database is: %s"):format(wrong[1]), "What runs there would prove nothing.") end
  end
  local there = history.db:on(into)
  local measured = execute(history, there, scripts, real)
  there:exec(("COMMENT ON DATABASE %s IS %s"):format(quote(into), literal(mark_of(history, wanted.names))))
  return real and measured or nil
end

--- What was measured, as a table to be shown.
---@param measured table[]
---@return table answer for `report`
---@effect pure
function M.table(measured)
  local rows, us = {}, 0
  for i, one in ipairs(measured) do
    rows[i] = { one.name, (one.us + 999) // 1000, table.concat(one.locks, ", ") }
    us = us + one.us
  end
  return { title = "Rehearsed on a clone", columns = { "migration", "ms", "locks" }, rows = rows, remark = ("%d ms in all."):format((us + 999) // 1000) }
end

return M
