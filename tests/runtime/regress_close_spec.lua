--- A connection that is closed while somebody waits for it: each waiter is told, nothing points at what is gone, and a write
--- whose end nobody heard is asked about, never guessed.

local native = require("native.pg")
local servers = require("tests.support.servers")
local task = require("native.task")

describe("closing a connection under", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id serial, name text); GRANT ALL ON item, item_id_seq TO owner, app", database)
  end)

  local function connect(fenced, more)
    local all = { url = server.url(fenced and "app" or "owner", database), fenced = fenced, application = "neap:close:1" }
    for key, value in pairs(more or {}) do all[key] = value end
    local connection = assert(native.new(all))
    assert(connection:open())
    return connection
  end

  -- Close after each number of turns; the waiter ends with an error of ours, or it was done.
  local function closed_under(fenced, fn, options)
    T.forget_records()
    T.run(function()
      for turns = 0, 12 do
        local db = connect(fenced, options)
        local waiter = task.spawn(pcall, fn, db)
        for _ = 1, turns do task.sleep(0) end
        db:close()
        local _, ok, err = waiter:join()
        assert.is_true(ok or type(err) == "table", tostring(err))
        assert.equal(0, T.open_intents())
        db:close()
      end
    end)
  end

  local function must(value, err)
    if not value then error(err, 0) end
    return value
  end

  it("a read", function() closed_under(true, function(db) must(db:value("SELECT pg_catalog.count(*) FROM generate_series(1, 100000)")) end) end)
  it("a stream of rows", function()
    closed_under(true, function(db)
      local rows <close> = must(db:each("SELECT i FROM generate_series(1, 30000) AS i"))
      while rows() do end
    end)
  end)
  it("a copy out", function()
    closed_under(true, function(db)
      local stream <close> = must(db:copy_out("SELECT i FROM generate_series(1, 30000) AS i"))
      while stream:read() do end
    end)
  end)
  it("a copy in", function()
    closed_under(false, function(db)
      local stream <close> = must(db:copy_in("COPY item (name) FROM STDIN"))
      must(stream:write("a\nb\n"))
      must(stream:close())
    end)
  end)
  it("a write", function() closed_under(false, function(db) must(db:exec("INSERT INTO item (name) VALUES ('x')")) end) end)
  it("a bounded write", function() closed_under(false, function(db) must(db:exec("INSERT INTO item (name) VALUES ('x')")) end, { max_rows = 5 }) end)
  it("a transaction", function()
    closed_under(false, function(db)
      local tx <close> = must(db:begin())
      must(tx:exec("INSERT INTO item (name) VALUES ('x')"))
      must(tx:value("SELECT 1"))
      must(tx:commit())
    end)
  end)
  it("a lock", function() closed_under(false, function(db) must(db:lock("00000000000000fe")) end) end)
  it("its own opening", function()
    T.forget_records()
    T.run(function()
      for turns = 0, 8 do
        local db = assert(native.new { url = server.url("app", database), fenced = true, application = "neap:close:1" })
        local waiter = task.spawn(pcall, function() must(db:open()) end)
        for _ = 1, turns do task.sleep(0) end
        db:close()
        local _, ok, err = waiter:join()
        assert.is_true(ok or type(err) == "table", tostring(err))
      end
    end)
  end)
end)
