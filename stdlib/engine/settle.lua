--- Giving back what a run keeps that can no longer speak for itself.
--
-- A run that died owing something keeps its targets until it is resumed. When its journal is gone for good (the control host burnt, the
-- directory was removed) nobody can resume it, and the words it left on the target would keep everybody else away for ever.
-- Then a human looks, mends what is owed by hand, and says so here: by typing the run's id, with a reason. What was said is a run of its
-- own in this journal, and is on disk before any hold is taken away.
--
-- Refused: a run whose evidence is here and whole (it can be resumed), and a target that a living run has locked.

local M = {}

local ask = require("engine.ask")
local guard = require("native.guard")
local journal = require("native.journal")
local raise = require("core.raise")
local run_engine = require("engine.run")
local session = require("engine.session")
local system = require("native.system")
local task = require("native.task")
local text = require("core.text")
local value = require("native.value")

-- "run 7f3a… of stop by anna on iris since …": is this the hold of a run whose id begins so?
local function kept_by(words, id)
  local run = words and words:match("^run (%x+) of ")
  return run and run:sub(1, #id) == id and run or nil
end

-- The targets of the environment that the run keeps, and what could not be asked.
local function find(run, id)
  local found, silent, cards, whole = {}, {}, {}, nil
  for _, role in ipairs(text.keys(run.environment.targets)) do
    local bound, object = pcall(run.binding.get, run.binding, role)
    local keeper = bound and object.guardians and object.guardians.lock and object.guardians
    local asked, card = pcall(function () return keeper and run.binding:identify(role, cards) end)
    local ok, words = pcall(function () return keeper and asked and keeper.held(object) end)
    if not bound or not asked or not ok then silent[#silent + 1] = role end
    local kept = ok and words and kept_by(words, id)
    if kept then
      if whole and whole ~= kept then raise("usage", ("\"%s\" is the beginning of %s and of %s"):format(id, whole, kept), "Type more of it.") end
      whole = kept
      found[#found + 1] = { role = role, kind = object.kind, id = card.id, lines = card.lines, object = object, keeper = keeper, words = words }
    end
  end
  return found, whole, silent
end

local function refuse_living(run, id)
  local head = journal.verify(run.ctx.state, id)
  if head then
    raise("refused", ("the evidence of run %s is here and whole"):format(id), ("It says what is owed: neap resume %s"):format(id))
  end
  for _, t in ipairs(run.targets) do
    local ok, err = t.keeper.lock(t.object)
    if not ok then raise("busy", ("\"%s\" is in use: %s"):format(t.role, err.message), "Wait until that run has ended.") end
  end
end

local function confirm(run, id)
  for _, pin in ipairs(run.ctx.confirm or {}) do
    if pin == "settle=" .. id then
      run.record:event("answer", "", { value = id, by = "--confirm", level = "name" })
      return
    end
  end
  if not run.ctx.interactive then raise("refused", "nobody confirmed that nothing is owed any more", ("Pin the run: --confirm settle=%s"):format(id)) end
  local typed = ask.put(run, { level = "name", name = id, card = run.targets, text = ("Nothing that run %s owed is left to do, says \"%s\". Type %s to give its targets back:")
    :format(id, run.ctx.reason, id) })
  if typed ~= id then raise("refused", "the targets stay kept") end
  run.record:event("answer", "", { value = typed, by = "typed", level = "name" })
end

local function release(run, id)
  for _, t in ipairs(run.targets) do
    run.record:event("note", "", { text = ("%s: %s"):format(t.role, t.words) })
  end
  run.record:event("notice", "", { severity = "warning", text = ("run %s is settled by hand: %s"):format(id, run.ctx.reason), from = "neap" })
  run.record:sync()
  for _, t in ipairs(run.targets) do t.keeper.release(t.object) end
  local row = journal.index.find(run.ctx.state, id)
  row = row and (row.run and row or row[1])
  if row then
    row.status = "settled"
    journal.index.put(run.ctx.state, row)
  end
end

--- `neap settle RUN --env NAME --reason TEXT`.
---@param ctx table the command's context; run: the beginning of an id; reason
---@return integer exit code
function M.run(ctx)
  local model = { name = "settle", title = ("Settle run %s by hand"):format(ctx.run), why = ctx.reason, order = {}, steps = {}, file = "neap settle", source = "",
    hash = "", modules = {} }
  local opened = { ctx = ctx, run_id = system.random_id(), model = model, params = {}, results = {} }
  local run = run_engine.new(opened, ctx)
  return run_engine.guarded(run, function ()
    session.enter(run)
    local silent, id
    task.phase("engine")
    guard.mode("run")
    run.targets, id, silent = find(run, ctx.run)
    if not id then
      raise("usage", ("no target of environment \"%s\" is kept by a run %s"):format(run.environment.name, ctx.run),
        #silent > 0 and ("These could not be asked: %s."):format(text.join(silent)) or "neap doctor --env says which are kept, and by whom.")
    end
    refuse_living(run, id)
    run_engine.begin(run)
    run:listen()
    local ok, err = pcall(function ()
      confirm(run, id)
      release(run, id)
    end)
    local status = ok and "ok" or "failed"
    err = not ok and raise.of(err) or nil
    run.record:event("end", "", { status = status, exit = err and value.exit_code(err.code) or 0, message = err and err.message, hint = err and err.hint })
    run.record:sync()
    run.journal:seal(status)
    if err then error(err, 0) end
    return 0
  end)
end

return M
