-- T21: a password in a command line ("CREATE ROLE … PASSWORD 'jarvis'" in sh -lc) is in the argument list for everybody on the host, and in the
-- server's log. What answers: it comes from the inventory by reference, and what is sent is the verifier that libpq makes of it.

local child = require "tests.support.child"
local estates = require "tests.support.estate"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local GUIDE <const> = "in-argv-77"

-- Every argument list of the machine that holds this text, but for our own.
local function in_argv(text)
  for _, pid in ipairs(T.entries "/proc") do
    if pid:find "^%d+$" then
      local file = io.open("/proc/" .. pid .. "/cmdline")
      local words = file and file:read "a" or ""
      if file then file:close() end
      if words:find(text, 1, true) then return words end
    end
  end
end

describe("T21, secrets in argument lists", function ()
  it("shows the guide's password to the host and to the log; ours is in neither", function ()
    local pg = servers.postgres()
    local ward, from = estates.open(pg, { role = "admin" }), #pg.log() + 1
    local guide = child.start { argv = { pg.bin .. "/psql", "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin", "-d", "postgres",
      "-c", ("begin; create role guided login password '%s'; select 'made'; select pg_sleep(600)"):format(GUIDE) }, env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH") } }
    ward.await("select count(*) from pg_stat_activity where query like '%guided login%' and wait_event = 'PgSleep' and pid <> pg_backend_pid()", "1")
    assert.matches("create role guided login password", in_argv(GUIDE), 1, true)
    pg.sql "select pg_terminate_backend(pid) from pg_stat_activity where query like '%guided login%' and pid <> pg_backend_pid()"
    guide:finish()
    assert.matches(GUIDE, pg.log(), 1, true)

    ward.ends(0, { "run", table.unpack(ward.repair "--no-input") })
    assert.equal(0, ward.heir_sql("select 1").code)
    assert.is_nil(pg.log():find("heir-5d0c", from, true))
    for _, record in ipairs(ward.records()) do
      if record.kind == "intent" and record.body.primitive == "pg.role" then
        assert.equal(('CREATE ROLE "%s" LOGIN PASSWORD ‹secret db.roles.%s›'):format(ward.heir, ward.heir), record.body.text)
        ward.found = true
      end
    end
    assert.is_true(ward.found)
    local found = child.run { argv = { "grep", "-rlaF", "heir-5d0c", ward.dir } }
    assert.equal("", found.out)
    assert.is_nil(in_argv "heir-5d0c")
    assert.is_nil(suite.read(ward.dir .. "/inventory.lua"):find("heir-5d0c", 1, true))
  end)
end)
