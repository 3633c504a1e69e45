--- A journal folded into what each step's last word was.
--
-- A step is made of units: one for each item of `each`, or one for the whole step. A unit is in doubt from its intent until
-- its end; `paying` from the moment its undo or after begins until that is settled; pending once one of them was settled, and in
-- doubt again when it failed, because then what the act did may be there, half there or gone. Only the afters of a run
-- whose steps are all complete leave them complete: there is nothing they would have to be repeated for.

local M = {}

--- Ends of a step that are no reason to run it again.
M.GOOD = { ok = true, already = true, skipped = true }

local function step_state(fold, id)
  local s = fold.steps[id]
  if not s then
    s = { attempts = 0, items = {}, units = {}, writes = {} }
    fold.steps[id] = s
    fold.order[#fold.order + 1] = id
  end
  return s
end

-- The unit of an item's key, nil for the whole step. `fold.units` keeps them in the order in which they first acted.
local function unit_of(fold, id, key)
  local s = step_state(fold, id)
  local unit = s.units[key or false]
  if not unit then
    unit = { step = id, key = key, since = 0, settled = {} }
    s.units[key or false] = unit
    fold.units[#fold.units + 1] = unit
  end
  return unit, s
end

--- Has every step of the runbook come to a good end?
function M.is_complete(fold)
  for _, step in ipairs(fold.run.steps or {}) do
    local s = fold.steps[step.id]
    if not (s and M.GOOD[s.status]) then return false end
  end
  return true
end

--- The unit was taken back: its step is pending again.
function M.reopen(s, unit)
  s.status = nil
  if unit.key then s.items[unit.key] = nil end
end

local FOLD = {}

function FOLD.run(fold, _, body) fold.run, fold.owner = body, body end
function FOLD.resume(fold, _, body) fold.ended, fold.owner = nil, body end
FOLD["end"] = function (fold, _, body) fold.ended = body end

local STEP = {}

function STEP.begin(fold, id, body)
  local s = step_state(fold, id)
  s.attempts, s.status = math.max(s.attempts, body.attempt or 1), nil
end

function STEP.intent(fold, id, body, seq)
  local unit = unit_of(fold, id, body.item)
  unit.since, unit.doubt, unit.settled = seq, true, {}
end

STEP["end"] = function (fold, id, body)
  local s = step_state(fold, id)
  s.status, s.result, s.error = body.status, body.result, body.error
  if body.status == "unknown" or body.status == "cancelled" then return end
  for _, unit in pairs(s.units) do unit.doubt = false end
end

function FOLD.step(fold, id, body, seq)
  STEP[body.state](fold, id, body, seq)
end

function FOLD.params(fold, id, body) step_state(fold, id).params = body end
function FOLD.each(fold, id, body) step_state(fold, id).each = body.items end

function FOLD.item(fold, id, body)
  local s = step_state(fold, id)
  s.items[body.item] = body.status ~= "failed" and body.status or nil
  if s.units[body.item] then s.units[body.item].doubt = false end
end

function FOLD.intent(fold, id, body, seq, at)
  body.seq, body.at = seq, at
  step_state(fold, id).writes[seq] = body
end

function FOLD.started(fold, id, body)
  local write = step_state(fold, id).writes[body.intent]
  if not write then return end
  for key, value in pairs(body) do
    if key ~= "intent" then write[key] = value end
  end
end

function FOLD.outcome(fold, id, body)
  local write = step_state(fold, id).writes[body.intent]
  if write then write.outcome = body.status end
end

function FOLD.owed(fold, id, body, seq)
  unit_of(fold, id, body.item).paying = { clause = body.clause, seq = seq }
end

function FOLD.settled(fold, id, body)
  local unit, s = unit_of(fold, id, body.item)
  local begun = unit.paying and unit.paying.seq or 0
  unit.paying, unit.settled[body.clause] = nil, body.status == "ok"
  if body.clause == "after" and M.is_complete(fold) then return end
  if body.status == "ok" then unit.doubt = false
  elseif not unit.settled.undo then unit.doubt, unit.since = true, begun end
  M.reopen(s, unit)
end

-- Confirmations stay given. What somebody said about a failed or a manual step was for that moment.
function FOLD.answer(fold, id, body)
  if body.level ~= "failed" and body.level ~= "manual" then fold.answers[id] = body.value end
end

--- Fold a list of records.
---@param records table[]
---@return table fold {run, owner, ended, last, answers, order = {id…}, units = {unit…},
--- steps = {id = {attempts, status, result, error, params, each, items, units, writes}}}; a unit is {step, key, since, doubt, settled, paying}
function M.of(records)
  local fold = { steps = {}, order = {}, units = {}, answers = {}, last = records[#records] }
  for _, r in ipairs(records) do
    local f = FOLD[r.kind]
    if f then f(fold, r.step, r.body, r.seq, r.at) end
  end
  return fold
end

--- Is anything of this step in doubt, or half taken back?
function M.is_open(s)
  if s.status == "unknown" or s.status == "cancelled" then return true end
  for _, unit in pairs(s.units) do
    if unit.doubt or unit.paying then return true end
  end
  return false
end

return M
