--- A PostgreSQL that stands on another entry: reached through a socket of our own, known by its identity card all the same.
--
-- The place is a stand-in that dials the server directly; what a host or a container does there is theirs to show.

local client = require("client.postgres")
local net = require("native.net")
local secret = require("native.secret")
local servers = require("tests.support.servers")

describe("a postgres on another entry", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id int); GRANT ALL ON item TO owner", database)
  end)

  -- `dialed` lists what the place was asked for.
  local function bind(url, dialed)
    local place = { kind = "host", methods = {}, ways = { dial = function(_, host, port)
      dialed[#dialed + 1] = ("%s:%d"):format(host, port)
      return net.tcp("127.0.0.1", server.port)
    end } }
    local context = { application = "neap:spec:1", environment = "test", target = function(role, kinds)
      assert.same({ "elsewhere", { "host", "container" } }, { role, kinds })
      return place
    end }
    local object = client.bind("db", { url = url, on = "elsewhere", password = assert(secret.of(servers.passwords.owner, "password of owner")) }, context)
    return setmetatable({}, {
      __index = function(_, name) return function(_, ...) return object.methods[name](object, ...) end end,
      __close = function() client.close(object) end,
    })
  end

  it("is asked, written to and streamed from through one tunnel", function()
    local dialed = {}
    T.run(function()
      local db <close> = bind(("postgresql://owner@db.internal:6543/%s?sslmode=require"):format(database), dialed)
      assert.equal(database, db:value("SELECT current_database()"))
      db:exec("INSERT INTO item VALUES ($1)", 7)
      db:transaction(function(tx) tx:exec("INSERT INTO item VALUES (8)") end)
      local sum = 0
      for row in db:each("SELECT id FROM item") do sum = sum + row.id end
      assert.equal(15, sum)
    end)
    assert.same({ "db.internal:6543" }, dialed)
  end)

  it("has the identity of whoever answers", function()
    local card
    T.run(function()
      local db <close> = bind(("postgresql://owner@db.internal/%s"):format(database), {})
      card = db:card()
    end)
    assert.equal(("pg:%s/%s"):format(server.sql("SELECT system_identifier FROM pg_control_system()"), database), card.id)
  end)

  it("cancels what runs there", function()
    T.run(function()
      local db <close> = bind(("postgresql://owner@db.internal/%s"):format(database), {})
      local task = require("native.task")
      local mark = task.deadline(300)
      local ok, err = pcall(db.value, db, "SELECT count(*) FROM generate_series(1, 10000000000)")
      task.restore(mark)
      assert.same({ false, "timeout" }, { ok, err.code })
      assert.equal(1, db:value("SELECT 1"))
    end)
  end)

  it("refuses several hosts, of which a tunnel could reach one", function()
    T.run(function()
      local db <close> = bind(("postgresql://owner@a,b/%s"):format(database), {})
      local ok, err = pcall(db.value, db, "SELECT 1")
      assert.same({ false, "config" }, { ok, err.code })
    end)
  end)

  it("says what the place says when nothing answers there", function()
    T.run(function()
      local place = { kind = "host", methods = {}, ways = { dial = function() return net.tcp("127.0.0.1", 1) end } }
      local object = client.bind("db", { url = "postgresql://owner@db/x", on = "h" }, { application = "neap", target = function() return place end })
      local ok, err = pcall(object.methods.value, object, "SELECT 1")
      client.close(object)
      assert.same({ false, "unreachable" }, { ok, err.code })
      assert.matches("refused", err.message, 1, true)
    end)
  end)
end)
