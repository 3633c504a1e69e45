-- postgres/restore and postgres/accept-restore, in the four set-ups: what they do, what stands in their way, and that a run that is killed, or
-- loses its hosts or its server, goes on without a human and leaves the live database whole.

local child = require "tests.support.child"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local ROWS <const> = "select count(*) from t"

-- A place with a backup in the catalogue, and a database that went on after it.
local function open(name, options)
  local at, why = setups.open(name, options)
  if not at then return nil, why end
  if options and options.fill then options.fill(at) end
  at.ends(0, { "run", "postgres/backup", "--name", "first.dump", "--no-input" })
  function at.go_on() at.pg.sql("delete from t where id in (select id from t order by id limit 500)", at.database) end
  at.go_on()
  at.pg.sql("create table later (id int); alter table later owner to owner", at.database)
  at.restore = { "postgres/restore", "--dump", "first.dump", "--idle", "500ms" }
  at.sure = { "--no-input", "--confirm", "destroys=" .. at.database }
  function at.run(...)
    local words = { "run", table.unpack(at.restore) }
    for _, more in ipairs { at.sure, { ... } } do table.move(more, 1, #more, #words + 1, words) end
    return words
  end
  function at.rows(database) return at.pg.sql(ROWS, database or at.database) end
  function at.oid() return at.pg.sql("select oid from pg_database where datname = '" .. at.database .. "'") end
  function at.names(run) return ("%s__kept__%s"):format(at.database, run or at.latest()), "restore_trial__" .. (run or at.latest()) end
  function at.exists(database) return at.pg.sql("select count(*) from pg_database where datname = '" .. database .. "'") == "1" end
  suite.after(function ()
    for _, run in ipairs(T.entries(at.state .. "/runs") or {}) do
      for _, database in ipairs { at.names(run) } do at.pg.sql(("drop database if exists %s with (force)"):format(database)) end
    end
  end)
  return at
end

local function with(name, what, fn)
  it(what .. " (" .. name .. ")", function ()
    local at, why = open(name)
    if not at then return pending(why) end
    fn(at)
  end)
end

-- The page without what differs from machine to machine.
local function plain(at, page)
  page = kept.plain(page, { [at.database] = "DATABASE", [at.backups] = "BACKUPS", [at.app.dir] = "APP" })
  for from, to in pairs { ["%d+T%d+Z"] = "STAMP", ["made by [%d.]+[^;\n]*;"] = "made by VERSION;", ["service:[^/\n]+/"] = "service:HOST/", ["file of %d+ bytes"] = "file of N bytes",
    ["rows, [%d.]+ %a+"] = "rows, SIZE" } do page = page:gsub(from, to) end
  return page
end

describe("postgres/restore", function ()
  for _, name in ipairs(setups.names) do
    with(name, "puts the backup in place of the database as it said, and takes it back", function (at)
      if name == "direct" then
        local page = at.neap { "plan", table.unpack(at.restore) }
        assert.equal(2, page.code, page.all)
        transcript.compare("plan_restore", plain(at, page.out))
      end
      at.held(at.restore, at.sure)
      local run, aside, trial = at.latest(), at.names()
      for _, r in ipairs(at.records()) do assert.is_nil(r.kind == "notice" and r.body.text:find("skipping", 1, true) and r.body.text or nil) end
      assert.equal("1000", at.rows())
      assert.equal("500", at.rows(aside))
      assert.is_false(at.exists(trial))
      assert.is_true(at.app.running())
      assert.equal("", at.pg.sql("select to_regclass('later')", at.database))
      at.ends(0, { "undo", run })
      assert.equal("500", at.rows())
      assert.is_true(at.app.running())
      at.ends(0, { "gc" })
      assert.is_false(at.exists(trial))
      assert.is_false(at.exists(aside))
      assert.equal("0", at.pg.sql "select count(*) from pg_locks where locktype = 'advisory'")
    end)
  end

  -- A place where nothing but words is needed.
  local function direct()
    local at, why = open "direct"
    if not at then pending(why) end
    return at
  end

  local function untouched(at)
    assert.equal("500", at.rows())
    assert.is_true(at.app.running())
    assert.is_false(at.exists((at.names())))
    assert.equal("0", at.pg.sql "select count(*) from pg_locks where locktype = 'advisory'")
  end

  it("refuses what is cut, no dump, unknown, or another thing than its name says, and nothing is lost", function ()
    local at = direct()
    if not at then return end
    local whole = suite.read(at.backups .. "/first.dump")
    suite.write(at.backups .. "/cut.dump", whole:sub(1, #whole * 6 // 10))
    suite.write(at.backups .. "/none.dump", "hello")
    suite.write(at.backups .. "/list.sql", whole)
    suite.write(at.backups .. "/short.sql", "-- PostgreSQL database dump\ncreate table x (id int);\n")
    local function says(words, ...)
      at.restore[3] = (...)
      local run = at.run(select(2, ...))
      local said = at.neap(run)
      assert.is_true(said.code ~= 0, said.all)
      assert.matches(words, said.all, 1, true)
      untouched(at)
    end
    says("not so: gone.dump is in the folder of backups", "gone.dump")
    says("a file of your own is restored with --unlisted", "cut.dump")
    says("is not whole", "cut.dump", "--unlisted")
    says("none.dump", "none.dump", "--unlisted")
    says("it is what its name says", "list.sql", "--unlisted")
    says("short.sql is no dump that pg_dump makes", "short.sql", "--unlisted")
    suite.write(at.backups .. "/first.dump", whole:sub(1, #whole * 6 // 10))
    says("first.dump", "first.dump")
  end)

  it("names whoever works in the database, stops there, and starts the application again", function ()
    local at = direct()
    if not at then return end
    local holder = child.start { argv = { at.pg.bin .. "/psql", "-X", "-A", "-t", "-h", at.pg.dir, "-p", tostring(at.pg.port), "-U", "owner", "-d", at.database },
      env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv("PATH"), PGAPPNAME = "colleague" } }
    holder:write("select 'held';\n")
    holder:expect("held")
    suite.write(at.dir .. "/patience.lua", (suite.read("runbooks/postgres/restore.lua"):gsub('wanted "1m"', 'wanted "1s"')))
    at.restore[1] = at.dir .. "/patience.lua"
    local said = at.neap(at.run()).all
    assert.matches("somebody still works in the database: pid %d+, colleague of owner from a local socket, idle", said)
    untouched(at)
    at.ends(0, at.run("--end-others"))
    assert.equal("1000", at.rows())
    holder:shut()
    holder:finish()
  end)

  it("restores a plain file that is in no catalogue, without an application, and keeps no backup of the present state", function ()
    local at = direct()
    if not at then return end
    suite.write(at.inventory, (suite.read(at.inventory):gsub("\n  app = [^\n]*", ""):gsub('behind = "app", ', "")))
    at.pg.sql("create table alone (id int); insert into alone values (1); alter table alone owner to owner", at.database)
    local dump = child.must { argv = { at.pg.bin .. "/pg_dump", "-h", at.pg.dir, "-p", tostring(at.pg.port), "-U", "admin", at.database },
      env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH") } }
    suite.write(at.backups .. "/own.sql", dump)
    at.pg.sql("drop table alone", at.database)
    at.restore[3] = "own.sql"
    local said = at.ends(0, at.run("--unlisted", "--no-owner", "--keep-fresh=no"))
    assert.equal("1", at.pg.sql("select count(*) from alone", at.database))
    for _, name in ipairs(T.entries(at.backups)) do assert.is_nil(name:find("before-restore", 1, true), name) end
    assert.matches("no application is bound", said, 1, true)
  end)

  it("keeps the replaced database until it is accepted by its name", function ()
    local at = direct()
    if not at then return end
    local accept = { "run", "postgres/accept-restore", "--no-input" }
    assert.matches("a restore of this database put one aside", at.ends(1, accept), 1, true)
    at.ends(0, at.run())
    local run, aside = at.latest(), at.names()
    at.ends(77, accept)
    assert.is_true(at.exists(aside))
    at.held({ "postgres/accept-restore" }, { "--no-input", "--confirm", "destroys=" .. aside })
    assert.is_false(at.exists(aside))
    assert.equal("1000", at.rows())
    at.ends(0, { "run", "postgres/accept-restore", "--kept", aside, "--no-input" })
    assert.matches("was dropped since", at.ends(0, { "undo", run }), 1, true)
    assert.equal("1000", at.rows())
  end)

  it("swaps back when the application is not well on what was restored", function ()
    local at = direct()
    if not at then return end
    suite.write(at.dir .. "/sick.lua", (suite.read("runbooks/postgres/restore.lua"):gsub('act  = start,\n  undo = stop', 'act  = function () start() error "sick" end,\n  undo = stop')
      :gsub('done = function %(%) return not app:is_bound%(%) or app:running%(%) and app:healthy%(%) end', 'done = function () return false end')))
    at.restore[1] = at.dir .. "/sick.lua"
    assert.equal(1, at.neap(at.run()).code)
    untouched(at)
  end)

  it("is refused while another run of it died, and goes on when that is resumed #kill", function ()
    local at = direct()
    if not at then return end
    local run = at.start(at.run())
    run:shut()
    local until_ms = T.now_ms() + 60000
    repeat
      local row = (journal.index.list(at.state) or {})[1]
      local acted = 0
      for _, r in ipairs(row and row.runbook == "postgres/restore" and journal.read(at.state, row.run, 0) or {}) do acted = acted + (r.kind == "step" and r.body.state == "intent" and 1 or 0) end
    until acted >= 2 or T.now_ms() > until_ms
    run:kill(9)
    run:finish()
    wards.await_unlocked(at.pg, at.database)
    local died = at.latest()
    assert.matches("neap resume " .. died, at.ends(75, at.run()), 1, true)
    at.ends(0, { "resume", died, "--no-input" })
    assert.equal("1000", at.rows())
    at.ends(0, { "undo", died })
    assert.equal("500", at.rows())
  end)

  -- ---- wherever it breaks ----

  local BIG <const> = [[create table t (id int primary key, a text); insert into t select i, repeat(md5(i::text), 8) from generate_series(1, %d) i;
    alter table t owner to owner; create index on t (a);]]

  -- Who has the name, twenty times a second. From beside: whoever is in the database itself is somebody who still works in it.
  local NAMED <const> = "select coalesce((select oid::text from pg_database where datname = '%s'), 'missing') \\watch 0.05\n"

  local function watch(at)
    local path = suite.write(suite.temp() .. "/seen", "")
    local argv = { servers.postgres_bin() .. "/psql", "-X", "-q", "-A", "-t", "-o", path, "-h", at.pg.address(), "-U", "admin", "-d", "postgres", "-f", "-" }
    local psql = child.start { argv = at.engine.netns.enter(argv), env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH"), PGAPPNAME = "watcher" } }
    psql:write(NAMED:format(at.database))
    psql:shut()
    local until_ms = T.now_ms() + 60000
    while suite.read(path) == "" do
      assert(T.now_ms() < until_ms, "nobody watches")
      T.pause(5)
    end
    return { path = path, psql = psql }
  end

  -- What each of them saw, in turn: repeated answers once.
  local function seen_by(watchers)
    local seen = {}
    for _, watcher in ipairs(watchers) do
      watcher.psql:kill(15)
      watcher.psql:finish()
      for line in suite.read(watcher.path):gmatch "[^\n]+" do
        if (line:find "^%d+$" or line == "missing") and seen[#seen] ~= line then seen[#seen + 1] = line end
      end
    end
    return seen
  end

  -- Every other restart is a crash.
  local STRIKES <const> = {
    killed = function (_, run) run:kill(9) end,
    ["cut off from its hosts"] = function (at)
      for _, host in pairs(at.hosts) do host.kill_sessions() end
    end,
    ["left by its server"] = function (at, _, point)
      at.engine.cli("restart", "-t", point % 2 == 0 and "0" or "10", at.pg.box.id)
      local until_ms = T.now_ms() + 60000
      while not pcall(at.pg.sql, "select 1") do
        assert(T.now_ms() < until_ms, "the server does not come back")
        T.pause(20)
      end
      return watch(at)
    end,
  }

  local function records_of(at)
    local row = (journal.index.list(at.state) or {})[1]
    return row and row.runbook == "postgres/restore" and journal.read(at.state, row.run, 0) or {}
  end

  local function resume(at, run, what)
    for _ = 1, 4 do
      local r = at.neap { "resume", run, "--no-input" }
      if r.code == 0 then return end
      assert.is_true(r.code == 1 or r.code == 69, what .. ": " .. r.all)
    end
    error(what .. ": it does not come to an end")
  end

  local WORKING <const> = "select (select count(*) from pg_stat_activity where application_name like 'neap:%') + (select count(*) from pg_locks where locktype = 'advisory')"

  -- What runs for neap in the server and on the hosts.
  local function working(at)
    local list = { at.pg.sql(WORKING) ~= "0" and "in the server" or nil }
    for name, host in pairs(at.hosts) do
      for _, program in pairs(host.processes()) do list[#list + 1] = program .. " on " .. name end
    end
    return list
  end

  -- What was cut off may need a moment until it knows.
  local function check_nothing_left(at, trial, what)
    at.ends(0, { "gc" })
    local until_ms = T.now_ms() + 60000
    while #working(at) > 0 and T.now_ms() < until_ms do T.pause(50) end
    assert.same({}, working(at), what)
    assert.is_false(at.exists(trial), what)
    for _, name in ipairs(T.entries(at.backups)) do assert.is_nil(name:find "%.part$", what .. ": " .. name) end
    os.execute(("rm -rf '%s/tmp/'neap.*"):format(suite.directory()))        -- sockets of the one that was killed; gc takes them once they are old
  end

  -- Whole before and after, whichever of the two it is; and at every moment one of these two has the name.
  local function strike_at(at, strike, is_there, rows, what, point)
    T.remove_tree(at.state)
    local old, watchers = at.oid(), { watch(at) }
    local run = at.start(at.run())
    run:shut()
    local until_ms = T.now_ms() + 60000
    while not is_there(records_of(at)) and T.now_ms() < until_ms do T.pause(10) end
    watchers[2] = STRIKES[strike](at, run, point)
    local ended = run:finish(120000)
    assert.is_true(#records_of(at) > 0, what .. ", and no run had begun: " .. ended.out .. ended.err)
    local id = at.latest()
    local there = at.rows()
    assert.is_true(there == tostring(rows) or there == tostring(rows - 500), what .. ": " .. there)
    if ended.code ~= 0 then resume(at, id, what) end
    local aside, trial = at.names(id)
    assert.equal(tostring(rows), at.rows(), what)
    assert.equal(tostring(rows - 500), at.rows(aside), what)
    assert.is_true(at.app.running(), what)
    local seen, named = seen_by(watchers), { [old] = true, [at.oid()] = true }
    assert.equal(old, seen[1], what)
    for _, oid in ipairs(seen) do assert.is_true(named[oid], ("%s: %s has the name"):format(what, oid)) end
    check_nothing_left(at, trial, what)
    at.pg.sql(("drop database %s"):format(aside))
    at.go_on()
  end

  -- Spread over the records of a run that nobody disturbs, and not always at the beginning of what a record announces.
  local function sweep(strike, points, rows)
    local at, why = open("docker", { schema = BIG:format(rows) })
    if not at then return pending(why) end
    at.ends(0, at.run())
    local all = #records_of(at)
    at.pg.sql(("drop database %s"):format((at.names())))
    at.go_on()
    for i = 1, points do
      local target = 3 + (all - 6) * i // (points + 1)
      local function is_there(records) return #records >= target and (T.pause(i % 3 * 60) or true) end
      strike_at(at, strike, is_there, rows, ("%s at record %d of %d"):format(strike, target, all), i)
    end
  end

  it("goes on without a human when it is killed while it pays what it owes, loses its hosts before the swap, or its server while writes are stopped #kill", function ()
    local at, why = open "docker"
    if not at then return pending(why) end
    local function begun(step)
      return function (records)
        for _, r in ipairs(records) do
          if r.kind == "step" and r.body.state == "intent" and r.step:find(step, 1, true) == 1 then return true end
        end
      end
    end
    local function paying(records)
      local owed
      for _, r in ipairs(records) do
        owed = owed or r.kind == "owed"
        if owed and r.kind == "outcome" then return true end
      end
    end
    strike_at(at, "killed", paying, 1000, "killed in the after of step 5", 1)
    strike_at(at, "cut off from its hosts", begun "put-the-restored", 1000, "cut off in step 6", 2)
    strike_at(at, "left by its server", begun "stop-writes", 1000, "left by its server in step 5", 2)
  end)

  for _, strike in ipairs { "killed", "cut off from its hosts", "left by its server" } do
    for _, points in ipairs { 10, 50 } do
      it(("goes on without a human when it is %s, with 20 MB, at %d points #kill #long"):format(strike, points), function () sweep(strike, points, 60000) end)
    end
  end

  it("moves one GiB from a host into a container, and takes it back #bulk #long", function ()
    local at, why = open("docker", { limit_ms = 900000, schema = "create table t (id int primary key, a text); alter table t owner to owner", fill = function (at)
      for i = 0, 5 do
        at.pg.sql(("insert into t select i, repeat(md5(i::text), 59) from generate_series(%d, %d) i"):format(i * 95000 + 1, (i + 1) * 95000), at.database)
      end
    end })
    if not at then return pending(why) end
    assert.is_true(tonumber(at.pg.sql(("select pg_database_size('%s')"):format(at.database))) > 1 << 30)
    local began = T.now_ms()
    at.held(at.restore, { "--keep-fresh=no", table.unpack(at.sure) })
    assert.equal("570000", at.rows())
    local run = at.latest()
    at.ends(0, { "undo", run })
    assert.equal("569500", at.rows())
    check_nothing_left(at, select(2, at.names(run)), "1 GiB")
    print(("1 GiB: %d s"):format((T.now_ms() - began) // 1000))
  end)
end)
