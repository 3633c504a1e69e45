-- The health runbook and its questions on a real server.

local faults = require "tests.support.faults"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local child = require "tests.support.child"

describe("postgres/health", function ()
  local pg, database
  setup(function ()
    pg = servers.postgres()
    database = pg.database()
    pg.sql([[create extension pg_stat_statements;
      create table "or""ders" (id int primary key, a int, b int unique) with (autovacuum_enabled = off); create index idle on "or""ders" (a);
      insert into "or""ders" select i, i, i from generate_series(1, 1000) i; delete from "or""ders" where id % 2 = 0;
      alter table "or""ders" owner to owner]], database)
    -- A session says what it counted when it has ended, which is after psql has.
    local until_ms = T.now_ms() + 60000
    repeat until pg.sql("select count(*) from pg_stat_user_tables where n_dead_tup > 0", database) ~= "0" or T.now_ms() > until_ms
  end)

  local function health(arguments, role)
    local dir = suite.memory()
    suite.write(dir .. "/inventory.lua", ('environment "demo" { db = postgres { url = "postgresql://%s@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" } } }')
      :format(role or "admin", pg.port, database))
    local list = { arguments[1], "postgres/health", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "1000" }
    table.move(arguments, 2, #arguments, #list + 1, list)
    local r = servers.neap(list, { env = { PASSWORD = servers.passwords[role or "admin"] } })
    r.all = r.out .. r.err
    return r
  end

  -- A psql session that stays as it is until it is closed.
  local function session(statements, seen)
    local running = child.start {
      argv = { pg.bin .. "/psql", "-X", "-A", "-t", "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin", "-d", database },
      env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH"), PGAPPNAME = "holder" },
    }
    running:write(statements)
    if seen then running:expect(seen) end
    return running
  end

  it("answers every question, and changes nothing", function ()
    local r = health { "run" }
    assert.equal(0, r.code, r.out .. r.err)
    for _, words in ipairs { "max_connections", "or\"ders", "idle", "dead_percent", "mean_ms", "Counted since", "none" } do
      assert.matches(words, r.all, 1, true)
    end
    assert.equal(0, health({ "plan" }).code)
  end)

  it("says so when pg_stat_statements is not installed", function ()
    local r = health { "run", "--database", "postgres" }
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("pg_stat_statements is not installed", r.all, 1, true)
  end)

  it("answers at once while somebody holds a table alone, and says who waits for whom", function ()
    local holder = session('begin; lock table "or""ders"; select \'held\';\n', "held")
    local waiter = session('select count(*) from "or""ders";\n')
    local until_ms = T.now_ms() + 60000
    while pg.sql([[select count(*) from pg_locks where not granted and relation = '"or""ders"'::regclass]], database) == "0" and T.now_ms() < until_ms do T.pause(20) end
    local r = health { "run" }                                      -- the table is held until it has answered
    holder:kill(15)
    holder:finish()
    waiter:write "\\q\n"
    waiter:shut()
    waiter:finish()
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("idle in transaction", r.all, 1, true)
    assert.matches('AccessShareLock on "or""ders"', r.all, 1, true)
  end)

  it("tells a role what it may not see, and goes on", function ()
    local r = health({ "run" }, "app")
    assert.equal(0, r.code, r.out .. r.err)
  end)

  it("refuses a duration without a unit and a number that is none", function ()
    assert.equal(64, health({ "run", "--longer", "5" }).code)
    assert.equal(64, health({ "run", "--rows", "0" }).code)
  end)

  -- It owes nothing and holds nothing: whoever comes next is not in its way, and it can be gone on with or left.
  it("leaves nothing when it is killed: another run goes ahead, resume finishes, undo finds nothing to undo #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local dir = suite.memory()
    suite.write(dir .. "/inventory.lua", ('environment "demo" { db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "OWNER_PASSWORD" } } }')
      :format(pg.port, database))
    local function list(...) return { select(1, ...), select(2, ...), "--no-input", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", select(3, ...) } end
    local killed = faults.start(list("run", "postgres/health", "--env", "demo"), { home = dir }, { call = "sendto", when = 40 }):finish()
    assert.equal(9, killed.signal)
    local run = (T.entries(dir .. "/state/runs") or {})[1]
    assert.equal(0, health({ "run" }).code)
    local env = { env = { OWNER_PASSWORD = servers.passwords.owner } }
    local resumed = servers.neap(list("resume", run), env)
    assert.equal(0, resumed.code, resumed.out .. resumed.err)
    local undone = servers.neap(list("undo", run), env)
    assert.equal(0, undone.code, undone.out .. undone.err)
    assert.matches("nothing of this run can be undone", undone.out .. undone.err, 1, true)
    assert.equal("0", pg.sql("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())", database))
  end)
end)
