-- The database's disk is full or filling: find out what takes the room and why it is not let go, mend that, and let the server reuse
-- its log. Nothing here touches pg_wal, and no human should: a database whose log was removed by hand does not start.

runbook "Make room on a database's disk" {
  why = "A full disk stops every write. What fills it is mostly log that a failing archiver or a forgotten replication slot keeps from being reused.",
}

local health = require "std.health"
local triage = require "std.triage"

local db = target.postgres "db"

local p = params {
  rows = { "rows of the long lists", kind = "integer", min = 1, max = 1000, default = 15 },
}

local function failing ()
  local answer = triage.archiver(db)
  return answer.rows[1] and answer.rows[1][#answer.columns]
end

local function idle_slots ()
  local names = {}
  for _, slot in ipairs(triage.slots(db).rows) do
    if not slot[3] then table.insert(names, slot[1]) end
  end
  return names
end

-- Is there more log than there should be? nil when this role may not see it.
local function too_much_log ()
  local row = triage.log(db).rows[1]
  return row and row[2] > row[3] + row[4]
end

for _, word in ipairs { "log", "archiver", "slots", "files" } do
  step("Look: " .. word) { verify = function () report(triage[word](db)) end }
end

for _, word in ipairs { "databases", "sizes", "bloat" } do
  step("Look: " .. word) { verify = function () report(health.ask(db, word, { limit = p.rows })) end }
end

step "Say what explains it" {
  verify = function ()
    report(triage.table(triage.why_full(db)))
    local free, why = db:disk_free()
    note(free and ("%d MiB are free"):format(free // 1048576) or why .. ": df -h there says how full the disk is")
  end,
}

step "Mend the archiver" {
  manual = "Mend archive_command or the place it writes to; the server tries again by itself. Do not switch archiving off: a gap ends point-in-time recovery.",
  done   = function () return not failing() end,
}

step "Settle the replication slots that nobody reads" {
  manual = "For each slot shown as not active: bring its consumer back; or, once it is certain that nobody needs it, drop it with pg_drop_replication_slot.",
  done   = function () return #idle_slots() == 0 end,
}

-- No undo: a checkpoint changes no data.
step "Let the server reuse its log" {
  done   = function () return not too_much_log() end,
  act    = function () db:exec "CHECKPOINT" end,
  within = "10m",
}

step "Make more room" {
  manual = "Where it is still tight: grow the disk, or move what is no part of the database (old dumps, the server's text log). Never touch anything in pg_wal.",
  done   = function () local free = db:disk_free(); return free ~= nil and free > 1073741824 end,
}

step "Look what is left" {
  verify = function () report(triage.table(triage.why_full(db))) end,
}
