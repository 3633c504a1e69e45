-- postgres/restore and postgres/accept-restore, in the four set-ups: what they do, what stands in their way, and that a run that is killed, or
-- loses its hosts or its server, goes on without a human and leaves the live database whole.

local journal = require "native.journal"
local kept = require "tests.support.kept"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"

local ROWS <const> = "select count(*) from t"

-- A place with a backup in the catalogue, and a database that went on after it.
local function open(name, options)
  local at, why = setups.open(name, options)
  if not at then return nil, why end
  at.ends(0, { "run", "postgres/backup", "--name", "first.dump", "--no-input" })
  at.pg.sql("delete from t where id in (select id from t order by id limit 500); create table later (id int); alter table later owner to owner", at.database)
  at.restore = { "postgres/restore", "--dump", "first.dump", "--idle", "500ms" }
  at.sure = { "--no-input", "--confirm", "destroys=" .. at.database }
  function at.run(...)
    local words = { "run", table.unpack(at.restore) }
    for _, more in ipairs { at.sure, { ... } } do table.move(more, 1, #more, #words + 1, words) end
    return words
  end
  function at.rows(database) return at.pg.sql(ROWS, database or at.database) end
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
    local child = require "tests.support.child"
    local servers = require "tests.support.servers"
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
    holder:finish(5000)
  end)

  it("restores a plain file that is in no catalogue, without an application, and keeps no backup of the present state", function ()
    local at = direct()
    if not at then return end
    suite.write(at.inventory, (suite.read(at.inventory):gsub("\n  app = [^\n]*", ""):gsub('behind = "app", ', "")))
    at.pg.sql("create table alone (id int); insert into alone values (1); alter table alone owner to owner", at.database)
    local dump = require "tests.support.child".must { argv = { at.pg.bin .. "/pg_dump", "-h", at.pg.dir, "-p", tostring(at.pg.port), "-U", "admin", at.database },
      env = { PGPASSWORD = require "tests.support.servers".passwords.admin, PATH = os.getenv("PATH") } }
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
    local until_ms = T.now_ms() + 30000
    repeat
      local row = (journal.index.list(at.state) or {})[1]
      local acted = 0
      for _, r in ipairs(row and row.runbook == "postgres/restore" and journal.read(at.state, row.run, 0) or {}) do acted = acted + (r.kind == "step" and r.body.state == "intent" and 1 or 0) end
    until acted >= 2 or T.now_ms() > until_ms
    run:kill(9)
    run:finish(10000)
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

  local STRIKES <const> = {
    killed = function (_, run) run:kill(9) end,
    ["cut off from its hosts"] = function (at)
      for _, host in pairs(at.hosts) do host.kill_sessions() end
    end,
    ["left by its server"] = function (at) at.engine.try { "restart", at.pg.box.id } end,
  }

  local function records_of(at)
    local row = (journal.index.list(at.state) or {})[1]
    return row and row.runbook == "postgres/restore" and journal.read(at.state, row.run, 0) or {}
  end

  -- Whole before and after, whichever of the two it is.
  local function check_whole(at, rows, what)
    assert.is_true(at.exists(at.database), what)
    local there = at.rows()
    assert.is_true(there == tostring(rows) or there == tostring(rows - 500), what .. ": " .. there)
  end

  local function go_on(at, run, what)
    for _ = 1, 4 do
      local r = at.neap { "resume", run, "--no-input" }
      if r.code == 0 or r.code == 64 and r.all:find("nothing to resume", 1, true) then return end
      assert.is_true(r.code == 1 or r.code == 69, what .. ": " .. r.all)
    end
    error(what .. ": it does not come to an end")
  end

  local function strike_at(at, strike, target, rows, what)
    T.remove_tree(at.state)
    at.pg.sql("delete from t where id in (select id from t order by id limit 500)", at.database)
    local run = at.start(at.run())
    run:shut()
    local until_ms = T.now_ms() + 60000
    while #records_of(at) < target and T.now_ms() < until_ms do T.pause(5) end
    STRIKES[strike](at, run)
    local ended = run:finish(120000)
    local id = at.latest()
    check_whole(at, rows, what)
    if ended.code ~= 0 then go_on(at, id, what) end
    local aside, trial = at.names(id)
    assert.equal(tostring(rows), at.rows(), what)
    assert.equal(tostring(rows - 500), at.rows(aside), what)
    assert.is_true(at.app.running(), what)
    at.ends(0, { "gc" })
    assert.is_false(at.exists(trial), what)
    assert.same({}, (function ()
      local parts = {}
      for _, name in ipairs(T.entries(at.backups)) do if name:find("%.part$") then parts[#parts + 1] = name end end
      return parts
    end)(), what)
    at.pg.sql(("drop database %s"):format(aside))
    os.execute(("rm -rf '%s/tmp/'neap.*"):format(suite.directory()))        -- sockets of the one that was killed; gc takes them once they are old
  end

  local function sweep(strike, points, rows)
    local at, why = open("docker", { schema = BIG:format(rows) })
    if not at then return pending(why) end
    at.ends(0, at.run())
    local all = #records_of(at)
    at.pg.sql(("drop database %s"):format((at.names())))
    for i = 1, points do
      local target = 3 + (all - 6) * i // (points + 1)
      strike_at(at, strike, target, rows, ("%s at record %d of %d"):format(strike, target, all))
    end
  end

  for _, strike in ipairs { "killed", "cut off from its hosts", "left by its server" } do
    it("goes on without a human when it is " .. strike .. ", at three points #kill #long", function () sweep(strike, 3, 1000) end)
    it("goes on without a human when it is " .. strike .. ", with 20 MB, at ten points #kill #long", function () sweep(strike, 10, 60000) end)
  end
  it("goes on without a human wherever it was killed, at fifty points #kill #long", function () sweep("killed", 50, 60000) end)

  it("moves one GiB from a host into a container, and takes it back #bulk #long", function ()
    local at, why = open("docker", { schema = BIG:format(2500000) })
    if not at then return pending(why) end
    local began = T.now_ms()
    at.ends(0, at.run("--keep-fresh=no"))
    assert.equal("2500000", at.rows())
    at.ends(0, { "undo", at.latest() })
    assert.equal("2499500", at.rows())
    print(("1 GiB: %d s"):format((T.now_ms() - began) // 1000))
  end)
end)
