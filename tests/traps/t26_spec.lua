-- T26: "migrate resolve --rolled-back" reverts nothing. It edits the history, and only that of a failed migration (P3012 otherwise); whoever marks first finds the next
-- deploy failing on what is still there. What answers: take back, prove by the schema, then mark.

local projects = require "tests.support.project"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

-- Prisma sends it whole; its own COMMIT keeps the first half when the second fails.
local HALF <const> = 'BEGIN; CREATE TABLE "Tag" (id int PRIMARY KEY); COMMIT;\nALTER TABLE "User" ADD COLUMN n int NOT NULL;'
local MARKS <const> = [[
  select string_agg(migration_name || case when rolled_back_at is not null then ' rolled back' when finished_at is null then ' failed' else ' applied' end, ', ' order by started_at, id)
    from _prisma_migrations]]

describe("T26, resolve --rolled-back", function ()
  it("reverts nothing as the guide has it; ours stops until it is taken back, and marks last", function ()
    local pg, dir = servers.postgres(), suite.temp()
    local project, why = projects.prisma(dir, { { "1_init", 'CREATE TABLE "User" (id int PRIMARY KEY);' }, { "2_half", HALF } })
    if not project then return pending(why) end
    local ward = wards.open(pg, { schema = "select 1", settings = ('migrations = folder { path = "%s" }, migrate = command { argv = { "%s" } },'):format(project.folder, project.tool) })
    local function tool(...) return project.run(pg, ward.database, { ... }) end
    local function sql(text) return pg.sql(text, ward.database, "owner") end
    project.record(sql, { { "1_init", "applied" } })
    sql 'insert into "User" values (1)'
    assert.equal(1, tool("migrate", "deploy").code)
    local repair = { "run", "postgres/repair-migrations", "--database", ward.database, "--deploy=no", "--no-input" }

    assert.matches("2_half: some", ward.ends(75, repair), 1, true)              -- ours: the table Tag is there
    assert.equal("1_init applied, 2_half failed", sql(MARKS))
    local held = ward.latest()

    assert.equal(0, tool("migrate", "resolve", "--rolled-back", "2_half").code)  -- the guide's: "reverted"
    assert.equal("Tag", sql "select relname from pg_class where relname = 'Tag'")
    local again = tool("migrate", "resolve", "--rolled-back", "1_init")
    assert.matches("P3012", again.out .. again.err, 1, true)
    sql 'delete from "User"'
    assert.equal(1, tool("migrate", "deploy").code)                              -- "Tag" is there already
    assert.equal("1_init applied, 2_half rolled back, 2_half failed", sql(MARKS))

    sql 'drop table "Tag"'
    ward.ends(0, { "resume", held, "--no-input" })
    assert.equal("1_init applied, 2_half rolled back, 2_half rolled back", sql(MARKS))
    ward.ends(0, { "undo", held, "--no-input" })
    assert.equal("1_init applied, 2_half rolled back, 2_half failed", sql(MARKS))
  end)
end)
