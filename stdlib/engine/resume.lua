--- Going on with a run that died, failed or was held; and taking one back.
--
-- The journal is folded into what each step's last word was (fold.lua). Then, before anything is asked or done, what was left
-- open is settled (doubt.lua): orphans are waited for or ended; every write whose outcome is missing is
-- probed; a step in doubt is settled by its own `done`. Only what nobody can decide goes to a human, and with
-- nobody there the run stays as it is (75).

local M = {}

local doubt = require("engine.doubt")
local fold_engine = require("engine.fold")
local hold = require("engine.hold")
local journal = require("native.journal")
local load = require("engine.load")
local raise = require("core.raise")
local record = require("engine.record")
local run_engine = require("engine.run")
local session = require("engine.session")
local system = require("native.system")
local unwind = require("engine.unwind")

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
  local texts = load.texts(model)
  for i, module in ipairs(recorded.modules or {}) do
    local now = texts[i]
    if not now or now.hash ~= module.hash then
      raise("refused", ("module \"%s\" has changed since the run began:\n%s"):format(module.name, M.diff(module.text, now and now.text or "")))
    end
  end
end

-- Roads are not compared: what stands at the end of one proves itself, and a run may have made its road anew.
local function check_same_targets(recorded, targets)
  local ids, now = {}, {}
  for _, t in ipairs(recorded.targets or {}) do ids[t.role] = t.id end
  for _, t in ipairs(targets) do now[t.role] = true end
  for _, t in ipairs(recorded.targets or {}) do       -- an optional role: what it did to the target may be owed
    if not t.used_by and not now[t.role] then
      raise("refused", ("\"%s\" was %s when the run began, and the inventory no longer has it"):format(t.role, t.id), "Put it back to resume.")
    end
  end
  for _, t in ipairs(targets) do
    if not t.used_by and ids[t.role] and session.lasting(ids[t.role]) ~= session.lasting(t.id) then
      raise("refused", ("\"%s\" was %s when the run began and is %s now"):format(t.role, ids[t.role], t.id), "The run belongs to another target.")
    end
  end
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

local function restore_stack(run, fold, steps)
  run.stack = unwind.new()
  for _, unit in ipairs(fold.units) do
    local step = steps[unit.step]
    if step then run.stack:owe(step, doubt.item_of(fold.steps[unit.step], unit.key), unit.settled) end
  end
end

-- A step that runs another runbook is as complete as the steps in it: one that was taken back opens it again.
local function reopen_nested(run, step)
  local open = false
  for _, inner in ipairs(step.child and step.child.order or {}) do
    reopen_nested(run, inner)
    open = open or not run.completed[inner.id]
  end
  if open then run.status[step.id], run.completed[step.id] = nil, nil end
end

