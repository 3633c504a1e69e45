-- The same, from elsewhere: a PostgreSQL and a Redis in containers on a host that is reached by SSH alone. Nothing of them is published, and
-- neap stands outside of the network namespace that their bridge is in: only the sshd's sessions are inside.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local INVENTORY <const> = [[
environment "far" {
  hermes = host { ssh = "hermes", config = "%s", backend = "%s"%s },
  dbc = container { project = "far", service = "database", on = "hermes", docker = "unix://%s"%s },
  db = postgres { url = "postgresql://postgres@localhost/shop", on = "dbc", password = secret { env = "DB_PASSWORD" }%s },
  box = container { name = "%s", on = "hermes", docker = "unix://%s" },
  cache = redis { url = "redis://localhost:6379/0", on = "box", password = secret { env = "CACHE_PASSWORD" } },
}
]]

local BOOK <const> = [[
runbook "Copy the shop, from elsewhere"
local dbc, db, cache = target.container "dbc", target.postgres "db", target.redis "cache"
step "The copy is there" {
  needs = function () check(db:value "SELECT count(*) FROM item" == 1000, "libpq reaches the shop") end,
  done = function () return db:exists "copy" and cache:get "copied" == "yes" end,
  act = function ()
    dbc:output_to({ "pg_dump", "-Fc", "shop" }, "%s/shop.dump")
    db:create_database "copy"
    dbc:input_from({ "pg_restore", "--exit-on-error", "-d", "copy" }, "%s/shop.dump")
    dbc:run({ "psql", "-XAtq", "-d", "copy", "-f", "-" }, { stdin = "UPDATE item SET id = id WHERE id = 1" })
    cache:set("copied", "yes")
  end,
  verify = function () check.same(db:on("copy"):value "SELECT sum(id) FROM item", 500500, "the copy has what the shop has") end,
}
]]

describe("a runbook on containers of a host", function ()
  local engine, why, hermes, home, db, box, dir

  setup(function ()
    engine, why = servers.docker { netns = true }
    if not engine then return end
    hermes = servers.sshd { name = "bridgehead", address = "127.0.0.6", netns = engine.netns }
    home = servers.ssh_home { hermes = hermes }
    db = engine.postgres { name = "far-db-" .. T.pid(), project = "far", service = "database" }
    box = engine.redis { name = "far-cache-" .. T.pid() }
    db.sql "CREATE DATABASE shop"
    db.sql("CREATE TABLE item AS SELECT generate_series(1, 1000) AS id", "shop")
  end)

  local function write(pins, backend)
    pins = pins or {}
    local function field(value) return value and (", pin = %q"):format(value) or "" end
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, backend or "auto", field(pins.host), engine.socket, field(pins.container), field(pins.db),
      box.name, engine.socket))
    suite.write(dir .. "/book.lua", BOOK:format(dir, dir))
  end

  before_each(function ()
    dir = suite.memory()
    if not engine then return end
    db.sql "DROP DATABASE IF EXISTS copy WITH (FORCE)"
    box.cli("flushall")
  end)

  local function ask(...)
    local argv = { neap.binary(), ... }
    table.move({ "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "1000" }, 1, 6, #argv + 1, argv)
    return child.run { argv = argv, cwd = "/", timeout = 60000, env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8", HOME = dir, TERM = "dumb",
      TMPDIR = suite.directory() .. "/tmp", DB_PASSWORD = db.password, CACHE_PASSWORD = box.password, ASAN_OPTIONS = os.getenv("ASAN_OPTIONS") } }
  end

  local function with(name, fn)
    it(name, function ()
      if not engine then return pending(why) end
      fn()
    end)
  end

  for _, backend in ipairs { "libssh2", "program" } do
    with("reaches them by libpq, psql, pg_restore and Redis through " .. backend, function ()
      write(nil, backend)
      local r = ask("plan", dir .. "/book.lua", "--env", "far")
      assert.equal(2, r.code, r.out .. r.err)
      for _, words in ipairs { "libpq reaches the shop", "pg_restore --exit-on-error -d copy", "psql -XAtq -d copy", "dbc", "hermes" } do
        assert.matches(words, r.out, 1, true)
      end
      r = ask("run", dir .. "/book.lua", "--env", "far", "--no-input")
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal("500500", db.sql("SELECT sum(id) FROM item", "copy"))
      assert.equal("yes", box.cli("get", "copied"))
      r = ask("run", dir .. "/book.lua", "--env", "far", "--no-input")
      assert.equal(0, r.code, r.out .. r.err)
      assert.matches("already", r.out .. r.err)
    end)
  end

  with("is refused when host, container or database is another one than the inventory pins", function ()
    local wrong = { host = "host:SHA256:AAAA", container = "docker:" .. engine.cli("info", "--format", "{{.ID}}") .. "/" .. box.id, db = "pg:1234567890123456789/shop" }
    for what, pin in pairs(wrong) do
      write { [what] = pin }
      local r = ask("run", dir .. "/book.lua", "--env", "far", "--no-input")
      assert.are_not.equal(0, r.code)
      assert.matches("the inventory pins " .. pin, r.out .. r.err, 1, true)
    end
    assert.equal("0", db.sql "SELECT count(*) FROM pg_database WHERE datname = 'copy'")
  end)
end)
