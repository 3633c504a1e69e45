-- T12: "ANALYZE; VACUUM;" sent together is one transaction, and VACUUM refuses to be in one: nothing is vacuumed, and a script
-- without ON_ERROR_STOP goes on. What answers: a statement that must be alone is sent alone, whoever writes it, and is refused inside a transaction.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

describe("T12, VACUUM among other statements", function ()
  it("is refused as the guide sends it, and done as ours does", function ()
    local pg = servers.postgres { name = "alone", settings = { "autovacuum = off" } }
    local ward = wards.open(pg)
    ward.await("select n_dead_tup from pg_stat_user_tables where relname = 't'", "1000")         -- told when the session that deleted them has ended
    local r = child.run { argv = { pg.bin .. "/psql", "-X", "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin", "-d", ward.database, "-c", "ANALYZE; VACUUM;" },
      env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH") } }
    assert.matches("VACUUM cannot run inside a transaction block", r.out .. r.err, 1, true)
    assert.equal("1000", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
    ward.ends(0, { "run", "postgres/vacuum" })
    assert.equal("0", pg.sql("select n_dead_tup from pg_stat_user_tables where relname = 't'", ward.database))
  end)

  it("is sent alone by exec, refused in a transaction and beside another statement", function ()
    local pg = servers.postgres()
    local ward = wards.open(pg)
    local function book(act)
      suite.write(ward.dir .. "/book.lua", ([[runbook "x" { why = "x" } local db = target.postgres "db"
        step "x" { act = function () %s end, verify = function () end }]]):format(act))
      return { "run", ward.dir .. "/book.lua", "--no-input" }
    end
    ward.ends(0, book 'db:exec "VACUUM t"')
    assert.matches("cannot be part of a transaction", ward.neap(book 'db:transaction(function (tx) tx:exec "VACUUM t" end)').all, 1, true)
    assert.matches("exec takes one statement, not 2", ward.neap(book 'db:exec "ANALYZE; VACUUM"').all, 1, true)
  end)
end)
