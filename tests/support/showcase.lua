-- One invented run, told as the engine tells it: the events behind the transcripts. Times are fixed,
-- so that every view of it is the same bytes each time.
local M = {}

M.start = 1777082400000          -- 2026-04-25 02:00:00 UTC

local source = [[
runbook "Restore a database from backup" { why = "Bring back one of the daily dumps." }
step "Restore it beside the live one" {
  act = function () db:restore { backups:file(p.dump), into = fresh } end,
}]]

local titles = {
  { "Prove that the dump is fresh", "check" }, { "Read the dump to its end", "check" }, { "Stop writes", "change" },
  { "Restore it beside the live one", "change" }, { "Compare the rows of every table", "check" },
  { "Put it in place of pcmr_staging", "change", "all current data in pcmr_staging" },
}

local cluster = "pg:7312345678901234567"

function M.targets()
  return {
    { role = "db", kind = "postgres", id = cluster .. "/pcmr_staging",
      lines = { { "server", "PostgreSQL 15.20 on 127.0.0.1:5433" }, { "database", "pcmr_staging, 1.91 GiB, 32 tables" } } },
    { role = "backups", kind = "folder", id = "file:/srv/backups", lines = { { "holds", "30 dumps, newest 2026-04-24" } } },
  }
end

function M.opening()
  local steps = {}
  for n, t in ipairs(titles) do steps[n] = { id = "s" .. n, number = n, title = t[1], effect = t[2], destroys = t[3] } end
  return {
    run = "7f3a91c2d0e4", runbook = "restore", title = "Restore a database from backup", why = "Bring back one of the daily dumps.",
    file = "runbooks/restore.lua", environment = "staging", user = "amelie", uid = 1000, host = "hermes", pid = 4242, started = 99,
    version = "0.1.0", params = { dump = "latest", database = "pcmr_staging" }, modules = {}, text = source, hash = "9b1c",
    targets = M.targets(), steps = steps,
  }
end

