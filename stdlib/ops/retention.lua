--- Which backups go and which stay: a list from the catalogue, judged by one clock reading, each with its reason.
--
--   stays: younger than so many days · among the newest so many of its database · the last one that a drill restored · taken in the future
--   goes:  everything else of that database
--
-- The number that always stays protects from a clock that jumped and from nights on which no backup was made: age alone would empty the folder.
-- The last proven one stays whatever its age, because it is the only one of which is known that it comes back.

local bytes = require "core.bytes"
local catalogue = require "ops.backups"
local instant = require "core.instant"
local raise = require "core.raise"

local M = {}

local DAY_MS <const> = 86400000

local function judge(manifest, place, given, is_proven)
  local age = given.now - instant.of_compact(manifest.taken_at)
  if age < 0 then return nil, "it was taken after now" end
  if age < given.days * DAY_MS then return nil, ("younger than %d days"):format(given.days) end
  if place <= given.keep then return nil, ("one of the newest %d"):format(given.keep) end
  if is_proven then return nil, "the last that a drill restored" end
  return true, ("%d days old"):format(age // DAY_MS)
end

--- Judge every backup of a list (the newest first).
---@param list table[] manifests, of one database
---@param given { days: integer, keep: integer, now: string } now: what stamp() says
---@return { name: string, goes: boolean, why: string, manifest: table }[]
---@effect pure
function M.judged(list, given)
  local now = instant.of_compact(given.now) or raise("usage", ("\"%s\" is no moment"):format(tostring(given.now)), "Write it as 20260425T020005Z.")
  local verdicts, proven = {}, nil
  for _, manifest in ipairs(list) do
    if manifest.proof and (not proven or manifest.proof.proven_at > proven.proof.proven_at) then proven = manifest end
  end
  for place, manifest in ipairs(list) do
    local goes, why = judge(manifest, place, { days = given.days, keep = given.keep, now = now }, manifest == proven)
    verdicts[place] = { name = manifest.name, goes = goes or false, why = why, manifest = manifest }
  end
  return verdicts
end

--- The verdicts on the backups of a database in a folder, and what in the folder is not in the catalogue.
---@param folder table
---@param database string
---@param given table see `judged`
---@return table[] verdicts
---@return string[] strange names that nobody here touches
---@effect read
function M.of(folder, database, given)
  local list, strange = catalogue.list(folder, database)
  return M.judged(list, given), strange
end

--- The names that go, the oldest first: when it breaks off, the newer ones are still there.
---@param verdicts table[]
---@return string[]
---@effect pure
function M.going(verdicts)
  local names = {}
  for i = #verdicts, 1, -1 do
    if verdicts[i].goes then names[#names + 1] = verdicts[i].name end
  end
  return names
end

--- Is nothing left of a backup?
---@param folder table
---@param name string
---@return boolean
---@effect read
function M.is_gone(folder, name) return not folder:has(name) and not folder:has(name .. ".manifest") end

--- Remove a backup and what belongs to it.
---@param folder table
---@param name string
---@effect destroy
function M.remove(folder, name) catalogue.discard(folder, name) end

--- The table of verdicts.
---@param verdicts table[]
---@return table grid for report
---@effect pure
function M.table(verdicts)
  local rows = {}
  for i, v in ipairs(verdicts) do
    rows[i] = { v.name, v.manifest.taken_at, bytes.format(v.manifest.bytes), v.manifest.proof and v.manifest.proof.proven_at or "never", v.goes and "goes" or "stays", v.why }
  end
  return { title = "Backups", columns = { "name", "taken", "size", "proven", "", "why" }, rows = rows }
end

return M
