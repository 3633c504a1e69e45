--- Going on with a run that died, failed or was held; and taking one back.
--
-- The journal is folded into what each step's last word was. Then, before anything is asked or done: orphans (a
-- backend, a child that was left working) are waited for or ended; every write whose outcome is missing is
-- probed; a step in doubt is settled by its own `done`. Only what nobody can decide goes to a human, and with
-- nobody there the run stays as it is (75).
--
--   intent, no end:  done says yes → ok, found done
--                    done says no, and no write is half or unknown → pending, acts again
--                    otherwise → ask; nobody there → 75

local M = {}

local ask = require("engine.ask")
local clause = require("engine.clause")
local guard = require("native.guard")
local journal = require("native.journal")
local raise = require("core.raise")
local record = require("engine.record")
local run_engine = require("engine.run")
local session = require("engine.session")
local system = require("native.system")
local unwind = require("engine.unwind")

local ORPHAN_MS = 60000

-- ---- folding the journal ----

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

function FOLD.run(fold, _, body) fold.run = body end
function FOLD.resume(fold) fold.ended = nil end
FOLD["end"] = function (fold, _, body) fold.ended = body end

function FOLD.step(fold, id, body)
  local s = step_state(fold, id)
  if body.state == "begin" then
    s.attempts = math.max(s.attempts, body.attempt or 1)
    s.status = nil
  elseif body.state == "intent" then
    s.intents[#s.intents + 1] = { item = body.item }
    s.in_doubt = true
    for _, name in ipairs { "undo", "after" } do (s.settled or {})[(body.item or "") .. "\0" .. name] = nil end
  else
    s.status, s.result, s.in_doubt, s.error = body.status, body.result, body.status == "unknown" or body.status == "cancelled", body.error
  end
end

function FOLD.each(fold, id, body) step_state(fold, id).each = body.items end
function FOLD.item(fold, id, body) step_state(fold, id).items[body.item] = body.status end

function FOLD.intent(fold, id, body, seq)
  body.seq = seq
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
function FOLD.settled(fold, id, body)
  if body.status ~= "ok" then return end
  local s = step_state(fold, id)
  s.settled = s.settled or {}
  s.settled[(body.item or "") .. "\0" .. body.clause] = true
  s.status, s.in_doubt, s.items = nil, false, {}
end

function FOLD.answer(fold, id, body) fold.answers[id] = body.value end

--- Fold a list of records.
function M.fold(records)
  local fold = { steps = {}, order = {}, answers = {}, last = records[#records] }
  for _, r in ipairs(records) do
    local f = FOLD[r.kind]
    if f then f(fold, r.step, r.body, r.seq) end
  end
  return fold
end

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

-- What became of one write: "done", "not begun", "half" or nil. Orphans first.
local function settle_write(run, id, write)
  local object = object_of(run, write.target)
  local g = object and object.guardians
  local found
  if g and g.probe then
    local ok, answer = pcall(g.probe, object, write, ORPHAN_MS)
    if ok then found = answer else run.record:event("notice", id, { severity = "warning", text = tostring(answer), from = write.target }) end
  end
  local status = found == "done" and "ok" or found == "not begun" and "failed" or "unknown"
  run.record:event("outcome", id, { intent = write.seq, status = status, found = found or "nobody knows" })
  return found
end

local function settle_writes(run, id, s)
  local doubtful = false
  local seqs = {}
  for seq, write in pairs(s.writes) do
    if not write.outcome or write.outcome == "unknown" then seqs[#seqs + 1] = seq end
  end
  table.sort(seqs)
  for _, seq in ipairs(seqs) do
    local found = settle_write(run, id, s.writes[seq])
    if found ~= "done" and found ~= "not begun" then doubtful = true end
  end
  return doubtful
end

local function any_done(s)
  for _, write in pairs(s.writes) do
    if write.outcome == "ok" then return true end
  end
  return false
end

local function ask_human(run, step, why)
  local text = ("Step %s, \"%s\", began and nobody can say whether it was done: %s"):format(step.number, step.title, why)
  if not run.ctx.interactive then raise("unknown", text, ("Find out, then: neap resume %s from a terminal."):format(run.run_id), { failed_step = step }) end
  while true do
    local typed = ask.put(run, { level = "manual", step = step.id, answers = { "done", "again", "abort" }, text = text .. "\nType done, again or abort:" })
    if typed == "done" or typed == "again" then
      run.record:event("answer", step.id, { value = typed, by = "typed" })
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

local function settle_step(run, step, s)
  local doubtful = settle_writes(run, step.id, s)
  if step.kind ~= "change" then return end
  if step.clauses.each then
    if doubtful and not step.clauses.done and ask_human(run, step, "a write has no outcome") then found_done(run, step, s, "a human says it is done") end
    return
  end
  local proof = step.clauses.done and "done" or "verify"
  local ok, result = clause.call(run, step, proof)
  guard.reads()
  if ok and result ~= false and result ~= nil then return found_done(run, step, s, "found done") end
  if ok and proof == "verify" and result == nil then return found_done(run, step, s, "found done") end
  local says_no = (ok and not result) or (not ok and result.code == "check")
  if says_no and not doubtful and (step.clauses.done or not any_done(s)) then return end
  local why = not ok and result.message or doubtful and "a write has no outcome and its proof says no" or "some of it was done"
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
  local fold = M.fold(records)
  if not fold.run then raise("invalid", ("the journal of run %s does not begin with a run record"):format(run_id)) end
  return run_id, fold
end

-- Prove that this is the same runbook on the same targets, take them, and go on writing its journal.
local function take_over(run, fold)
  check_same_text(fold.run, run.model)
  check_same_targets(fold.run, run.targets)
  run.resumed = true
  run:lock_targets()
  run.journal = wait_for_writer(run.ctx, run.run_id)
  run.record = record.new(run.journal, run_engine.listeners(run))
  run.record:event("resume", "", { user = system.user(), uid = system.uid(), host = system.host(), pid = system.pid(), started = system.started(system.pid()),
    version = system.version(), run = run.run_id, runbook = fold.run.runbook, title = fold.run.title, environment = fold.run.environment, steps = fold.run.steps })
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

local function settle_doubt(run, fold, steps)
  for _, id in ipairs(fold.order) do
    local step, s = steps[id], fold.steps[id]
    if step and s.in_doubt and not GOOD[s.status] then settle_step(run, step, s) end
    if step and GOOD[run.status[id]] then run.completed[id] = true end
  end
  run.record:sync()
end

--- `neap resume RUN`.
---@param ctx table the command's context, with run = id or prefix
---@return integer exit code
function M.run(ctx)
  local run_id, fold = reopen(ctx)
  local ended = fold.ended and fold.ended.status
  if ended == "ok" or ended == "undone" then
    raise("usage", ("run %s ended: %s; there is nothing to resume"):format(run_id, ended), "Start a new run.")
  end
  return with_run(ctx, run_id, fold, function (run)
    local steps = steps_by_id(run.model)
    restore(run, fold, steps)
    local ok, err = run:working(settle_doubt, run, fold, steps)
    if ok then return run_engine.drive(run) end
    err = raise.of(err)
    err.decision = "hold"
    local exit, why = run:conclude(false, err)
    if why then error(why, 0) end
    return exit
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
    for _, id in ipairs(fold.order) do
      if steps[id] and fold.steps[id].in_doubt then settle_writes(run, id, fold.steps[id]) end
    end
    if #run.stack:debts(true) == 0 then
      run.record:event("notice", "", { severity = "info", text = "nothing of this run can be undone, or all of it was", from = "neap" })
    end
    guard.mode("run")
    local paid, why = run.stack:unwind(run, true)
    local exit, broken = run:finish(paid and "undone" or "held", paid and 0 or 1, why)
    if broken then error(broken, 0) end
    return exit
  end)
end

return M
