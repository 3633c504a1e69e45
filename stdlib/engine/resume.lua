--- Going on with a run that died, failed or was held; and taking one back.
--
-- The journal is folded into what each step's last word was. Then, before anything is asked or done: orphans (a
-- backend, a child that was left working) are waited for or ended; every write whose outcome is missing is
-- probed; a step in doubt is settled by its own `done`. Only what nobody can decide goes to a human, and with
-- nobody there the run stays as it is (75).
--
--   intent, no end:  done says yes → ok, found done
--                    done says no, and every write is known not to have begun → pending, acts again
--                    otherwise → ask; nobody there → 75
--
-- An orphan is given the rest of its step's time (a minute where the step names none), then it is ended; while it cannot be
-- ended nothing is asked and nothing is started. What a transaction's statements did is what became of the transaction.

local M = {}

local ask = require("engine.ask")
local clause = require("engine.clause")
local fold_of = require("engine.fold").of
local guard = require("native.guard")
local journal = require("native.journal")
local raise = require("core.raise")
local record = require("engine.record")
local run_engine = require("engine.run")
local session = require("engine.session")
local system = require("native.system")
local unwind = require("engine.unwind")
local words = require("engine.words")

local ORPHAN_MS, END_MS = 60000, 15000

-- ---- is it the same runbook, on the same targets? ----

