--- What became of writes and steps that a run was in the middle of when it ended.
--
--   intent, no end:  done says yes → ok, found done
--                    done says no, and every write is known not to have begun → pending, acts again
--                    otherwise → ask; nobody there → 75
--
-- Each item of a step is settled by itself: what a human says about one of them says nothing of the others. An item whose own
-- `done` says no acts again, whatever it wrote: nothing works on it any more, and the next item would ask no more than that.
-- An orphan is given the rest of its step's time (a minute where the step names none), then it is ended; while it cannot be
-- ended nothing is asked and nothing is started. What a transaction's statements did is what became of the transaction.

local M = {}

local ask = require("engine.ask")
local clause = require("engine.clause")
local fold_engine = require("engine.fold")
local guard = require("native.guard")
local raise = require("core.raise")
local system = require("native.system")
local words = require("engine.words")

local ORPHAN_MS, END_MS = 60000, 15000

-- ---- writes ----

local function object_of(run, role)
  for _, t in ipairs(run.targets) do
    if t.role == role then return t.object end
  end
  return nil
end

local function warn(run, id, from, sentence)
  run.record:event("notice", id, { severity = "warning", text = sentence, from = from })
  run.record:sync()
end

local function name_of(step)
  return step and ("step %s"):format(step.number) or "a step that is no longer there"
end

-- How long an orphan may still work: to the end of its step's time.
local function patience(step, write)
  local within = step and step.within
  return within and math.max(write.at + within - system.wall_ms(), 0) or ORPHAN_MS
end

-- "done", "not begun", "half" or nil, once nothing works on the write any more.
local function outlast(run, step, write, g, object)
  local function probe(options) return g.probe(object, write, options) end
  local found = probe { within_ms = 0 }
  if found ~= "running" then return found end
  local who = ("%s of %s"):format(write.text or write.primitive, name_of(step))
  warn(run, write.step, write.target, who .. " is still being worked on; waiting for it")
  found = probe { within_ms = patience(step, write) }
  if found ~= "running" then return found end
  warn(run, write.step, write.target, who .. " has had its time; ending it")
  found = probe { within_ms = END_MS, end_it = true }
  if found ~= "running" then return found end
  raise("unknown", who .. " is still being worked on, and could not be ended", "Nothing was started again. End it by hand, then resume.", { failed_step = step })
end

local STATUS <const> = { done = "ok", ["not begun"] = "failed" }

-- What became of one write. Orphans first.
local function settle_write(run, id, step, write)
  local object = object_of(run, write.target)
  local g = object and object.guardians
  local found
  write.step = id
  if g and g.probe then
    local ok, answer = pcall(outlast, run, step, write, g, object)
    if ok then found = answer
    else
      answer = raise.of(answer)
      if answer.failed_step then error(answer, 0) end
      warn(run, id, write.target, answer.message)
    end
  end
  write.outcome = STATUS[found] or "unknown"
  run.record:event("outcome", id, { intent = write.seq, status = write.outcome, found = found or "nobody knows" })
end

