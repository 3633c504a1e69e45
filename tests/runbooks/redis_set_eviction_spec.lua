-- redis/set-eviction on a real server: plan, run, second run, undo, kill -9. Traps T18 and T19 have their own files.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local keep = require "tests.support.keep"
local kept = require "tests.support.kept"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

describe("redis/set-eviction", function ()
  local function server()
    local at = keep.open { file = { 'save ""', "maxmemory 100mb", "maxmemory-policy volatile-ttl" } }
    for i = 1, 5 do at.cli("set", "payment:idem:" .. i, "x") end
    for i = 1, 20 do at.cli("set", "catalog:product:" .. i, "x", "ex", "3600") end
    return at
  end

  local function words(verb, ...) return { verb, "redis/set-eviction", "--policy", "volatile-lru", "--limit", "64MiB", ... } end

  local function state(at) return at.cli("config", "get", "maxmemory-policy"):match("\n(.*)") .. " " .. at.cli("config", "get", "maxmemory"):match("\n(.*)") end

  local function is_set(at, what)
    assert.equal("volatile-lru 67108864", state(at), what)
    assert.matches("\nmaxmemory-policy volatile-lru\n", suite.read(at.dir .. "/redis.conf"), 1, true, what)
  end

  it("announces what it writes, keeps to it, and does nothing the second time", function ()
    local at <close> = server()
    local r
    local sent = at.watch(function () r = at.neap(words "plan") end)
    assert.equal(2, r.code, r.all)
    assert.same({}, keep.writes(sent))
    assert.equal("volatile-ttl 104857600", state(at))
    transcript.compare("plan_redis_set_eviction", kept.plain(keep.plain(r.out, at), { [at.dir] = "DIR" }))
    local plan = text.parse(at.neap(words("plan", "--json")).out)
    r = at.neap(words("run", "--no-input"))
    assert.equal(0, r.code, r.all)
    is_set(at)
    local id = at.latest()
    assert.equal("", table.concat(kept.compare(plan, journal.read(at.state, id, 0), id), "\n"))
    assert.equal(0, at.neap(words "plan").code)
    sent = at.watch(function () r = at.neap(words("run", "--no-input")) end)
    assert.equal(0, r.code, r.all)
    for _, line in ipairs(keep.writes(sent)) do assert.is_nil(line:lower():find('"config"', 1, true), line) end
  end)

  it("is taken back by undo, to what was found, in the file too", function ()
    local at <close> = server()
    assert.equal(0, at.neap(words("run", "--no-input")).code)
    local r = at.neap { "undo", at.latest(), "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.equal("volatile-ttl 104857600", state(at))
    assert.matches("\nmaxmemory-policy volatile-ttl\n", suite.read(at.dir .. "/redis.conf"), 1, true)
  end)

  it("refuses a limit that would bite at once, and a policy that is none", function ()
    local at <close> = keep.open { file = { 'save ""' }, arguments = { "--enable-debug-command", "yes" } }
    at.cli("debug", "populate", "10000", "catalog:page", "200")
    local r = at.neap { "plan", "redis/set-eviction", "--policy", "noeviction", "--limit", "2MiB" }
    assert.equal(1, r.code, r.all)
    assert.matches("the limit would bite at once", r.all, 1, true)
    assert.equal(64, at.neap({ "plan", "redis/set-eviction", "--policy", "allkeys", "--limit", "2MiB" }).code)
  end)

  it("ends in the same state when it was killed and resumed #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    assert.is_true(keep.sweep(server, words("run", "--no-input"), 6, is_set) > 0)
  end)
end)
