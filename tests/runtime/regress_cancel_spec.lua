--- Every primitive that waits, cancelled at every turn of the loop and then at growing times. After each try: its error is
-- {cancelled} or it was done, every intent has an outcome, no transaction is left open, what was recorded as done is done, and
-- the connection serves the next one. T.run adds that no handle and no task is left; the sanitizers add the rest.

local file = require("native.file")
local native = require("native.pg")
local process = require("native.process")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local task = require("native.task")
local text = require("native.text")

local TURNS, PAUSES = 14, { 1, 2, 4, 8, 16, 32, 64 }

-- Spawn `fn` as the engine does, under a pcall of its own so that what it closes may wait; let `wait` pass, cancel it, wait
-- for its end.
local function cancelled(fn, wait)
  local victim = task.spawn(pcall, fn)
  wait()
  victim:cancel("the spec had enough")
  local _, ok, err = victim:join()
  if not ok then assert.equal("cancelled", type(err) == "table" and err.code or err, text.json { tostring(err) }) end
  assert.equal(0, T.open_intents())
  return ok
end

local function at_every_moment(fn, after)
  for turns = 0, TURNS do
    local ok = cancelled(fn, function() for _ = 1, turns do task.sleep(0) end end)
    if after then after(ok) end
  end
  for _, pause in ipairs(PAUSES) do
    local ok = cancelled(fn, function() task.sleep(pause) end)
    if after then after(ok) end
  end
end

