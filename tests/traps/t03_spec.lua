-- T3: a restore onto the live database (pg_restore --clean, or psql with a dump that drops first) waits for as long as one session stays
-- idle in a transaction that has only read the table. It says nothing while it waits, and everybody who comes later
-- waits behind it. What answers: waiting is bounded (lock_timeout), whoever is in the way is named, and ended only as the session it is.

local servers = require "tests.support.servers"
local wards = require "tests.support.ward"

describe("T3, one reader that is idle in its transaction", function ()
  it("holds up the guide's restore; ours names it, ends it, and the restore goes on", function ()
    local pg = servers.postgres()
    pg.sql "grant pg_read_all_stats, pg_signal_backend to owner"
    local ward = wards.open(pg)
    local reader = ward.session("begin; select 'held' from t limit 1;", "held", "dashboard")
    local restore = ward.session("drop table t; select 'restored';", nil, "restore")
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.application_name = 'restore'", "1")
    local late = ward.session("select 'read' from t limit 1;", nil, "shop")
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.application_name = 'shop'", "1")

    local said = ward.neap({ "plan", "incident/database-unresponsive", "--database", ward.database }).all
    assert.matches("(dashboard, idle in transaction) holds up", said, 1, true)
    local pid = pg.sql "select pid from pg_stat_activity where application_name = 'dashboard'"
    ward.ends(0, { "run", "postgres/terminate", "--database", ward.database, "--pids", pid, "--confirm", "destroys=" .. ward.database, "--no-input" })
    restore.process:expect "restored"
    for _, session in ipairs { reader, restore, late } do getmetatable(session).__close(session) end
  end)

  it("is not waited for by ours for longer than it was told", function ()
    local pg = servers.postgres()
    local ward = wards.open(pg)
    local reader <close> = ward.session("begin; select 'held' from t limit 1;", "held", "dashboard")
    assert(reader)
    ward.ends(1, { "run", "postgres/vacuum", "--full", "--tables", "t", "--free", "1GiB", "--lock", "200ms", "--longer", "1h" })
  end)
end)
