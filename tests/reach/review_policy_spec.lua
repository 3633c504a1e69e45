--- Policy of an environment held against what is reached through another machine, and against every spelling of an act.

local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local system = require("native.system")
local text = require("native.text")

-- Rules cannot be taken back, so each world is a process of its own. `here` is a place that leads to this machine under another name.
local PROLOGUE <const> = [[
  local guard, net, places = require("native.guard"), require("native.net"), require("client.place")
  local function placed(port, socket)
    local place = { kind = "host", role = "hermes", methods = {}, ways = {
      dial = function() return net.tcp("127.0.0.1", port) end, dial_unix = function() return net.unix(socket) end } }
    return { application = "neap:spec:1", environment = "test", target = function() return place end }
  end
]]

local function in_a_world(rules, code)
  local script = suite.write(suite.temp() .. "/world.lua", ([[
    %s
    %s
    local ok, err = pcall(T.run, function() %s end)
    io.write(tostring(ok), " ", type(err) == "table" and err.code or tostring(err), " ", type(err) == "table" and err.message or "")
  ]]):format(PROLOGUE, rules, code))
  local out = io.popen(("%s %s 2>&1"):format(text.shell { system.realpath("/proc/self/exe") }, text.shell { script }))
  local said = out:read("a")
  out:close()
  return said
end

local HERE <const> = 'guard.allow_host("localhost") guard.allow_host("127.0.0.1")'

describe("a list of hosts that names this machine", function()
  local web, redis, pg, database

  setup(function()
    web, redis, pg = servers.http(), servers.redis { name = "plain", open = true }, servers.postgres()
    database = pg.database()
    pg.sql("CREATE TABLE item (id int); GRANT ALL ON item TO owner", database)
  end)

  local function refuses(code)
    local said = in_a_world(HERE, code)
    assert.matches("^false refused \"hermes\" is not in this environment's list", said)
    assert.matches("^true ", in_a_world(HERE .. ' guard.allow_host("hermes")', code))
  end

  it("allows no request to what calls itself localhost on another one", function()
    local function asked() return web.counts()["POST /echo"] or 0 end
    local before = asked()
    refuses(([[
      local site = require("client.url").bind("site", { url = "http://localhost:9000", on = "hermes" }, placed(%d))
      site.methods.post(site, "/echo", { body = "x" })]]):format(web.port))
    assert.equal(before + 1, asked())
  end)

  it("allows no request through a unix socket of another one, which it connects to", function()
    refuses(([[
      local site = require("client.url").bind("site", { url = "http://localhost", unix = "/run/app.sock", on = "hermes" }, placed(1, %q))
      site.methods.post(site, "/echo", { body = "x" })]]):format(web.socket))
  end)

  it("allows no write to a Redis there", function()
    for _, url in ipairs { "redis://localhost:6379/3", "unix:///run/redis.sock?db=3" } do
      refuses(([[
        local redis = require("client.redis")
        local cache = redis.bind("cache", { url = %q, on = "hermes" }, placed(%d, %q))
        local ok, err = pcall(cache.methods.write, cache, "SET", "policy", "1")
        redis.close(cache)
        if not ok then error(err, 0) end]]):format(url, redis.port, redis.socket))
    end
  end)

  it("allows no write to a PostgreSQL there", function()
    for _, url in ipairs { "postgresql://owner@localhost/" .. database, "postgresql://owner@/" .. database } do
      refuses(([[
        local postgres, secret = require("client.postgres"), require("native.secret")
        local db = postgres.bind("db", { url = %q, on = "hermes", password = secret.of(%q, "password") }, placed(%d))
        local ok, err = pcall(db.methods.exec, db, "INSERT INTO item VALUES (1)")
        postgres.close(db)
        if not ok then error(err, 0) end]]):format(url, servers.passwords.owner, pg.port))
    end
    assert.equal("2", pg.sql("SELECT count(*) FROM item", database))
  end)

  it("knows another machine behind a place by its own name, and a container by its host's", function()
    T.run(function()
      local places = require("client.place")
      local host = { kind = "host", role = "hermes", ways = {} }
      assert.equal("10.0.0.9", places.machine(host, "10.0.0.9"))
      for _, own in ipairs { "localhost", "127.0.0.53", "::1", "/run/x.sock", "" } do assert.equal("hermes", places.machine(host, own)) end
      assert.equal("hermes", places.machine(host, nil))
      local box = { kind = "container", role = "dbc", ways = { machine = function() return "iris" end } }
      assert.equal("iris", places.machine(box, "db"))
    end)
  end)
end)

describe("a never rule", function()
  local web, redis

  setup(function() web, redis = servers.http(), servers.redis { name = "plain", open = true } end)

  local function rule(pattern) return ("assert(guard.never(%q, 'the spec says so'))"):format(pattern) end

  local function with_redis(call)
    return ([[
      local redis = require("client.redis")
      local cache = redis.bind("cache", { url = %q }, { application = "neap:spec:1", environment = "test" })
      local ok, err = pcall(function() %s end)
      redis.close(cache)
      if not ok then error(err, 0) end]]):format(redis.url(nil, 5), call)
  end

  it("is held against every command of a transaction, however long the ones before it are", function()
    redis.cli { "-n", "5", "set", "kept", "1" }
    local long = [[local list = {} for i = 1, 200 do list[i] = { "SET", "filler", ("x"):rep(190) } end list[201] = { "FLUSHDB" } cache.methods.transaction(cache, list)]]
    for _, pattern in ipairs { "flushdb", "^flushdb" } do
      assert.matches("^false refused this environment never allows", in_a_world(rule(pattern), with_redis(long)))
    end
    assert.matches("^false refused", in_a_world(rule("^del user:1$"), with_redis('cache.methods.remove(cache, "DEL", "user:1")')))
    assert.matches("^false refused", in_a_world(rule("^set .*planted$"), with_redis('cache.methods.write(cache, "SET", "a", ("x"):rep(300) .. "planted")')))
    assert.equal("1", (redis.cli { "-n", "5", "get", "kept" }:gsub("%s+$", "")))
    assert.matches("^true", in_a_world(rule("flushall"), with_redis(long)))
  end)

  it("is held against a path however it is written", function()
    local before = web.counts()["POST /echo"] or 0
    for _, path in ipairs { "/echo", "/%65cho", "/x/../echo", "/./echo", "/%65%63%68%6F" } do
      assert.matches("^false refused", in_a_world(rule("^post .*/echo"), ([[
        local site = require("client.url").bind("site", { url = %q }, {})
        site.methods.post(site, %q, { body = "x" })]]):format(web.url, path)), path)
    end
    assert.equal(before, web.counts()["POST /echo"] or 0)
  end)

  it("is held against words as they are, not as a shell would need them quoted", function()
    for _, argv in ipairs { '{ "echo", "drop", "all data" }', '{ "echo", "drop all", "data" }', '{ "echo", "drop", "all", "data" }' } do
      assert.matches("^false refused", in_a_world(rule("^echo drop all data$"), "assert(require('native.process').run { argv = " .. argv .. " })"))
    end
  end)
end)
