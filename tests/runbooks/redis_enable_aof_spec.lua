-- redis/enable-aof on a real server: plan, run, second run, undo, kill -9. Trap T15 has its own file.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local keep = require "tests.support.keep"
local kept = require "tests.support.kept"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

describe("redis/enable-aof", function ()
  local function server()
    local at = keep.open { file = { "save 3600 1", "appendonly no" } }
    for i = 1, 20 do at.cli("set", "auth:refresh:" .. i, "x") end
    at.cli "save"
    return at
  end

  local function setting(at, name) return at.cli("config", "get", name):match("\n(.*)") end

  local function survives(at, what)
    assert.equal("yes", setting(at, "appendonly"), what)
    assert.equal("0", at.info "aof_rewrite_in_progress", what)
    assert.matches("\nappendonly yes\n", suite.read(at.dir .. "/redis.conf"), 1, true, what)
    at.stop "kill"
    at.start()
    for i = 1, 20 do assert.equal("1", at.cli("exists", "auth:refresh:" .. i), what) end
  end

  it("announces what it writes, keeps to it, survives a restart, and does nothing the second time", function ()
    local at <close> = server()
    local r
    local sent = at.watch(function () r = at.neap { "plan", "redis/enable-aof" } end)
    assert.equal(2, r.code, r.all)
    assert.same({}, keep.writes(sent))
    assert.equal("no", setting(at, "appendonly"))
    transcript.compare("plan_redis_enable_aof", kept.plain(keep.plain(r.out, at), { [at.dir] = "DIR" }))
    local plan = text.parse(at.neap({ "plan", "redis/enable-aof", "--json" }).out)
    r = at.neap { "run", "redis/enable-aof", "--no-input" }
    assert.equal(0, r.code, r.all)
    local id = at.latest()
    assert.equal("", table.concat(kept.compare(plan, journal.read(at.state, id, 0), id), "\n"))
    assert.equal(0, at.neap({ "plan", "redis/enable-aof" }).code)
    sent = at.watch(function () r = at.neap { "run", "redis/enable-aof", "--no-input" } end)
    assert.equal(0, r.code, r.all)
    for _, line in ipairs(keep.writes(sent)) do assert.is_nil(line:lower():find('"config"', 1, true), line) end
    survives(at)
  end)

  it("is taken back by undo, in the file too, and the next start reads the snapshot", function ()
    local at <close> = server()
    assert.equal(0, at.neap({ "run", "redis/enable-aof", "--fsync", "always", "--no-input" }).code)
    assert.equal("always", setting(at, "appendfsync"))
    local r = at.neap { "undo", at.latest(), "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.equal("no", setting(at, "appendonly"))
    assert.equal("everysec", setting(at, "appendfsync"))
    assert.matches("\nappendonly no\n", suite.read(at.dir .. "/redis.conf"), 1, true)
    at.cli "save"
    at.stop "kill"
    at.start()
    assert.equal("20", at.cli "dbsize")
  end)

  it("fails and takes itself back when the first rewrite fails", function ()
    local at <close> = server()
    os.execute(("echo in the way >'%s/appendonlydir'"):format(at.data))         -- where its directory would be
    local r = at.neap { "run", "redis/enable-aof", "--no-input" }
    assert.equal(1, r.code, r.all)
    assert.equal("no", setting(at, "appendonly"))
    assert.equal("20", at.cli "dbsize")
  end)

  it("ends in the same state when it was killed and resumed #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    assert.is_true(keep.sweep(server, { "run", "redis/enable-aof", "--no-input" }, 5, survives) > 0)
  end)
end)
