--- The gates before a migration: what somebody must have seen to before it goes anywhere near production.
--
--   staging    it ran on staging              rollback   there is a way back            duration   how long it takes was measured
--   window     it runs when it may disturb    backup     there is one that was proven   notified   whoever is affected knows
--
-- A gate is passed by evidence that a runbook found itself ("measured on a clone: 12 ms"), or by a tick: somebody's reason, written into the
-- journal as what it is, a word. There is no flag for all of them. Rejected: gates that only warn (they are what people stop reading).

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

--- Every gate with how it is passed: `passed`, and `by` in words.
---@param ticks table<string, string> of `ticks`
---@param evidence table<string, string> what was found
---@return { name: string, truth: string, passed: boolean, by: string }[]
---@effect pure
function M.all(ticks, evidence)
  local list = {}
  for i, gate in ipairs(TRUTHS) do
    local name = gate[1]
    local by = evidence[name] and "evidence: " .. evidence[name] or ticks[name] and "ticked by hand: " .. ticks[name]
    list[i] = { name = name, truth = gate[2], passed = by ~= nil, by = by or ("no evidence and no tick: --gates %s=REASON"):format(name) }
  end
  return list
end

return M
