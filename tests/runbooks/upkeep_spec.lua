-- postgres/vacuum and postgres/reindex on a real server: what they do, what stands in their way, how they give way.

local faults = require "tests.support.faults"
local servers = require "tests.support.servers"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local function without_numbers(page) return (page:gsub("(│ *)%d+", "%1N"):gsub("%d+ days", "N days")) end

describe("postgres/vacuum", function ()
  local pg
  setup(function () pg = servers.postgres { name = "vacuum", settings = { "autovacuum = off" } } end)

  it("plans, removes the dead rows table by table as it said, and has nothing left to do", function ()
    local ward = wards.open(pg)
    local page, code = ward.page { "postgres/vacuum" }
    assert.equal(2, code)
    transcript.compare("plan_vacuum", without_numbers(page))
    assert.equal("1000", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
    assert.equal(1, ward.held { "postgres/vacuum" })
    assert.equal("0", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
    assert.matches("public.t: 0 dead rows, were 1000; ", ward.said(), 1, true)
    ward.ends(0, { "plan", "postgres/vacuum" })
    ward.ends(0, { "run", "postgres/vacuum" })
    assert.matches("nothing of this run can be undone", ward.ends(0, { "undo", ward.latest() }), 1, true)
  end)

  it("names whoever keeps the dead rows alive, and vacuums nothing", function ()
    local ward = wards.open(pg)
    local holder <close> = ward.session("begin isolation level repeatable read; select 'held' from t limit 1;", "held")
    T.pause(1100)
    assert(holder)
    local said = ward.ends(1, { "run", "postgres/vacuum", "--longer", "1s" })
    assert.matches("of holder (owner, idle in transaction)", said, 1, true)
    assert.equal("1000", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
  end)

  it("writes a table anew only when it is named and there is room for it", function ()
    local ward = wards.open(pg)
    assert.matches("the tables that are written anew are named", ward.ends(1, { "run", "postgres/vacuum", "--full" }), 1, true)
    assert.matches("every table that is named is there", ward.ends(1, { "run", "postgres/vacuum", "--tables", "gone" }), 1, true)
    assert.matches("measure it on the server and give --free", ward.ends(1, { "run", "postgres/vacuum", "--full", "--tables", "t" }), 1, true)
    assert.matches("4.00 KiB are free", ward.ends(1, { "run", "postgres/vacuum", "--full", "--tables", "t", "--free", "4KiB" }), 1, true)
    local before = tonumber(pg.sql("select pg_total_relation_size('t')", ward.database))
    assert.equal(1, ward.held { "postgres/vacuum", "--full", "--tables", "t", "--free", "1GiB" })
    assert.is_true(tonumber(pg.sql("select pg_total_relation_size('t')", ward.database)) < before)
  end)

  it("asks the disk itself where the server's files can be seen", function ()
    local ward = wards.open(pg, { role = "admin" })
    local r = ward.neap { "plan", "postgres/vacuum", "--full", "--tables", "t" }
    if r.all:find("cannot be seen from here", 1, true) then return pending("the server's files are another user's") end
    assert.equal(2, r.code, r.all)
  end)

  it("does not queue for a lock for longer than it was told", function ()
    local ward = wards.open(pg)
    local holder <close> = ward.session("begin; select 'held' from t limit 1;", "held")
    assert(holder)
    local said = ward.ends(1, { "run", "postgres/vacuum", "--full", "--tables", "t", "--free", "1GiB", "--lock", "300ms", "--longer", "1h" })
    assert.matches("the lock was not to be had within 300ms", said, 1, true)
  end)

  it("gives way when others wait behind it for longer than they should", function ()
    local ward = wards.open(pg)
    local holder <close> = ward.session("begin; select 'held' from t limit 1;", "held")
    assert(holder)
    local run = ward.start { "run", "postgres/vacuum", "--full", "--tables", "t", "--free", "1GiB", "--lock", "30s", "--longer", "1h", "--patience", "500ms" }
    run:shut()
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.query like 'VACUUM%'", "1")
    local waiter <close> = ward.session("select count(*) from t;", nil, "shop")
    assert(waiter)
    local r = run:finish()
    assert.equal(1, r.code, r.out .. r.err)
    assert.matches("the statement was cancelled: it held up 1 session for more than 500ms, first pid %d+ %(shop%)", r.out .. r.err)
    local cancels = 0
    for _, record in ipairs(ward.records()) do
      if record.kind == "intent" and record.body.primitive == "pg.cancel" then cancels = cancels + 1 end
    end
    assert.equal(1, cancels)
  end)

  it("goes on after kill -9 in the middle of a table, once nobody works on it any more #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local ward = wards.open(pg)
    local holder = ward.session("begin; select 'held' from t limit 1;", "held")
    local run = ward.start { "run", "postgres/vacuum", "--full", "--tables", "t", "--free", "1GiB", "--lock", "30s", "--longer", "1h", "--patience", "1h", "--no-input" }
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.query like 'VACUUM%'", "1")
    run:kill(9)
    run:finish()
    getmetatable(holder).__close(holder)
    local said = ward.ends(0, { "resume", ward.latest(), "--no-input" })
    assert.matches("Write {item} anew", said, 1, true)
    assert.equal("0", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
  end)
end)

describe("postgres/reindex", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local LEFT <const> = "select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid where not i.indisvalid"

  it("plans, rebuilds each index beside its readers, constraints too, and leaves no invalid one", function ()
    local ward = wards.open(pg)
    local page, code = ward.page { "postgres/reindex", "--tables", "t" }
    assert.equal(2, code)
    transcript.compare("plan_reindex", without_numbers(page))
    local before = pg.sql("select string_agg(relname || pg_relation_filenode(oid), ',' order by relname) from pg_class where relkind = 'i' and relname ~ '^t'", ward.database)
    assert.equal(3, ward.held { "postgres/reindex", "--tables", "t" })
    local after = pg.sql("select string_agg(relname || pg_relation_filenode(oid), ',' order by relname) from pg_class where relkind = 'i' and relname ~ '^t'", ward.database)
    assert.not_equal(before, after)
    assert.equal("0", pg.sql(LEFT, ward.database))
    for _, record in ipairs(ward.records()) do
      if record.kind == "intent" then assert.matches("^REINDEX INDEX CONCURRENTLY public%.", record.body.text) end
    end
    assert.equal("u", pg.sql("select contype from pg_constraint where conrelid = 't'::regclass and contype = 'u'", ward.database))
    ward.ends(0, { "run", "postgres/reindex", "--tables", "t" })
    assert.matches("nothing of this run can be undone", ward.ends(0, { "undo", ward.latest() }), 1, true)
  end)

  it("finds what an interrupted rebuild left, and drops it", function ()
    local ward = wards.open(pg)
    local holder = ward.session("begin; delete from t where id = 1; select 'held';", "held")
    local broken = ward.session("reindex index concurrently ta; \\echo ended", nil, "guide")
    ward.await(LEFT, "1")
    pg.sql "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'guide'"
    broken.process:expect "ended"
    getmetatable(holder).__close(holder)
    getmetatable(broken).__close(broken)
    assert.equal("1", pg.sql(LEFT, ward.database))
    assert.matches('DROP INDEX CONCURRENTLY public.ta_ccnew', ward.neap({ "plan", "postgres/reindex" }).all, 1, true)
    ward.ends(0, { "run", "postgres/reindex", "--tables", "t" })
    assert.equal("0", pg.sql(LEFT, ward.database))
  end)

  it("gives way to who waits, and drops what it leaves itself", function ()
    local ward = wards.open(pg)
    local holder = ward.session("begin; delete from t where id = 1; select 'held';", "held")
    local run = ward.start { "run", "postgres/reindex", "--tables", "public.ta", "--lock", "700ms", "--no-input" }
    ward.await(LEFT, "1")
    local r = run:finish()
    assert.equal(1, r.code, r.out .. r.err)
    assert.matches("the lock was not to be had within 700ms", r.out .. r.err, 1, true)
    getmetatable(holder).__close(holder)
    local id = ward.latest()
    if pg.sql(LEFT, ward.database) == "1" then ward.ends(0, { "resume", id, "--no-input" }) end
    assert.equal("0", pg.sql(LEFT, ward.database))
  end)

  it("leaves indexes of exclusion constraints alone unless it is told", function ()
    local ward = wards.open(pg)
    pg.sql("create table x (r int4range, exclude using gist (r with &&)); alter table x owner to owner", ward.database)
    assert.matches("Left out: indexes of exclusion constraints", ward.ends(0, { "plan", "postgres/reindex", "--tables", "x" }), 1, true)
    ward.ends(0, { "run", "postgres/reindex", "--tables", "x", "--alone" })
    assert.equal("REINDEX INDEX public.x_r_excl", (function ()
      for _, record in ipairs(ward.records()) do
        if record.kind == "intent" then return record.body.text end
      end
    end)())
  end)
end)
