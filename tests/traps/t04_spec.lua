-- T4: pg_restore --clean restores what is in the dump and leaves what is not: a table made after the backup survives, and the result is not the
-- state that was backed up. On an empty database --clean without --if-exists ends with status 1 and all data there. What answers: a restore
-- fills an empty database, and what came back is compared with the manifest, table by table.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

local TABLES <const> = "select string_agg(tablename, ',' order by tablename) from pg_tables where schemaname = 'public'"

describe("T4, what --clean leaves", function ()
  it("is a mixture, or a failure that is none; ours is what was backed up, and proven to be", function ()
    local at, why = setups.open("direct", { schema = "create table users as select generate_series(1, 100) as id; alter table users owner to owner" })
    if not at then return pending(why) end
    local live, empty = at.pg.database(at.database), at.pg.database()
    guide.sh(at, 'pg_dump -Fc "$DB" >night.dump')
    at.pg.sql("create table later as select 1 as id", live)
    assert.equal(0, guide.sh(at, "pg_restore -d " .. live .. " --clean night.dump").code)
    assert.equal("later,users", at.pg.sql(TABLES, live))                                   -- not what was backed up
    local r = guide.sh(at, "pg_restore -d " .. empty .. " --clean night.dump")
    assert.equal(1, r.code)
    assert.matches("errors ignored on restore", r.err, 1, true)
    assert.equal("100", at.pg.sql("select count(*) from users", empty))                    -- status 1, and everything is there

    suite.write(at.backups .. "/night.dump", suite.read(at.guide .. "/night.dump"))
    assert.matches("\"" .. live .. "\" is not empty: there are", guide.restore(at, "night.dump", live).all, 1, true)
    local into = at.pg.database()
    assert.equal(0, guide.restore(at, "night.dump", into).code)
    assert.equal("users", at.pg.sql(TABLES, into))
    at.ends(0, { "run", "postgres/backup", "--no-input", "--name", "ours.dump", "--globals=no" })
    at.pg.sql("create table later as select 1 as id", at.database)
    at.ends(0, { "run", "postgres/verify-backup", "--no-input", "--dump", "ours.dump" })    -- against the manifest, not against today
  end)
end)
