-- Runbooks about a PostgreSQL and a Redis in containers that publish no port, by the built binary, which stands where their bridge is.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local INVENTORY <const> = [[
environment "shop" {
  dbc = container { project = "near", service = "database", docker = "%s"%s },
  db = postgres { url = "postgresql://postgres@localhost/shop", on = "dbc", password = secret { env = "DB_PASSWORD" }%s },
  box = container { name = "%s", docker = "%s" },
  worker = container { name = "%s", docker = "%s" },
  cache = redis { url = "redis://localhost:6379/0", on = "box", password = secret { env = "CACHE_PASSWORD" } },
}
]]

local MOVE <const> = [[
runbook "Copy the shop inside its container" { why = "so that a copy is there" }
local dbc, db, worker, cache = target.container "dbc", target.postgres "db", target.container "worker", target.redis "cache"
step "The copy is there" {
  needs = function ()
    check(dbc:healthy(), "the database is well")
    check(db:value "SELECT count(*) FROM item" == 1000, "the shop has its items")
  end,
  done = function () return db:exists "copy" and db:on("copy"):value "SELECT count(*) FROM pg_tables WHERE tablename = 'item'" == 1 end,
  act = function ()
    dbc:output_to({ "pg_dump", "-Fc", "shop" }, "%s/shop.dump")
    db:create_database "copy"
    dbc:input_from({ "pg_restore", "--exit-on-error", "-d", "copy" }, "%s/shop.dump")
  end,
  verify = function () check.same(db:on("copy"):value "SELECT sum(id) FROM item", db:value "SELECT sum(id) FROM item", "the copy has what the shop has") end,
}
step "psql says so too" {
  done = function () return cache:get "copied" == "yes" end,
  act = function ()
    local said = dbc:run({ "psql", "-XAtq", "-d", "copy", "-f", "-" }, { stdin = "UPDATE item SET id = id WHERE id = 1; SELECT count(*) FROM item;" })
    check.same(said:out(), "1000\n", "psql counts them")
    cache:set("copied", "yes")
  end,
}
step "The worker is started again" {
  done = function () return worker:has "/tmp/again" end,
  act = function ()
    worker:run { "touch", "/tmp/again" }
    worker:restart { grace = "5s" }
  end,
  verify = function () return worker:wait_for_log { text = "works", within = "2m" } and worker:running() end,
}
]]

local LOOK <const> = [[
runbook "Look at what shares the host's network"
local db, cache = target.postgres "near_db", target.redis "near_cache"
step "They answer" { verify = function ()
  check(db:value "SELECT 40 + 2" == 42, "the database answers")
  check(not cache:has "nothing", "the cache answers")
end }
]]

local NEAR <const> = [[
environment "shop" {
  dbc = container { name = "%s", docker = "%s" }, box = container { name = "%s", docker = "%s" },
  near_db = postgres { url = "postgresql://postgres@%s:%d/postgres", on = "dbc", password = secret { env = "DB_PASSWORD" } },
  near_cache = redis { url = "redis://%s:%d/0", on = "box", password = secret { env = "CACHE_PASSWORD" } },
}
]]

local MOVED <const> = [[
environment "shop" {
  dbc = container { name = "%s", docker = "%s" }, other = container { name = "%s", docker = "%s" },
  db = postgres { url = "postgresql://postgres@localhost/postgres", on = "dbc", password = secret { env = "DB_PASSWORD" } },
}
]]

local MOVING <const> = [[
runbook "Start a database again, elsewhere"
local dbc, other, db = target.container "dbc", target.container "other", target.postgres "db"
step "It has another address" {
  needs = function () check(db:has "SELECT FROM kept", "the database is there") end,
  act = function ()
    dbc:stop { grace = "10s" }
    other:start()
    dbc:start()
  end,
  verify = function () return dbc:wait_healthy { within = "2m" } and db:has "SELECT FROM kept" end,
}
]]

local LOST <const> = [[
runbook "Something that is cut off"
local worker = target.container "worker"
step "It never ends" {
  act = function () worker:run { "sh", "-c", "touch /tmp/cut; sleep 600" } end,
  verify = function () return worker:has "/tmp/whole" end,
}
]]

local SLOW <const> = [[
runbook "Something slow in the container"
local dbc = target.container "dbc"
step "It is done once" {
  within = "60s",
  done = function () return dbc:has "/tmp/slow/done" end,
  act = function () dbc:run { "sh", "-c", "echo x >>/tmp/slow/begun; read line </tmp/slow/go; echo x >/tmp/slow/done" } end,
}
]]

