-- T9: "Point-in-time recovery: pg_restore -d … backup.dump". That is no recovery to a point in time, and pg_restore refuses the plain text that
-- the same guide's backup makes. What answers: a dump is known by its content whatever it is called, and each is given to the program that reads it.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

describe("T9, pg_restore and a plain dump", function ()
  it("do not fit by the guide's way; ours asks the content, not the name", function ()
    local at, why = setups.open("direct", { schema = "create table users as select generate_series(1, 30) as id; alter table users owner to owner" })
    if not at then return pending(why) end
    local into = at.pg.database()
    guide.sh(at, 'pg_dump "$DB" >backup.dump; pg_dump -Fc "$DB" | gzip >custom.sql')         -- each with the name of the other
    local r = guide.sh(at, "pg_restore -d " .. into .. " backup.dump")
    assert.equal(1, r.code)
    assert.matches("text format dump", r.err, 1, true)
    for name, format in pairs { ["backup.dump"] = "plain", ["custom.sql"] = "custom" } do
      suite.write(at.backups .. "/" .. name, suite.read(at.guide .. "/" .. name))
      local target = at.pg.database()
      r = guide.restore(at, name, target)
      assert.equal(0, r.code, r.all)
      assert.matches("of " .. format, r.all, 1, true)
      assert.equal("30", at.pg.sql("select count(*) from users", target))
    end
  end)
end)
