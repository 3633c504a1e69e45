-- T30: docker ps | grep postgres. It matches exporters, sidecars that make backups, and other projects; whoever takes the first line execs into one of them. What
-- answers: a container is found by its labels, its whole name or its id, and exactly one must fit; none and several are errors that say what there is.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local BOOK <const> = [[runbook "Who is it" { why = "x" } local dbc = target.container "dbc"
  step "It runs" { verify = function () check(dbc:running(), "it runs") note("it is %s", dbc:read({ "cat", "/who" }):out()) end }]]

describe("T30, a container found by a piece of its name", function ()
  local engine, why
  setup(function () engine, why = servers.docker() end)

  local function box(name, project, service)
    return engine.busybox { name = name, project = project, service = service, cmd = { "sh", "-c", "echo " .. name .. " >/who; sleep 3600" } }
  end

  local function asked(fields)
    local dir = suite.temp()
    suite.write(dir .. "/who.lua", BOOK)
    suite.write(dir .. "/inventory.lua", ('environment "demo" { dbc = container { docker = "%s", %s } }'):format(engine.url, fields))
    local r = servers.neap.run({ "run", dir .. "/who.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "400" }, { cwd = dir })
    return r.code, r.out .. r.err
  end

  it("is four things by the guide's way, the first of them another; ours finds the one, or says what there is", function ()
    if not engine then return pending(why) end
    local db = box("shop30-postgres-1", "shop30", "postgres")
    box("other30-postgres-1", "other30", "postgres")
    box("shop30-postgres-exporter-1", "shop30", "postgres-exporter")
    box("shop30-postgres-backup-1", "shop30", "backup")
    local pipe = suite.write(suite.temp() .. "/pipe", ("docker -H %s ps | grep postgres | awk '{print $1}'\n"):format(engine.url))
    local r = require("tests.support.child").must { argv = { "sh", pipe } }
    local list = {}
    for id in r:gmatch("%x+") do list[#list + 1] = id end
    assert.is_true(#list >= 4, r)
    assert.are_not.equal(db.id:sub(1, 12), list[1])

    local code, said = asked 'project = "shop30", service = "postgres"'
    assert.equal(0, code, said)
    assert.matches("it is shop30-postgres-1", said, 1, true)
    code, said = asked 'service = "postgres"'
    assert.equal(78, code, said)
    assert.matches("2 containers", said, 1, true)
    code, said = asked 'name = "postgres"'
    assert.equal(78, code, said)
    assert.matches("shop30-postgres-1", said, 1, true)

    -- Stopped, it is still the one that is meant; its neighbours are not taken for it.
    engine.cli("stop", db.id)
    code, said = asked 'project = "shop30", service = "postgres"'
    assert.equal(1, code, said)
    assert.matches("it runs", said, 1, true)
  end)
end)
