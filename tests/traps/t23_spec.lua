-- T23: grants do not give ownership. After everything that the guide grants, the next migration still ends with "must be owner of table". What answers: each
-- object is transferred by itself, and its old owner is kept for undo.

local estates = require "tests.support.estate"
local servers = require "tests.support.servers"

local GUIDE <const> = [[alter database "{db}" owner to {heir}; grant all on schema public to {heir}; grant all privileges on all tables in schema public to {heir};
  grant all privileges on all sequences in schema public to {heir}; alter default privileges in schema public grant all on tables to {heir}]]

describe("T23, grants and ownership", function ()
  it("leaves the role unable to migrate as the guide has it; ours transfers each object and gives it back", function ()
    local pg = servers.postgres()
    local ward = estates.open(pg, { role = "admin" })
    pg.sql(("create role %s login password '%s'"):format(ward.heir, (estates.password:gsub("'", "''"))))
    pg.sql((GUIDE:gsub("{(%a+)}", { db = ward.database, heir = ward.heir })), ward.database)
    assert.equal(0, ward.heir_sql("select * from t").code)
    assert.matches("must be owner of table t", ward.heir_sql("alter table t add x int").err, 1, true)
    local before = ward.state_of()

    ward.ends(0, { "run", table.unpack(ward.repair "--no-input") })
    assert.equal(0, ward.heir_sql("alter table t add x int; alter table t drop x").code)
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal(before, ward.state_of())
    assert.matches("must be owner of table t", ward.heir_sql("alter table t add x int").err, 1, true)
  end)
end)
