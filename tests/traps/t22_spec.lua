-- T22: "CREATE ROLE … || true" is meant to pass over "already exists" and passes over everything: a role that may not be made is reported as done. What
-- answers: it is asked whether there is the role, and whatever the server says about making one is an error.

local child = require "tests.support.child"
local estates = require "tests.support.estate"
local servers = require "tests.support.servers"

describe("T22, CREATE ROLE || true", function ()
  it("says all is well when nothing was made; ours says why, and asks instead of trying when the role is there", function ()
    local pg = servers.postgres()
    local ward = estates.open(pg, { role = "owner" })
    local guide = child.run { argv = { "/bin/sh", "-c", ('"%s/psql" -h "%s" -p %d -U owner -d postgres -c \'CREATE ROLE %s LOGIN\' || true'):format(pg.bin, pg.dir, pg.port, ward.heir) },
      env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv("PATH") } }
    assert.equal(0, guide.code)
    assert.matches("permission denied to create role", guide.err, 1, true)
    assert.equal("0", pg.sql(("select count(*) from pg_roles where rolname = '%s'"):format(ward.heir)))

    pg.sql(('grant "%s" to owner'):format(ward.legacy))
    local said = ward.ends(1, { "run", table.unpack(ward.repair "--no-input") })
    assert.matches("permission denied to create role", said, 1, true)
    assert.matches("‹secret db.roles." .. ward.heir .. "›", said, 1, true)
    pg.sql(("create role %s login"):format(ward.heir))
    local admin = estates.open(pg, { role = "admin" })
    local name = "--role=" .. ward.heir
    assert.is_nil(admin.neap({ "plan", "postgres/repair-ownership", name }).all:find("CREATE ROLE", 1, true))
  end)
end)
