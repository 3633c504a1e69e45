-- redis/flush-prefix on a real server: plan, run, second run, kill -9, and what it refuses.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local keep = require "tests.support.keep"
local kept = require "tests.support.kept"
local text = require "native.text"
local transcript = require "tests.support.transcript"

describe("redis/flush-prefix", function ()
  local function server()
    local at = keep.open { file = { 'save ""' }, arguments = { "--enable-debug-command", "yes" } }
    at.cli("debug", "populate", "3000", "catalog:product")
    at.cli("debug", "populate", "50", "catalog:productive")
    for i = 1, 5 do at.cli("set", "payment:idem:" .. i, "x") end
    return at
  end

  local function words(verb, ...) return { verb, "redis/flush-prefix", "--prefix", "catalog:product:", ... } end

  local function run(at, ...) return at.neap(words("run", "--confirm", "destroys=catalog:product:", "--no-input", ...)) end

  it("announces what it removes, asks for the name, removes that and nothing beside it, and does nothing the second time", function ()
    local at <close> = server()
    local r
    local sent = at.watch(function () r = at.neap(words "plan") end)
    assert.equal(2, r.code, r.all)
    assert.same({}, keep.writes(sent))
    assert.equal("3055", at.cli "dbsize")
    transcript.compare("plan_redis_flush_prefix", kept.plain(keep.plain(r.out, at), { [at.dir] = "DIR" }))
    local plan = text.parse(at.neap(words("plan", "--json")).out)
    assert.equal(77, at.neap(words("run", "--no-input")).code)
    assert.equal(77, at.neap(words("run", "--no-input", "--confirm", "destroys=catalog:")).code)
    assert.equal("3055", at.cli "dbsize")
    r = run(at)
    assert.equal(0, r.code, r.all)
    assert.equal("55", at.cli "dbsize")
    local id = at.latest()
    assert.equal("", table.concat(kept.compare(plan, journal.read(at.state, id, 0), id), "\n"))
    sent = at.watch(function () r = run(at) end)
    assert.equal(0, r.code, r.all)
    for _, line in ipairs(sent) do assert.is_nil(line:find('"UNLINK"', 1, true), line) end
  end)

  it("refuses more keys than it may remove, and keys that must stay, by name", function ()
    local at <close> = server()
    local r = run(at, "--max-keys", "2999")
    assert.equal(1, r.code, r.all)
    assert.matches("at most 2999 keys begin with catalog:product:", r.all, 1, true)
    r = at.neap { "run", "redis/flush-prefix", "--prefix", "payment:", "--no-input", "--confirm", "destroys=payment:" }
    assert.equal(1, r.code, r.all)
    assert.matches("payment:idem:1 (*idem*)", r.all, 1, true)
    assert.equal("3055", at.cli "dbsize")
  end)

  it("refuses a prefix that is a pattern, everything, or does not end where a word does", function ()
    local at <close> = server()
    for _, prefix in ipairs { "*", "catalog:*", "cat?log:", "[c]atalog:", "catalog", ":", "", "catalog:prod" } do
      assert.equal(64, at.neap({ "plan", "redis/flush-prefix", "--prefix", prefix }).code, prefix)
    end
  end)

  it("says so when others make new keys meanwhile, unless so many were expected", function ()
    local at <close> = server()
    at.cli("set", "catalog:product:late", "x")
    local r = run(at, "--arriving", "3001")
    assert.equal(0, r.code, r.all)
    assert.matches("already so", r.all, 1, true)
  end)

  it("goes on, without a human, with what is left when it was killed in the middle", function ()
    local at <close> = server()
    local running = at.start_neap(words("run", "--confirm", "destroys=catalog:product:", "--no-input", "--pause", "1s"))
    local until_ms = T.now_ms() + 60000
    while tonumber(at.cli "dbsize") >= 3055 and T.now_ms() < until_ms do T.pause(5) end
    running:kill(9)
    running:finish()
    assert.is_true(tonumber(at.cli "dbsize") > 57)
    at.cli("pexpire", "neap:lock:0", "1")
    local r = at.neap { "resume", at.latest(), "--no-input", "--confirm", "destroys=catalog:product:" }
    assert.equal(0, r.code, r.all)
    assert.equal("55", at.cli "dbsize")
  end)

  it("ends in the same state when it was killed and resumed #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local resumed = keep.sweep(server, words("run", "--confirm", "destroys=catalog:product:", "--no-input"), 5, function (at, what)
      local keys = 0                                       -- a run that was killed last of all leaves its lock to expire
      for key in at.cli("keys", "*"):gmatch("[^\n]+") do keys = keys + (key:find("^neap:") and 0 or 1) end
      assert.equal(55, keys, what)
    end, { "--confirm", "destroys=catalog:product:" })
    assert.is_true(resumed > 0)
  end)
end)
