-- The database does not answer, or only slowly: look first, while the evidence is there (a restart destroys it), then do the one thing
-- that the evidence points to. Everything that is shown is kept in the run's journal: neap show RUN.

runbook "Find out why a database does not answer" {
  why = "Restarting is the last resort: it ends every session, takes the evidence away, and a server that recovers is down for longer than one that waits.",
}

local health = require "std.health"
local sessions = require "std.sessions"
local triage = require "std.triage"

local db = target.postgres "db"

local p = params {
  database = { "database whose sessions may be ended", kind = "name" },
  longer   = { "what is long for a statement or a transaction", kind = "duration", default = "5m" },
  grace    = { "how long a cancelled statement may take to end", kind = "duration", default = "5s" },
}

local function blockers ()
  local pids = {}
  for i, b in ipairs(triage.blockers(db)) do pids[i] = tostring(b.pid) end
  if #pids == 0 then return {} end
  return (sessions.find(db, { database = p.database, pids = pids }))
end

for _, word in ipairs { "connections", "states", "applications", "locks", "long" } do
  step("Look: " .. word) { verify = function () report(health.ask(db, word, { longer = p.longer })) end }
end

for _, word in ipairs { "archiver", "slots", "log", "files" } do
  step("Look: " .. word) { verify = function () report(triage[word](db)) end }
end

step "Say what explains it" {
  verify = function () report(triage.table(triage.why_slow(db, health))) end,
}

-- No undo: its program connects again. Only when somebody is held up, only who holds up others and waits for nobody.
step "End session {item}, which holds up others" {
  destroys = "what the blocking sessions of {database} have not committed",
  each     = blockers,
  done     = function (session) return not db:session_state(session) end,
  act      = function (session) db:end_session(session, { grace = p.grace }) end,
}

step "Look at the machine, and restart only what nothing above explains" {
  manual = "Look at the server's machine: df -h, free -m, the server's log. Restart it only when nothing above explains the trouble, then see that the application connects.",
  done   = function () return #triage.blockers(db) == 0 and #triage.why_slow(db, health) == 0 end,
}

step "Look again" {
  verify = function () report(triage.table(triage.why_slow(db, health))) end,
}