local function lines_of(source)
  local lines = {}
  for line in (source .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  return lines
end

--- The first differing lines of two texts, as a short diff.
function M.diff(before, now)
  local a, b, out = lines_of(before), lines_of(now), {}
  local first = 1
  while first <= #a and first <= #b and a[first] == b[first] do first = first + 1 end
  local tail = 0
  while #a - tail > first and #b - tail > first and a[#a - tail] == b[#b - tail] do tail = tail + 1 end
  for i = first, math.min(#a - tail, first + 9) do out[#out + 1] = ("-%d  %s"):format(i, a[i]) end
  for i = first, math.min(#b - tail, first + 9) do out[#out + 1] = ("+%d  %s"):format(i, b[i]) end
  return table.concat(out, "\n")
end

local function check_same_text(recorded, model)
  if recorded.hash ~= model.hash then
    raise("refused", ("%s has changed since the run began:\n%s"):format(model.file, M.diff(recorded.text, model.source)),
      "Put the old text back to resume, or settle what it owes by hand and start a new run.")
  end
  for i, module in ipairs(recorded.modules or {}) do
    local now = model.modules[i]
    if not now or now.hash ~= module.hash then
      raise("refused", ("module \"%s\" has changed since the run began:\n%s"):format(module.name, M.diff(module.text, now and now.text or "")))
    end
  end
end

local function check_same_targets(recorded, targets)
  local ids = {}
  for _, t in ipairs(recorded.targets or {}) do ids[t.role] = t.id end
  for _, t in ipairs(targets) do
    if ids[t.role] and ids[t.role] ~= t.id then
      raise("refused", ("\"%s\" was %s when the run began and is %s now"):format(t.role, ids[t.role], t.id), "The run belongs to another target.")
    end
  end
end

-- ---- doubt ----

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

-- Is there a write of this outcome?
local function any(s, outcome)
  for _, write in pairs(s.writes) do
    if write.outcome == outcome then return true end
  end
  return false
end

local function ask_human(run, step, why, clause_name)
  local what = ("tep %s, \"%s\","):format(step.number, words.fill({ run = run }, step.title))
  local text = ("%s began and nobody can say whether it was done: %s"):format(clause_name and ("The %s of s"):format(clause_name) .. what or "S" .. what, why)
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

local function found_done(run, step, s, note)
  run.status[step.id] = "ok"
  run.record:event("note", step.id, { text = note })
  run.record:event("step", step.id, { state = "end", number = step.number, status = "ok", found = true, ms = 0, attempt = s.attempts, note = note })
end

-- Is it done? true, false, or nil and why nobody can say. `verify` passes when it does not raise.
local function asked(run, step)
  local proof = step.clauses.done and "done" or "verify"
  local ok, result = clause.call(run, step, proof)
  guard.reads()
  if not ok and result.code ~= "check" then return nil, result.message end
  if not ok then return false end
  return result and true or result == nil and proof == "verify"
end

local function settle_step(run, step, s)
  warn(run, step.id, "neap", ("step %s, \"%s\", was interrupted: unknown whether it was done"):format(step.number, words.fill({ run = run }, step.title)))
  settle_writes(run, step.id, step, s, true)
  follow_transactions(s)
  if step.kind ~= "change" then return end
  local doubtful = any(s, "unknown")
  if step.clauses.each then
    if doubtful and not step.clauses.done and ask_human(run, step, "a write has no outcome") then found_done(run, step, s, "a human says it is done") end
    return
  end
  local done, why = asked(run, step)
  if done then return found_done(run, step, s, "found done") end
  if done == false and not doubtful and not any(s, "ok") then return end
  why = why or doubtful and "a write has no outcome and its proof says no" or "some of it was done"
  if ask_human(run, step, why) then found_done(run, step, s, "a human says it is done") end
end

-- ---- putting the pieces back ----

local function steps_by_id(model, into)
  into = into or {}
  for _, step in ipairs(model.order) do
    into[step.id] = step
    if step.child then steps_by_id(step.child, into) end
  end
  return into
end

local function item_of(s, key)
  for _, item in ipairs(s.each or {}) do
    if run_engine.Run.key_of(nil, item) == key then return item end
  end
  return key
end

local function restore_stack(run, fold, steps)
  run.stack = unwind.new()
  for _, id in ipairs(fold.order) do
    local step, s = steps[id], fold.steps[id]
    for _, intent in ipairs(step and s.intents or {}) do
      run.stack:owe(step, item_of(s, intent.item), id .. "\0" .. (intent.item or ""))
    end
    for _, entry in ipairs(run.stack.entries) do
      local settled = entry.step == step and s.settled or {}
      for _, name in ipairs { "undo", "after" } do
        local key = entry.item == nil and "" or run_engine.Run.key_of(nil, entry.item)
        if settled[key .. "\0" .. name] then entry[name] = false end
      end
    end
  end
end

local GOOD = { ok = true, already = true, skipped = true }

-- A step that runs another runbook is as complete as the steps in it: one that was taken back opens it again.
local function reopen_nested(run, step)
  local open = false
  for _, inner in ipairs(step.child and step.child.order or {}) do
    reopen_nested(run, inner)
    open = open or not run.completed[inner.id]
  end
  if open then run.status[step.id], run.completed[step.id] = nil, nil end
end

local function restore(run, fold, steps)
  run.completed = {}
  for id, s in pairs(fold.steps) do
    run.attempts[id], run.items[id], run.item_status[id] = s.attempts, s.each, s.items
    for _, intent in ipairs(s.intents) do
      if intent.item then run.doubted[id .. "\0" .. intent.item] = true end
    end
    if GOOD[s.status] then
      run.status[id], run.step_results[id], run.completed[id] = s.status, s.result, true
    end
  end
  for _, step in ipairs(run.model.order) do reopen_nested(run, step) end
  run.answers = fold.answers
  restore_stack(run, fold, steps)
end

local function wait_for_writer(ctx, run_id)
  local handle, err = journal.resume(ctx.state, run_id)
  if not handle then
    if err.code == "busy" then err.hint = ("Follow it with: neap watch %s"):format(run_id) end
    error(err, 0)
  end
  return handle
end

--- Open a recorded run for going on: the journal, the session, the state of each step.
local function reopen(ctx)
  local rows, err = journal.index.find(ctx.state, ctx.run)
  if not rows then error(err, 0) end
  if #rows == 0 then raise("usage", ("there is no run \"%s\""):format(ctx.run), "neap history lists them.") end
  if #rows > 1 then raise("usage", ("\"%s\" is the beginning of %d runs"):format(ctx.run, #rows), "Give more of it.") end
  local run_id = rows[1].run
  local records, why = journal.read(ctx.state, run_id, 0)
  if not records then error(why, 0) end
  local fold = fold_of(records)
  if #records == 0 then raise("usage", ("run %s died before it recorded anything; it did nothing"):format(run_id), "Start a new run.") end
  if not fold.run then raise("invalid", ("the journal of run %s does not begin with a run record"):format(run_id)) end
  return run_id, fold, rows[1]
end

-- A run that died between its last record and the seal: nothing is left to do but to seal it.
local function seal_late(ctx, run_id, ended)
  local handle <close> = wait_for_writer(ctx, run_id)
  local sealed, why = handle:seal(ended)
  if not sealed then error(why, 0) end
  return 0
end

-- Prove that this is the same runbook on the same targets, take them, and go on writing its journal.
local function take_over(run, fold)
  check_same_text(fold.run, run.model)
  check_same_targets(fold.run, run.targets)
  run.resumed = true
  run.owner_gone = fold.owner.host == system.host() and system.started(fold.owner.pid) ~= fold.owner.started
  run:lock_targets()
  run.journal = wait_for_writer(run.ctx, run.run_id)
  run.record = record.new(run.journal, run_engine.listeners(run))
  run.record:event("resume", "", { user = system.user(), uid = system.uid(), host = system.host(), pid = system.pid(), started = system.started(system.pid()),
    version = system.version(), run = run.run_id, runbook = fold.run.runbook, title = fold.run.title, environment = fold.run.environment, steps = fold.run.steps })
  if fold.run.stdlib ~= system.stdlib() then
    run.record:event("notice", "", { severity = "warning", from = "neap",
      text = ("another build of neap began this run (%s); its words may differ"):format(fold.run.version) })
  end
  run.record:sync()
end

-- The session of the recorded run; `body` goes on with it.
local function with_run(ctx, run_id, fold, body)
  ctx.environment, ctx.inventory = fold.run.environment, ctx.inventory or fold.run.inventory
  ctx.runbook = fold.run.runbook
  local opened = session.open(ctx, { run_id = run_id, path = fold.run.file, values = fold.run.params })
  local run = run_engine.new(opened, ctx)
  return run_engine.guarded(run, function ()
    take_over(run, fold)
    run:listen()
    return body(run)
  end)
end

-- Orphans of every clause first, those of an undo that was interrupted too; then the steps in doubt.
local function settle_doubt(run, fold, steps)
  for _, id in ipairs(fold.order) do
    local step, s = steps[id], fold.steps[id]
    if not (s.in_doubt and step) then settle_writes(run, id, step, s, false) end
  end
  for _, id in ipairs(fold.order) do
    local step, s = steps[id], fold.steps[id]
    if step and s.in_doubt and not GOOD[s.status] then settle_step(run, step, s) end
    if step and GOOD[run.status[id]] then run.completed[id] = true end
  end
  run.record:sync()
end

-- An undo or after that was interrupted has no proof that could be asked. Where none of its writes was done it is simply begun again.
local function settle_payment(run, id, step, s)
  local paying = s.paying
  local touched = false
  follow_transactions(s)
  for seq, write in pairs(s.writes) do
    if seq > paying.seq and write.outcome ~= "failed" then touched = true end
  end
  if not touched or not ask_human(run, step, "it was interrupted, and some of it was done", paying.clause) then return end
  run.record:event("settled", id, { clause = paying.clause, item = paying.item, status = "ok", by = "a human" })
  for _, entry in ipairs(run.stack.entries) do
    if entry.step == step and run:key_of(entry.item) == paying.item then entry[paying.clause] = false end
  end
end

local function settle_payments(run, fold, steps)
  for _, id in ipairs(fold.order) do
    if steps[id] and fold.steps[id].paying then settle_payment(run, id, steps[id], fold.steps[id]) end
  end
end

-- What nobody can decide ends the command with 75; the target stays held.
local function give_up(run, err)
  err = raise.of(err)
  err.decision = "hold"
  local exit, why = run:conclude(false, err)
  if why then error(why, 0) end
  return exit
end

--- `neap resume RUN`.
---@param ctx table the command's context, with run = id or prefix
---@return integer exit code
function M.run(ctx)
  local run_id, fold, row = reopen(ctx)
  local ended = fold.ended and fold.ended.status
  if row.status == "running" and (ended == "ok" or ended == "undone") then return seal_late(ctx, run_id, ended) end
  if ended == "ok" or ended == "undone" then
    raise("usage", ("run %s ended: %s; there is nothing to resume"):format(run_id, ended), "Start a new run.")
  end
  return with_run(ctx, run_id, fold, function (run)
    local steps = steps_by_id(run.model)
    restore(run, fold, steps)
    local ok, err = run:working(settle_doubt, run, fold, steps)
    if ok then ok, err = run:working(settle_payments, run, fold, steps) end
    if ok then return run_engine.drive(run) end
    return give_up(run, err)
  end)
end

--- `neap undo RUN`: the undo (then the after) of every step that has one, newest first.
---@param ctx table
---@return integer exit code
function M.undo(ctx)
  local run_id, fold = reopen(ctx)
  return with_run(ctx, run_id, fold, function (run)
    local steps = steps_by_id(run.model)
    restore(run, fold, steps)
    local ok, err = run:working(function ()
      for _, id in ipairs(fold.order) do settle_writes(run, id, steps[id], fold.steps[id], true) end
      settle_payments(run, fold, steps)
    end)
    if not ok then return give_up(run, err) end
    if #run.stack:debts(true) == 0 then
      run.record:event("notice", "", { severity = "info", text = "nothing of this run can be undone, or all of it was", from = "neap" })
    end
    guard.mode("run")
    if #run.stack:debts(true) > 0 then run:before_first_act() end
    local paid, why = run.stack:unwind(run, true)
    local exit, broken = run:finish(paid and "undone" or "held", paid and 0 or 1, why)
    if broken then error(broken, 0) end
    return exit
  end)
end

return M
