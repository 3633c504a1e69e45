-- postgres/terminate and the incident runbooks on a real server: who is ended and who is spared, what is found, what a human is asked.

local servers = require "tests.support.servers"
local wards = require "tests.support.ward"

local function close(holder) getmetatable(holder).__close(holder) end

describe("postgres/terminate", function ()
  local pg
  setup(function ()
    pg = servers.postgres()
    pg.sql "grant pg_read_all_stats, pg_signal_backend to owner"
  end)

  local function names(ward) return { "--database", ward.database } end
  local function run(ward, ...) return { "run", "postgres/terminate", "--database", ward.database, "--confirm", "destroys=" .. ward.database, "--no-input", ... } end
  local function there(ward, application) return pg.sql(("select count(*) from pg_stat_activity where datname = '%s' and application_name = '%s'"):format(ward.database, application)) end

  it("shows who they are, ends them as the plan said, and has nobody left to end", function ()
    local ward = wards.open(pg)
    local idle, busy = ward.session("begin; insert into kept values (1); select 'held';", "held", "shop"), ward.session("select pg_sleep(600);", nil, "report")
    ward.await("select count(*) from pg_stat_activity where query like 'select pg_sleep(600)%' and state = 'active'", "1")
    local page = ward.page { "postgres/terminate", table.unpack(names(ward)) }
    for _, words in ipairs { "idle in transaction", "shop", "report", "select pg_sleep(600);", "pg_cancel_backend", "pg_terminate_backend", "destroys what those sessions" } do
      assert.matches(words, page, 1, true)
    end
    assert.equal(4, ward.held({ "postgres/terminate", table.unpack(names(ward)) }, { "--confirm", "destroys=" .. ward.database, "--no-input" }))
    assert.same({ "0", "0" }, { there(ward, "shop"), there(ward, "report") })
    assert.equal("0", pg.sql("select count(*) from kept", ward.database))
    ward.await_nobody()
    ward.ends(0, { "run", "postgres/terminate", table.unpack(names(ward)) })
    close(idle)
    close(busy)
  end)

  it("spares backups, other runs of neap and itself, and says why", function ()
    local ward = wards.open(pg)
    local dump, shop = ward.session("begin; select 'held';", "held", "pg_dump"), ward.session("select 'held';", "held", "shop")
    local other = ward.session("begin; select 'held';", "held", "neap:other:7f3a")
    local said = ward.ends(0, run(ward))
    assert.matches("a running backup", said, 1, true)
    assert.matches("a run of neap", said, 1, true)
    assert.same({ "1", "1", "0" }, { there(ward, "pg_dump"), there(ward, "neap:other:7f3a"), there(ward, "shop") })
    for _, session in ipairs { dump, other, shop } do close(session) end
  end)

  it("takes only those that fit every condition", function ()
    local ward = wards.open(pg)
    local shop, report = ward.session("begin; select 'held';", "held", "shop"), ward.session("select 'held';", "held", "report")
    ward.ends(0, run(ward, "--doing", "idle in transaction", "--longer", "1h"))
    ward.ends(0, run(ward, "--doing", "idle in transaction", "--role", "app"))
    assert.equal("1", there(ward, "shop"))
    ward.ends(0, run(ward, "--doing", "idle in transaction"))
    assert.same({ "0", "1" }, { there(ward, "shop"), there(ward, "report") })
    assert.matches('"x" is no pid', ward.neap(run(ward, "--pids", "x")).all, 1, true)
    close(shop)
    close(report)
  end)

  it("asks for the name of what is lost, and ends nobody without it", function ()
    local ward = wards.open(pg)
    local shop = ward.session("begin; select 'held';", "held", "shop")
    ward.ends(77, { "run", "postgres/terminate", "--no-input", table.unpack(names(ward)) })
    assert.equal("1", there(ward, "shop"))
    close(shop)
  end)
end)

describe("a session is known by its pid and its start", function ()
  local client = require "client.postgres"
  local secret = require "native.secret"

  it("so one that has the pid of another is not ended, and a program that comes back is not either", function ()
    local pg = servers.postgres()
    local ward = wards.open(pg)
    local shop = ward.session("begin; select 'held';", "held", "shop")
    local pid = math.tointeger(tonumber(pg.sql(("select pid from pg_stat_activity where datname = '%s' and application_name = 'shop'"):format(ward.database))))
    T.run(function ()
      local object = client.bind("db", { url = ("postgresql://admin@127.0.0.1:%d/%s"):format(pg.port, ward.database), password = assert(secret.of(servers.passwords.admin, "pw")) },
        { application = "neap:spec:1", environment = "test" })
      local m = object.methods
      local other = { pid = pid, started = "2020-01-01T00:00:00.000000Z" }
      assert.is_false(m.session_state(object, other))
      assert.is_false(m.cancel_session(object, other):reached())
      assert.is_true(m.end_session(object, other):gone())                    -- that one is gone indeed
      assert.equal("idle in transaction", m.session_state(object, { pid = pid, started = m.value(object,
        "select to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from pg_stat_activity where pid = $1::bigint", pid) }))
      for _, wrong in ipairs { { pid = pid }, { started = "now" }, { pid = "1", started = "now" } } do
        assert.equal("usage", select(2, pcall(m.end_session, object, wrong)).code)
      end
      client.close(object)
    end)
    close(shop)
  end)
end)

