-- T19: "persist by adding to redis.conf". A Redis that was started with arguments alone, as the official image is, has no configuration
-- file: CONFIG REWRITE fails, a redis.conf that nobody names is read by nobody, and what CONFIG SET did is gone at the next start, without a word.

local keep = require "tests.support.keep"

describe("trap T19, settings that a restart forgets", function ()
  local function set(at, verb, ...)
    return at.neap { verb, "redis/set-eviction", "--policy", "volatile-lru", "--limit", "64MiB", ... }
  end

  local function policy(at) return at.cli("config", "get", "maxmemory-policy"):match("\n(.*)") end

  it("cannot be written down, and are lost, by the guide's way", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    at.cli("config", "set", "maxmemory-policy", "volatile-lru")
    assert.matches("running without a config file", at.cli("config", "rewrite"), 1, true)
    at.stop "kill"
    at.start()
    assert.equal("noeviction", policy(at))
  end)

  it("are refused, with the words that the start command needs, until it is known that they do not last", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    local r = set(at, "run", "--no-input")
    assert.equal(1, r.code, r.all)
    assert.matches("add --maxmemory-policy volatile-lru --maxmemory 67108864 to its command", r.all, 1, true)
    assert.equal("noeviction", policy(at))
    r = set(at, "run", "--until-restart", "--no-input")
    assert.equal(0, r.code, r.all)
    assert.equal("volatile-lru", policy(at))
    assert.matches("not persistent", r.all, 1, true)
  end)

  it("are in the file where there is one, and still there after a restart", function ()
    local at <close> = keep.open { file = { 'save ""' } }
    local r = set(at, "run", "--no-input")
    assert.equal(0, r.code, r.all)
    assert.matches("in " .. at.dir .. "/redis.conf", r.all, 1, true)
    at.stop "kill"
    at.start()
    assert.equal("volatile-lru", policy(at))
    r = at.neap { "undo", at.latest(), "--no-input" }
    assert.equal("volatile-lru", policy(at))                   -- another server now, as far as neap can tell
    assert.is_true(r.code ~= 0)
  end)
end)