describe("a runbook on containers", function ()
  local engine, why, db, box, worker, dir

  setup(function ()
    engine, why = servers.docker { netns = true }
    if not engine then return end
    db = engine.postgres { name = "shop-db-" .. T.pid(), project = "near", service = "database" }
    box = engine.redis { name = "shop-cache-" .. T.pid() }  -- what a test that fails leaves in /run/lock is in nobody's way
    worker = engine.busybox { name = "shop-worker-" .. T.pid(), cmd = { "sh", "-c", "trap 'exit 0' TERM; echo works; while :; do sleep 0.1; done" } }
    db.sql "CREATE DATABASE shop"
    db.sql("CREATE TABLE item AS SELECT generate_series(1, 1000) AS id", "shop")
  end)

  -- Files of its own. `pin` and `db_pin` go into the entries.
  local function write(pin, db_pin)
    dir = dir or suite.memory()
    local function field(value) return value and (", pin = %q"):format(value) or "" end
    suite.write(dir .. "/inventory.lua", INVENTORY:format(engine.url, field(pin), field(db_pin), box.name, engine.url, worker.name, engine.url))
    suite.write(dir .. "/move.lua", MOVE:format(dir, dir))
    suite.write(dir .. "/slow.lua", SLOW)
  end

  before_each(function ()
    dir = nil
    if not engine then return end
    write()
    db.sql "DROP DATABASE IF EXISTS copy WITH (FORCE)"
    box.cli("flushall")
    worker.exec { "rm", "-f", "/tmp/again" }
  end)

  local function start(...)
    local argv = { "sh", "-c", "exec \"$0\" \"$@\" 2>&1", neap.binary(), ... }
    table.move({ "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "1000" }, 1, 6, #argv + 1, argv)
    return child.start { argv = engine.netns.enter(argv), cwd = "/", env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8", HOME = dir, TERM = "dumb",
      TMPDIR = suite.directory() .. "/tmp", DB_PASSWORD = db.password, CACHE_PASSWORD = box.password, ASAN_OPTIONS = os.getenv("ASAN_OPTIONS") } }
  end

  local function ask(...)
    local running = start(...)
    running:shut()
    return running:finish(60000)
  end

  -- What happened to containers since: create, start, stop, die, exec_create: … Their own health checks and files that were looked at aside.
  local ASIDE <const> = { "pg_isready", "redis-cli", "health_status", "exec_die", "archive-path" }
  local function events(since)
    local said = engine.cli("events", "--since", since, "--until", engine.cli("info", "--format", "{{.SystemTime}}"), "--format", "{{.Action}}", "--filter", "type=container")
    local list = {}
    for line in said:gmatch("[^\n]+") do
      local counts = true
      for _, word in ipairs(ASIDE) do counts = counts and not line:find(word, 1, true) end
      if counts then list[#list + 1] = line end
    end
    return list
  end

  -- What a run owes that nobody will settle.
  local function forget(run)
    for _, name in ipairs(T.entries("/run/lock") or {}) do
      local path = "/run/lock/" .. name
      local file = name:find("^neap%-") and io.open(path)        -- nil: another suite's that went meanwhile
      if file and file:read("a"):find("run " .. run, 1, true) then os.remove(path) end
      if file then file:close() end
    end
  end

  local function with(name, fn)
    it(name, function ()
      if not engine then return pending(why) end
      fn()
    end)
  end

  with("is previewed without a trace, does what it showed, and does nothing the second time", function ()
    local since = engine.cli("info", "--format", "{{.SystemTime}}")
    local r = ask("plan", dir .. "/move.lua", "--env", "shop")
    assert.equal(2, r.code, r.out)
    for _, words in ipairs { "docker:", db.name, "the shop has its items", "pg_restore --exit-on-error -d copy", "psql -XAtq -d copy -f -", "restart container", "create database" } do
      assert.matches(words:lower(), r.out:lower(), 1, true)
    end
    assert.same({}, events(since))
    assert.same("f", db.sql "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'copy')")
    r = ask("run", dir .. "/move.lua", "--env", "shop", "--no-input")
    assert.equal(0, r.code, r.out)
    assert.equal("1000", db.sql("SELECT count(*) FROM item", "copy"))
    assert.equal("yes", box.cli("get", "copied"))
    since = engine.cli("info", "--format", "{{.SystemTime}}")
    r = ask("run", dir .. "/move.lua", "--env", "shop", "--no-input")
    assert.equal(0, r.code, r.out)
    assert.same({}, events(since))
  end)

  with("waits for the command of a run that was killed, and starts no second one", function ()
    db.exec { "sh", "-c", "rm -rf /tmp/slow; mkdir /tmp/slow; mkfifo /tmp/slow/go" }
    local running = start("run", dir .. "/slow.lua", "--env", "shop", "--no-input")
    local until_ms = T.now_ms() + 60000
    while db.exec({ "test", "-s", "/tmp/slow/begun" }).code ~= 0 do
      assert.is_true(T.now_ms() < until_ms, "the command does not begin")
      T.pause(30)
    end
    running:kill(9)
    assert.equal(9, running:finish().signal)
    local refused = ask("run", dir .. "/slow.lua", "--env", "shop", "--no-input")
    assert.equal(75, refused.code, refused.out)
    assert.matches("is kept by a run that still owes something", refused.out, 1, true)
    local resumed = start("resume", refused.out:match("neap resume (%x+)"), "--no-input")
    resumed:shut()
    resumed:expect("still being worked on")
    db.exec { "sh", "-c", "echo >/tmp/slow/go" }
    local r = resumed:finish(60000)
    assert.equal(0, r.code, r.out)
    assert.equal("x\n", db.exec({ "cat", "/tmp/slow/begun" }).out)
    assert.equal(0, ask("run", dir .. "/slow.lua", "--env", "shop", "--no-input").code)
  end)

  with("is refused when another one is behind the name than the inventory pins", function ()
    local engine_id = engine.cli("info", "--format", "{{.ID}}")
    write(("docker:%s/%s"):format(engine_id, db.id))
    assert.equal(2, ask("plan", dir .. "/move.lua", "--env", "shop").code)
    write(("docker:%s/%s"):format(engine_id, box.id))
    local r = ask("run", dir .. "/move.lua", "--env", "shop", "--no-input")
    assert.are_not.equal(0, r.code)
    assert.matches(("\"dbc\" is docker:%s/%s@"):format(engine_id, db.id), r.out, 1, true)
    assert.matches("the inventory pins docker:" .. engine_id .. "/" .. box.id, r.out, 1, true)
    write(nil, "pg:1234567890123456789/shop")
    r = ask("run", dir .. "/move.lua", "--env", "shop", "--no-input")
    assert.are_not.equal(0, r.code)
    assert.matches("the inventory pins pg:1234567890123456789/shop", r.out, 1, true)
  end)

  with("is asked about by doctor, from the container up", function ()
    local r = ask("doctor", "--env", "shop")
    assert.equal(0, r.code, r.out)
    for _, words in ipairs { "near/database, number 1", "its identity is not pinned", "healthy", "PostgreSQL", "through box" } do assert.matches(words, r.out, 1, true) end
  end)

  with("reaches what shares its host's network at the host's own ports", function ()
    local own, kept = engine.postgres { name = "host-db-" .. T.pid(), network = "host" }, engine.redis { name = "host-cache-" .. T.pid(), network = "host" }
    suite.write(dir .. "/inventory.lua", NEAR:format(own.name, engine.url, kept.name, engine.url, own.listen, own.port, kept.listen, kept.port))
    suite.write(dir .. "/look.lua", LOOK)
    local r = ask("run", dir .. "/look.lua", "--env", "shop", "--no-input")
    assert.equal(0, r.code, r.out)
    assert.matches("on " .. own.listen .. ":" .. own.port, r.out, 1, true)
    assert.matches("on " .. kept.listen .. ":" .. kept.port, r.out, 1, true)
  end)

  with("is told that nobody knows, when the container is started again in the middle of a command", function ()
    suite.write(dir .. "/lost.lua", LOST)
    worker.exec { "rm", "-f", "/tmp/cut" }
    local running = start("run", dir .. "/lost.lua", "--env", "shop", "--no-input")
    running:shut()
    local until_ms = T.now_ms() + 60000
    while worker.exec({ "test", "-e", "/tmp/cut" }).code ~= 0 do
      assert.is_true(T.now_ms() < until_ms, "the command does not begin")
      T.pause(30)
    end
    engine.cli("restart", "-t", "0", worker.id)
    local r = running:finish(60000)
    assert.equal(75, r.code, r.out)
    assert.matches("unknown", r.out, 1, true)
    worker.exec { "rm", "-f", "/tmp/cut" }
    local id = r.out:match("neap resume (%x+)")
    local again = ask("resume", id, "--no-input")
    assert.equal(75, again.code, again.out)
    assert.are_not.equal(0, worker.exec({ "test", "-e", "/tmp/cut" }).code, "it was started a second time")
    forget(id)
  end)

  with("is reached where it is after it was started again", function ()
    local own = engine.postgres { name = "moving-db-" .. T.pid(), volume = "moving" .. T.pid() }
    local other = engine.busybox { name = "moving-other-" .. T.pid(), created = true }
    own.sql "CREATE TABLE kept AS SELECT 1"
    local before = own.address()
    suite.write(dir .. "/inventory.lua", MOVED:format(own.name, engine.url, other.name, engine.url))
    suite.write(dir .. "/moving.lua", MOVING)
    local r = ask("run", dir .. "/moving.lua", "--env", "shop", "--no-input")
    assert.equal(0, r.code, r.out)
    assert.are_not.equal(before, own.address())
  end)
end)
