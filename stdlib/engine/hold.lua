--- Keeping targets: the lock while a run lives, the hold while it owes.
--
-- The lock goes with the connection; the hold is words on the target that stay when this process dies, so that every
-- other user and host is told who has it and which command settles it. It is set before the first act and taken back
-- when nothing is owed; a target that is away just then is waited for, because what stays on it would keep everybody else away. Two
-- roles may name the same database: it is locked once.

local M = {}

local guard = require("native.guard")
local raise = require("core.raise")
local session = require("engine.session")
local system = require("native.system")
local task = require("native.task")

local LOCK_MS <const>, RELEASE_MS <const>, PAUSE_MS <const> = 10000, 30000, 100
local AWAY <const> = { closed = true, unreachable = true, unknown = true, timeout = true }

-- " as anna on iris", when a command must be given by somebody else or elsewhere than here.
local function given_by(held)
  local user, host = held:match(" by (%S+) on (%S+) since ")
  if not user or (user == system.user() and host == system.host()) then return "" end
  return (" as %s on %s"):format(user, host)
end

-- Who has the lock: by the hold of a run that has acted, else by what its session is called on the target.
local function in_use(t, g, err)
  local asked, held = pcall(g.held, t.object)
  local who = asked and held or err.message
  local run = who:match("run (%x+) of ") or who:match("neap:[^:]*:(%x+)")
  local hint = run and ("Wait until it has ended, or follow it%s with: neap watch %s"):format(given_by(who), run)
  return raise.new("busy", ("\"%s\" is in use: %s"):format(t.role, who), hint or err.hint or "Wait for it, or look with neap watch.")
end

local function kept(t, held)
  return raise.new("busy", ("\"%s\" is kept by a run that still owes something: %s"):format(t.role, held),
    ("Settle it%s with: neap resume %s"):format(given_by(held), held:match("run (%S+)") or "?"))
end

-- The server may not yet have noticed that a killed run's session is over: then a resume waits for it, if nobody is behind it.
local function lock(run, t, g)
  local ends = task.now_ms() + LOCK_MS
  while true do
    local ok, err = g.lock(t.object)
    if ok then return end
    local own = run.owner_gone and err.message:find(run.run_id, 1, true)
    if not own or task.now_ms() > ends then error(in_use(t, g, err), 0) end
    task.sleep(PAUSE_MS)
  end
end

-- The targets that can be kept, each once: list of {target, keeper}. A road that a target is reached through is not one: two
-- runs may go to two databases through the same host. A gc keeps nothing: what it removes is nobody else's. Asked before each intent, so it is
-- made once for the targets a run has.
local function kept_by(run)
  if run.keeps_nothing then return {} end
  if run.kept and run.kept.of == run.targets then return run.kept end
  local list, seen = { of = run.targets }, {}
  for _, t in ipairs(run.targets) do
    local g = session.keeper(t)
    if g and not t.used_by and not seen[t.id] then
      seen[t.id] = true
      list[#list + 1] = { target = t, keeper = g }
    end
  end
  run.kept = list
  return list
end

--- Take every target for this run. Raises {busy} naming the holder. (In mode "plan" a lock is only looked at.)
function M.lock(run)
  guard.mode("run")
  for _, k in ipairs(kept_by(run)) do
    lock(run, k.target, k.keeper)
    local held = k.keeper.held(k.target.object)
    if held and not held:find("run " .. run.run_id, 1, true) then error(kept(k.target, held), 0) end
  end
end

--- A lock that was lost (its connection broke, the server restarted) stops the run before the next intent.
function M.prove(run)
  for _, k in ipairs(kept_by(run)) do
    if k.keeper.prove and not k.keeper.prove(k.target.object) then
      raise("busy", ("the lock on \"%s\" was lost"):format(k.target.role), "Its connection ended; resume when the target answers again.")
    end
  end
end

--- Before the first act: from now on the targets are held, whatever happens to this process.
function M.hold(run)
  if run.holding then return end
  run.holding = true
  local words = ("run %s of %s by %s on %s since %s"):format(run.run_id, run.model.name, system.user(), system.host(), system.iso(system.wall_ms()))
  for _, k in ipairs(kept_by(run)) do k.keeper.hold(k.target.object, words) end
end

local function is_ours(run, k)
  local held = k.keeper.held(k.target.object)
  return held ~= nil and held:find("run " .. run.run_id, 1, true) ~= nil
end

-- The lock went with the connection that broke: what is there afterwards may be somebody else's.
local function release(run, k)
  local ends, lost = task.now_ms() + RELEASE_MS, false
  while true do
    local ok, err = pcall(function ()
      if not lost or is_ours(run, k) then k.keeper.release(k.target.object) end
    end)
    if ok then return end
    err, lost = raise.of(err), true
    if not AWAY[err.code] or task.now_ms() > ends then error(err, 0) end
    task.sleep(PAUSE_MS)
  end
end

--- Is there a target that this run would have to give back?
function M.holds(run) return (run.holding or run.resumed) and kept_by(run)[1] ~= nil end

--- Nothing is owed any more. Raises what became of the first target that could not be given back; the others are.
function M.release(run)
  if not (run.holding or run.resumed) then return end
  local first
  for _, k in ipairs(kept_by(run)) do
    local ok, err = pcall(release, run, k)
    if not ok then first = first or raise.new(err.code, ("\"%s\": %s"):format(k.target.role, err.message), err.hint) end
  end
  if first then error(first, 0) end
end

return M
