-- T25: "see drift with migrate dev --create-only". It makes a shadow database on the server it is asked about, may leave it there, and
-- may offer to reset the database. What answers: a protected environment refuses it, and what differs between folder, history and catalogue
-- is read: `migrations.obstacles` by the checksums, `catalog.objects` by what is there.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local wards = require "tests.support.ward"

local SHADOWS <const> = "select count(*) from pg_database where datname like 'prisma_migrate_shadow%'"
local BOOK <const> = [[
runbook "Read the drift" { why = "x" }
local migrate = target.command "migrate"
step "Read it" { verify = function () check(migrate:read { "migrate", "dev", "--create-only", "--name", "drift" }:status() == 0, "there is no drift") end }]]

-- The major version that the tool runs on: under 18 it ends before it has made its database.
local function runtime() return tonumber(child.must({ argv = { "node", "--version" } }):match("%d+")) end

describe("T25, drift by migrate dev --create-only", function ()
  it("makes databases on the server it is asked about; ours is refused, and reads", function ()
    local argv, why = tools.command("prisma")
    if not argv then return pending(why) end
    local pg = servers.postgres()
    local database = pg.database()
    pg.sql("create table customers (id int); alter table customers owner to owner", database)
    local log = #pg.log()
    assert.is_true(tools.run("prisma", pg, database, { "migrate", "dev", "--create-only", "--name", "drift" }).code ~= 0)
    assert.is_true(runtime() < 20 or pg.log():find('CREATE DATABASE "prisma_migrate_shadow', log, true) ~= nil)
    local shadows = pg.sql(SHADOWS)

    local ward = wards.open(pg, { settings = ("protected = true, migrate = command { argv = { %q } },"):format(argv[1]) })
    suite.write(ward.dir .. "/book.lua", BOOK)
    local r = ward.neap { "plan", ward.dir .. "/book.lua" }
    assert.equal(1, r.code, r.all)
    assert.matches("\"migrate dev\" is never run in a protected environment: it is for development and may reset the database", r.all, 1, true)
    assert.equal(shadows, pg.sql(SHADOWS))
  end)
end)
