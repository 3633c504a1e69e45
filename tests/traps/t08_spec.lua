-- T8: psql db < backup.sql. Without ON_ERROR_STOP psql ends with 0 whatever fails, and over a schema that is there the rows are doubled. What
-- answers: a restore fills an empty database only, stops at the first error, and leaves nothing of it.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

describe("T8, psql and its status", function ()
  it("doubles the rows and ends with 0 by the guide's way; ours refuses, and stops at the first error", function ()
    local at, why = setups.open("direct", { schema = "create table users as select generate_series(1, 101) as id; alter table users owner to owner" })
    if not at then return pending(why) end
    local live = at.pg.database(at.database)
    guide.sh(at, 'pg_dump "$DB" >backup.sql')
    local r = guide.sh(at, "psql -q " .. live .. " < backup.sql")
    assert.equal(0, r.code)
    assert.is_true(select(2, r.err:gsub("ERROR:", "")) >= 1, r.err)
    assert.equal("202", at.pg.sql("select count(*) from users", live))

    suite.write(at.backups .. "/backup.sql", suite.read(at.guide .. "/backup.sql"))
    r = guide.restore(at, "backup.sql", at.database)
    assert.equal(77, r.code, r.all)
    assert.matches("is not empty", r.all, 1, true)
    assert.equal("101", at.pg.sql("select count(*) from users", at.database))
    local into = at.pg.database()
    suite.write(at.backups .. "/bad.sql", (suite.read(at.guide .. "/backup.sql"):gsub("\nCOPY", "\nSELECT nosuch();\nCOPY", 1)))
    r = guide.restore(at, "bad.sql", into)
    assert.equal(1, r.code, r.all)
    assert.matches("function nosuch() does not exist", r.all, 1, true)
    assert.equal("0", at.pg.sql("select count(*) from pg_tables where schemaname = 'public'", into))
    assert.equal(0, guide.restore(at, "backup.sql", into).code)
    assert.equal("101", at.pg.sql("select count(*) from users", into))
  end)
end)
