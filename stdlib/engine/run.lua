--- A run: lock, record, survey, confirm, act step by step, unwind, seal.
--
--   open session → lock targets → journal → survey → confirm → steps … → unwind → end record → seal → release
--
-- Promises: nothing is written before every check that can be asked was asked and every confirmation given;
-- no step begins whose intent is not durable; whatever a run owes when it ends keeps the targets (a hold) until it is
-- resumed or settled. When the journal cannot be written the run stops where it is: undoing unrecorded would be
-- worse than leaving the debt listed.

local M = {}

local ask = require("engine.ask")
local guard = require("native.guard")
local hold = require("engine.hold")
local items = require("engine.items")
local journal = require("native.journal")
local load = require("engine.load")
local raise = require("core.raise")
local record = require("engine.record")
local session = require("engine.session")
local step_engine = require("engine.step")
local survey = require("engine.survey")
local system = require("native.system")
local task = require("native.task")
local timing = require("engine.timing")
local unwind = require("engine.unwind")
local value = require("native.value")
local words = require("engine.words")

local Run = {}
Run.__index = Run
M.Run = Run

local SIGNAL_EXIT = { interrupt = 130, terminate = 143, hangup = 129, quit = 131 }

-- ---- what the words and the steps call ----

function Run:checked(c)
  self.record:event("check", c.step.id, { text = c.text, ok = c.ok, actual = c.actual, label = c.label, clause = c.clause })
end

function Run:noted(n)
  self.record:event("note", n.step.id, { text = n.text, item = step_engine.key_of(n.item) })
end

function Run:progressed(p)
  if self.ctx.view.progress then self.ctx.view:progress(p) end
end

-- What a target says on the side (a NOTICE of PostgreSQL).
function Run:noticed(n)
  self.record:event("notice", n.step.id, { severity = n.severity, text = n.text, from = n.from })
end

function Run:reported(r)
  self.record:event("table", r.step.id, r.grid)
end

function Run:result_of(step)
  return self.step_results[step.id]
end

function Run.key_of(_, item) return step_engine.key_of(item) end

function Run.plain(result)
  return value.encode(result)
end

--- No intent outside the environment's window: what was begun inside ends, nothing new begins; nor what would not fit into what is left of it.
---@param step table|nil the step that is about to act; nil before the first one
---@param surveyed table|nil before the first one: what the survey found
function Run:check_window(step, surveyed)
  if self.timing == nil then self.timing = timing.guarding(self) or false end
  if not self.timing then return end
  if step then return timing.check_step(self, step) end
  self.record:event("notice", "", { severity = "info", from = "neap", text = timing.check_start(self, surveyed) })
end

-- ---- stopping ----

--- Call `fn` in a task of its own, so that the second Ctrl-C has something to cancel: true and its results, or false
--- and the error.
function Run:working(fn, ...)
  local before = self.worker
  self.worker = task.spawn(function (...) return pcall(fn, ...) end, ...)
  local results = table.pack(self.worker:join())
  self.worker = before
  if not results[1] then return false, results[2] end
  return table.unpack(results, 2, results.n)
end

-- What a signal means now. A question is no step: nobody has to answer it before the run stops.
local function meaning_of(run, name, count)
  if name == "hangup" then return run.paying and "the terminal is gone: finishing what is owed" or "the terminal is gone: finishing this step, then holding" end
  if run.question then return "stopping" end
  if count > 1 then return ("cancelling %s; again exits at once"):format(run.paying and "what is owed" or "the step") end
  return ("finishing %s, then stopping; again cancels it"):format(run.paying and "what is owed" or "this step")
end

-- First Ctrl-C: finish this step and stop. Second: cancel it. A lost terminal: finish this step and hold.
function Run:listen()
  system.signal(function (name, count)
    self.signal = self.signal or name
    if name == "hangup" then self.hold_next = true else self.stop_next = true end
    self.record:event("signal", "", { name = name, count = count, meaning = meaning_of(self, name, count) })
    if self.question then self.question:cancel("stopped by the operator")
    elseif name ~= "hangup" and count > 1 and self.worker then self.worker:cancel("cancelled by the operator") end
  end)