describe("incident/database-unresponsive", function ()
  local pg
  setup(function ()
    pg = servers.postgres()
    pg.sql "grant pg_read_all_stats, pg_signal_backend to owner"
  end)

  it("finds who holds up others, ends only that one, and the others go on", function ()
    local ward = wards.open(pg)
    local shop = ward.session("begin; lock table t; select 'held';", "held", "shop")
    local bystander = ward.session("begin; select 'held';", "held", "bystander")
    local waiter = ward.session("select 'went on' from t limit 1;", nil, "waiter")
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.application_name = 'waiter'", "1")
    local words = { "incident/database-unresponsive", "--database", ward.database }
    assert.matches("%(shop, idle in transaction%) holds up 1 others", ward.page(words))
    local run = ward.start({ "run", table.unpack(words) }, true)
    run:expect "Type "
    run:write(ward.database .. "\n")
    local r = run:finish()
    assert.equal(0, r.code, r.out)
    waiter.process:expect "went on"
    assert.equal("0", pg.sql("select count(*) from pg_stat_activity where application_name = 'shop'"))
    assert.equal("1", pg.sql("select count(*) from pg_stat_activity where application_name = 'bystander'"))
    for _, session in ipairs { shop, bystander, waiter } do close(session) end
    local tables = 0
    for _, record in ipairs(ward.records()) do
      if record.kind == "table" then tables = tables + 1 end
    end
    assert.equal(11, tables)                                            -- the evidence is in the journal
  end)

  it("changes nothing and asks nobody when nothing is wrong", function ()
    local ward = wards.open(pg)
    ward.ends(0, { "plan", "incident/database-unresponsive", "--database", ward.database })
    ward.ends(0, { "run", "incident/database-unresponsive", "--database", ward.database, "--no-input" })
  end)
end)

describe("incident/disk-full", function ()
  local pg
  setup(function () pg = servers.postgres { name = "full", settings = { "archive_mode = on", "archive_command = 'false'", "max_wal_size = 32MB", "min_wal_size = 32MB", "wal_level = logical" } } end)

  it("names the archiver, the slot and the log, waits for humans, and lets the server reuse its log", function ()
    local ward = wards.open(pg, { role = "admin" })
    pg.sql("select pg_create_physical_replication_slot('gone', true)")
    pg.sql("create table big as select i, repeat(md5(i::text), 30) from generate_series(1, 60000) i; select pg_switch_wal()", ward.database)
    pg.sql "checkpoint"                                                                      -- none that was begun by so much log ends while we look
    ward.await("select (failed_count > 0)::text from pg_stat_archiver", "true")
    local said = ward.ends(2, { "plan", "incident/disk-full" })
    for _, words in ipairs { "the archiver fails, so no log is let go", "replication slot gone keeps log for somebody who does not come", "there is more log than max_wal_size" } do
      assert.matches(words, said, 1, true)
    end
    assert.equal(75, ward.neap({ "run", "incident/disk-full", "--no-input" }).code)         -- the archiver is a human's to mend
    local run = ward.latest()
    pg.sql("alter system set archive_command = 'true'")
    pg.sql("select pg_reload_conf()")
    pg.sql("select pg_drop_replication_slot('gone')")
    ward.await("select (last_archived_time > coalesce(last_failed_time, '-infinity'))::text from pg_stat_archiver", "true")
    ward.await("select (count(*) = 0)::text from pg_ls_archive_statusdir() where name like '%.ready'", "true")
    local r = ward.neap { "resume", run, "--no-input" }
    assert.is_true(r.code == 0 or r.code == 75, r.all)                                       -- 75: where nobody can say how much room the disk has
    local intents = {}
    for _, record in ipairs(ward.records(run)) do
      if record.kind == "intent" then intents[#intents + 1] = record.body.text end
    end
    assert.same({ "CHECKPOINT" }, intents)
    assert.equal("true", pg.sql("select (sum(size) <= 32 * 1024 * 1024 + 16 * 1024 * 1024)::text from pg_ls_waldir()"))
  end)

  it("shows what a role may see, and says what it may not", function ()
    local ward = wards.open(pg)
    assert.matches("Not shown: permission denied for function pg_ls_waldir", ward.neap({ "plan", "incident/disk-full" }).all, 1, true)
  end)
end)

describe("incident/corruption", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  it("lets nobody go on before the application is stopped, the files are copied and a backup is proven", function ()
    local ward = wards.open(pg, { role = "admin" })
    local shop = ward.session("select 'held';", "held", "shop")
    local words = { "incident/corruption", "--database", ward.database }
    local page = ward.page(words)
    for _, phrase in ipairs { "fsync", "Stop everything that writes to DATABASE", "This copy is kept", "Without one nothing is repaired", "Restore the last good backup" } do
      assert.matches(phrase, page, 1, true)
    end
    assert.equal(75, ward.neap({ "run", "incident/corruption", "--database", ward.database, "--no-input" }).code)
    local run = ward.start({ "run", table.unpack(words) }, true)
    run:expect "Stop everything that writes"
    run:write "done\n"
    run:expect "done still says no"
    run:kill(15)
    run:finish()
    close(shop)
  end)

  it("checks every index of the database against its table, and names the one that is wrong", function ()
    local ward = wards.open(pg, { role = "admin" })
    pg.sql("create extension amcheck", ward.database)
    ward.await_nobody()
    local words = { "incident/corruption", "--database", ward.database, "--checks" }
    local run = ward.start({ "run", table.unpack(words) }, true)
    for _, question in ipairs { "Stop the server and copy", "Run postgres/verify-backup", "Restore the last good backup" } do
      run:expect(question)
      run:write "done\n"
    end
    local r = run:finish()
    assert.equal(0, r.code, r.out)
    assert.matches("public.ta agrees with its table", ward.said(), 1, true)
  end)
end)
