-- redis/health on a real server: every question, nothing written, and its judgement.

local keep = require "tests.support.keep"

describe("redis/health", function ()
  it("answers every question, changes nothing and shows no data", function ()
    local at <close> = keep.open { arguments = { "--save", "", "--slowlog-log-slower-than", "0" } }
    at.cli("set", "auth:refresh:1", "a-token-nobody-may-see")
    for _, verb in ipairs { "plan", "run" } do
      local r
      local sent = at.watch(function () r = at.neap { verb, "redis/health" } end)
      assert.equal(0, r.code, r.all)
      for _, words in ipairs { "redis_version", "used_memory", "auth:refresh", "rdb_last_bgsave_status", "connected_clients", "role", "evicted_keys", "per_second",
        "Without a config_file nothing that is set outlives a restart" } do
        assert.matches(words, r.all, 1, true)
      end
      assert.is_nil(r.all:find("a-token-nobody-may-see", 1, true))
      for _, line in ipairs(sent) do assert.is_nil(line:find('"KEYS"', 1, true)) end
      if verb == "plan" then assert.same({}, keep.writes(sent)) end
    end
  end)

  it("fails when a save failed, and when its memory is nearly used up", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    at.cli("config", "set", "maxmemory", "4mb")
    local r = at.neap { "run", "redis/health", "--fullest", "10" }
    assert.equal(1, r.code, r.all)
    assert.matches("at most 10 % of its memory limit are used", r.all, 1, true)
    at.cli("config", "set", "maxmemory", "0")
    os.execute(("mkdir '%s/dump.rdb'"):format(at.data))
    at.cli "bgsave"
    at.await("rdb_last_bgsave_status", "err")
    r = at.neap { "run", "redis/health" }
    assert.equal(1, r.code, r.all)
    assert.matches("the last snapshot failed", r.all, 1, true)
  end)

  it("owes and holds nothing: a second run goes ahead and undo finds nothing", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    assert.equal(0, at.neap({ "run", "redis/health" }).code)
    local r = at.neap { "undo", at.latest(), "--no-input" }
    assert.matches("nothing of this run can be undone", r.all, 1, true)
    assert.equal("", at.cli("keys", "neap:*"))
  end)
end)
