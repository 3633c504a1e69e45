--- The journal of a run, folded into what each step's last word was: what resume and undo start from.
--
-- A step has: status (nil while pending or in doubt), attempts, items and their statuses, intents to act, writes by
-- the seq of their intent (with evidence, outcome and, for a program, its pid), what was settled, and `paying`: an undo or
-- after that was begun and not ended.

local M = {}

local function step_state(fold, id)
  local s = fold.steps[id]
  if not s then
    s = { attempts = 0, items = {}, intents = {}, writes = {} }
    fold.steps[id] = s
    fold.order[#fold.order + 1] = id
  end
  return s
end

local FOLD = {}

function FOLD.run(fold, _, body) fold.run, fold.owner = body, body end
function FOLD.resume(fold, _, body) fold.ended, fold.owner = nil, body end
FOLD["end"] = function (fold, _, body) fold.ended = body end

-- Writes whose end is known count for the attempt that made them, and no longer once it was repeated or taken back.
local function forget_settled_writes(s)
  for seq, write in pairs(s.writes) do
    if write.outcome then s.writes[seq] = nil end
  end
end

function FOLD.step(fold, id, body)
  local s = step_state(fold, id)
  if body.state == "begin" then
    s.attempts = math.max(s.attempts, body.attempt or 1)
    s.status = nil
  elseif body.state == "intent" then
    if body.item == nil then forget_settled_writes(s) end
    s.intents[#s.intents + 1] = { item = body.item }
    s.in_doubt = true
    for _, name in ipairs { "undo", "after" } do (s.settled or {})[(body.item or "") .. "\0" .. name] = nil end
  else
    s.status, s.result, s.in_doubt, s.error = body.status, body.result, body.status == "unknown" or body.status == "cancelled", body.error
  end
end

function FOLD.each(fold, id, body) step_state(fold, id).each = body.items end
function FOLD.item(fold, id, body) step_state(fold, id).items[body.item] = body.status end

function FOLD.intent(fold, id, body, seq, at)
  body.seq, body.at = seq, at
  step_state(fold, id).writes[seq] = body
end

function FOLD.started(fold, id, body)
  local write = step_state(fold, id).writes[body.intent]
  if write then
    for key, value in pairs(body) do
      if key ~= "intent" then write[key] = value end
    end
  end
end

function FOLD.outcome(fold, id, body)
  local write = step_state(fold, id).writes[body.intent]
  if write then write.outcome = body.status end
end

-- A step whose undo or after has run is pending again: a resumed restore stops the app again before it swaps.
function FOLD.owed(fold, id, body, seq) step_state(fold, id).paying = { clause = body.clause, item = body.item, seq = seq } end

function FOLD.settled(fold, id, body)
  local s = step_state(fold, id)
  s.paying = nil
  if body.status ~= "ok" then return end
  s.settled = s.settled or {}
  s.settled[(body.item or "") .. "\0" .. body.clause] = true
  s.status, s.in_doubt, s.items = nil, false, {}
  forget_settled_writes(s)
end

-- Confirmations stay given. What somebody said about a failed or a manual step was for that moment.
function FOLD.answer(fold, id, body)
  if body.level ~= "failed" and body.level ~= "manual" then fold.answers[id] = body.value end
end

--- Fold a list of records: {run, owner, ended, steps = {id = state}, order = {id, …}, answers}.
---@param records table[]
---@return table
function M.of(records)
  local fold = { steps = {}, order = {}, answers = {}, last = records[#records] }
  for _, r in ipairs(records) do
    local f = FOLD[r.kind]
    if f then f(fold, r.step, r.body, r.seq, r.at) end
  end
  return fold
end

return M
