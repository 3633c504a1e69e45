-- T9: "point-in-time recovery" by pg_restore. A dump knows one moment, its own: whatever is asked for, that is what comes back. A moment between needs
-- a base backup and the log.

local archives = require "tests.support.archive"
local child = require "tests.support.child"
local servers = require "tests.support.servers"

describe("trap T9: pg_restore is called point-in-time recovery", function ()
  it("brings back the moment of the dump, without the good row; the runbook brings back the moment that was asked for", function ()
    local first = archives.start()
    local pg = first.pg
    local function tool(argv, input)
      return child.must { argv = argv, input = input, env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH"), LANG = "C.UTF-8" } }
    end
    local where = { "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin" }
    local function words(program, ...) return { pg.bin .. "/" .. program, where[1], where[2], where[3], where[4], where[5], where[6], ... } end

    -- The nightly dump, made before the good row was written, and a restore that names no moment because it cannot.
    local path = first.pg.dir .. "/nightly.dump"
    pg.sql "create database nightly"
    pg.sql("create table orders (id int primary key, a text); insert into orders select i, 'old' from generate_series(1, 50) i", "nightly")
    tool(words("pg_dump", "-Fc", "-f", path, "nightly"))
    pg.sql("insert into orders values (101, 'good')", "nightly")
    local help = tool { pg.bin .. "/pg_restore", "--help" }
    assert.is_nil(help:lower():find("target[%-_ ]time"))
    local restored = pg.database()
    tool(words("pg_restore", "-d", restored, path))
    assert.equal("50|0", pg.sql("select count(*), count(*) filter (where id = 101) from orders", restored))

    -- The moment between the good row and the bad one.
    local at = first.open { password = true }
    at.ends(0, at.wants("run", first.at.between, { "--base", "tuesday", "--confirm", "destroys=tuesday", "--no-input" }))
    assert.equal("1|0", at.sql "select count(*) filter (where id = 101), count(*) filter (where id = 666) from orders")
    local found = {}
    for _, record in ipairs(at.records()) do
      if record.kind == "check" and record.body.ok then found[record.body.text] = true end
    end
    for _, truth in ipairs { "the last transaction was over by " .. first.at.between, "the good row is there", "the bad row is not there" } do assert.is_true(found[truth], truth) end
  end)

  it("and a restore without a moment, or without a row to prove it by, does not begin", function ()
    local at = archives.start().open()
    local said = at.ends(64, { "plan", "postgres/restore-to-time", "--database", "postgres" })
    assert.matches("missing: --good, --time", said, 1, true)
  end)
end)
