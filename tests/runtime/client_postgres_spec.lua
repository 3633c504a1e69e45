--- client.postgres on a real server: the object that runbooks and the engine hold.

local client = require("client.postgres")
local guard = require("native.guard")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")

describe("client.postgres", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id int PRIMARY KEY, name text); GRANT ALL ON item TO owner", database)
  end)

  before_each(function() server.sql("TRUNCATE item", database) end)

  -- An object whose methods are called as a runbook calls them.
  local function bind(user, more)
    local spec = { url = ("postgresql://%s@127.0.0.1:%d/%s"):format(user, server.port, database),
      password = assert(secret.of(servers.passwords[user], "password of " .. user)) }
    for key, value in pairs(more or {}) do spec[key] = value end
    local notices = {}
    local object = client.bind("db", spec, { application = "neap:spec:1", environment = "test",
      notice = function(severity, message, role) notices[#notices + 1] = { severity, message, role } end })
    return setmetatable({ object = object, notices = notices }, {
      __index = function(_, name) return function(_, ...) return object.methods[name](object, ...) end end,
      __close = function() client.close(object) end,
    })
  end

  local function preview(fn)
    guard.mode("plan")
    local ok, err = pcall(fn)
    guard.predictions()
    guard.clear()
    guard.mode("run")
    if not ok then error(err, 0) end
  end

  it("reads, writes and says who answers", function()
    T.run(function()
      local db <close> = bind("owner")
      assert.equal(2, db:exec("INSERT INTO item VALUES (1, 'a'), (2, 'b')").count())
      assert.same({ { id = 1 }, { id = 2 } }, db:rows("SELECT id FROM item ORDER BY id"))
      assert.same({ ["public.item"] = 2 }, db:counts())
      assert.same({ "public.item" }, db:tables())
      local card = db:card()
      assert.equal("postgres", card.kind)
      assert.truthy(card.id:match("^pg:%d+/" .. database .. "$"))
      assert.is_true(card.trusted)
      local _, err = pcall(db.value, db, "SELECT * FROM item")
      assert.equal("invalid", err.code)
    end)
  end)

  it("streams any number of rows, several streams at a time", function()
    T.run(function()
      local db <close> = bind("owner")
      local sum = 0
      for a in db:each("SELECT i FROM generate_series(1, 3) i") do
        for b in db:each("SELECT i FROM generate_series(1, $1::int) i", 2500) do sum = sum + a.i * b.i end
        assert.equal(1, db:value("SELECT 1"))
      end
      assert.equal(6 * 2500 * 2501 // 2, sum)
      for row in db:each("SELECT i FROM generate_series(1, 10000) i") do
        if row.i == 3 then break end
      end
      assert.is_true(#db.object.idle <= 4)
    end)
  end)

  it("commits a transaction at its end, and rolls it back on an error", function()
    T.run(function()
      local db <close> = bind("owner")
      assert.equal(1, db:transaction(function(tx)
        tx:exec("INSERT INTO item VALUES (1, 'a')")
        return tx:value("SELECT count(*) FROM item")
      end))
      local _, err = pcall(db.transaction, db, function(tx)
        tx:exec("DELETE FROM item")
        tx:exec("SELECT 1/0")
      end)
      assert.equal("22012", err.sqlstate)
      assert.equal(1, db:value("SELECT count(*) FROM item"))
    end)
    assert.equal(0, T.open_intents())
  end)

  it("hands on what the server says, with the role", function()
    T.run(function()
      local db <close> = bind("owner")
      db:exec("DO $$ BEGIN RAISE WARNING 'mind'; END $$")
      assert.same({ { "warning", "mind", "db" } }, db.notices)
    end)
  end)

  it("knows other databases of the server, which need not exist yet", function()
    T.run(function()
      local db <close> = bind("owner")
      assert.is_false(db:exists("later"))
      local there = db:on("later")
      local _, err = pcall(there.methods.value, there, "SELECT 1")
      assert.equal("3D000", err.sqlstate)
      db:create_database("later")
      assert.is_true(db:exists("later"))
      assert.equal("later", there.methods.value(there, "SELECT current_database()"))
      db:drop_database("later")
      assert.is_false(db:exists("later"))
    end)
  end)

  it("shows writes in a preview, and withholds what they would change", function()
    T.run(function()
      local db <close> = bind("owner")
      preview(function()
        assert.equal("userdata", type(db:exec("INSERT INTO item VALUES (1)")))
        local _, err = pcall(db.value, db, "SELECT count(*) FROM item")
        assert.equal("withheld", err.code)
        guard.clear()
        db:create_database("fresh")
        _, err = pcall(db.exists, db, "fresh")
        assert.equal("withheld", err.code)
        local there = db:on("fresh")
        _, err = pcall(there.methods.value, there, "SELECT 1")
        assert.equal("withheld", err.code)
        assert.equal(1, db:value("SELECT 1"))
        guard.clear()
        db:transaction(function(tx) tx:exec("DELETE FROM item") end)
        assert.equal(3, #guard.predictions())
        assert.is_nil(db.object.acting)
      end)
      assert.equal("0", server.sql("SELECT count(*) FROM item", database))
    end)
  end)

  it("reads as the preview role in a preview, and as itself in a run", function()
    T.run(function()
      local more = { preview = { user = "reader", password = assert(secret.of(servers.passwords.reader, "password of reader")) } }
      do
        local db <close> = bind("admin", more)
        preview(function() assert.same({ "reader", "enforced" }, { db:value("SELECT current_user"), db:card().label }) end)
      end
      local db <close> = bind("admin", more)
      assert.same({ "admin", "declared" }, { db:value("SELECT current_user"), db:card().label })
    end)
  end)

  it("copies rows to a file and back", function()
    T.run(function()
      local db <close> = bind("owner")
      local path = suite.temp() .. "/rows.csv"
      db:exec("INSERT INTO item SELECT i, 'name ' || i FROM generate_series(1, 1000) i")
      local moved = db:copy_out("SELECT * FROM item ORDER BY id", path, { format = "csv" })
      assert.equal(#suite.read(path), moved.bytes)
      db:exec("DELETE FROM item")
      db:copy_in("COPY item FROM STDIN (FORMAT csv)", path)
      assert.equal(1000, db:value("SELECT count(*) FROM item"))
    end)
    assert.equal(0, T.open_intents())
  end)

  it("is kept by one run at a time, and by the debt of a dead one", function()
    T.run(function()
      local mine <close> = bind("owner")
      local other <close> = bind("admin")
      local function ask(db, name, ...) return db.object.guardians[name](db.object, ...) end
      assert.is_true(ask(mine, "lock"))
      local ok, err = ask(other, "lock")
      assert.same({ nil, "busy" }, { ok, err.code })
      assert.same({ true, false }, { ask(mine, "prove"), ask(other, "prove") })
      ask(mine, "hold", "run 7f3a of spec")
      assert.equal("run 7f3a of spec", ask(other, "held"))
      ask(mine, "release")
      assert.is_nil(ask(other, "held"))
    end)
  end)

  it("is free for the next run as soon as one has closed it, not when the server has heard of that", function()
    T.run(function()
      local next_one <close> = bind("admin")
      local from = #server.log()
      for _ = 1, 3 do
        local mine <close> = bind("owner")
        assert.is_true(mine.object.guardians.lock(mine.object))
        client.close(mine.object)
        assert.is_true(next_one.object.guardians.lock(next_one.object))
        client.close(next_one.object)
      end
      assert.equal(6, select(2, server.log():sub(from):gsub("execute [^\n]*pg_advisory_unlock", "")))
    end)
  end)

  it("gives a tool its URL as a secret", function()
    T.run(function()
      local db <close> = bind("owner")
      local url = db:url { prisma = true }
      assert.is_true(secret.is(url))
    end)
  end)

  describe("exec_many", function()
    local function count() return tonumber(server.sql("SELECT count(*) FROM item", database)) end

    local function list_of(n)
      local list = {}
      for i = 1, n do list[i] = { i, "name " .. i } end
      return list
    end

    it("does one statement for each row of parameters, in one transaction", function()
      T.run(function()
        local db <close> = bind("owner")
        assert.equal(1000, db:exec_many("INSERT INTO item VALUES ($1, $2)", list_of(1000)):count())
        assert.equal(0, db:exec_many("INSERT INTO item VALUES ($1, $2)", {}):count())
        assert.equal(1, db:exec_many("UPDATE item SET name = $2 WHERE id = $1", { table.pack(7, nil) }):count())
      end)
      assert.equal(1000, count())
      assert.equal("7", server.sql("SELECT id FROM item WHERE name IS NULL", database))
    end)

    it("leaves nothing when one of them fails, and says which row the server refused", function()
      T.run(function()
        local db <close> = bind("owner")
        local list = list_of(600)
        list[500] = { 3, "the third again" }
        local ok, err = pcall(db.exec_many, db, "INSERT INTO item VALUES ($1, $2)", list)
        assert.is_false(ok)
        assert.equal("23505", err.sqlstate)
        assert.matches("It was row 500 of 600%.", err.hint)
      end)
      assert.equal(0, count())
    end)

    it("finds a wrong parameter of the last row before anything is sent", function()
      T.run(function()
        local db <close> = bind("owner")
        local list = list_of(300)
        list[300] = { 300, print }
        local ok, err = pcall(db.exec_many, db, "INSERT INTO item VALUES ($1, $2)", list)
        assert.is_false(ok)
        assert.equal("usage", err.code)
        list[300] = "no list"
        assert.is_false(pcall(db.exec_many, db, "INSERT INTO item VALUES ($1, $2)", list))
      end)
      assert.equal(0, count())
    end)

    it("counts every row against the bound of the environment", function()
      T.run(function()
        local db <close> = bind("owner")
        db.object.context.max_rows = function() return 99 end
        local ok, err = pcall(db.exec_many, db, "INSERT INTO item VALUES ($1, $2)", list_of(100))
        assert.is_false(ok)
        assert.equal("refused", err.code)
      end)
      assert.equal(0, count())
    end)

    it("is shown in a preview with its number and its first parameters, and done by nobody", function()
      T.run(function()
        local db <close> = bind("owner")
        guard.mode("plan")
        db:exec_many("INSERT INTO item VALUES ($1, $2)", list_of(3))
        db:transaction(function(tx) tx:exec_many("DELETE FROM item WHERE id = $1", { { 1 } }) end)
        local shown = guard.predictions()
        guard.clear()
        guard.mode("run")
        assert.equal("INSERT INTO item VALUES ($1, $2)  -- 3 times, first with $1 = 1, $2 = 'name 1'", shown[1].text)
        assert.equal("DELETE FROM item WHERE id = $1  -- 1 time, first with $1 = 1", shown[2].text)
      end)
      assert.equal(0, count())
    end)
  end)
end)
