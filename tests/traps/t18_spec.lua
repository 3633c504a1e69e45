-- T18: maxmemory-policy allkeys-lru because "caches can be regenerated". The same database holds idempotency keys, refresh tokens and
-- revocation lists: allkeys-lru takes those as well, the oldest first, and a payment is made twice. What may be evicted is told by the families
-- of keys that are there, and by which of them expire.

local keep = require "tests.support.keep"

describe("trap T18, a policy that evicts what cannot be made again", function ()
  -- Five idempotency keys that do not expire, or do; then more cache than the limit lets in.
  local function shop(expiring)
    local at = keep.open { arguments = { "--save", "", "--enable-debug-command", "yes", "--maxmemory-samples", "10" } }
    for i = 1, 5 do at.cli("set", "payment:idem:" .. i, "paid", table.unpack(expiring and { "ex", "86400" } or {})) end
    for i = 1, 20 do at.cli("set", "catalog:product:" .. i, "x", "ex", "3600") end
    return at
  end

  local function fill(at)
    at.cli("eval", "for i = 1, 20000 do redis.pcall('set', 'catalog:page:' .. i, string.rep('x', 1000), 'ex', '3600') end return 1", "0")
    local left = 0
    for i = 1, 5 do left = left + math.tointeger(tonumber(at.cli("exists", "payment:idem:" .. i))) end
    return left
  end

  it("takes all five by the guide's way", function ()
    local at <close> = shop()
    T.pause(1100)                                              -- the clock of its LRU has seconds
    at.cli("config", "set", "maxmemory", "5mb")
    at.cli("config", "set", "maxmemory-policy", "allkeys-lru")
    local left, rounds = 5, 0
    while left > 0 and rounds < 10 do left, rounds = fill(at), rounds + 1 end
    assert.equal(0, left)
  end)

  it("is refused by redis/set-eviction, which names the family and what would do; that keeps all five", function ()
    local at <close> = shop()
    local r = at.neap { "run", "redis/set-eviction", "--policy", "allkeys-lru", "--limit", "5MiB", "--until-restart", "--no-input" }
    assert.equal(1, r.code, r.all)
    assert.matches("may be evicted: payment:idem (5 keys, must stay: *idem*)", r.all, 1, true)
    assert.matches("volatile-lru would do", r.all, 1, true)
    assert.equal("maxmemory-policy\nnoeviction", at.cli("config", "get", "maxmemory-policy"))
    r = at.neap { "run", "redis/set-eviction", "--policy", "volatile-lru", "--limit", "5MiB", "--until-restart", "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.equal(5, fill(at))
    assert.is_true(tonumber(at.info "evicted_keys") > 0)
  end)

  it("is refused for volatile-* too when they expire, because then no policy spares them", function ()
    local at <close> = shop(true)
    local r = at.neap { "plan", "redis/set-eviction", "--policy", "volatile-lru", "--limit", "5MiB", "--until-restart" }
    assert.equal(1, r.code, r.all)
    assert.matches("noeviction would do: keys that must stay expire too", r.all, 1, true)
  end)

  it("is refused for what nobody named but never expires, until somebody says that it can be made again", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    at.cli("set", "catalog:menu:1", "x")
    local words = { "plan", "redis/set-eviction", "--policy", "allkeys-lru", "--limit", "5MiB", "--until-restart" }
    local r = at.neap(words)
    assert.equal(1, r.code, r.all)
    assert.matches("catalog:menu (1 keys, some without an expiry)", r.all, 1, true)
    words[#words + 1] = "--again"
    words[#words + 1] = "catalog:*"
    assert.equal(2, at.neap(words).code)
  end)

  it("sees five keys among many that the sample does not reach", function ()
    local at <close> = shop()
    at.cli("debug", "populate", "20000", "catalog:page")
    local r = at.neap { "plan", "redis/set-eviction", "--policy", "allkeys-lru", "--limit", "50MiB", "--until-restart", "--sample", "100", "--again", "catalog:*" }
    assert.equal(1, r.code, r.all)
    assert.matches("may be evicted: payment:idem (5 keys", r.all, 1, true)
  end)
end)
