-- T2: pg_restore --clean onto the live database. A dump cut to 60 % still passes pg_restore --list with status 0; restored with --clean it leaves
-- users without a single row. What answers: a listing is no verification; a dump is read to its end, and restored into an empty database in
-- one transaction, or not at all.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

describe("T2, a dump that was cut", function ()
  it("lists well and empties the live table by the guide's way; ours refuses it, and leaves the live one alone", function ()
    local at, why = setups.open("direct", { schema = "create table users as select i as id, md5(i::text) || md5((i * 7)::text) as name from generate_series(1, 20000) i;"
      .. "alter table users owner to owner" })
    if not at then return pending(why) end
    local live = at.pg.database(at.database)
    guide.sh(at, 'pg_dump -Fc "$DB" >whole.dump; head -c $(($(stat -c %s whole.dump) * 6 / 10)) whole.dump >cut.dump')
    assert.equal(0, guide.sh(at, "pg_restore --list cut.dump >/dev/null").code)
    assert.equal(1, guide.sh(at, "pg_restore -d " .. live .. " --clean cut.dump").code)
    assert.equal("0", at.pg.sql("select count(*) from users", live))                      -- of 20 000

    suite.write(at.backups .. "/cut.dump", suite.read(at.guide .. "/cut.dump"))
    local into = at.pg.database()
    local r = guide.restore(at, "cut.dump", into)
    assert.equal(1, r.code, r.all)
    assert.matches("pg_restore here ended with status 1", r.all, 1, true)
    assert.equal("0", at.pg.sql("select count(*) from pg_tables where schemaname = 'public'", into))
    assert.matches("is not empty", guide.restore(at, "cut.dump", at.database).all, 1, true)
    assert.equal("20000", at.pg.sql("select count(*) from users", at.database))
  end)
end)