-- A teller numbers and times the events: tell(ms after the last one, kind, step, body).
local function teller(events)
  local at, seq = M.start, 0
  return function(later, kind, step, body)
    at, seq = at + later, seq + 1
    events[#events + 1] = { seq = seq, at = at, kind = kind, step = step, body = body }
    return seq
  end
end

local truths = { "the newest dump is younger than a day", "every block of the dump can be read", "", "", "no table has lost rows" }

local function check_step(tell, n, note, ms)
  tell(10, "step", "s" .. n, { state = "begin", number = n, attempt = 1 })
  tell(ms, "check", "s" .. n, { text = truths[n], ok = true, label = "enforced" })
  tell(0, "note", "s" .. n, { text = note })
  tell(0, "step", "s" .. n, { state = "end", number = n, attempt = 1, status = "ok", ms = ms })
end

local function change_step(tell, n, write, ms, note)
  local id = "s" .. n
  tell(10, "step", id, { state = "begin", number = n, attempt = 1 })
  tell(5, "step", id, { state = "intent", number = n, attempt = 1 })
  local seq = tell(0, "intent", id, { primitive = write[1], target = write[2], subject = write[3], text = write[4] })
  if n == 3 then tell(0, "owed", id, { clause = "after" }) end
  tell(ms, "outcome", id, { intent = seq, status = "ok" })
  if note then tell(0, "note", id, { text = note }) end
  tell(0, "step", id, { state = "end", number = n, attempt = 1, status = "ok", ms = ms })
end

local function beginning(tell)
  tell(0, "run", "", M.opening())
  tell(100, "ask", "s6", { level = "name", question = "Type pcmr_staging to overwrite it", card = M.targets()[1],
    answers = { "pcmr_staging" } })
  tell(8000, "answer", "s6", { value = "pcmr_staging", by = "amelie" })
  check_step(tell, 1, "age 3 h 12 min, 1.84 GiB, sha256 9b1c…", 400)
  check_step(tell, 2, "14 213 887 rows in 32 tables", 38100)
  change_step(tell, 3, { "process.run", "app", "process:app", "systemctl stop app" }, 1200, "running → stopped")
end

local function restore_intent(tell)
  return tell(5, "intent", "s4", { primitive = "pg.copy_in", target = "db", subject = cluster .. "/restore_trial",
    text = "restore 32 tables into restore_trial" })
end

---A run in which everything works.
function M.good()
  local events = {}
  local tell = teller(events)
  beginning(tell)
  change_step(tell, 4, { "pg.copy_in", "db", cluster .. "/restore_trial", "restore 32 tables into restore_trial" }, 348000,
    "32 tables, 1.84 GiB")
  check_step(tell, 5, "32 tables have the same rows", 900)
  change_step(tell, 6, { "pg.exec", "db", cluster, "ALTER DATABASE restore_trial RENAME TO pcmr_staging" }, 150)
  tell(2000, "settled", "s3", { clause = "after", status = "ok" })
  tell(5, "end", "", { status = "ok", exit = 0 })
  return events
end

---A run whose fourth step fails.
function M.bad()
  local events = {}
  local tell = teller(events)
  beginning(tell)
  tell(10, "step", "s4", { state = "begin", number = 4, attempt = 1 })
  tell(200, "check", "s4", { text = "the dump is not newer than the tools", ok = false, actual = "archive 1.16", label = "enforced" })
  tell(0, "step", "s4", { state = "end", number = 4, attempt = 1, status = "failed", ms = 200, error = {
    code = "check", message = "the dump is newer than the tools that would restore it", where = "runbooks/restore.lua:3",
    cause = { message = "pg_restore on hermes is 15.8 and reads archives up to 1.14; this one is 1.16" },
    hint = "Restore it with the tools of PostgreSQL 17." } })
  tell(1500, "settled", "s3", { clause = "after", status = "ok" })
  tell(5, "end", "", { status = "failed", exit = 1, failed = "s4", message = "step 4 failed", next = { "neap resume 7f3a91c2d0e4" } })
  return events
end

---A run that was killed while it restored, and was then resumed by somebody else.
function M.resumed()
  local events = {}
  local tell = teller(events)
  beginning(tell)
  tell(10, "step", "s4", { state = "begin", number = 4, attempt = 1 })
  local seq = restore_intent(tell)
  tell(600000, "resume", "", { user = "boris", host = "iris", pid = 77, started = 12 })
  tell(50, "notice", "s4", { severity = "warning", text = "backend 8841 of the first attempt was still copying; it was ended", from = "db" })
  tell(100, "outcome", "s4", { intent = seq, status = "failed" })
  tell(0, "step", "s4", { state = "begin", number = 4, attempt = 2 })
  tell(300000, "step", "s4", { state = "end", number = 4, attempt = 2, status = "ok", ms = 300000, note = "32 tables, 1.84 GiB" })
  check_step(tell, 5, "32 tables have the same rows", 900)
  tell(10, "step", "s6", { state = "begin", number = 6, attempt = 1 })
  tell(40, "step", "s6", { state = "end", number = 6, attempt = 1, status = "already", ms = 40 })
  tell(2000, "settled", "s3", { clause = "after", status = "ok" })
  tell(5, "end", "", { status = "ok", exit = 0 })
  return events
end

---A run that stopped with a write whose outcome nobody knows.
function M.doubtful()
  local events = {}
  local tell = teller(events)
  beginning(tell)
  tell(10, "step", "s4", { state = "begin", number = 4, attempt = 1 })
  local seq = restore_intent(tell)
  tell(90000, "outcome", "s4", { intent = seq, status = "unknown" })
  tell(0, "step", "s4", { state = "end", number = 4, attempt = 1, status = "unknown", ms = 90005, error = {
    code = "unknown", message = "the connection to \"db\" ended before the COMMIT was answered",
    hint = "Resume the run when the server answers again; it asks the server what became of the transaction." } })
  tell(5, "end", "", { status = "unknown", exit = 75, failed = "s4", next = { "neap resume 7f3a91c2d0e4" } })
  return events
end

---A preview with every label and every sign.
function M.plan()
  return {
    runbook = "restore", title = "Restore a database from backup", environment = "staging", exit = 1,
    params = { dump = "latest", database = "pcmr_staging" }, targets = M.targets(),
    steps = {
      { number = 1, id = "s1", title = "Prove that the dump is fresh", sign = "check", label = "enforced", lines = {
        { label = "enforced", text = "the newest dump is younger than a day", ok = true, note = "age 3 h 12 min" } } },
      { number = 2, id = "s2", title = "Nobody is connected", sign = "check", label = "enforced", failed = true, lines = {
        { label = "enforced", text = "no foreign session is open on pcmr_staging", ok = false, note = "2 sessions: api@10.0.3.4 since 11:02" } } },
      { number = 3, id = "s3", title = "Stop writes", sign = "~", label = "predicted", lines = {
        { label = "declared", text = "systemctl is-active app", ok = true, note = "active" },
        { label = "predicted", text = "systemctl stop app", target = "process:app" } } },
      { number = 4, id = "s4", title = "Make the new database", sign = "+", label = "predicted", lines = {
        { label = "predicted", text = "CREATE DATABASE restore_trial OWNER app\n  ENCODING 'UTF8'", target = cluster, note = "privilege ok, 61 GiB free" } } },
      { number = 5, id = "s5", title = "Compare the rows of every table", sign = "?", label = "unknown", withheld = 4, lines = {} },
      { number = 6, id = "s6", title = "Put it in place of pcmr_staging", sign = "-", label = "predicted",
        destroys = "all current data in pcmr_staging", lines = {
        { label = "predicted", text = "ALTER DATABASE restore_trial RENAME TO pcmr_staging", target = cluster } } },
      { number = 7, id = "s7", title = "Tell the team", sign = "!", label = "predicted", manual = "Write to #ops that it is done", lines = {} },
      { number = 8, id = "s8", title = "The cache is empty", sign = "=", label = "already", lines = {} },
    },
    tally = { checks = 3, enforced = 2, declared = 1, predicted = 4, unknown = 1, already = 1, failed = 1 },
    unseen = { "How long the restore takes: it has never run here." },
  }
end

---Rows of the index, newest first.
function M.rows()
  local function row(run, status, minutes, ms, runbook)
    local started = M.start - minutes * 60000
    return { run = run, runbook = runbook, environment = "staging", user = "amelie", host = "hermes", status = status,
      started_ms = started, ended_ms = ms and started + ms or 0, records = 40 }
  end
  return {
    row("a1b2c3d4e5f6", "running", 4, nil, "restore"), row("7f3a91c2d0e4", "unknown", 60, 49500, "restore"),
    row("0011223344ff", "failed", 1500, 1200, "baseline-a-fresh-database"), row("9e9e9e9e9e9e", "ok", 2880, 391000, "restore"),
  }
end

---A view that keeps what it writes; `kept.now` is its clock.
function M.sink(view, options)
  local kept = { now = M.start, writes = {} }
  options.write = function(s) kept.writes[#kept.writes + 1] = s; return true end
  options.clock = function() return kept.now end
  kept.view = view.new(options)
  function kept.tell(events, from, to)
    for n = from or 1, to or #events do
      kept.now = math.max(kept.now, events[n].at)
      kept.view:event(events[n])
    end
  end
  function kept.text() return table.concat(kept.writes) end
  return kept
end

return M