describe("cancelled at every moment", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id serial, name text); GRANT ALL ON item, item_id_seq TO owner, app;"
      .. "CREATE FUNCTION slow() RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int FROM generate_series(1, 200000)'", database)
  end)

  before_each(function() T.forget_records() end)

  local function connect(fenced, more)
    local all = { url = server.url(fenced and "app" or "owner", database), fenced = fenced, application = "neap:cancel:1" }
    for key, value in pairs(more or {}) do all[key] = value end
    local connection = assert(native.new(all))
    assert(connection:open())
    return connection
  end

  local function idle_in_transaction()
    return tonumber(server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'neap:cancel:1' AND state LIKE 'idle in%'", database))
  end

  -- Outcomes "ok" of writes against the rows they made.
  local function rows_recorded()
    local rows, intents = 0, {}
    for i, record in ipairs(T.records()) do
      local body = text.parse(record.body)
      if record.kind == "intent" then intents[i] = body end
      if record.kind == "outcome" and body.status == "ok" and intents[body.intent].primitive ~= "pg.begin" then rows = rows + (body.rows or 1) end
    end
    return rows
  end

  it("a read, and its connection goes on", function()
    T.run(function()
      local db <close> = connect(true)
      at_every_moment(function() return assert(db:value("SELECT slow()")) end, function()
        assert.equal(1, db:value("SELECT 1"))
        assert.is_true(db:is_idle())
      end)
    end)
  end)

  it("one read of several that share a connection, and the others are answered", function()
    T.run(function()
      local db <close> = connect(true)
      for turns = 0, TURNS do
        local others = {}
        local first = task.spawn(function() return assert(db:value("SELECT count(*) FROM generate_series(1, 100000) AS a")) end)
        others[1] = task.spawn(function() return assert(db:value("SELECT 1")) end)
        for _ = 1, turns do task.sleep(0) end
        first:cancel("enough")
        local second = task.spawn(function() return assert(db:value("SELECT 2")) end)
        others[2] = task.spawn(function() return assert(db:value("SELECT 3")) end)
        task.sleep(0)
        second:cancel("enough")
        for _, other in ipairs(others) do assert.same({ true }, { (other:join()) }) end
        first:join()
        second:join()
        assert.is_true(db:is_open())
      end
    end)
  end)

  it("rows that are streamed", function()
    T.run(function()
      local db <close> = connect(true)
      at_every_moment(function()
        local rows <close> = assert(db:each("SELECT i FROM generate_series(1, 30000) AS i"))
        for _ in rows do end
      end, function() assert.equal(1, db:value("SELECT 1")) end)
    end)
  end)

  it("a copy out and a copy in", function()
    T.run(function()
      local reads <close> = connect(true)
      local writes <close> = connect(false)
      at_every_moment(function()
        local stream <close> = assert(reads:copy_out("SELECT i FROM generate_series(1, 50000) AS i"))
        while stream:read() do end
      end, function() assert.equal(1, reads:value("SELECT 1")) end)
      at_every_moment(function()
        local stream <close> = assert(writes:copy_in("COPY item (name) FROM STDIN"))
        assert(stream:write("a\nb\n"))
        assert(stream:close())
      end)
      assert.equal(1, writes:exec("SELECT 1 AS one").rows[1].one)
    end)
    assert.equal(0, idle_in_transaction())
  end)

  for name, options in pairs { ["a write"] = {}, ["a write with a bound on rows"] = { max_rows = 10 } } do
    it(name .. ", and what is recorded is what is there", function()
      server.sql("TRUNCATE item", database)
      T.run(function()
        local db <close> = connect(false, options)
        at_every_moment(function() assert(db:exec("INSERT INTO item (name) SELECT slow()::text")) end)
        assert.equal(rows_recorded() , tonumber(server.sql("SELECT count(*) FROM item", database)))
        assert(db:exec("SELECT 1"))
      end)
      assert.equal(0, idle_in_transaction())
    end)
  end

  it("a statement that is sent alone", function()
    T.run(function()
      local db <close> = connect(false)
      at_every_moment(function() assert(db:exec("VACUUM item")) end)
      assert(db:exec("SELECT 1"))
    end)
  end)

  it("a transaction", function()
    server.sql("TRUNCATE item", database)
    T.run(function()
      local db <close> = connect(false)
      local committed = 0
      at_every_moment(function()
        local tx <close> = assert(db:begin())
        assert(tx:exec("INSERT INTO item (name) VALUES ('x')"))
        assert(tx:value("SELECT slow()"))
        assert(tx:commit())
        committed = committed + 1
      end)
      assert.is_true(committed <= tonumber(server.sql("SELECT count(*) FROM item", database)))
      assert(db:exec("SELECT 1"))
    end)
    assert.equal(0, idle_in_transaction())
  end)

  it("writers that wait for their turn", function()
    T.run(function()
      local db <close> = connect(false)
      for turns = 0, TURNS do
        local writers = {}
        for i = 1, 4 do writers[i] = task.spawn(function() return assert(db:exec("INSERT INTO item (name) SELECT slow()::text")) end) end
        for _ = 1, turns do task.sleep(0) end
        writers[1 + turns % 4]:cancel("enough")
        for i, writer in ipairs(writers) do
          if i ~= 1 + turns % 4 then assert.is_true((writer:join())) end
        end
        writers[1 + turns % 4]:join()
        assert.equal(0, T.open_intents())
      end
    end)
  end)

  it("connecting, and locking", function()
    local tries = 0
    T.run(function()
      at_every_moment(function()
        tries = tries + 1                                -- another key each time: a session that was let go may still hold the last one
        local key, db <close> = ("%016x"):format(0xff00 + tries), connect(false)
        assert(db:lock(key))
        assert(db:has_lock(key))
      end)
    end)
  end)

  it("a command, fed and read", function()
    T.run(function()
      at_every_moment(function()
        assert(process.run { argv = { "sh", "-c", "cat; sleep 0.02" }, stdin = ("x"):rep(200000) })
      end)
      at_every_moment(function()
        local child <close> = assert(process.start { argv = { "cat" } })
        assert(child:stdin():write("hello"))
        assert(child:stdin():shut())
        assert(child:stdout():read())
        child:wait()
      end)
      at_every_moment(function() assert(secret.command({ "sh", "-c", "sleep 0.01; echo planted-secret" }, "planted")) end)
    end)
  end)

  it("files: written, read, hashed, streamed and copied", function()
    local dir = suite.temp()
    local big = ("0123456789abcdef"):rep(40000)
    T.run(function()
      local function published() return file.hash(dir .. "/written") end
      at_every_moment(function() assert(file.write(dir .. "/written", big)) end, function()
        local hash = published()
        assert.is_true(hash == nil or hash == text.sha256(big))
      end)
      assert(file.write(dir .. "/written", big))
      at_every_moment(function()
        assert(file.read(dir .. "/written"))
        assert(file.hash(dir .. "/written"))
        assert(file.list(dir))
      end)
      at_every_moment(function()
        local from <close> = assert(file.open(dir .. "/written", "r"))
        local to <close> = assert(file.open(dir .. "/copy", "w"))
        assert(from:pipe(to))
        assert(to:close())
      end, function()
        local hash = file.hash(dir .. "/copy")
        assert.is_true(hash == nil or hash == text.sha256(big))
      end)
      for _, entry in ipairs(file.list(dir)) do assert.is_nil(entry.name:match("%.part$")) end
    end)
  end)

  it("a pause, and the end of another task", function()
    T.run(function()
      at_every_moment(function() task.sleep(3) end)
      local other = task.spawn(function() task.sleep(300) end)
      at_every_moment(function() other:join() end)
      other:join()
    end)
  end)
end)
