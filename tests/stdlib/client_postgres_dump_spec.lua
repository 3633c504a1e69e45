--- db:dump, db:restore, db:snapshot, db:counts, db:shape on a real server: one instant, every format, and what is refused by its content.

local client = require("client.postgres")
local folders = require("client.folder")
local guard = require("native.guard")
local secret = require("native.secret")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local wards = require("tests.support.ward")

local SCHEMA <const> = [[
  CREATE TYPE mood AS ENUM ('calm', 'high'); CREATE SCHEMA app;
  CREATE TABLE app."Session" (id serial PRIMARY KEY, body text NOT NULL DEFAULT 'x', mood mood); CREATE TABLE item (id int PRIMARY KEY, name text, gone int);
  ALTER TABLE item DROP COLUMN gone; ALTER TABLE item ADD price numeric(10,2) CHECK (price >= 0); CREATE INDEX item_name ON item (name);
  CREATE VIEW cheap AS SELECT id FROM item WHERE price < 1; CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
  INSERT INTO item SELECT i, repeat(md5(i::text), 20), i FROM generate_series(1, 500) i; INSERT INTO app."Session" (body) SELECT 'b' || i FROM generate_series(1, 40) i;
  ALTER SCHEMA app OWNER TO owner; ALTER TABLE app."Session" OWNER TO owner; ALTER TABLE item OWNER TO owner; ALTER VIEW cheap OWNER TO owner;
  ALTER FUNCTION twice OWNER TO owner; ALTER TYPE mood OWNER TO owner;]]

