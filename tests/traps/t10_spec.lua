-- T10: "psql $DATABASE_URL", with the URL of an ORM: libpq rejects the parameters that Prisma and its pools put there. And behind a pooler a lock
-- belongs to nobody, so that a migration there is not one. What answers: neap reads such URLs itself, and refuses to change anything
-- through a pooler.

local child = require "tests.support.child"
local migrating = require "tests.support.migrating"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

describe("T10, the URL of an ORM", function ()
  it("is none for psql and pg_dump; ours reads it, and changes nothing through a pooler", function ()
    local at, why = migrating.open("direct", "prisma", { { "2_more", "CREATE TABLE more (id int);\n" } }, { program = "/bin/true" })
    if not at then return pending(why) end
    local function guide(program, key)
      return child.run { argv = { at.pg.bin .. "/" .. program, ("postgresql://owner@127.0.0.1:%d/%s?%s"):format(at.pg.port, at.database, key) },
        env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv("PATH") } }
    end
    for _, key in ipairs { "schema=public", "connection_limit=10", "pool_timeout=10", "pgbouncer=true" } do
      for _, program in ipairs { "psql", "pg_dump" } do
        local r = guide(program, key)
        assert.is_true(r.code ~= 0)
        assert.matches(("invalid URI query parameter: \"%s\""):format(key:match("^[^=]+")), r.err, 1, true)
      end
    end
    local ours = at.neap { "plan", "postgres/migrate", table.unpack(migrating.gates) }                  -- the set-up's URL has them
    assert.equal(2, ours.code, ours.all)
    assert.matches("connection_limit=10&pool_timeout=10", suite.read(at.inventory), 1, true)

    suite.write(at.inventory, (suite.read(at.inventory):gsub("connection_limit=10", "pgbouncer=true&connection_limit=10")))
    local r = at.neap { "run", "postgres/migrate", "--no-input", table.unpack(migrating.gates) }
    assert.is_true(r.code ~= 0, r.all)
    assert.matches("a lock does not work through a pooler", r.all, 1, true)
    assert.matches("Give the inventory a direct connection to the server.", r.all, 1, true)
    assert.same({}, at.calls())
    assert.equal("1_init", at.recorded())
    assert.equal("0", at.shadows())
  end)
end)
