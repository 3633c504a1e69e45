--- Taking away what runs that are over left on their targets: what neap gc does there.
--
--   over        ended well, was undone, settled or given up: what is open in its ledger goes
--   resumable   failed or stopped and owes nothing: its things are kept for `neap resume`, until it is given up by name or by its age; that is
--               written into its evidence first, so that nobody resumes a run whose things are going
--   owing       died in the middle, held, or in doubt: kept whatever its age, because its targets are; resume, undo or settle it first
--
-- What goes, goes in a run of its own, "gc", step, intent and outcome like any other, in the environment the dead run used: each thing is
-- an item whose `done` proves that this is the server (Engine, host) that the ledger means, and asks whether the thing is there.
-- A gc that dies is not resumed; the next one finds what it did not get to. It keeps no targets: nobody else has use for what it removes.
--
-- One environment in one go: the policy of an environment (never list, hosts) binds the process from then on, and must not leak into
-- another one's. Rejected: dropping whatever carries a run's id (somebody may have taken it over by hand), and writing into the evidence of a run
-- that ended well (what was removed is in the gc's own).

local M = {}

local guard = require("native.guard")
local journal = require("native.journal")
local ledger = require("engine.ledger")
local raise = require("core.raise")
local run_engine = require("engine.run")
local session = require("engine.session")
local system = require("native.system")
local task = require("native.task")

M.NAME = "gc"

local OVER <const> = { ok = true, undone = true, settled = true, abandoned = true }
local STOPPED <const> = { failed = true, cancelled = true }

-- Did it begin to act? Then only its runbook knows what it owes.
local function has_acted(records)
  for _, r in ipairs(records) do
    if r.kind == "step" and r.body.state == "intent" then return true end
  end
  return false
end

local function owes(records)
  for i = #records, 1, -1 do
    local r = records[i]
    if r.kind == "end" then return not STOPPED[r.body.status] or (r.body.owes ~= nil and #r.body.owes > 0) end
    if r.kind == "resume" then break end
  end
  return has_acted(records)
end

--- How a run stands: "living", "over", "resumable" or "owing".
---@param row table of the index
---@param records table[]
---@param state string
---@return string
function M.standing(row, records, state)
  if journal.is_written(state, row.run) then return "living" end
  if OVER[row.status] or row.runbook == M.NAME then return "over" end
  return owes(records) and "owing" or "resumable"
end

-- What gc runs have removed already, or found gone, and when: what was entered again since (a swap that was taken back) is there again.
local function removed_before(rows, state)
  local gone = {}
  for _, row in ipairs(rows) do
    for _, r in ipairs(row.runbook == M.NAME and journal.read(state, row.run, 0) or {}) do
      if r.kind == "ledger" and r.body.state == "left" then
        local key = r.body.kind .. "\0" .. r.body.subject
        gone[key] = math.max(gone[key] or 0, r.at)
      end
    end
  end
  return gone
end

-- Newest first: a file goes before the directory it is in.
local function things_of(records, run, gone)
  local list = {}
  for _, entry in ipairs(ledger.open(records)) do
    if (gone[entry.kind .. "\0" .. entry.subject] or 0) < entry.at then
      entry.run, entry.key = run, ("%s %s of run %s"):format(entry.kind, entry.name, run)
      table.insert(list, 1, entry)
    end
  end
  return list
end

--- Every run that left something, newest first.
---@param rows table[] of the index, newest first
---@param state string
---@return { row: table, standing: string, head: table, things: table[] }[]
function M.find(rows, state)
  local found, gone = {}, removed_before(rows, state)
  for _, row in ipairs(rows) do
    local records = row.runbook ~= M.NAME and journal.read(state, row.run, 0) or {}
    local things = things_of(records, row.run, gone)
    if #things > 0 then
      found[#found + 1] = { row = row, standing = M.standing(row, records, state), head = records[1].body, things = things }
    end
  end
  return found
end

--- From now on nobody resumes it: its evidence says so, sealed. Raises {busy} when somebody does at this moment.
---@param state string
---@param run string id
function M.give_up(state, run)
  local handle <close> = raise.check(journal.resume(state, run))
  handle:append("end", "", { status = "abandoned", exit = 1, by = system.user(), message = "given up: neap gc removes what it made" })
  handle:flush()
  raise.check(handle:seal("abandoned"))
end

-- ---- the run that removes ----

local function guardian_of(run, thing)
  local object = run.binding:get(thing.role)
  local g = object.guardians
  if not (g and g.discard) then raise("bug", ("nobody can remove the %s %s"):format(thing.kind, thing.name)) end
  return g, object
end

local function is_there(run, thing)
  local g, object = guardian_of(run, thing)
  if not thing.name:find(thing.run, 1, true) and thing.kind ~= "part" then
    raise("refused", ("%s does not carry the id of run %s"):format(thing.name, thing.run), "The ledger has been tampered with; look at it with neap show.")
  end
  if thing.subject:find("^file:") and thing.host ~= system.host() then
    raise("refused", ("%s lies on %s"):format(thing.name, thing.host), "Let neap gc run there.")
  end
  if g.there(object, thing) then return true end
  ledger.leave(thing)
  return false
end

local function step_of(run, things)
  return { kind = "change", id = "remove", number = 1, title = "Remove what runs that are over left behind", where = "neap gc", params = { values = {} }, clauses = {
    each = things, stop_after = #things,
    done = function (thing) return not is_there(run, thing) end,
    act = function (thing)
      local g, object = guardian_of(run, thing)
      g.discard(object, thing)
      ledger.leave(thing)
    end,
  } }
end

-- Bind whatever the things are in and ask it who it is. What cannot be asked is told, and its things stay.
local function reach(run, things, told)
  local cards, state, reached = {}, {}, {}
  run.targets = {}
  for _, thing in ipairs(things) do
    if state[thing.role] == nil then
      local ok, card = pcall(function ()
        local object = run.binding:get(thing.role)
        return run.binding:identify(thing.role, cards), object
      end)
      state[thing.role] = ok and true or raise.of(card)
      if ok then
        run.targets[#run.targets + 1] = { role = thing.role, kind = run.environment.targets[thing.role].kind, id = card.id, lines = card.lines, trusted = card.trusted,
          object = run.binding:get(thing.role) }
      end
    end
    if state[thing.role] == true then reached[#reached + 1] = thing else told(thing, state[thing.role]) end
  end
  run.binding:seal()
  return reached
end

local function model_of()
  return { name = M.NAME, title = "Remove what runs that are over left behind", why = "A run that was killed cannot take away what it made.", order = {}, steps = {},
    file = "neap gc", source = "", hash = "", modules = {}, on_failure = "abort" }
end

local function opened(ctx)
  local run = run_engine.new({ ctx = ctx, run_id = system.random_id(), model = model_of(), params = {}, results = {} }, ctx)
  run.keeps_nothing = true
  return run
end

-- In a dry run: what is there.
local function look(run, things, told)
  guard.mode("plan")
  for _, thing in ipairs(things) do
    local ok, there = pcall(is_there, run, thing)
    told(thing, not ok and raise.of(there) or there and "would go" or nil)
  end
  return 0
end

-- What became of each thing, as the gc's own evidence has it.
local function tell(run, things, told)
  local by_key = {}
  for _, thing in ipairs(things) do by_key[thing.key] = thing end
  for _, r in ipairs(raise.check(journal.read(run.ctx.state, run.run_id, 0))) do
    local thing = r.kind == "item" and by_key[r.body.item]
    if thing then told(thing, r.body.status == "ok" and "removed" or r.body.status == "failed" and raise.new(r.body.error.code, r.body.error.message, r.body.error.hint) or nil) end
  end
end

local function remove(run, things)
  run.model.steps[1] = step_of(run, things)
  run.model.order[1] = run.model.steps[1]
  run_engine.begin(run)
  run:listen()
  return run_engine.drive(run)
end

--- Remove these things, all of one environment; `told` hears of each what became of it: "removed", "would go", an error, or nil (it was gone).
---@param ctx table the command's context, with environment and inventory set
---@param things table[] see find; with `host`, where the run was
---@param dry boolean
---@param told fun(thing: table, what: string|table|nil)
---@return integer exit code
function M.run(ctx, things, dry, told)
  local run = opened(ctx)
  local reached = {}
  local exit = run_engine.guarded(run, function ()
    session.enter(run)
    task.phase("engine")
    guard.mode(dry and "plan" or "run")
    reached = reach(run, things, told)
    if #reached == 0 then return 0 end
    return dry and look(run, reached, told) or remove(run, reached)
  end)
  if not dry and #reached > 0 then tell(run, reached, told) end
  return exit
end

return M