local function all_steps(model, into)
  for _, step in ipairs(model.order) do
    into[#into + 1] = step
    if step.child then all_steps(step.child, into) end
  end
  return into
end

-- What a check found is no longer so when a step before it is pending again; where nothing was done since, it is asked again.
local function reopen_checks(run)
  local list = all_steps(run.model, {})
  local first, last = #list + 1, 0
  for i = #list, 1, -1 do
    local step = list[i]
    local asks = step.kind == "check" or step.child
    if not run.completed[step.id] and not step.child then first = i end
    if run.completed[step.id] and not asks and last == 0 then last = i end
  end
  for i = math.max(first, last) + 1, #list do
    if list[i].kind == "check" then run.status[list[i].id], run.completed[list[i].id] = nil, nil end
  end
end

-- Does the step stand: is it done, or half done, or owes something?
local function stands(step, s)
  if fold_engine.GOOD[s.status] then return true end
  for _, unit in pairs(s.units) do
    if unit.doubt or not unit.settled.undo or step.clauses.after and not unit.settled.after then return true end
  end
  return false
end

local function any_stands(fold, model)
  for _, step in ipairs(model.order) do
    local s = fold.steps[step.id]
    if s and stands(step, s) or step.child and any_stands(fold, step.child) then return true end
  end
  return false
end

-- The parameters of a runbook inside this one stay what they were when it began, while anything it did stands; they
-- may come from the results of steps, which are others once those were taken back and done again.
local function restore_nested(run, fold, steps)
  for id, s in pairs(fold.steps) do
    local child = steps[id] and steps[id].child
    if child and s.params then
      session.restore_params(run, child, s.params)
      run.given[id] = any_stands(fold, child)
    end
  end
end

local function restore(run, fold, steps)
  run.completed = {}
  for id, s in pairs(fold.steps) do
    run.attempts[id], run.items[id], run.item_status[id] = s.attempts, s.each, s.items
    if fold_engine.GOOD[s.status] then
      run.status[id], run.step_results[id], run.completed[id] = s.status, s.result, true
    end
  end
  for _, unit in ipairs(fold.units) do
    if unit.key then run.doubted[unit.step .. "\0" .. unit.key] = true end
  end
  run.answers = fold.answers
  restore_nested(run, fold, steps)
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
  local fold = fold_engine.of(records)
  if #records == 0 then raise("usage", ("run %s died before it recorded anything; it did nothing"):format(run_id), "Start a new run.") end
  if not fold.run then raise("invalid", ("the journal of run %s does not begin with a run record"):format(run_id)) end
  if fold.run.runbook == "gc" then raise("usage", ("run %s is a gc, which is not resumed"):format(run_id), "Begin another one, it finds what is left: neap gc") end
  if fold.ended and fold.ended.status == "abandoned" then
    raise("usage", ("run %s was given up, and what it had made was removed"):format(run_id), "Start a new run.")
  end
  return run_id, fold, rows[1]
end

-- A run that died between its last record and the seal: nothing is left to do but to seal it.
local function seal_late(ctx, run_id, ended)
  local handle <close> = wait_for_writer(ctx, run_id)
  local sealed, why = handle:seal(ended)
  if not sealed then error(why, 0) end
  return 0
end

-- The journal was read before the locks were ours: another resume may have gone on with it meanwhile.
local function check_still_last(run, fold)
  local records, err = journal.read(run.ctx.state, run.run_id, fold.last.seq)
  if not records then error(err, 0) end
  if #records > 0 then raise("busy", ("another resume went on with run %s a moment ago"):format(run.run_id), "Look with neap show, then resume again if it is still needed.") end
end

-- Prove that this is the same runbook on the same targets, take them, and go on writing its journal.
local function take_over(run, fold)
  check_same_text(fold.run, run.model)
  check_same_targets(fold.run, run.targets)
  run.resumed = true
  run.owner_gone = fold.owner.host == system.host() and system.started(fold.owner.pid) ~= fold.owner.started
  hold.lock(run)
  run.journal = wait_for_writer(run.ctx, run.run_id)
  check_still_last(run, fold)
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
  local opened = session.open(ctx, { run_id = run_id, path = fold.run.file, recorded = fold.run })
  local run = run_engine.new(opened, ctx)
  return run_engine.guarded(run, function ()
    take_over(run, fold)
    run:listen()
    return body(run)
  end)
end

-- What nobody can decide ends the command with 75; the target stays held.
local function give_up(run, err)
  err = raise.of(err)
  err.decision = "hold"
  local exit, why = run:conclude(false, err)
  if why then error(why, 0) end
  return exit
end

-- It ended well, and a target was away when it was to be given back.
local function give_back(ctx, run_id, fold)
  return with_run(ctx, run_id, fold, function (run)
    local exit, broken = run:finish(fold.ended.status, 0)
    if broken then error(broken, 0) end
    return exit
  end)
end

--- `neap resume RUN`.
---@param ctx table the command's context, with run = id or prefix
---@return integer exit code
function M.run(ctx)
  local run_id, fold, row = reopen(ctx)
  local ended = fold.ended and fold.ended.status
  if ended == "ok" or ended == "undone" then
    if fold.ended.keeps then return give_back(ctx, run_id, fold) end
    if row.status == "running" then return seal_late(ctx, run_id, ended) end
    raise("usage", ("run %s ended: %s; there is nothing to resume"):format(run_id, ended), "Start a new run.")
  end
  return with_run(ctx, run_id, fold, function (run)
    local steps = steps_by_id(run.model)
    restore(run, fold, steps)
    local ok, err = run:working(function ()
      doubt.settle_writes(run, fold, steps)
      doubt.settle_payments(run, fold, steps)
      doubt.settle_steps(run, fold, steps)
    end)
    reopen_checks(run)
    for _, step in ipairs(run.model.order) do reopen_nested(run, step) end
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
      doubt.settle_writes(run, fold, steps)
      doubt.settle_payments(run, fold, steps)
    end)
    if not ok then return give_up(run, err) end
    if #run.stack:debts(true) == 0 then
      run.record:event("notice", "", { severity = "info", text = "nothing of this run can be undone, or all of it was", from = "neap" })
    end
    local paid, why = run.stack:unwind(run, true)
    local exit, broken = run:finish(paid and "undone" or "held", paid and 0 or 1, why)
    if broken then error(broken, 0) end
    return exit
  end)
end

return M
