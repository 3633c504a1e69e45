-- T29: two mount points for one family of images. postgres:18 keeps its data below /var/lib/postgresql and declares its volume there; a volume that is
-- mounted at /var/lib/postgresql/data, where 17 wanted it, is beside the data, and those lie in a volume without a name: gone when the container is made anew.
-- What answers: before anything is made anew, the mounts are held against the major version of the image (std.containers). The images here are
-- Debian's busybox with the volume, the variables and the place of the real ones; their "database" is a file.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local PLACES <const> = { [17] = { "/var/lib/postgresql/data", "/var/lib/postgresql/data" }, [18] = { "/var/lib/postgresql", "/var/lib/postgresql/18/docker" } }
local START <const> = "mkdir -p $PGDATA; if [ -e $PGDATA/PG_VERSION ]; then echo found; else echo empty; fi; echo $PG_MAJOR >$PGDATA/PG_VERSION; sleep 3600"

local BOOK <const> = [[
runbook "See that a container's data outlive it" {
  why = "A volume mounted one directory beside the data looks right until the next `up`, which begins with an empty database.",
}

local containers = require "std.containers"

local dbc = target.container "dbc"

local p = params {
  major = { "major version of the image that will take its place; that of its own image when omitted", kind = "integer", min = 9, optional = true },
  data  = { "where PGDATA will point, if it is set", kind = "path", optional = true },
}

step "Hold the mounts against the image" {
  verify = function ()
    local fault, where = containers.data_fault(dbc, { major = p.major, data = p.data })
    check(not fault, "a container made anew would find the data", fault)
    note("%s", where)
  end,
}
]]

describe("T29, a volume beside the data", function ()
  local engine, why, dir
  setup(function () engine, why = servers.docker() end)

  local function image(major)
    local name = ("test/postgres-like:%d"):format(major)
    if engine.try({ "image", "inspect", name }).code ~= 0 then
      local base = engine.busybox { created = true }
      engine.cli("commit", "--change", "VOLUME " .. PLACES[major][1], "--change", "ENV PG_MAJOR=" .. major, "--change", "ENV PGDATA=" .. PLACES[major][2], base.id, name)
    end
    return name
  end

  local function up(major, mount)
    engine.try { "rm", "-f", "shop-db-1" }
    engine.cli("run", "-d", "--pull", "never", "--name", "shop-db-1", "--network", "none", "--stop-timeout", "1", "-v", mount, image(major), "sh", "-c", START)
    local said
    repeat said = engine.cli("logs", "shop-db-1") until said ~= ""
    return said
  end

  local function asked(...)
    dir = dir or suite.temp()
    suite.write(dir .. "/data.lua", BOOK)
    suite.write(dir .. "/inventory.lua", ('environment "demo" { dbc = container { docker = "%s", name = "shop-db-1" } }'):format(engine.url))
    local r = servers.neap.run({ "run", dir .. "/data.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "400", ... }, { cwd = dir })
    return r.code, r.out .. r.err
  end

  local function with(what, fn)
    it(what, function ()
      if not engine then return pending(why) end
      dir = nil
      suite.after(function () engine.try { "rm", "-f", "-v", "shop-db-1" } end)
      fn("data" .. T.now_ms())
    end)
  end

  with("loses everything at the next `up`, as the guide has it, and is refused before it", function (volume)
    assert.equal("empty", up(18, volume .. ":/var/lib/postgresql/data"))
    local code, said = asked()
    assert.equal("empty", up(18, volume .. ":/var/lib/postgresql/data"))
    assert.equal(1, code, said)
    assert.matches("an image of PostgreSQL 18 keeps its data in /var/lib/postgresql/18/docker, and nothing with a name is mounted there: a container made anew begins empty; there is the volume "
      .. volume .. ", at /var/lib/postgresql/data", said, 1, true)
  end)

  with("is found again where the mount fits the image", function (volume)
    for major, mount in pairs { [17] = ":/var/lib/postgresql/data", [18] = ":/var/lib/postgresql" } do
      assert.equal("empty", up(major, volume .. major .. mount))
      local code, said = asked()
      assert.equal(0, code, said)
      assert.matches(("%s is in the volume %s%d, at "):format(PLACES[major][2], volume, major), said, 1, true)
      assert.equal("found", up(major, volume .. major .. mount))
    end
  end)

  with("is judged for the image that will come, before the old one is gone", function (volume)
    up(17, volume .. ":/var/lib/postgresql/data")
    assert.equal(0, (asked()))
    local code, said = asked("--major", "18")
    assert.equal(1, code, said)
    assert.matches("an image of PostgreSQL 18 keeps its data in /var/lib/postgresql/18/docker", said, 1, true)
    assert.equal(0, (asked("--major", "18", "--data", "/var/lib/postgresql/data/18")))
  end)

  with("is no better in a volume of no name, nor where nobody says which version it is", function (volume)
    up(17, "/var/lib/postgresql/data")
    assert.equal(1, (asked()))
    engine.cli("rm", "-f", "-v", "shop-db-1")
    engine.cli("run", "-d", "--pull", "never", "--name", "shop-db-1", "--network", "none", "-v", volume .. ":/data", "test/busybox:1", "sleep", "3600")
    local code, said = asked()
    assert.equal(1, code)
    assert.matches("nothing says which major version", said, 1, true)
  end)
end)