end

function Run:check_stop()
  if self.hold_next or (self.ctx.lost and self.ctx.lost()) then
    self.signal = self.signal or "hangup"
    error(raise.new("cancelled", "the terminal was lost; the run holds", nil, { decision = "hold" }), 0)
  end
  if self.stop_next then error(raise.new("cancelled", "stopped by the operator", nil, { decision = "abort" }), 0) end
end

-- ---- steps ----

local GOOD = { ok = true, already = true, skipped = true }

function Run:skip(step, reason)
  self.record:event("step", step.id, { state = "end", number = step.number, status = "skipped", reason = reason, ms = 0 })
  self.status[step.id] = "skipped"
end

function Run:one(step)
  if GOOD[self.status[step.id]] then return end
  local attempt = (self.attempts[step.id] or 0) + 1
  while true do
    self:check_stop()
    self.attempts[step.id] = attempt
    local status, err = step_engine.run(self, step, attempt)
    if GOOD[status] then return end
    if err.decision then error(err, 0) end
    local in_doubt = status == "unknown" or status == "held" or err.code == "journal"
    local choice, reason = in_doubt and "hold" or "abort", nil
    if status == "failed" and not in_doubt then choice, reason = ask.failed(self, step, err) end
    if choice == "skip" then return self:skip(step, reason) end
    if choice ~= "retry" then
      err.decision = choice
      err.failed_step = err.failed_step or step
      error(err, 0)
    end
    attempt = attempt + 1
  end
end

