--- native.redis on real servers: opening, answers, writes with their intents, what becomes of them when the answer is lost, sweeps, locks.

local net = require("native.net")
local null = require("native.value").null
local records = require "tests.support.recorded"
local redis = require("native.redis")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local task = require("native.task")

-- Wait until the first write is on its way: its intent is there after a question to the server, and is durable a turn later.
local function sent()
  while #records("intent") == 0 do task.sleep(1) end
  task.sleep(20)
end

describe("native.redis", function()
  local server, closed

  setup(function()
    server = servers.redis { name = "plain", open = true }
    closed = servers.redis()
  end)

  before_each(function() server.cli("flushall") end)

  local function options(more)
    local all = { role = "cache", application = "neap:spec:1f" }
    for key, item in pairs(more or {}) do all[key] = item end
    return all
  end

  local function open(more, port) return assert(redis.open(net.tcp("127.0.0.1", port or server.port), options(more))) end

  local function login(user, more)
    local all = options { user = user, password = assert(secret.of(closed.passwords[user], "password of " .. user)) }
    for key, item in pairs(more or {}) do all[key] = item end
    return all
  end

  local function fill(count, prefix) server.cli("debug", "populate", count, prefix) end

  describe("opening", function()
    it("says who answers", function()
      T.run(function()
        server.cli("set", "a", "1")
        local conn <close> = open()
        local card = conn:card()
        assert.truthy(card.id:match("^redis:%x+/0$"))
        assert.equal("master", card.state)
        assert.equal(1, card.keys)
        assert.truthy(server.cli("client", "list"):find("name=neap:spec:1f", 1, true))
        local other <close> = open { db = 3 }
        assert.equal(card.run_id, other:card().run_id)
        assert.truthy(other:card().id:match("/3$"))
      end)
    end)

    it("logs in with user and password, or with the password alone", function()
      T.run(function()
        local way = net.tcp("127.0.0.1", closed.port)
        local conn <close> = assert(redis.open(way, login "app"))
        assert.equal("app", conn:card().user)
        local alone <close> = assert(redis.open(way, options { password = assert(secret.of(closed.passwords.default, "default's")) }))
        assert.equal("default", alone:card().user)
      end)
    end)

    it("is turned away with the reason", function()
      T.run(function()
        local way = net.tcp("127.0.0.1", closed.port)
        for _, more in ipairs { {}, { user = "app", password = "wrong-word" }, { password = "wrong-word" }, { user = "nobody", password = "wrong-word" } } do
          local conn, err = redis.open(way, options(more))
          assert.is_nil(conn)
          assert.equal("auth", err.code)
          assert.is_nil(tostring(err):find("wrong-word", 1, true))
        end
        local conn, err = redis.open(net.tcp("127.0.0.1", server.port), options { db = 99 })
        assert.is_nil(conn)
        assert.truthy(err.hint:find("no database 99", 1, true))
        conn, err = redis.open(net.tcp("127.0.0.1", T.free_port()), options())
        assert.is_nil(conn)
        assert.equal("unreachable", err.code)
      end)
    end)

    it("lets a restricted user in, and knows less", function()
      T.run(function()
        closed.cli("acl", "setuser", "tight", "on", ">tight-pass-1", "~*", "-@all", "+get")
        local conn <close> = assert(redis.open(net.tcp("127.0.0.1", closed.port), options { user = "tight", password = "tight-pass-1" }))
        assert.is_nil(conn:card().run_id)
        assert.equal(("redis:127.0.0.1:%d/0"):format(closed.port), conn:card().id)
        local _, err = conn:read("GET", "a")
        assert.equal("refused", err.code)
        assert.truthy(err.hint:find("+command", 1, true))
        closed.cli("acl", "deluser", "tight")
      end)
    end)

    it("goes over a unix socket and over TLS", function()
      T.run(function()
        local conn <close> = assert(redis.open(net.unix(server.socket), options()))
        assert.equal("PONG", conn:read "PING")
        local safe <close> = assert(redis.open(assert(net.tls(net.tcp("localhost", server.tls_port), { ca = server.ca })), options()))
        assert.equal("PONG", safe:read "PING")
        local none, err = redis.open(assert(net.tls(net.tcp("localhost", server.tls_port), { ca = server.other_ca })), options())
        assert.is_nil(none)
        assert.equal("auth", err.code)
      end)
    end)

    it("ends at its deadline when nobody answers", function()
      T.run(function()
        local peer <close> = T.peer { kind = "silent" }
        local began = task.now_ms()
        local conn, err = redis.open(net.tcp("127.0.0.1", peer:port()), options { connect_ms = 200 })
        assert.is_nil(conn)
        assert.truthy(err.code == "timeout" or err.code == "unreachable", err.code)
        assert.is_true(task.now_ms() - began < 9000)           -- unless it is told, it waits for ten seconds
      end)
    end)
  end)

  describe("answers", function()
    it("are strings, integers, lists and nil", function()
      T.run(function()
        server.cli("rpush", "l", "a", "b")
        local conn <close> = open()
        assert.is_nil(conn:read("GET", "nothing"))
        assert.equal(2, conn:read("LLEN", "l"))
        assert.same({ "a", "b" }, conn:read("LRANGE", "l", 0, -1))
        assert.same({ null, null }, conn:read("MGET", "x", "y"))
        local list = conn:pipeline { { "LLEN", "l" }, { "GET", "l" }, { "GET", "nothing" } }
        assert.equal(2, list[1])
        assert.equal("remote", list[2].code)
        assert.equal(null, list[3])
        local _, err = conn:read("GET", "l")
        assert.equal("remote", err.code)
        assert.equal("7", conn:info("server").redis_version:sub(1, 1))
      end)
    end)

    it("are refused to a task that asks on when another one has closed the connection", function()
      T.run(function()
        local conn = open()
        local closing = task.spawn(function()
          conn:read("GET", "x")
          conn:close()
        end)
        local asking = task.spawn(function() return conn:pipeline { { "LCS", "a", "b" }, { "ZMSCORE", "a", "b" }, { "EXPIRETIME", "a" } } end)
        assert.is_true(closing:join())
        local ok, list, err = asking:join()
        assert.same({ true, nil }, { ok, list })
        assert.truthy(err.code == "closed" or err.code == "cancelled", err.code)
      end)
    end)

    it("to a scan that is closed meanwhile are its end", function()
      T.run(function()
        fill(100, "k")
        local conn <close> = open()
        local asking
        do
          local keys <close> = conn:scan { match = "nothing*", count = 10 }
          server.cli("client", "pause", "200", "ALL")
          asking = task.spawn(function() return keys() end)
          task.sleep(20)
        end
        local ok, key, err = asking:join()
        assert.same({ true, nil, "closed" }, { ok, key, err.code })
      end)
    end)

    it("carry any bytes both ways", function()
      T.run(function()
        local conn <close> = open()
        local all = {}
        for i = 0, 255 do all[#all + 1] = string.char(i) end
        local bytes = table.concat(all):rep(5)
        assert(conn:write("SET", "b\0\255\r\n", bytes))
        assert.equal(bytes, conn:read("GET", "b\0\255\r\n"))
        assert.equal("SET \"b\\x00\\xff\\r\\n\"", (records("intent")[1].text:match('^SET "[^"]*"'):gsub("\\x0d\\x0a", "\\r\\n")))
      end)
    end)

    it("may be large, and are refused when they are larger than allowed", function()
      T.run(function()
        local conn <close> = open()
        local big = ("x"):rep(8 * 1024 * 1024)
        assert(conn:write("SET", "big", big))
        assert.equal(big, conn:read("GET", "big"))
        server.cli("setrange", "huge", 70 * 1024 * 1024, "x")
        local answer, err = conn:read("GET", "huge")
        assert.is_nil(answer)
        assert.equal("protocol", err.code)
        assert.is_false(conn:is_open())
      end)
    end)

    it("of a hostile server cost nothing", function()
      local hostile = {
        ("*1\r\n"):rep(9) .. ":1\r\n", ("*1\r\n"):rep(100000), "*2147483647\r\n", "*1000000000\r\n:1\r\n", "$9999999999999\r\n", "$2147483647\r\nx",
        "+" .. ("a"):rep(200000), "$" .. ("1"):rep(100), ":12x\r\n", "%1\r\n+a\r\n+b\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "*-5\r\n",
        "$-7\r\n", "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", "_\r\n", "",
      }
      for i, text in ipairs(hostile) do
        T.run(function()
          local peer <close> = T.peer { kind = "say", text = text }
          local conn, err = redis.open(net.tcp("127.0.0.1", peer:port()), options { connect_ms = 2000 })
          if conn then
            conn:close()
            assert.equal(15, i)
          else
            assert.truthy(({ protocol = true, closed = true, timeout = true })[err.code], i .. ": " .. tostring(err))
          end
        end)
      end
    end)
  end)

  describe("writes", function()
    it("are recorded before they are sent, with what identifies the database", function()
      T.run(function()
        local conn <close> = open()
        assert.equal("OK", conn:write("SET", "a", 1))
        local intent, outcome = records("intent")[1], records("outcome")[1]
        assert.equal("SET a 1", intent.text)
        assert.equal("redis.write", intent.primitive)
        assert.equal(conn:card().run_id, intent.run_id)
        assert.equal("master", intent.role)
        assert.equal(0, intent.db)
        assert.equal("ok", outcome.status)
      end)
    end)

    it("show no secret", function()
      T.run(function()
        local conn <close> = open()
        local word = assert(secret.of("hunter2-hunter2", "token"))
        assert(conn:write("SET", "token", word))
        assert.equal("SET token ‹secret token›", records("intent")[1].text)
        assert.equal("hunter2-hunter2", server.cli("get", "token"))
      end)
    end)

    it("that the server refuses are failed, with a hint", function()
      T.run(function()
        local conn <close> = assert(redis.open(net.tcp("127.0.0.1", closed.port), login "app"))
        local answer, err = conn:write("SET", "other:1", "x")
        assert.is_nil(answer)
        assert.equal("refused", err.code)
        assert.truthy(err.message:find("NOPERM", 1, true))
        assert.equal("failed", records("outcome")[1].status)
        assert.is_true(conn:is_open())
      end)
    end)

    it("in a transaction are all done, or none", function()
      T.run(function()
        local conn <close> = open()
        local list = conn:transaction { { "SET", "a", 1 }, { "INCR", "a" }, { "LPUSH", "a", "x" } }
        assert.equal("OK", list[1])
        assert.equal(2, list[2])
        assert.equal("remote", list[3].code)
        local none, err = conn:transaction { { "SET", "b", 1 }, { "INCR" } }
        assert.is_nil(none)
        assert.truthy(err.message:find("EXECABORT", 1, true))
        assert.equal("0", server.cli("exists", "b"))
        assert.equal("failed", records("outcome")[2].status)
      end)
    end)

    it("to a replica are refused before the intent", function()
      local replica = servers.redis { name = "replica", open = true, settings = { "replicaof 127.0.0.1 " .. server.port, "replica-read-only no" } }
      T.run(function()
        local conn <close> = open(nil, replica.port)
        assert.equal("slave", conn:card().state)
        local answer, err = conn:write("SET", "a", 1)
        assert.is_nil(answer)
        assert.equal("refused", err.code)
        assert.equal(0, #records("intent"))
      end)
      replica.remove()
    end)

    it("whose answer is lost are unknown, and never sent again", function()
      for _, lose in ipairs { "answer", "request", "silence" } do
        server.cli("flushall")
        T.run(function()
          local proxy <close> = T.proxy { port = server.port, when = "INCRBY", lose = lose }
          local conn <close> = open({ within_ms = 1500 }, proxy:port())
          local answer, err = conn:write("INCRBY", "n", 5)
          assert.is_nil(answer)
          assert.equal("unknown", err.code)
          assert.equal("unknown", records("outcome")[1].status)
          assert.is_false(conn:is_open())
          assert.equal(lose == "request" and "" or "5", server.cli("get", "n"))
        end)
      end
    end)

    it("are unknown when the server dies under them", function()
      local own = servers.redis { name = "mortal", open = true }
      T.run(function()
        local conn <close> = open(nil, own.port)
        local killer = task.spawn(function()
          sent()
          own.stop("kill")
        end)
        local answer, err = conn:remove("DEBUG", "SLEEP", "5")
        killer:join()
        assert.is_nil(answer)
        assert.equal("unknown", err.code)
      end)
      own.remove()
    end)

    it("are waited for when they are stopped, and then known", function()
      T.run(function()
        local conn <close> = open()
        local writer = task.spawn(function() return conn:remove("DEBUG", "SLEEP", "0.6") end)
        sent()
        writer:cancel("enough")
        local ok, err = writer:join()
        assert.is_false(ok)
        assert.equal("cancelled", err.code)
        assert.equal("ok", records("outcome")[1].status)
      end)
    end)
  end)

  describe("deadlines", function()
    it("end the connection, so that no late answer is taken for another's", function()
      T.run(function()
        local proxy <close> = T.proxy { port = server.port }
        local conn <close> = open({ within_ms = 150 }, proxy:port())
        proxy:set { blackhole = "from" }
        local answer, err = conn:read("GET", "a")
        assert.is_nil(answer)
        assert.equal("timeout", err.code)
        assert.is_false(conn:is_open())
        local _, after = conn:read("GET", "a")
        assert.equal("closed", after.code)
      end)
    end)

    it("of the task end a read at once", function()
      T.run(function()
        local proxy <close> = T.proxy { port = server.port }
        local conn <close> = open({ within_ms = 120000 }, proxy:port())
        proxy:set { blackhole = "from" }
        local mark, began = task.deadline(150), task.now_ms()
        local ok, err = pcall(conn.read, conn, "GET", "a")
        task.restore(mark)
        assert.is_false(ok)
        assert.equal("timeout", err.code)
        assert.is_true(task.now_ms() - began < 60000)
      end)
    end)

    it("do not let a far end that is gone be waited for #long", function()
      T.run(function()
        local proxy <close> = T.proxy { port = server.port }
        local conn <close> = open({ within_ms = 120000 }, proxy:port())
        proxy:set { blackhole = "both", refuse = true }
        local began = task.now_ms()
        local answer, err = conn:read("GET", "a")
        assert.is_nil(answer)
        assert.equal("closed", err.code)
        assert.is_true(task.now_ms() - began < 110000)
      end)
    end)
  end)

  describe("scan", function()
    it("gives every key, page by page", function()
      T.run(function()
        fill(5000, "a")
        fill(10, "b")
        local conn <close> = open()
        local seen, count = {}, 0
        for key in conn:scan { match = "a:*", count = 100 } do
          if not seen[key] then count = count + 1 end
          seen[key] = true
        end
        assert.equal(5000, count)
        assert.is_nil((conn:scan { match = "nothing*" }()))
        assert.equal(10, conn:count_matching { match = "b:*" })
      end)
    end)

    it("gives keys of one type", function()
      T.run(function()
        server.cli("rpush", "l", "a")
        server.cli("set", "s", "a")
        local conn <close> = open()
        local keys = {}
        for key in conn:scan { type = "list" } do keys[#keys + 1] = key end
        assert.same({ "l" }, keys)
      end)
    end)

    it("may be left in the middle", function()
      T.run(function()
        fill(1000, "a")
        local conn <close> = open()
        local scan <close> = conn:scan { count = 10 }
        assert.truthy(scan())
        assert.equal("PONG", conn:read "PING")
      end)
    end)
  end)

  describe("remove_matching", function()
    it("removes 20,000 of 40,000 keys and leaves the others", function()
      T.run(function()
        fill(20000, "old")
        fill(20000, "new")
        local conn <close> = open()
        local done = assert(conn:remove_matching { match = "old:*", max_keys = 20000 })
        assert.equal(20000, done.removed)
        assert.equal(0, done.arrived)
        assert.equal("20000", server.cli("dbsize"))
        assert.equal(20000, conn:count_matching { match = "new:*" })
        assert.equal("old:*", records("intent")[1].match)
        assert.equal(20000, records("outcome")[1].removed)
      end)
    end)

    it("refuses more keys than were bound for, before anything is removed", function()
      T.run(function()
        fill(500, "old")
        local conn <close> = open()
        local done, err = conn:remove_matching { match = "old:*", max_keys = 499 }
        assert.is_nil(done)
        assert.equal("refused", err.code)
        assert.equal("500", server.cli("dbsize"))
        assert.equal(0, #records("intent"))
      end)
    end)

    it("leaves neap's own keys, and says what came meanwhile", function()
      T.run(function()
        fill(3000, "old")
        server.cli("set", "neap:lock:0", "mine")
        local conn <close> = open()
        local other <close> = open()
        local adder = task.spawn(function()
          local came = 0
          while conn:is_idle() do task.sleep(1) end
          while not conn:is_idle() do
            came = came + 1
            assert(other:write("SET", "old:late:" .. came, "x"))
          end
          return came
        end)
        local done = assert(conn:remove_matching { match = "*", count = 100, pause_ms = 5, spare = { "neap:lock:0" } })
        local _, came = adder:join()
        assert.is_true(done.removed >= 3000)
        assert.is_true(came > 0)
        assert.is_true(done.arrived + done.removed <= 3000 + came)
        assert.equal(3000 + came - done.removed + 1, tonumber(server.cli "dbsize"))
        assert.equal("mine", server.cli("get", "neap:lock:0"))
      end)
    end)

    it("that is broken off says so: unknown, and how far it came", function()
      T.run(function()
        fill(5000, "old")
        local proxy <close> = T.proxy { port = server.port, close_at = 60000 }
        local conn <close> = open(nil, proxy:port())
        local done, err = conn:remove_matching { match = "old:*", count = 100 }
        assert.is_nil(done)
        assert.equal("unknown", err.code)
        local outcome = records("outcome")[1]
        assert.equal("unknown", outcome.status)
        assert.is_true(outcome.removed > 0 and outcome.removed < 5000)
      end)
    end)

    it("that is stopped begins no further page", function()
      T.run(function()
        fill(5000, "old")
        local conn <close> = open()
        local remover = task.spawn(function() return conn:remove_matching { match = "old:*", count = 50, pause_ms = 20 } end)
        while (conn:removed()) == 0 do task.sleep(5) end
        remover:cancel("enough")
        local ok, err = remover:join()
        assert.is_false(ok)
        assert.equal("cancelled", err.code)
        assert.is_true(conn:is_open())
        assert.is_true(tonumber(server.cli "dbsize") > 0)
      end)
    end)

    it("removes 1,000,000 of 2,000,000 keys #bulk", function()
      T.run(function()
        fill(1000000, "old")
        fill(1000000, "new")
        local conn <close> = open()
        local done = assert(conn:remove_matching { match = "old:*" })
        assert.equal(1000000, done.removed)
        assert.equal("1000000", server.cli "dbsize")
      end)
    end)
  end)

  describe("the lock", function()
    it("is held by one, who is named to the others", function()
      T.run(function()
        local one <close> = open()
        local two <close> = open()
        assert.is_true(one:lock("neap:lock:0", "run 1"))
        assert.is_true(one:has_lock())
        local ok, err = two:lock("neap:lock:0", "run 2")
        assert.is_nil(ok)
        assert.equal("busy", err.code)
        assert.equal("held by run 1", err.message)
        assert.is_false(two:has_lock())
        assert.is_false(two:unlock())
        assert.is_true(one:unlock())
        assert.is_true(two:lock("neap:lock:0", "run 2"))
        assert.is_true(two:unlock())
        assert.equal("0", server.cli("exists", "neap:lock:0"))
      end)
    end)

    it("is lost when somebody else has it, and set again when it was flushed", function()
      T.run(function()
        local one <close> = open()
        assert.is_true(one:lock("neap:lock:0", "run 1"))
        server.cli("flushall")
        assert.is_true(one:has_lock())
        assert.equal("run 1", server.cli("get", "neap:lock:0"))
        server.cli("set", "neap:lock:0", "run 2")
        assert.is_false(one:has_lock())
        assert.is_false(one:unlock())
        assert.equal("run 2", server.cli("get", "neap:lock:0"))
      end)
    end)

    it("is told lost to who asks about it while its connection is closed", function()
      T.run(function()
        local one = open()
        assert.is_true(one:lock("neap:lock:0", "run 1"))
        server.cli("client", "pause", "500", "ALL")
        local asking = task.spawn(function() return one:has_lock() end)
        task.sleep(20)
        one:close()
        local mark = task.deadline(2000)
        local _, had, err = asking:join()
        task.restore(mark)
        assert.is_nil(had)
        assert.equal("cancelled", err.code)
        task.sleep(500)
      end)
    end)

    it("expires unless it is renewed #long", function()
      T.run(function()
        local one = open()
        assert.is_true(one:lock("neap:lock:0", "run 1"))
        task.sleep(12000)
        assert.equal("run 1", server.cli("get", "neap:lock:0"))
        one:close()
        task.sleep(10000)
        assert.equal("0", server.cli("exists", "neap:lock:0"))
      end)
    end)

    it("and the hold stay out of previews", function()
      T.run(function()
        local guard = require("native.guard")
        local one <close> = open()
        guard.mode("plan")
        assert.is_true(one:lock("neap:lock:0", "run 1"))
        assert.is_true(one:hold_set("neap:hold:0", "run 1"))
        guard.mode("run")
        assert.equal("0", server.cli "dbsize")
        assert.is_true(one:hold_set("neap:hold:0", "run 1 of x"))
        assert.equal("run 1 of x", one:hold_get("neap:hold:0"))
        assert.is_true(one:hold_clear("neap:hold:0"))
        assert.is_nil(one:hold_get("neap:hold:0"))
      end)
    end)
  end)
end)
