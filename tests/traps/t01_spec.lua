-- T1: scp of a dump to the host, and then docker exec … pg_restore of that path. The path is read inside the container, where there is no such file;
-- the copy stays in the host's /tmp for everybody to read. What answers: the dump flows from where it lies into pg_restore's standard input.

local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

describe("T1, a dump that is copied to the host", function ()
  it("is not there for pg_restore in the container; ours flows into it, and no file is left in either", function ()
    local at, why = setups.open "docker"
    if not at then return pending(why) end
    at.ends(0, { "run", "postgres/backup", "--no-input", "--name", "night.dump", "--globals=no" })
    local copy = suite.temp() .. "/x.dump"                       -- the host of the container is this machine, seen by SSH
    suite.write(copy, suite.read(at.backups .. "/night.dump"))
    at.pg.sql "create database t01 owner owner"
    local r = at.pg.box.exec { "pg_restore", "-U", "admin", "-d", "t01", copy }
    assert.is_true(r.code ~= 0)
    assert.matches("No such file or directory", r.err, 1, true)
    assert.equal("0", at.pg.sql("select count(*) from pg_tables where schemaname = 'public'", "t01"))
    at.pg.sql "drop database t01"

    local before = at.pg.box.exec({ "sh", "-c", "ls /tmp" }).out
    at.ends(0, { "run", "postgres/verify-backup", "--no-input", "--dump", "night.dump" })
    assert.equal(before, at.pg.box.exec({ "sh", "-c", "ls /tmp" }).out)
    assert.truthy(io.open(at.backups .. "/night.dump.proof"))
  end)
end)