local function in_order(writes)
  local seqs = {}
  for seq in pairs(writes) do seqs[#seqs + 1] = seq end
  table.sort(seqs)
  local i = 0
  return function ()
    i = i + 1
    return writes[seqs[i]]
  end
end

-- Ask what became of every write that has no outcome, or of those whose outcome is unknown too.
local function settle_writes(run, id, step, s, unknown_too)
  for write in in_order(s.writes) do
    if not write.outcome or (unknown_too and write.outcome == "unknown") then settle_write(run, id, step, write) end
  end
end

-- A statement that was answered is only done when its transaction is.
local function follow_transactions(s)
  local fate = {}
  for _, write in pairs(s.writes) do
    if write.primitive == "pg.begin" and write.xid then fate[write.xid] = write.outcome end
  end
  for _, write in pairs(s.writes) do
    if write.xid and fate[write.xid] then write.outcome = fate[write.xid] end
  end
end

-- Is there a write of this outcome among those of the act, undo or after that began with record `seq`?
local function any(s, seq, outcome)
  for _, write in pairs(s.writes) do
    if write.outcome == outcome and write.act == seq then return true end
  end
  return false
end

-- ---- steps ----

-- "The undo of item "x" of step 3", as a sentence begins.
local function called(step, unit)
  local parts = { unit.paying and ("the %s of"):format(unit.paying.clause), unit.key and ("item \"%s\" of"):format(unit.key), "step " .. step.number }
  local list = {}
  for i = 1, 3 do list[#list + 1] = parts[i] end
  return (table.concat(list, " "):gsub("^%l", string.upper))
end

local function ask_human(run, step, unit, why)
  local text = ("%s, \"%s\", began and nobody can say whether it was done: %s"):format(called(step, unit), words.fill(step, step.title), why)
  if not run.ctx.interactive then raise("unknown", text, ("Find out, then: neap resume %s from a terminal."):format(run.run_id), { failed_step = step }) end
  while true do
    local typed = ask.put(run, { level = "manual", step = step.id, answers = { "done", "again", "abort" }, text = text .. "\nType done, again or abort:" })
    if typed == "done" or typed == "again" then
      run.record:event("answer", step.id, { value = typed, by = "typed", level = "manual" })
      return typed == "done"
    end
    if typed == nil or typed == "abort" then raise("unknown", text, nil, { failed_step = step }) end
  end
end

local function found_done(run, step, s, unit, note)
  run.record:event("note", step.id, { text = note, item = unit.key })
  if unit.key then
    run.item_status[step.id][unit.key] = "ok"
    run.record:event("item", step.id, { item = unit.key, status = "ok", found = true, ms = 0 })
    return
  end
  run.status[step.id] = "ok"
  run.record:event("step", step.id, { state = "end", number = step.number, status = "ok", found = true, ms = 0, attempt = s.attempts, note = note })
end

-- Is it done? true, false, or nil and why nobody can say. `verify` passes when it does not raise.
local function asked(run, step, item)
  local proof = step.clauses.done and "done" or "verify"
  local ok, result = clause.call(run, step, proof, { item = item })
  guard.reads()
  if not ok and result.code ~= "check" then return nil, result.message end
  if not ok then return false end
  return result and true or result == nil and proof == "verify"
end

local function settle_unit(run, step, s, unit)
  local done, why = asked(run, step, M.item_of(s, unit.key))
  if done then return found_done(run, step, s, unit, "found done") end
  if done == false and unit.key and step.clauses.done then return end
  local doubtful = any(s, unit.since, "unknown")
  if done == false and not doubtful and not any(s, unit.since, "ok") then return end
  why = why or doubtful and "a write has no outcome and its proof says no" or "some of it was done"
  if ask_human(run, step, unit, why) then found_done(run, step, s, unit, "a human says it is done") end
end

--- The item that a key names, nil for the whole step.
function M.item_of(s, key)
  if key == nil then return nil end
  if not s.by_key then
    s.by_key = {}
    for _, item in ipairs(s.each or {}) do s.by_key[clause.key_of(item)] = item end
  end
  return s.by_key[key]
end

-- An undo or after that was interrupted has no proof that could be asked. Where none of its writes was done the step stands and
-- still owes it. An after whose writes all came to a known end is where one that failed there would be, and is paid again as that one is.
-- Else a human says whether it is paid, or pays it again now: it is the newest that is owed.
local function settle_payment(run, fold, step, s, unit)
  local paying = unit.paying
  if not (any(s, paying.seq, "ok") or any(s, paying.seq, "unknown")) then return end
  local known = paying.clause == "after" and not any(s, paying.seq, "unknown")
  if not known and ask_human(run, step, unit, "it was interrupted, and some of it was done") then
    run.record:event("settled", step.id, { clause = paying.clause, item = unit.key, status = "ok", by = "a human" })
    run.stack:paid(step, unit.key, paying.clause)
  else
    local ok, err = run.stack:pay(run, step, unit.key, paying.clause)
    if not ok then error(err, 0) end
  end
  unit.paying, unit.settled[paying.clause] = nil, true
  if paying.clause == "after" and fold_engine.is_complete(fold) then return end
  unit.doubt = false
  fold_engine.reopen(s, unit)
  run.status[step.id], run.completed[step.id] = nil, nil
end

--- Settle the undos and afters that were interrupted; their writes were settled before. Raises {unknown} when only a human
--- could say, and nobody is there.
---@param run table
---@param fold table engine.fold
---@param steps table<string, table> the steps by their ids
function M.settle_payments(run, fold, steps)
  for _, unit in ipairs(fold.units) do
    local step = steps[unit.step]
    if step and unit.paying then settle_payment(run, fold, step, fold.steps[unit.step], unit) end
  end
end

--- Ask what became of every write that was under way. Orphans of every clause, those of an undo that was interrupted too.
function M.settle_writes(run, fold, steps)
  for _, id in ipairs(fold.order) do
    local step, s = steps[id], fold.steps[id]
    local open = step and fold_engine.is_open(s)
    if open then
      warn(run, id, "neap", ("step %s, \"%s\", was interrupted: unknown whether it was done"):format(step.number, words.fill(step, step.title)))
    end
    settle_writes(run, id, step, s, open)
    follow_transactions(s)
  end
end

--- Settle the steps in doubt by their own proof. Raises {unknown} as settle_payments does.
function M.settle_steps(run, fold, steps)
  for _, unit in ipairs(fold.units) do
    local step = steps[unit.step]
    if step and step.kind == "change" and unit.doubt then settle_unit(run, step, fold.steps[unit.step], unit) end
  end
  for id in pairs(steps) do
    if fold_engine.GOOD[run.status[id]] then run.completed[id] = true end
  end
  run.record:sync()
end

return M
