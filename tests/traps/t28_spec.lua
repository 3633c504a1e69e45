-- T28: "npx drizzle-kit migrate", and it said that all is well. A migration that was merged late is passed over with "applied successfully" and
-- status 0; one that fails ends with status 1 and not a word of why. What answers: the history table and the journal are asked, not the
-- tool; and the rehearsal has the server's own words before anything happened.

local migrating = require "tests.support.migrating"
local tools = require "tests.support.tools"

local LATE <const> = "ALTER TABLE \"Customer\" ADD COLUMN late text;\n"
local WRONG <const> = "ALTER TABLE \"Customer\" ADD CONSTRAINT c CHECK (nope > 0) NOT VALID;\n"
local COLUMN <const> = "select count(*) from information_schema.columns where column_name = 'late'"

describe("T28, what drizzle-kit says", function ()
  local function guide(at)
    local program = assert(tools.with_folder("drizzle", at.dir .. "/guide", at.migrations))
    return tools.run_program(program, at.pg, at.database, { "migrate" })
  end

  it("is success for a migration that it passed over; ours refuses it by name", function ()
    local at, why = migrating.open("direct", "drizzle", {})
    if not at then return pending(why) end
    at.pend("0000_late", LATE, 1600000000000)
    local r = guide(at)
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("applied successfully", r.out .. r.err, 1, true)
    assert.equal("0", at.pg.sql(COLUMN, at.database))
    local ours = at.neap { "run", "postgres/migrate", "--no-input", table.unpack(migrating.gates) }
    assert.equal(1, ours.code, ours.all)
    assert.matches("\"0000_late\" was merged late", ours.all, 1, true)
    assert.same({}, at.calls())
  end)

  it("is nothing about one that fails; ours has the server's words from the rehearsal", function ()
    local at, why = migrating.open("direct", "drizzle", { { "0001_wrong", WRONG } })
    if not at then return pending(why) end
    local r = guide(at)
    assert.equal(1, r.code, r.out .. r.err)
    assert.not_matches("nope", r.out .. r.err, 1, true)
    local ours = at.neap { "run", "postgres/migrate", "--no-input", table.unpack(migrating.gates) }
    assert.equal(1, ours.code, ours.all)
    assert.matches("column \"nope\" does not exist", ours.all, 1, true)
    assert.same({}, at.calls())
    assert.equal("1", at.recorded())
  end)
end)
