-- T27: "migrate deploy is idempotent and safe to repeat". Two at once fight for one advisory lock: the second waits ten seconds and ends with an
-- error that does not say who has it. What answers: a run has a lock of its own on the database, and names whoever holds Prisma's.

local migrating = require "tests.support.migrating"
local tools = require "tests.support.tools"

local MORE <const> = { { "2_more", "CREATE TABLE more (id int);\n" } }
local LOCK <const> = "select pg_advisory_lock(72707369); select 'held';"

describe("T27, two migrations at once", function ()
  it("end after ten seconds and name nobody, as the guides have it #long", function ()
    local at, why = migrating.open("direct", "prisma", MORE)
    if not at then return pending(why) end
    local holder <close> = at.session(LOCK, "held", "start.sh")
    assert(holder)
    local r = tools.run("prisma", at.pg, at.database, { "migrate", "deploy" })
    assert.equal(1, r.code)
    assert.not_matches("start.sh", r.out .. r.err, 1, true)
    assert.equal("1_init", at.recorded())
  end)

  it("do not begin here: whoever holds the tool's lock is named, and the tool is not called", function ()
    local at, why = migrating.open("direct", "prisma", MORE, { program = "/bin/true" })
    if not at then return pending(why) end
    local holder <close> = at.session(LOCK, "held", "start.sh")
    assert(holder)
    for _, verb in ipairs { "plan", "run" } do
      local r = at.neap { verb, "postgres/migrate", table.unpack(migrating.gates) }
      assert.equal(1, r.code, r.all)
      assert.matches("nobody else is migrating " .. at.database, r.all, 1, true)
      assert.matches("pid %d+, start%.sh of owner from [%w%. ]+ since [%d:%-%. +]+ holds prisma's lock", r.all)
    end
    assert.same({}, at.calls())
    assert.equal("0", at.shadows())
  end)
end)
