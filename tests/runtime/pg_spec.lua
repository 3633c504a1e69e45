--- native.pg against real servers: connecting, values, shapes, streams, writes, lost answers, locks.

local guard = require("native.guard")
local native = require("native.pg")
local process = require("native.process")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local task = require("native.task")
local value = require("native.value")

describe("native.pg", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id int PRIMARY KEY, name text); GRANT ALL ON item TO app, owner", database)
  end)

  before_each(function() server.sql("TRUNCATE item", database) end)

  local function new(user, options)
    local all = { url = server.url(user, database), application = "neap:spec:1" }
    for key, given in pairs(options or {}) do all[key] = given end
    return assert(native.new(all))
  end

  local function connect(user, options)
    local connection = new(user, options)
    assert(connection:open())
    return connection
  end

  local function reader(user, options)
    options = options or {}
    options.fenced = true
    return connect(user or "app", options)
  end

  local function refusal(options)
    return T.run(function()
      local connection <close> = new("app", options)
      local ok, err = connection:open()
      assert.is_nil(ok)
      return err
    end)
  end

  local function count() return tonumber(server.sql("SELECT count(*) FROM item", database)) end

  describe("connecting", function()
    it("goes on to the next host when the first refuses (P1)", function()
      T.run(function()
        local url = ("postgresql://app:%s@127.0.0.1:1,127.0.0.1:%d/%s"):format(servers.passwords.app, server.port, database)
        local connection <close> = reader("app", { url = url })
        assert.equal(1, connection:value("SELECT 1"))
      end)
    end)

    it("uses a unix socket, a name, a service file and a passfile", function()
      local dir = suite.temp()
      local passfile = suite.write(dir .. "/pass", ("*:*:*:app:%s\n"):format(servers.passwords.app))
      T.mode(passfile, tonumber("600", 8))
      suite.write(dir .. "/services", ("[spec]\nhost=127.0.0.1\nport=%d\ndbname=%s\nuser=app\npassfile=%s\n"):format(server.port, database, passfile))
      T.setenv("PGSERVICEFILE", dir .. "/services")
      T.run(function()
        for _, url in ipairs {
          ("postgresql://app:%s@/%s?host=%s&port=%d"):format(servers.passwords.app, database, server.socket, server.port),
          ("postgresql://app:%s@localhost:%d/%s"):format(servers.passwords.app, server.port, database),
          ("postgresql://app@127.0.0.1:%d/%s?passfile=%s"):format(server.port, database, passfile), "postgresql://?service=spec",
        } do
          local connection <close> = reader("app", { url = url })
          assert.equal(database, connection:value("SELECT current_database()"))
          assert.equal("local", connection:card().tls)
        end
      end)
      T.setenv("PGSERVICEFILE", nil)
    end)

    it("tells a wrong password, a missing database, a closed port and an unknown name apart", function()
      assert.equal("auth", refusal({ password = "certainly-wrong" }).code)
      assert.equal("3D000", refusal({ database = "no_such_database" }).sqlstate)
      local closed = refusal({ url = ("postgresql://app@127.0.0.1:%d/x"):format(T.free_port()) })
      assert.same({ "unreachable", true }, { closed.code, closed.retry })
      assert.equal("unreachable", refusal({ url = "postgresql://app@no-such-host.invalid/x" }).code)
    end)

    -- The second one's words come only in the moment before a crash is recovered from, so a fake says them.
    it("may be asked again when it only is not ready", function()
      for _, words in ipairs { "starting up", "not yet accepting connections", "not accepting connections", "shutting down", "in recovery mode" } do
        local fields = ("SFATAL\0VFATAL\0C57P03\0Mthe database system is %s\0\0"):format(words)
        local fake <close> = T.peer { kind = "say", text = "E" .. (">I4"):pack(#fields + 4) .. fields }
        local err = refusal({ url = ("postgresql://app@127.0.0.1:%d/x?sslmode=disable"):format(fake:port()) })
        assert.same({ "unreachable", true, "57P03" }, { err.code, err.retry, err.sqlstate }, words .. ": " .. err.message)
      end
    end)

    it("gives up a server that never answers, in time", function()
      local silent <close> = T.proxy { port = 9, when = "never" }
      local began = T.now_ms()
      local err = refusal({ url = ("postgresql://app@192.0.2.1:%d/x"):format(silent:port()), within_ms = 300 })
      assert.equal("unreachable", err.code)
      assert.is_true(T.now_ms() - began < 9000)                -- unless it is told, it waits for ten seconds
    end)

    it("takes its password as a secret and shows it nowhere", function()
      T.run(function()
        local connection <close> = reader("app", {
          url = ("postgresql://app@127.0.0.1:%d/%s"):format(server.port, database), password = assert(secret.of(servers.passwords.app, "pw")) })
        assert.equal("app", connection:value("SELECT current_user"))
        assert.is_nil(tostring(connection:url {}):find(servers.passwords.app, 1, true))
      end)
    end)

    it("hands a tool its URL with that URL's own session options, and how long it may wait for a lock; none of ours", function()
      local ASK <const> = [[psql "$URL" -XAt -c "select current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('datestyle')"]]
      local function says(options, wanted)
        return T.run(function()
          local connection <close> = new("app", { url = server.url("app", database) .. options })
          local url = assert(connection:url(wanted))
          return process.run({ argv = { "sh", "-c", ASK }, env = { URL = url, PGDATESTYLE = "German", HOME = "/" } }).out
        end)
      end
      local given = (server.url("app", database):find("?", 1, true) and "&" or "?") .. "options=-c%20statement_timeout%3D77s"
      assert.equal("77s|1500ms|German, DMY\n", says(given, { lock_ms = 1500 }))
      assert.equal("77s|0|German, DMY\n", says(given, {}))
      assert.equal("0|2s|German, DMY\n", says("", { lock_ms = 2000, prisma = true }))
      assert.equal("0|0|German, DMY\n", says("", { prisma = true }))
    end)

    it("carries its name and notices a vanished client", function()
      T.run(function()
        local connection <close> = reader()
        assert.equal("neap:spec:1", connection:value("SELECT current_setting('application_name')"))
        assert.equal("2s", connection:value("SELECT current_setting('client_connection_check_interval')"))
        local card = connection:card()
        assert.equal(("pg:%s/%s"):format(server.sql("SELECT system_identifier FROM pg_control_system()"), database), card.id)
        assert.same({ 1, false, false, "app" }, { card.timeline, card.superuser, card.recovery, card.user })
      end)
    end)
  end)

  describe("values", function()
    local cases = {
      { "true", true }, { "1::int2", 1 }, { "9223372036854775807", math.maxinteger }, { "1.5::float8", 1.5 }, { "'inf'::float4", math.huge },
      { "12345678901234567890.123456789", "12345678901234567890.123456789" }, { "NULL", nil }, { "'a''b'", "a'b" },
      { "'2024-02-29 12:34:56.5+02'::timestamptz AT TIME ZONE 'UTC'", "2024-02-29T10:34:56.5" }, { "'2024-02-29'::date", "2024-02-29" },
      { "'2024-02-29 12:00:00Z'::timestamptz", "2024-02-29T12:00:00+00:00" }, { "'infinity'::timestamptz", "infinity" },
      { "'\\x00ff61'::bytea", "\0\xffa" }, { "'{\"a\": [1, \"x\"]}'::jsonb", { a = { 1, "x" } } }, { "'{}'::int[]", {} },
      { "ARRAY[[1,2],[3,4]]", { { 1, 2 }, { 3, 4 } } }, { "'[0:1]={7,8}'::int[]", { 7, 8 } },
      { "ARRAY['a,b','\"q\"','\\','null','']", { "a,b", '"q"', "\\", "null", "" } }, { "'2 days'::interval", "2 days" },
      { "'127.0.0.1'::inet", "127.0.0.1" }, { "ARRAY['\\x01'::bytea]", { "\1" } },
    }

    it("become Lua's by their type", function()
      T.run(function()
        local connection <close> = reader()
        for _, case in ipairs(cases) do
          local got, err = connection:value("SELECT " .. case[1])
          assert.is_nil(err)
          assert.same(case[2], got, case[1])
        end
        assert.same({ 1, value.null, 3 }, connection:value("SELECT ARRAY[1,NULL,3]"))
        assert.same({ a = 1 }, connection:row("SELECT 1 AS a, NULL AS b"))
      end)
    end)

    it("go to the server as they are", function()
      T.run(function()
        local connection <close> = reader()
        local function echo(given, type) return connection:value(("SELECT $1::%s::text"):format(type), given) end
        assert.equal("-5", echo(-5, "int"))
        assert.equal("0.1", echo(0.1, "float8"))
        assert.equal("NaN", echo(0 / 0, "float8"))
        assert.equal("true", echo(true, "bool"))
        assert.equal("'; DROP TABLE item; --", echo("'; DROP TABLE item; --", "text"))
        assert.equal("\\x00ff", echo("\0\xff", "bytea"))
        assert.equal("{1,NULL,3}", echo({ 1, value.null, 3 }, "int[]"))
        assert.equal('{"a,b","\\"\\\\"}', echo({ "a,b", '"\\' }, "text[]"))
        assert.equal('{"a": [1, 2]}', echo({ a = { 1, 2 } }, "jsonb"))
        assert.equal("hunter22", echo(assert(secret.of("hunter22", "pw")), "text"))
        assert.is_nil(echo(nil, "text"))
        assert.is_false((pcall(echo, print, "text")))
      end)
    end)
  end)

  describe("reading", function()
    it("insists on the shape and shows the statement", function()
      T.run(function()
        local connection <close> = reader()
        for _, case in ipairs { { "value", "SELECT 1, 2" }, { "value", "SELECT 1 WHERE false" }, { "row", "VALUES (1), (2)" } } do
          local got, err = connection[case[1]](connection, case[2])
          assert.is_nil(got)
          assert.equal("invalid", err.code)
          assert.truthy(err.hint:find(case[2], 1, true))
        end
        assert.same({ {}, false, true, false }, { connection:rows("SELECT 1 AS a WHERE false"), connection:has("SELECT 1 WHERE false"),
          connection:has("SELECT 1"), connection:has("SELECT false") })
      end)
    end)

    it("sees a new snapshot each time, and what others committed meanwhile", function()
      T.run(function()
        local connection <close> = reader()
        assert.equal(0, connection:value("SELECT count(*) FROM item"))
        server.sql("INSERT INTO item VALUES (1)", database)
        assert.equal(1, connection:value("SELECT count(*) FROM item"))
      end)
    end)

    it("hands notices over as text, escape sequences and all, and prints none", function()
      T.run(function()
        local connection <close> = connect("owner")
        assert(connection:exec("DO $$ BEGIN RAISE WARNING E'\\x1b]0;pwned\\x07'; END $$"))
        assert.same({ { severity = "WARNING", message = "\27]0;pwned\7" } }, connection:notices())
        assert.is_nil(connection:notices())
      end)
    end)

    it("answers many tasks on one connection, each its own", function()
      T.run(function()
        local connection <close> = reader()
        local tasks = {}
        for i = 1, 200 do tasks[i] = task.spawn(function() return connection:value("SELECT $1::int", i) end) end
        for i = 1, 200 do
          local ok, got = tasks[i]:join()
          assert.same({ true, i }, { ok, got })
        end
      end)
    end)

    it("is stopped by a deadline, leaves a usable connection, and spares its neighbours", function()
      T.run(function()
        local connection <close> = reader()
        local neighbours = {}
        local slow = task.spawn(function()
          task.deadline(150)
          return connection:value("SELECT count(*) FROM generate_series(1, 1000000000)")
        end)
        for i = 1, 20 do neighbours[i] = task.spawn(function() return connection:value("SELECT $1::int", i) end) end
        local ok, err = slow:join()
        assert.same({ false, "timeout" }, { ok, err.code })
        for i = 1, 20 do assert.same({ true, i }, { neighbours[i]:join() }) end
        assert.is_true(connection:is_idle())
      end)
    end)

    -- A cancel that arrives late hits who runs then. Here each takes 100 ms to the server, where what it was meant for is over by then: the second
    -- one is sent when the repeated statement is on its way behind another short one.
    it("spares a neighbour as often as a late cancel hits it", function()
      local slow <close> = T.proxy { port = server.port, delay = 100 }
      local url = ("postgresql://app:%s@127.0.0.1:%d/%s"):format(servers.passwords.app, slow:port(), database)
      T.run(function()
        local connection <close> = reader("app", { url = url })
        assert.equal(1, connection:value("SELECT count(*) FROM generate_series(1, 1)"))      -- its function is known from now on
        local first = task.spawn(function() return connection:value("SELECT 1") end)
        local spared = task.spawn(function() return connection:value("SELECT count(*) FROM generate_series(1, 3000000)") end)
        task.sleep(0)
        first:cancel("enough")
        task.sleep(150)
        local second = task.spawn(function() return connection:value("SELECT 2") end)
        task.sleep(250)
        second:cancel("enough")
        assert.same({ true, 3000000 }, { spared:join() })
        first:join()
        second:join()
        assert.is_true(connection:is_idle())
      end)
    end)

    it("streams a million rows in constant memory #bulk", function()
      T.run(function()
        local connection <close> = reader()
        local rows <close> = assert(connection:each("SELECT i, i::text AS t, now() AS n, NULL AS x, i * 2 AS d FROM generate_series(1, 1000000) i"))
        local function resident()
          local file = assert(io.open("/proc/self/statm"))
          local _, pages = file:read("n", "n")
          file:close()
          return pages * 4
        end
        local seen, sum, at_start = 0, 0, nil
        while true do
          local row, err = rows()
          assert(not err, err)
          if not row then break end
          seen, sum = seen + 1, sum + row.i
          if seen == 500000 then at_start = resident() end     -- by then the collector has found its pace
        end
        assert.same({ 1000000, 500000500000 }, { seen, sum })
        assert.is_true(resident() - at_start < 8192, "grew by more than 8 MB")
      end)
    end)

    it("lets a stream be left in the middle", function()
      T.run(function()
        local connection <close> = reader()
        do
          local rows <close> = assert(connection:each("SELECT i FROM generate_series(1, 1000000) i"))
          assert.same({ i = 1 }, rows())
          local _, err = connection:value("SELECT 1")
          assert.equal("busy", err.code)
        end
        assert.equal(2, connection:value("SELECT 2"))
      end)
    end)

    it("ends a stream whose connection is gone before the next rows were asked for", function()
      T.run(function()
        local connection <close> = reader()
        local rows <close> = assert(connection:each("SELECT i FROM generate_series(1, 1500) i"))
        connection:close()
        task.deadline(2000)
        for i = 1, 1000 do assert.same({ i = i }, rows()) end
        local row, err = rows()
        assert.same({ nil, "closed" }, { row, err.code })
      end)
    end)

    it("reports a server that goes away in the middle, and opens again afterwards", function()
      T.run(function()
        local connection <close> = reader()
        local pid = connection:card().pid
        local waiting = task.spawn(function() return connection:value("SELECT count(*) FROM generate_series(1, 1000000000)") end)
        task.sleep(50)
        server.sql(("SELECT pg_terminate_backend(%d)"):format(pid))
        local _, got, err = waiting:join()
        assert.same({ nil, "closed" }, { got, err.code })
        assert.is_false(connection:is_open())
        assert(connection:open())
        assert.equal(3, connection:value("SELECT 3"))
      end)
    end)
  end)

  describe("writing", function()
    it("commits once, with the transaction's id in a durable intent before the statement", function()
      T.run(function()
        local connection <close> = connect("app")
        T.forget_records()
        local done = assert(connection:exec("INSERT INTO item VALUES ($1, $2), (2, NULL) RETURNING id", 1, "one"))
        assert.same({ 2, { { id = 1 }, { id = 2 } } }, { done.count, done.rows })
        local body = T.records()[1].body
        local xid = body:match('"xid":(%d+)')
        assert.equal("committed", server.sql(("SELECT pg_xact_status('%s')"):format(xid), database))
        assert.truthy(body:find('"pid":' .. connection:card().pid, 1, true))
        assert.truthy(body:find("$1 = 1, $2 = 'one'", 1, true))
      end)
      assert.equal(0, T.open_intents())
    end)

    it("rolls back what fails, and what changes more rows than it may", function()
      T.run(function()
        local connection <close> = connect("app", { max_rows = 2 })
        assert(connection:exec("INSERT INTO item VALUES (1), (2)"))
        local _, err = connection:exec("UPDATE item SET name = 'x' WHERE id / (id - 2) = 0")
        assert.equal("22012", err.sqlstate)
        _, err = connection:exec("INSERT INTO item SELECT generate_series(10, 12)")
        assert.equal("refused", err.code)
        assert.is_true(connection:exec("DELETE FROM item WHERE id = 1").count == 1)
      end)
      assert.equal(1, count())
      assert.equal(0, T.open_intents())
    end)

    it("sends alone what must be alone, and nothing that holds two statements", function()
      T.run(function()
        local connection <close> = connect("owner")
        assert(connection:exec("CREATE TEMP TABLE x (i int)"))
        assert(connection:exec("VACUUM x"))
        assert(connection:exec("CREATE INDEX CONCURRENTLY ON x (i)"))
        for _, sql in ipairs { "SELECT 1; SELECT 2", "COMMIT", "BEGIN", "COPY item TO STDOUT" } do
          local _, err = connection:exec(sql)
          assert.equal("usage", err.code, sql)
        end
      end)
    end)

    it("is refused while a clause only reads, and predicted in a preview", function()
      T.run(function()
        local connection <close> = connect("app")
        task.phase("read")
        assert.is_false((pcall(connection.exec, connection, "INSERT INTO item VALUES (1)")))
        task.phase("act")
        guard.mode("plan")
        assert.equal("userdata", type(connection:exec("INSERT INTO item VALUES (1)")))
        assert.equal("userdata", type(connection:begin()))
        assert.equal(2, #guard.predictions())
        guard.clear()
        guard.mode("run")
      end)
      assert.equal(0, count())
    end)

    it("takes turns: parallel tasks never share a transaction", function()
      T.run(function()
        local connection <close> = connect("app")
        local tasks = {}
        for i = 1, 20 do tasks[i] = task.spawn(function() return connection:exec("INSERT INTO item VALUES ($1)", i) end) end
        local tx = assert(connection:begin())
        assert(tx:exec("INSERT INTO item VALUES (100)"))
        tx:rollback()
        for i = 1, 20 do assert.is_true((tasks[i]:join())) end
        assert.equal(20, connection:exec("SELECT count(*) FROM item").rows[1].count)
      end)
      assert.equal(20, count())
    end)

    it("keeps transactions whole", function()
      T.run(function()
        local connection <close> = connect("app")
        do
          local tx <close> = assert(connection:begin())
          assert(tx:exec("INSERT INTO item VALUES (1, 'a')"))
          assert.same({ 1, { { id = 1 } }, true }, { tx:value("SELECT count(*) FROM item"), tx:rows("SELECT id FROM item"), tx:has("SELECT 1") })
          assert.is_true(tx:commit())
          assert.is_false((pcall(tx.exec, tx, "SELECT 1")))
        end
        do
          local tx <close> = assert(connection:begin())
          assert(tx:exec("DELETE FROM item"))
        end
        do
          local tx <close> = assert(connection:begin())
          assert(tx:exec("DELETE FROM item"))
          local _, err = tx:exec("SELECT 1/0")
          assert.equal("22012", err.sqlstate)
          assert.is_nil((tx:commit()))
        end
      end)
      assert.equal(1, count())
      assert.equal(0, T.open_intents())
    end)

    it("is stopped by a deadline and rolled back", function()
      T.run(function()
        local connection <close> = connect("app")
        local slow = task.spawn(function()
          task.deadline(150)
          return connection:exec("INSERT INTO item SELECT generate_series(1, 100000000)")
        end)
        assert.is_false((slow:join()))
        assert.is_true(connection:exec("INSERT INTO item VALUES (5)").count == 1)
      end)
      assert.equal(1, count())
      assert.equal(0, T.open_intents())
    end)
  end)

  describe("a lost answer", function()
    local function through(lose, fn)
      local proxy <close> = T.proxy { port = server.port, when = "COMMIT", lose = lose }
      local url = ("postgresql://app:%s@127.0.0.1:%d/%s"):format(servers.passwords.app, proxy:port(), database)
      return T.run(function()
        local connection <close> = connect("app", { url = url })
        return fn(connection)
      end)
    end

    it("to COMMIT is asked for: committed", function()
      local done = through("answer", function(connection) return (assert(connection:exec("INSERT INTO item VALUES (1)"))) end)
      assert.equal("table", type(done))
      assert.equal(1, count())
      assert.equal(0, T.open_intents())
    end)

    it("to COMMIT is waited for while the transaction is in progress", function()
      server.sql([[CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER nap AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nap()]], database)
      assert(through("answer", function(connection) return (assert(connection:exec("INSERT INTO item VALUES (1)"))) end))
      server.sql("DROP TRIGGER nap ON item; DROP FUNCTION nap()", database)
      assert.equal(1, count())
    end)

    it("to a COMMIT that never arrived is asked for: failed, and never sent again", function()
      local err = through("request", function(connection) return select(2, connection:exec("INSERT INTO item VALUES (1)")) end)
      assert.equal("closed", err.code)
      assert.truthy(err.message:find("rolled back", 1, true))
      assert.equal(0, count())
    end)

    it("is resolved correctly a hundred times out of a hundred, and never applied twice", function()
      server.sql("CREATE TABLE once (n int PRIMARY KEY)", database)
      server.sql("GRANT ALL ON once TO app", database)
      local right = 0
      for n = 1, 100 do
        local lose = n % 2 == 0 and "answer" or "request"
        local done, err = through(lose, function(connection) return connection:exec("INSERT INTO once VALUES ($1)", n) end)
        local there = server.sql(("SELECT count(*) FROM once WHERE n = %d"):format(n), database) == "1"
        if lose == "answer" and done and there then right = right + 1 end
        if lose == "request" and err and err.code == "closed" and not there then right = right + 1 end
      end
      assert.equal(100, right)
      assert.equal("50", server.sql("SELECT count(*) FROM once", database))
      server.sql("DROP TABLE once", database)
    end)

    it("of a server that crashes is asked for when it is back", function()
      local fragile = servers.postgres { name = "pg-spec-crash" }
      fragile.sql("SET synchronous_commit = on; CREATE TABLE item (id int); GRANT ALL ON item TO app")        -- the crash must not take the table
      T.run(function()
        local connection <close> = assert(native.new { url = fragile.url("app", "postgres") })
        assert(connection:open())
        local waiting = task.spawn(function() return connection:exec("INSERT INTO item SELECT generate_series(1, 1000000000)") end)
        repeat task.sleep(20) until fragile.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO item%' AND backend_xid IS NOT NULL") == "1"
        fragile.restart("immediate")
        local _, done, err = waiting:join()
        assert.is_nil(done)
        assert.equal("closed", err.code)
        assert.truthy(err.message:find("rolled back", 1, true))
      end)
      assert.equal("0", fragile.sql("SELECT count(*) FROM item"))
      assert.equal(0, T.open_intents())
    end)

    it("to the COMMIT of a transaction is asked for", function()
      assert.is_true(through("answer", function(connection)
        local tx <close> = assert(connection:begin())
        assert(tx:exec("INSERT INTO item VALUES (1)"))
        return (assert(tx:commit()))
      end))
      assert.equal(1, count())
    end)

    it("is asked about as well when we closed the connection ourselves", function()
      T.run(function()
        local connection = connect("app")
        local waiting = task.spawn(function() return connection:exec("INSERT INTO item SELECT generate_series(1, 1000000000)") end)
        local reading <close> = reader()
        local asking = task.spawn(function() return reading:value("SELECT count(*) FROM generate_series(1, 1000000000)") end)
        repeat task.sleep(20) until server.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series(1, 1000000000)' "
          .. "AND (backend_xid IS NOT NULL OR query LIKE '%count%')") == "2"
        connection:close()
        reading:close()
        local _, done, err = waiting:join()
        assert.same({ nil, "closed" }, { done, err.code })
        assert.matches("the transaction was rolled back", err.message)
        _, done, err = asking:join()
        assert.same({ nil, "cancelled" }, { done, err.code })
      end)
      assert.equal(0, T.open_intents())
    end)

    it("is explained later to whoever has the evidence", function()
      T.run(function()
        local connection <close> = connect("app")
        T.forget_records()
        assert(connection:exec("INSERT INTO item VALUES (1)"))
        local body = T.records()[1].body
        local evidence = { xid = body:match('"xid":(%d+)'), system = connection:card().system, timeline = 1, pid = 1 }
        assert.equal("done", (native.probe(connection, evidence)))
        local tx = assert(connection:begin())
        local records = T.records()
        evidence.xid = records[#records].body:match('"xid":(%d+)')
        assert.equal("running", (native.probe(connection, evidence)))
        tx:rollback()
        assert.equal("not begun", (native.orphan(connection, evidence)))
        evidence.system = "1"
        assert.is_nil((native.probe(connection, evidence)))
        evidence.system, evidence.timeline = nil, 7
        assert.is_nil((native.probe(connection, evidence)))
      end)
    end)

    it("leaves an orphan that can be ended", function()
      T.run(function()
        local connection <close> = connect("app")
        local card = connection:card()
        local tx = assert(connection:begin())
        local records = T.records()
        local evidence = { xid = records[#records].body:match('"xid":(%d+)'), system = card.system, timeline = card.timeline,
          pid = card.pid, backend_start = card.backend_start }
        local other = new("app")
        assert.equal("not begun", (native.orphan(other, evidence, { end_it = true, within_ms = 60000 })))
        tx:rollback()
      end)
    end)
  end)

  describe("COPY", function()
    it("streams rows out, inside the fence", function()
      T.run(function()
        local connection <close> = reader()
        local rows <close> = assert(connection:copy_out("SELECT i, 'x' AS t FROM generate_series(1, 3) i;", { format = "csv", header = true }))
        local text = {}
        while true do
          local piece, err = rows:read(65536)
          assert(not err, err)
          if not piece then break end
          text[#text + 1] = piece
        end
        assert.equal("i,t\n1,x\n2,x\n3,x\n", table.concat(text))
        assert.is_true(rows:close())
        assert.equal(1, connection:value("SELECT 1"))
        for _, sql in ipairs { "DELETE FROM item RETURNING 1", "SELECT pg_sleep(1)", "COPY item TO '/tmp/x'", "COPY item TO PROGRAM 'id'",
          "COPY (DELETE FROM item RETURNING id) TO STDOUT", "SELECT 1) TO PROGRAM 'id' --" } do
          assert.is_nil((connection:copy_out(sql)), sql)
        end
        assert.equal(2, connection:value("SELECT 2"))
      end)
    end)

    it("can be left in the middle, both ways", function()
      T.run(function()
        local connection <close> = reader()
        do
          local rows <close> = assert(connection:copy_out("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
          assert.is_true(#rows:read(1000) > 0)
        end
        assert.equal(1, connection:value("SELECT 1"))
        local acting <close> = connect("app")
        assert.is_false((pcall(function()
          local into <close> = assert(acting:copy_in("COPY item FROM STDIN"))
          assert(into:write("1\tone\n"))
          error("changed my mind")
        end)))
        assert.equal(0, acting:exec("SELECT count(*) FROM item").rows[1].count)
      end)
      assert.equal(0, T.open_intents())
    end)

    it("brings rows in, all or none", function()
      T.run(function()
        local connection <close> = connect("app", { max_rows = 3 })
        local function bring(text)
          local into <close> = assert(connection:copy_in("COPY item FROM STDIN (FORMAT csv)"))
          assert(into:write(text))
          return into:close()
        end
        assert.is_true(bring("1,one\n2,two\n"))
        local _, err = bring("3,three\nx,wrong\n")
        assert.equal("22P02", err.sqlstate)
        _, err = bring("3,a\n4,b\n5,c\n6,d\n")
        assert.equal("refused", err.code)
        assert.equal(2, connection:exec("SELECT count(*) FROM item").rows[1].count)
        assert.is_nil((connection:copy_in("COPY item FROM '/etc/passwd'")))
      end)
      assert.equal(2, count())
      assert.equal(0, T.open_intents())
    end)

    it("moves a hundred thousand rows through a pipe, whole", function()
      T.run(function()
        local source <close> = reader()
        local acting <close> = connect("app")
        local from <close> = assert(source:copy_out("SELECT i, md5(i::text) FROM generate_series(1, 100000) i"))
        local into <close> = assert(acting:copy_in("COPY item FROM STDIN"))
        local moved = assert(from:pipe(into))
        assert.is_true(moved.bytes > 3000000)
        assert.is_true(from:close())
        assert.is_true(into:close())
      end)
      assert.equal("100000|" .. server.sql("SELECT md5(string_agg(md5(i::text), ',' ORDER BY i)) FROM generate_series(1, 100000) i"),
        server.sql("SELECT count(*), md5(string_agg(name, ',' ORDER BY id)) FROM item", database))
    end)
  end)

  describe("a lock", function()
    local key = "0123456789abcdef"

    it("belongs to one, names its holder to others, and goes with its session", function()
      T.run(function()
        local second <close> = connect("owner", { application = "neap:other:2" })
        do
          local first <close> = connect("app", { application = "neap:first:1" })
          assert.is_true(first:lock(key))
          local ok, err = second:lock(key)
          assert.same({ nil, "busy" }, { ok, err.code })
          assert.truthy(err.message:find("neap:first:1", 1, true))
          assert.truthy(err.message:find(tostring(first:card().pid), 1, true))
          assert.same({ true, false }, { first:has_lock(key), second:has_lock(key) })
          assert.is_true(second:lock("fedcba9876543210"))
        end
        repeat local ok = second:lock(key) until ok
      end)
    end)

    it("is only looked at in a preview", function()
      T.run(function()
        local connection <close> = connect("app")
        local nobodys = "00000000000000aa"                -- the session that had the other one may not have ended yet
        guard.mode("plan")
        assert.is_true(connection:lock(nobodys))
        guard.mode("run")
        assert.is_false(connection:has_lock(nobodys))
      end)
    end)

    for _, user in ipairs { "admin", "app" } do
      it(("leaves a hold by %s that every other role can read"):format(user), function()
        T.run(function()
          local mine <close> = connect(user)
          local theirs <close> = connect("reader")
          assert.is_nil((theirs:hold_get(key)))
          assert(mine:hold_set(key, "first"))
          assert(mine:hold_set(key, "run 'x' \\ of\n\"y\""))
          assert.same({ "run 'x' \\ of\n\"y\"", user }, { theirs:hold_get(key) })
          assert.is_nil((theirs:hold_get("fedcba9876543210")))
          assert.is_nil((theirs:hold_clear(key)))
          assert(mine:hold_clear(key))
          assert.is_nil((theirs:hold_get(key)))
        end)
      end)
    end
  end)

  describe("the server's databases", function()
    it("are made, dropped and emptied of sessions by name, quotes and all", function()
      T.run(function()
        local connection <close> = connect("admin", { database = "postgres" })
        assert(connection:create_database('odd "name\'', { owner = "owner", template = "template0", encoding = "UTF8" }))
        assert.equal("owner", server.sql([[SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'odd "name''']]))
        local guest <close> = connect("admin", { database = 'odd "name\'', application = "guest" })
        local spared <close> = connect("admin", { database = 'odd "name\'' })
        assert.equal(1, connection:terminate({ database = 'odd "name\'', except_own = true }).rows[1].ended)
        assert.is_true(spared:is_open())
        spared:close()
        local ok, err
        repeat ok, err = connection:drop_database('odd "name\'') until ok or err.sqlstate ~= "55006"
        assert(ok, err)
        assert.is_not_nil(guest)
      end)
    end)
  end)
end)
