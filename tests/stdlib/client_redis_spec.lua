--- client.redis on a real server: the object that runbooks and the engine hold.

local client = require("client.redis")
local guard = require("native.guard")
local net = require("native.net")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local task = require("native.task")

describe("client.redis", function()
  local server, closed

  setup(function()
    server = servers.redis { name = "plain", open = true }
    closed = servers.redis()
  end)

  before_each(function() server.cli("flushall") end)

  -- An object whose methods are called as a runbook calls them.
  local function bind(spec, context)
    local object = client.bind("cache", spec, setmetatable(context or {}, { __index = { application = "neap:spec:1f", environment = "test" } }))
    return setmetatable({ object = object }, {
      __index = function(_, name) return function(_, ...) return object.methods[name](object, ...) end end,
      __close = function() client.close(object) end,
    })
  end

  local function plain(more)
    local spec = { url = server.url(nil, 0) }
    for key, value in pairs(more or {}) do spec[key] = value end
    return spec
  end

  local function preview(fn)
    guard.mode("plan")
    local ok, err = pcall(fn)
    local predictions = guard.predictions()
    guard.clear()
    guard.mode("run")
    if not ok then error(err, 0) end
    return predictions
  end

  it("refuses an entry that says too little or nonsense", function()
    for _, spec in ipairs { {}, { url = "http://x" }, { url = "redis://x", on = "hermes" } } do
      local ok, err = pcall(client.bind, "cache", spec, { application = "neap" })
      assert.is_false(ok)
      assert.equal("config", err.code)
    end
  end)

  it("reads, writes and says who answers", function()
    T.run(function()
      local cache <close> = bind(plain())
      assert.is_true(cache:set("a", 1):value())
      assert.is_false(cache:set("a", 2, { only = "new" }):value())
      assert.is_true(cache:set("a", 3, { only = "present", expires = "1h" }):value())
      assert.equal("3", cache:get("a"))
      assert.is_true(cache:read("PTTL", "a") > 3500000)
      assert.is_nil(cache:get("b"))
      assert.is_true(cache:has("a"))
      assert.equal(2, cache:write("HSET", "h", "x", 1, "y", 2):value())
      assert.equal(2, cache:size())
      assert.same({ "3", 2 }, cache:pipeline { { "GET", "a" }, { "HLEN", "h" } })
      assert.same({ "OK", 8 }, cache:transaction { { "SET", "n", 7 }, { "INCR", "n" } })
      assert.equal(1, cache:remove("DEL", "n"):value())
      assert.equal(0, cache:info("replication").connected_slaves)
      local card = cache:card()
      assert.equal("redis", card.kind)
      assert.is_true(card.trusted)
      assert.equal("declared", card.label)
      assert.equal(card.id, cache:subject())
      local _, err = pcall(cache.read, cache, "SET", "a", 1)
      assert.equal("refused", err.code)
    end)
  end)

  it("scans, counts and removes by pattern", function()
    T.run(function()
      server.cli("debug", "populate", 3000, "old")
      server.cli("debug", "populate", 50, "new")
      local moved = {}
      local cache <close> = bind(plain(), { progress = function(sample)
        return setmetatable({}, { __close = function() moved = { sample() } end })
      end })
      local count = 0
      for _ in cache:scan { match = "new:*" } do count = count + 1 end
      assert.equal(50, count)
      assert.equal(3000, cache:count { match = "old:*" })
      local done = cache:remove_matching { match = "old:*", max_keys = 5000, pause = "1ms" }
      assert.same({ removed = 3000, seen = 3000, arrived = 0 }, done)
      assert.equal("keys", moved[3])
      assert.equal(50, cache:size())
    end)
  end)

  it("shows in a preview what it would do, with the number of keys and the permission, and does nothing", function()
    T.run(function()
      server.cli("debug", "populate", 300, "old")
      local cache <close> = bind(plain())
      local predictions = preview(function()
        local done = cache:remove_matching { match = "old:*" }
        assert.equal("userdata", type(done))
        guard.clear()
        assert.equal("userdata", type(cache:set("a", 1)))
      end)
      assert.equal("300 keys match now", predictions[1].plan)
      assert.equal("UNLINK every key that matches old:*", predictions[1].text)
      assert.truthy(predictions[2].plan:find("permission ok", 1, true))
      assert.equal("300", server.cli "dbsize")
    end)
  end)

  it("withholds in a preview what a change it only showed would have changed", function()
    T.run(function()
      local cache <close> = bind(plain())
      preview(function()
        cache:set("a", 1)
        local ok, err = pcall(cache.get, cache, "a")
        assert.is_false(ok)
        assert.equal("withheld", err.code)
      end)
    end)
  end)

  it("withholds the other databases too when a change reaches beyond its own", function()
    T.run(function()
      local cache <close> = bind(plain())
      local other <close> = bind(plain { database = 5 })
      preview(function()
        cache:remove "FLUSHDB"
        assert.equal(0, other:size())
        cache:remove "FLUSHALL"
        local ok, err = pcall(other.size, other)
        assert.is_false(ok)
        assert.equal("withheld", err.code)
      end)
    end)
  end)

  it("reads in a preview as the user who may do nothing else", function()
    T.run(function()
      local password = assert(secret.of(closed.passwords.default, "password of default"))
      local ro = assert(secret.of(closed.passwords.ro, "password of ro"))
      local cache <close> = bind { url = closed.url(nil, 0), password = password, preview = { user = "ro", password = ro } }
      preview(function()
        assert.is_nil(cache:get("a"))
        assert.truthy(closed.cli("client", "list"):find("user=ro", 1, true))
        assert.equal("enforced", cache:card().label)
      end)
    end)
  end)

  it("goes through what it stands on", function()
    T.run(function()
      local asked = {}
      local hermes = { kind = "host", ways = {
        dial = function(_, host, port)
          asked[#asked + 1] = host .. ":" .. port
          return net.tcp("127.0.0.1", server.port)
        end,
        dial_unix = function(_, path)
          asked[#asked + 1] = path
          return net.unix(server.socket)
        end,
      } }
      local context = { target = function(role, kinds)
        assert.equal("hermes", role)
        assert.same({ "host", "container" }, kinds)
        return hermes
      end }
      local cache <close> = bind({ url = "redis://cache.internal:6379/2", on = "hermes" }, context)
      assert.equal(0, cache:size())
      local other <close> = bind({ url = "unix:///run/redis.sock", on = "hermes" }, context)
      assert.equal(0, other:size())
      assert.same({ "cache.internal:6379", "/run/redis.sock" }, asked)
      assert.truthy(cache:card().lines[1][2]:find("through hermes", 1, true))
    end)
  end)

  it("goes over TLS, and over clear text only where that is known", function()
    T.run(function()
      local cache <close> = bind { url = ("rediss://localhost:%d/0"):format(server.tls_port), ca = server.ca }
      assert.equal(0, cache:size())
      assert.is_true(cache:card().trusted)
      local wrong <close> = bind { url = ("rediss://localhost:%d/0"):format(server.tls_port), ca = server.other_ca }
      local ok, err = pcall(wrong.size, wrong)
      assert.is_false(ok)
      assert.equal("auth", err.code)
    end)
  end)

  it("acts side by side, and survives a command that is given up", function()
    T.run(function()
      do
        local cache <close> = bind(plain())
        local first = task.spawn(function() return cache:remove("DEBUG", "SLEEP", "0.1") end)
        local second = task.spawn(function() return cache:set("b", 2) end)
        assert.is_true((first:join()))
        assert.is_true((second:join()))
      end
      local hasty <close> = bind(plain { read_within = "300ms" })
      local function patient(word, ...)                          -- however long this machine takes for it
        local ends, ok, value = task.now_ms() + 60000
        repeat ok, value = pcall(hasty[word], hasty, ...) until ok or task.now_ms() > ends
        return value
      end
      assert.equal("2", patient("get", "b"))
      patient("set", "c", 2)                                     -- its connection is there before the server stops to write
      server.cli("client", "pause", "600000", "write")
      local ok, err = pcall(hasty.set, hasty, "c", 3)
      server.cli("client", "unpause")
      assert.is_false(ok)
      assert.equal("unknown", err.code)
      assert.equal("2", patient("get", "b"))
    end)
  end)

  it("refuses a server that is another one than before", function()
    local own = servers.redis { name = "restarted", open = true }
    T.run(function()
      local cache <close> = bind { url = own.url(nil, 0) }
      assert.equal(0, cache:size())
      own.stop("kill")
      own.start()
      local ok, err
      repeat ok, err = pcall(cache.size, cache) until ok or err.code ~= "closed"
      assert.is_false(ok)
      assert.equal("refused", err.code)
    end)
    own.remove()
  end)

  describe("guardians", function()
    local guardians = client.bind("cache", { url = "redis://x" }, {}).guardians

    it("keep the database for one run", function()
      T.run(function()
        local mine <close> = bind(plain())
        local theirs <close> = bind(plain(), { application = "neap:other:2e" })
        assert.is_true(guardians.lock(mine.object))
        assert.is_true(guardians.prove(mine.object))
        local ok, err = guardians.lock(theirs.object)
        assert.is_nil(ok)
        assert.truthy(err.message:match("neap:[^:]*:(%x+)") == "1f")
        assert.is_false(guardians.prove(theirs.object))
        client.close(mine.object)
        assert.is_true(guardians.lock(theirs.object))
      end)
    end)

    it("leave a hold that outlives the run, and put it back when it was flushed", function()
      T.run(function()
        local cache <close> = bind(plain())
        assert.is_nil(guardians.held(cache.object))
        assert.is_true(guardians.lock(cache.object))
        guardians.hold(cache.object, "run 1f of spec by anna on iris")
        cache:remove "FLUSHDB"
        assert.is_true(guardians.prove(cache.object))
        local other <close> = bind(plain())
        assert.equal("run 1f of spec by anna on iris", guardians.held(other.object))
        guardians.release(cache.object)
        assert.is_nil(guardians.held(other.object))
      end)
    end)

    it("are not swept away with everything", function()
      T.run(function()
        local cache <close> = bind(plain { prefix = "ops:" })
        assert.is_true(guardians.lock(cache.object))
        guardians.hold(cache.object, "run 1f")
        cache:set("a", 1)
        assert.same({ removed = 1, seen = 1, arrived = 0 }, cache:remove_matching { match = "*" })
        assert.equal("1", server.cli("exists", "ops:lock:0"))
        assert.equal("1", server.cli("exists", "ops:hold:0"))
        guardians.release(cache.object)
      end)
    end)

    it("leave alone what is only read, and say what a user must be allowed to lock", function()
      local replica = servers.redis { name = "replica", open = true, settings = { "replicaof 127.0.0.1 " .. server.port } }
      T.run(function()
        local copy <close> = bind { url = replica.url(nil, 0) }
        assert.is_true(guardians.lock(copy.object))
        assert.is_true(guardians.prove(copy.object))
        guardians.hold(copy.object, "run 1f")
        guardians.release(copy.object)
        local password = assert(secret.of(closed.passwords.app, "password of app"))
        local url = closed.url(nil, 0)
        local app <close> = bind { url = url, user = "app", password = password }
        local ok, err = pcall(guardians.lock, app.object)
        assert.is_false(ok)
        assert.equal("refused", err.code)
        assert.truthy(err.hint:find("neap:*", 1, true))
        local own <close> = bind { url = url, user = "app", password = password, prefix = "app:neap:" }
        assert.is_true(guardians.lock(own.object))
        local free <close> = bind { url = url, user = "app", password = password, lock = false }
        assert.is_true(guardians.lock(free.object))
        ok, err = pcall(free.set, free, "app:1", "x")
        assert.is_false(ok)
        assert.equal("refused", err.code)
      end)
      replica.remove()
    end)

    it("judge a removal that was interrupted by what still matches, and nothing else", function()
      T.run(function()
        local cache <close> = bind(plain())
        local evidence = { primitive = "redis.remove", match = "old:*" }
        assert.equal("done", guardians.probe(cache.object, evidence))
        cache:set("old:1", 1)
        assert.equal("half", guardians.probe(cache.object, evidence))
        assert.is_nil(guardians.probe(cache.object, { primitive = "redis.write", text = "SET a 1" }))
      end)
    end)
  end)
end)