function Run:steps(model)
  for _, step in ipairs(model.steps) do
    if step.kind == "parallel" then
      local next_member = 1
      items.side_by_side(math.min(step.limit, #step.members), function (group)
        while next_member <= #step.members and not group.failure do
          local member = step.members[next_member]
          next_member = next_member + 1
          self:one(member)
        end
      end)
    else
      self:one(step)
    end
  end
end

function Run:execute()
  guard.mode("run")
  return self:working(self.steps, self, self.model)
end

-- ---- the end ----

local function debts_text(stack, with_undo)
  local list = {}
  for _, debt in ipairs(stack:debts(with_undo)) do
    list[#list + 1] = ("%s of step %s"):format(debt.clause, debt.step.number)
  end
  return list
end

-- The last words of a run that cannot write them down: what was lost first, where it stands, how it goes on.
function Run:unrecorded(err, why)
  local first = raise.of(why)
  local flushed, cause = pcall(self.record.sync, self.record)   -- asked again, it says what it died of
  if not flushed then first = raise.of(cause) end
  local message = tostring(first.message)
  if not message:find("^the journal can") then message = "the journal can no longer be written: " .. message end
  local step = err and err.failed_step
  local where = step and ("; the run stopped in step %s, %s"):format(step.number, step.title) or ""
  local state = self.holding and "nothing was undone, and the targets stay kept" or "nothing was changed"
  return raise.new("journal", message .. where,
    ("%sSince then nothing was begun, %s. When it can be written again: neap resume %s"):format(first.hint and first.hint .. " " or "", state, self.run_id))
end

-- A half undone run is either taken back to its end or gone on with; which is for a human to say.
local function next_commands(run)
  local list = { "neap resume " .. run.run_id }
  for _, debt in ipairs(run.stack:debts(false)) do
    if debt.clause == "undo" then list[1], list[2] = "neap undo " .. run.run_id, "neap resume " .. run.run_id end
  end
  return list
end

function Run:finish(status, exit, err)
  local debts = debts_text(self.stack, false)
  local open = status ~= "ok" and status ~= "undone"
  local body = { status = status, exit = exit, owes = #debts > 0 and debts or nil, next = open and next_commands(self) or nil }
  if err then
    body.code, body.message, body.hint, body.where, body.sqlstate = err.code, err.message, err.hint, err.where, err.sqlstate
    body.failed = err.failed_step and err.failed_step.id or nil
    body.number, body.title = err.failed_step and err.failed_step.number, err.failed_step and err.failed_step.title
  end
  -- What is not yet on disk is not yet known to have been done: a target is not given back before.
  local keeps = status == "held" or status == "unknown" or #debts > 0
  local recorded, why, released, left = true, nil, true, nil
  if err or hold.holds(self) then recorded, why = pcall(self.record.sync, self.record) end
  if recorded and not keeps then released, left = pcall(hold.release, self) end
  local ended, broken = pcall(function ()
    if not released then
      body.keeps, body.next = true, body.next or next_commands(self)
      self.record:event("notice", "", { severity = "warning", from = "neap",
        text = ("a target still says that this run keeps it; neap resume %s takes that away: %s"):format(self.run_id, raise.of(left).message) })
    end
    self.record:event("end", "", body)
  end)
  local sealed = recorded and ended
  why = why or broken
  -- Which makes the end durable first, from the reserve where the disk is full just now: nothing is left to do that would go unrecorded.
  if sealed then sealed, why = self.journal:seal(status) end
  if not sealed then return value.exit_code("journal"), self:unrecorded(err, why) end
  return exit
end

-- What a failed, stopped or lost run does with what it owes.
function Run:settle(err)
  local decision = err.decision or "abort"
  if err.code == "journal" then return "held", value.exit_code("journal") end
  if err.waiting then return "held", value.exit_code(err.code) end
  if err.code == "unknown" then return "unknown", value.exit_code("unknown") end
  local exit = err.code == "cancelled" and (SIGNAL_EXIT[self.signal] or 130) or value.exit_code(err.code)
  if decision == "hold" then return "held", exit end
  self.stack:unwind(self, decision == "undo")
  return err.code == "cancelled" and "cancelled" or "failed", exit
end

function Run:conclude(ok, err)
  if ok then
    local recorded, paid, why = pcall(self.stack.unwind, self.stack, self, false)
    if not recorded then return self:finish("held", value.exit_code("journal"), raise.of(paid)) end
    if paid then return self:finish("ok", 0) end
    if why.code == "cancelled" then return self:finish("cancelled", SIGNAL_EXIT[self.signal] or 130, why) end
    return self:finish("failed", value.exit_code(why.code), why)
  end
  err = type(err) == "table" and err or raise.of(err)
  local settled, status, exit = pcall(self.settle, self, err)
  if not settled then status, exit, err = "held", value.exit_code("journal"), raise.of(status) end
  return self:finish(status, exit, err)
end

-- ---- beginning ----

local function targets_body(targets)
  local list = {}
  for i, t in ipairs(targets) do list[i] = { role = t.role, kind = t.kind, id = t.id, lines = t.lines, used_by = t.used_by } end
  return list
end

-- Titles as they will be shown; an {item} stays as it is written. The id is what a step is known by.
local function steps_body(model)
  local list = {}
  for i, step in ipairs(model.order) do
    list[i] = { id = step.id, number = step.number, title = words.fill(step, step.title), effect = step.kind,
      destroys = step.clauses.destroys and words.fill(step, step.clauses.destroys) }
  end
  return list
end

local function plan_body(surveyed)
  local list = {}
  for i, entry in ipairs(surveyed.steps) do list[i] = { number = entry.number, id = entry.id, label = entry.label } end
  return { steps = list, tally = surveyed.tally }
end

--- A Run around an open session.
function M.new(opened, ctx)
  local run = setmetatable({ ctx = ctx, stack = unwind.new(), status = {}, attempts = {}, items = {}, item_status = {}, given = {}, answers = {}, doubted = {},
    step_results = {} }, Run)
  for key, field in pairs(opened) do
    if run[key] == nil then run[key] = field end
  end
  return run
end

--- Listen to the journal: the view, and whoever watches from another terminal.
function M.listeners(run)
  local listeners = { function (event) run.ctx.view:event(event) end }
  if run.ctx.watch then
    run.watcher = run.ctx.watch(run)
    if run.watcher then listeners[2] = function (event) run.watcher:event(event) end end
  end
  return listeners
end

function M.begin(run)
  local model = run.model
  local handle, err = journal.create(run.ctx.state, run.run_id)
  if not handle then error(err, 0) end
  run.journal = handle
  -- In the index before its first record: a run that somebody has seen can be found.
  local targets = {}
  for _, t in ipairs(run.targets) do
    if not t.used_by then targets[#targets + 1] = t.id end
  end
  local ok, why = journal.index.put(run.ctx.state, { run = run.run_id, runbook = model.name, environment = run.environment.name, user = system.user(), host = system.host(),
    status = "running", targets = targets, started_ms = system.wall_ms() })
  if not ok then error(why, 0) end
  run.record = record.new(handle, M.listeners(run))
  local recorded = session.recorded_params(run.params)
  local body = { run = run.run_id, runbook = model.name, title = model.title, why = model.why, file = system.realpath(model.file) or model.file, environment = run.environment.name,
    inventory = system.realpath(session.inventory_path(run.ctx.inventory)), user = system.user(), uid = system.uid(), host = system.host(), pid = system.pid(), started = system.started(system.pid()),
    version = system.version(), stdlib = system.stdlib(), params = recorded.params, secret_params = recorded.secret_params,
    stamp = run.stamp, passed = run.passed and next(run.passed) and run.passed or nil, modules = load.texts(model),
    text = model.source, hash = model.hash, targets = targets_body(run.targets), steps = steps_body(model) }
  run.record:event("run", "", body, true)
  run.record:sync()
end

-- A check that fails in the survey fails the run before anything is written.
local function refuse_failed(run, surveyed)
  for _, entry in ipairs(surveyed.steps) do
    if entry.failed then
      local err = entry.error
      run.record:event("step", entry.id, { state = "begin", number = entry.number, title = entry.title, attempt = 1 })
      run.record:event("step", entry.id, { state = "end", number = entry.number, status = "failed", ms = 0, attempt = 1,
        error = { code = err.code, message = err.message, hint = err.hint, where = err.where } })
      err.failed_step, err.decision = entry.step, "abort"
      error(err, 0)
    end
  end
end

function M.prepare(run)
  local surveyed = survey.of(run, run.step_results)
  run.record:event("plan", "", plan_body(surveyed), true)
  refuse_failed(run, surveyed)
  if surveyed.exit == 2 then run:check_window(nil, surveyed) end
  ask.confirm(run, surveyed)
end

--- Everything after the beginning, for run and resume alike.
function M.drive(run)
  local ok, err = run:working(M.prepare, run)
  if ok then ok, err = run:execute() end
  local exit, why = run:conclude(ok, err)
  if why then error(why, 0) end
  return exit
end

--- Call `body`; whatever the run opened is closed however it ends. The journal first: as it is closed, whoever listens is told of its end.
function M.guarded(run, body)
  local ok, result = pcall(body)
  system.signal(nil)
  if run.journal then run.journal:close() end
  if run.watcher then run.watcher:close() end
  session.close(run)
  if not ok then error(result, 0) end
  return result
end

--- `neap run`.
---@param ctx table the command's context
---@return integer exit code
function M.run(ctx)
  local run_id = ctx.found and ctx.found.run_id or system.random_id()
  local run = M.new(session.open(ctx, { run_id = run_id }), ctx)
  return M.guarded(run, function ()
    hold.lock(run)
    M.begin(run)
    run:listen()
    return M.drive(run)
  end)
end

return M
