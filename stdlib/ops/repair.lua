--- Repairing a migration history: what is wrong with it, what of each failed migration is there, what may be recorded about it.
--
--   local work = repair.of { folder =, db =, database =, tool =, config =, beside = scratch "repair", rows =, deploy = }
--   work.history (ops.migrations), work.trial (ops.trial), and the questions below
--
-- Three things are wrong with a history: a migration failed and blocks all others; there are tables and no history; or the schema is
-- ahead of the history, because somebody recorded only some of what was there. The last two are one: the live schema is exactly what the
-- migrations up to some later one leave. Everything that is recorded because of it is proved by that equality of the whole schema.
--
-- What nobody can tell is said and left: `judge` answers in sentences, and no mark is set while there is one.

local migrations = require "ops.migrations"
local schema = require "ops.schema"
local trials = require "ops.trial"

local M = {}

local work = {}
work.__index = work

--- A repair of one database; nothing is asked yet.
---@param given table as for migrations.of, and: beside (name of the scratch database), rows (see trial.of), deploy (is what is pending to be executed too?)
---@return table work
---@effect pure
function M.of(given)
  local history = migrations.of { folder = given.folder, db = given.db, database = given.database, tool = given.tool, config = given.config }
  return setmetatable({ history = history, trial = trials.of(history, given.beside, { rows = given.rows }), deploys = given.deploy }, work)
end

--- Is there anything to repair, or to execute?
---@return boolean
---@effect read
function work:open()
  return #self.history:failed() > 0 or self.history:absent() or (self.deploys and #self.history:pending() > 0) or false
end

--- What is wrong, as far as it can be read, in sentences.
---@return string[]
---@effect read
function work:findings()
  local list, history = {}, self.history
  for _, row in ipairs(history:failed()) do
    local first, second = (row.logs or ""):match("([^\r\n]+)[\r\n]*([^\r\n]*)")
    list[#list + 1] = ("%s failed (begun %s): %s"):format(row.name, row.started_at, first and first .. " " .. second or "the tool kept no text")
  end
  for _, name in ipairs(history:edited()) do list[#list + 1] = ("%s was edited after it was applied"):format(name) end
  if history:absent() then list[#list + 1] = ("%d tables and no history"):format(#history:tables()) end
  local pending = history:pending()
  if #pending > 0 then list[#list + 1] = ("pending: %s"):format(table.concat(pending, ", ")) end
  return list
end

--- The failed migrations of which the live database has this much, as items.
---@param ... string verdicts of trial:verdict
---@return { key: string, ids: string[] }[] items
---@effect read
function work:judged(...)
  local wanted, list = {}, {}
  for _, verdict in ipairs { ... } do wanted[verdict] = true end
  for _, item in ipairs(self.history:failures()) do
    if wanted[(self.trial:verdict(item.key))] then list[#list + 1] = item end
  end
  return list
end

--- The failed migrations among these names, as items.
---@param names string[]
---@return table[] items
---@effect read
function work:named(names)
  local wanted, list = {}, {}
  for _, name in ipairs(names) do wanted[name] = true end
  for _, item in ipairs(self.history:failures()) do
    if wanted[item.key] then list[#list + 1] = item end
  end
  return list
end

--- Why somebody may be migrating this very moment, in a sentence; nil when nobody is.
---@return string|nil
---@effect read
function work:busy()
  local holder = self.history:holder()
  return holder and ("pid %d, %s from %s since %s"):format(holder.pid, holder.application, holder.client, holder.since) or nil
end

-- The last migration that is recorded as applied, by its number in the folder; 0 when none is.
function work:newest()
  local applied, at = {}, 0
  for _, row in ipairs(self.history:applied()) do applied[row.name] = true end
  for i, name in ipairs(self.history:names()) do
    if applied[name] then at = i end
  end
  return at
end

--- The migrations up to which the live schema is exactly what they leave, none before the last that is recorded.
---@return string[] names
---@effect read
function work:matches()
  local number, list, newest = {}, {}, self:newest()
  for i, name in ipairs(self.history:names()) do number[name] = i end
  for _, name in ipairs(self.trial:matching()) do
    if (number[name] or 0) >= newest then list[#list + 1] = name end
  end
  return list
end

--- Differences between the live schema and what the recorded migrations leave, without what the failed ones change; in sentences.
---@return string[]
---@effect read
function work:drift()
  local open, list = {}, {}
  for _, item in ipairs(self.history:failures()) do
    for _, change in ipairs((self.trial:changes(item.key))) do open[change.key] = true end
  end
  for _, change in ipairs(self.trial:distance(self:newest())) do
    if not open[change.key] then list[#list + 1] = change end
  end
  return schema.sentences(list)
end

--- What stands in the way of recording anything, in sentences; empty when every mark can be proved.
---@param given { up_to: string?, drift: boolean? }
---@return string[]
---@effect read
function work:judge(given)
  local list, matches = {}, self:matches()
  for _, item in ipairs(self:judged("silent", "rows")) do
    list[#list + 1] = ("%s changes rows, which the schema does not show: look whether it did, and give --rows %s=there or %s=missing"):format(item.key, item.key, item.key)
  end
  if not self.history:absent() then
    for _, sentence in ipairs(#matches == 0 and not given.drift and self:drift() or {}) do list[#list + 1] = "not by any migration: " .. sentence end
  elseif #matches == 0 then
    local name, changes = self.trial:nearest()
    list[#list + 1] = ("no migration leaves the schema that is there; the nearest is %s: %s"):format(name or "none", table.concat(schema.sentences(changes), "; "))
  elseif #matches > 1 and not given.up_to then
    list[#list + 1] = "the schema is the same after each of these; give the last that was executed with --up-to: " .. table.concat(matches, ", ")
  end
  return list
end

--- What is to be recorded because the schema has it, as items of history:unrecorded.
---@param up_to string|nil the last one, as a human says; it must match
---@return table[] items
---@effect read
function work:ahead(up_to)
  local matches = #self.history:failed() == 0 and self:matches() or {}
  if not up_to then return matches[1] and self.history:unrecorded(matches[1]) or {} end
  for _, name in ipairs(matches) do
    if name == up_to then return self.history:unrecorded(name) end
  end
  return {}
end

--- Pending migrations that fail in the scratch database too, in sentences: deploying would fail the same way.
---@return string[]
---@effect read
function work:hopeless()
  local errors, list = self.trial:errors(), {}
  for _, name in ipairs(self.history:pending()) do
    if errors[name] then list[#list + 1] = ("%s: %s"):format(name, errors[name]) end
  end
  return list
end

return M