describe("a dump and its restore", function ()
  local pg, database, dir, folder
  local place = {}

  setup(function ()
    pg = servers.postgres()
    database = pg.database()
    pg.sql(SCHEMA, database)
    place.database = database
    wards.sessions(place, pg)
  end)

  before_each(function ()
    dir = suite.temp()
    folder = folders.bind("backups", { path = dir }, {})
  end)

  local function bind(more, name)
    local spec = { url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, name or database), tools_path = pg.bin,
      password = assert(secret.of(servers.passwords.owner, "password of owner")) }
    for key, value in pairs(more or {}) do spec[key] = value end
    local object = client.bind("db", spec, { application = "neap:spec:abcdef012345", environment = "test" })
    return setmetatable({ object = object }, {
      __index = function (_, method) return function (_, ...) return object.methods[method](object, ...) end end,
      __close = function () client.close(object) end,
    })
  end

  local function dump(db, name, wanted, given)
    local command <close> = db:dump(wanted)
    return folder:copy_in(command, name, given)
  end

  local function counts(db, name) return db.object.methods.on(db.object, name).methods.counts(db.object.methods.on(db.object, name)) end
  local function shape(db, name) return db.object.methods.shape(db.object.methods.on(db.object, name)) end

  local function fails(code, words, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.equal(code, err.code, tostring(err))
    assert.matches(words, err.message, 1, true)
    return err
  end

  it("brings everything back, in every format and compression", function ()
    T.run(function ()
      local db <close> = bind()
      local wanted, whole = db:counts(), db:shape()
      assert.equal(500, wanted["public.item"])
      for _, format in ipairs { "custom", "directory", "plain" } do
        for _, compress in ipairs { "none", "gzip", "zstd" } do
          local name, target = ("%s.%s"):format(format, compress), pg.database()
          local moved = dump(db, name, { format = format }, { compress = compress ~= "none" and compress or nil })
          local restored = db:restore { from = { folder, name }, into = target, sha256 = moved.written_sha256 }
          assert.equal(format, restored.format)
          assert.same(wanted, counts(db, target), name)
          assert.same(whole, shape(db, target), name)
          client.close(db.object.others and db.object.others[target] or db.object)
        end
      end
    end)
  end)

  it("is of the instant of its snapshot, however much is written meanwhile", function ()
    T.run(function ()
      local db <close> = bind()
      local target = pg.database()
      local before
      do
        local now <close> = db.object.methods.snapshot(db.object)
        before = now.methods.counts(now)
        pg.sql("INSERT INTO item VALUES (9001, 'late', 1)", database)
        assert.same(before, now.methods.counts(now))
        dump(db, "night.dump", { snapshot = now })
        assert.equal(before["public.item"] + 1, db:counts()["public.item"])
      end
      db:restore { from = { folder, "night.dump" }, into = target }
      assert.same(before, counts(db, target))
      place.await("select count(*) from pg_stat_activity where state like 'idle in%'", "0")
      pg.sql("DELETE FROM item WHERE id = 9001", database)
    end)
  end)

  it("flows from a dump into a restore in one pass", function ()
    T.run(function ()
      local db <close> = bind()
      local target = pg.database()
      local command <close> = db:dump { tables = { "app.Session" } }
      pg.sql("CREATE SCHEMA app AUTHORIZATION owner", target)
      fails("refused", "is not empty", db.restore, db, { from = command, into = target })
      pg.sql("DROP SCHEMA app", target)
      local again <close> = db:dump {}
      db:restore { from = again, into = target }
      assert.equal(40, counts(db, target)["app.Session"])
    end)
  end)

  it("changes its shape with whatever a table is made of", function ()
    T.run(function ()
      local other_name = pg.database(database)
      local db <close> = bind({}, other_name)
      local whole = db:shape()
      for _, change in ipairs { "ALTER TABLE item ALTER name SET NOT NULL", "DROP INDEX item_name", "ALTER TABLE item ALTER name TYPE varchar(700)",
        "ALTER TABLE item DROP CONSTRAINT item_price_check", "ALTER TABLE item ENABLE ROW LEVEL SECURITY", "ALTER TABLE item ALTER name SET DEFAULT 'y'" } do
        pg.sql(change, other_name)
        local other = db:shape()
        assert.is_true(other["public.item"] ~= whole["public.item"], change)
        assert.equal(whole["app.Session"], other["app.Session"], change)
        whole = other
      end
      pg.sql("CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 3'", other_name)
      assert.is_true(db:shape()[""] ~= whole[""])
      assert.equal(whole["public.item"], db:shape()["public.item"])
    end)
  end)

  it("is refused where it is cut, whatever its format, and leaves nothing behind", function ()
    T.run(function ()
      local db <close> = bind()
      local target = pg.database()
      for _, format in ipairs { "custom", "directory", "plain" } do
        dump(db, format, { format = format })
        local bytes = suite.read(dir .. "/" .. format)
        for _, at in ipairs { 0, 3, 300, #bytes // 2, #bytes - (format == "plain" and 60 or 700), #bytes - (format == "plain" and 40 or 1) } do
          suite.write(dir .. "/cut", bytes:sub(1, at))
          local ok, err = pcall(db.restore, db, { from = { folder, "cut" }, into = target })
          assert.is_false(ok, ("%s cut at %d of %d"):format(format, at, #bytes))
          assert.is_true(err.code == "invalid" or err.code == "remote", tostring(err))
          assert.same({}, counts(db, target))
        end
      end
    end)
  end)

  it("is refused when it is none, a whole cluster's, or newer than the tools", function ()
    T.run(function ()
      local db <close> = bind()
      local target = pg.database()
      local function put(bytes) suite.write(dir .. "/x", bytes) return { from = { folder, "x" }, into = target } end
      fails("invalid", "x is empty", db.restore, db, put "")
      fails("invalid", "is no dump that pg_dump makes", db.restore, db, put "DROP TABLE item;\n")
      fails("invalid", "is a dump of a whole cluster", db.restore, db, put "--\n-- PostgreSQL database cluster dump\n--\n")
      dump(db, "whole")
      local bytes = suite.read(dir .. "/whole")
      fails("invalid", "which pg_restore", db.restore, db, put(bytes:sub(1, 6) .. "\x63" .. bytes:sub(8)))
      fails("invalid", "was made by pg_dump 99.1", db.restore, db, put "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 99.1\n-- Dumped by pg_dump version 99.1\n")
      fails("invalid", "is custom, not plain", db.restore, db, { from = { folder, "whole" }, into = target, format = "plain" })
      fails("usage", "no database \"nowhere\" to restore into", db.restore, db, { from = { folder, "whole" }, into = "nowhere" })
      fails("refused", "is not empty", db.restore, db, { from = { folder, "whole" }, into = database })
      assert.same({}, counts(db, target))
    end)
  end)

  it("stops at the first error, counts the errors, and says that nothing of it is there", function ()
    T.run(function ()
      local db <close> = bind()
      local target = pg.database()
      dump(db, "plain", { format = "plain" })
      local bytes = suite.read(dir .. "/plain"):gsub("CREATE INDEX item_name", "CREATE INDEX item_name ON nowhere (x);\nCREATE INDEX item_name")
      suite.write(dir .. "/bad", bytes)
      local err = fails("remote", "relation \"nowhere\" does not exist", db.restore, db, { from = { folder, "bad" }, into = target })
      assert.matches("nothing of it is in", err.hint, 1, true)
      assert.same({}, counts(db, target))
    end)
  end)

  it("of a database that is not there, or by tools that are not, is an error and no file", function ()
    T.run(function ()
      local db <close> = bind()
      local none = db.object.methods.on(db.object, "nowhere")
      fails("remote", "does not exist", function ()
        local command <close> = none.methods.dump(none, {})
        folder:copy_in(command, "none.dump")
      end)
      assert.same({}, folder:list())
      local other <close> = bind { tools_path = "/nowhere" }
      fails("config", "there is no pg_dump here", other.dump, other, {})
    end)
  end)

  it("is restored by several sessions from a file beside the tools, which is gone afterwards", function ()
    T.run(function ()
      local db <close> = bind()
      local wanted, whole, into = db:counts(), db:shape(), "jobs__abcdef012345"
      local stage = folders.bind("stage", { path = suite.temp() }, {})
      suite.after(function () pg.sql("drop database if exists " .. into .. " with (force)") end)
      local moved = dump(db, "night.gz", nil, { compress = "gzip" })
      pg.sql("create database " .. into .. " owner owner")
      pg.sql("create table half (id int)", into)                         -- what a run that died has left
      local restored = db:restore { from = { folder, "night.gz" }, into = into, jobs = 3, stage = stage, sha256 = moved.written_sha256 }
      assert.same({ "custom", moved.written_sha256 }, { restored.format, restored.sha256 })
      assert.same({ wanted, whole }, { counts(db, into), shape(db, into) })
      assert.same({}, stage:list())
      dump(db, "plain.dump")
      local other = db:restore { from = { folder, "plain.dump" }, into = into, jobs = 2 }        -- it lies there already
      assert.same({ whole, other.sha256 }, { shape(db, into), folder:hash("plain.dump") })
      local command <close> = db:dump()
      db:restore { from = command, into = into, jobs = 2, stage = stage }
      assert.same({ wanted, {} }, { counts(db, into), stage:list() })
    end)
  end)

  it("is not restored by several sessions where half of it could stay, or no file can be", function ()
    T.run(function ()
      local db <close> = bind()
      local into = "jobs__abcdef012345"
      local stage = folders.bind("stage", { path = suite.temp() }, {})
      suite.after(function () pg.sql("drop database if exists " .. into .. " with (force)") end)
      dump(db, "night")
      dump(db, "text", { format = "plain" })
      local function restore(code, words, wanted)
        wanted.from, wanted.into, wanted.stage = wanted.from or { folder, "night" }, wanted.into or into, wanted.stage or stage
        return fails(code, words, db.restore, db, wanted)
      end
      restore("refused", "no scratch database of this run", { into = pg.database(), jobs = 2 })
      restore("usage", "a number from 1 to 64, not 0", { jobs = 0 })
      restore("usage", "a number from 1 to 64, not 2.5", { jobs = 2.5 })
      restore("usage", "stage is a folder here", { jobs = 2, stage = "/tmp" })
      restore("usage", "stage is a folder here", { jobs = 2, stage = { host = function () return "iris" end } })
      restore("invalid", "is plain, which one session restores", { from = { folder, "text" }, jobs = 2 })
      fails("usage", "is no file here", db.restore, db, { from = folder:open("night"), into = into, jobs = 2 })
      assert.same({}, stage:list())
      local whole = folder:read("night")
      folder:write("cut", whole:sub(1, #whole // 2))
      local stream <close> = folder:open("cut")
      local err = restore("remote", "pg_restore here ended with status 1", { from = stream, jobs = 2 })
      assert.matches("dropped before it is restored again", err.hint)
      assert.same({}, stage:list())
      db:restore { from = { folder, "night" }, into = into, jobs = 2 }
      assert.equal(500, counts(db, into)["public.item"])
    end)
  end)

  it("is shown in a preview, and makes nothing", function ()
    T.run(function ()
      local db <close> = bind()
      dump(db, "night")
      local before = pg.sql "select count(*) from pg_database"
      guard.mode "plan"
      local ok, err = pcall(function ()
        db:restore { from = { folder, "night" }, into = "trial__abcdef012345" }
        fails("withheld", "", db.exists, db, "trial__abcdef012345")
        db:restore { from = folder:open("night"), into = "more__abcdef012345", jobs = 4, stage = folder }
      end)
      local lines = {}
      for i, line in ipairs(guard.predictions()) do lines[i] = line.text end
      guard.clear()
      guard.mode "run"
      if not ok then error(err, 0) end
      assert.matches("CREATE DATABASE", lines[1], 1, true)
      local all = table.concat(lines, "\n")
      assert.matches("/pg_restore --exit-on-error --single-transaction --no-password '--format=custom' '--dbname=trial__abcdef012345'", all, 1, true)
      assert.matches("/more__abcdef012345.dump.*/pg_restore %-%-exit%-on%-error '%-%-jobs=4' .*%-%-dbname=more__abcdef012345' %S+/more__abcdef012345.dump.*/more__abcdef012345.dump", all)
      assert.same({ "night" }, folder:list())
      assert.equal(before, pg.sql "select count(*) from pg_database")
    end)
  end)

  it("shows no password to anybody who lists processes or reads the server's log", function ()
    T.run(function ()
      local db <close> = bind()
      local holder = place.session("begin; lock table item; select 'held';", "held")      -- behind which it waits while it is looked at
      local command <close> = db:dump {}
      local said = suite.read("/proc/" .. command:pid() .. "/cmdline")
      getmetatable(holder).__close(holder)
      assert.is_nil(said:find(servers.passwords.owner, 1, true))
      assert.matches("--format=custom", said, 1, true)
      folder:copy_in(command, "x")
      assert.is_nil(pg.log():find("PGPASSWORD", 1, true))
    end)
  end)
end)
