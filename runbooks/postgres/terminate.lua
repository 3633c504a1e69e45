-- End sessions that hold others up: each shown first, cancelled before it is terminated, known by its pid and the moment it began.
-- Never ourselves, another run of neap, replication, or a running backup. A program that is not stopped simply comes back.

runbook "End sessions of a database" {
  why = "A session that holds locks or old rows stops everybody behind it; ending the wrong one breaks a backup or a replica.",
}

local sessions = require "std.sessions"

local db = target.postgres "db"

local p = params {
  database    = { "database whose sessions are meant", kind = "name" },
  pids        = { "these processes only", kind = "list", optional = true },
  application = { "only those of this application_name", optional = true },
  role        = { "only those of this role", optional = true },
  doing       = { "only those in this state", optional = true, choices = { "active", "idle", "idle in transaction" } },
  longer      = { "only those whose transaction is older", kind = "duration", optional = true },
  grace       = { "how long a cancelled statement may take to end", kind = "duration", default = "5s" },
}

local function found ()
  return sessions.find(db, { database = p.database, pids = p.pids, application = p.application, role = p.role, state = p.doing, longer = p.longer })
end

step "Show who is meant, and who is spared" {
  verify = function ()
    local chosen, spared = found()
    report(sessions.table("Sessions to be ended", chosen))
    report(sessions.table("Spared", spared))
  end,
}

-- No undo: a session cannot be brought back; its program connects again.
step "End session {item}" {
  destroys = "what those sessions of {database} have not committed",
  each     = function () return (found()) end,
  done     = function (session) return not db:session_state(session) end,
  act      = function (session) db:end_session(session, { grace = p.grace }) end,
  verify   = function (session)
    local back = sessions.returned(db, session)
    note("%s of %s is gone; %d new sessions of the same program since%s", session.pid, session.application, #back, #back > 0 and ": it comes back as long as it runs" or "")
  end,
}

step "Show who of them is there now" {
  verify = function () report(sessions.table("There now, of those that are meant", (found()))) end,
}
