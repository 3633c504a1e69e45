--- The gates before a migration: what somebody must have seen to before it goes anywhere near production.
--
--   staging    it ran on staging              rollback   there is a way back            duration   how long it takes was measured
--   window     it runs when it may disturb    backup     there is one that was proven   notified   whoever is affected knows
--
-- A gate is passed by evidence that a runbook found itself ("measured on a clone: 12 ms"), or by a tick: somebody's reason, written into the
-- journal as what it is, a word. Where evidence was looked for and is not there, the reason stands beside the tick. There is no flag for all of
-- them. Rejected: gates that only warn (they are what people stop reading).

local catalogue = require "ops.backups"
local duration = require "core.duration"
local instant = require "core.instant"
local raise = require "core.raise"
local text = require "core.text"

local M = {}

local TRUTHS <const> = {
  { "staging", "it was tried on staging" }, { "rollback", "there is a way back" }, { "duration", "how long it takes was estimated" },
  { "window", "it runs when it may disturb" }, { "backup", "there is a backup to go back to" }, { "notified", "whoever is affected knows" },
}

local function known()
  local names = {}
  for i, gate in ipairs(TRUTHS) do names[i] = gate[1] end
  return names
end

--- Ticks as people write them, "staging=ran there on Tuesday", by the gate's name.
---@param list string[]
---@return table<string, string>
---@effect pure
function M.ticks(list)
  local reasons, names = {}, known()
  for _, line in ipairs(list) do
    local name, reason = line:match("^%s*(%a+)%s*=%s*(.-)%s*$")
    if not name or reason == "" then raise("usage", ("\"%s\" ticks no gate"):format(line), "Write gate=reason: staging=run 4f2c19 of Tuesday.") end
    local is_known = false
    for _, other in ipairs(names) do is_known = is_known or other == name end
    if not is_known then raise("usage", ("there is no gate \"%s\""):format(name), text.suggest(name, names) or "They are " .. table.concat(names, ", ") .. ".") end
    reasons[name] = reason
  end
  return reasons
end

-- Nothing but a whole backup of this very database, on this server, is a way back.
local function is_of(manifest, card)
  return manifest.server == (card.id:match("^(.*)/") or card.id) and not manifest.tables and not manifest.schema_only
end

--- Evidence for the gate "backup": the newest backup of a database that a drill has restored, when it is young enough and has every byte it had then.
---@param folder table the role, which need not be bound
---@param db table
---@param fresh string how old it may be ("24h")
---@param now string what stamp() says
---@return string|{ missing: string }|nil evidence nil where there is no catalogue to look into
---@effect read
function M.backup(folder, db, fresh, now)
  if not folder:is_bound() then return nil end
  local card = db:card()
  for _, manifest in ipairs(catalogue.list(folder, card.database)) do
    if manifest.proof and is_of(manifest, card) then
      local age = instant.of_compact(now) - instant.of_compact(manifest.taken_at)
      local said = ("%s, taken %s ago, brought back by a drill on %s"):format(manifest.name, duration.format(math.max(age, 0)), manifest.proof.proven_at)
      if not catalogue.has(folder, manifest.name) then return { missing = manifest.name .. " has not the bytes that were proven" } end
      return age < duration.parse(fresh) and said or { missing = ("the newest proven backup is %s: older than %s"):format(said, fresh) }
    end
  end
  return { missing = ("no backup of %s in the catalogue was brought back by a drill"):format(card.database) }
end

--- Every gate with how it is passed: `passed`, and `by` in words.
---@param ticks table<string, string> of `ticks`
---@param evidence table<string, string|{ missing: string }> what was found, or why nothing was
---@return { name: string, truth: string, passed: boolean, by: string }[]
---@effect pure
function M.all(ticks, evidence)
  local list = {}
  for i, gate in ipairs(TRUTHS) do
    local name = gate[1]
    local found = evidence[name]
    local why = type(found) == "table" and "; " .. found.missing or ""
    local by = type(found) == "string" and "evidence: " .. found or ticks[name] and "ticked by hand: " .. ticks[name] .. why
    list[i] = { name = name, truth = gate[2], passed = by ~= nil, by = by or ("no evidence and no tick: --gates %s=REASON"):format(name) .. why }
  end
  return list
end

return M
