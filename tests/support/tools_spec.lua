-- The migration tools against a real server: what the fresh-database runbook leans on.

local servers = require "tests.support.servers"
local tools = require "tests.support.tools"

describe("fixture migrations", function()
  local pg
  setup(function() pg = servers.postgres() end)

  local function needs(name)
    local argv, why = tools.command(name)
    if not argv then pending(why) end
    return argv
  end

  it("of prisma: the superseded are marked, and deploy runs the last only", function()
    if not needs("prisma") then return end
    local name, shop = pg.database(), require("tests.support.shop").open(pg, "prisma")
    local program = assert(tools.with_folder("prisma", shop.dir .. "/program", shop.folder))
    local function run(...)
      local r = tools.run_program(program, pg, name, { "migrate", ... })
      assert.equal(0, r.code, r.out .. r.err)
    end
    for _, migration in ipairs(shop.shorten(2)) do run("resolve", "--applied", migration) end
    run "deploy"
    assert.equal("2|1", pg.sql([[select count(*) filter (where applied_steps_count = 0), count(*) filter (where applied_steps_count = 1)
      from _prisma_migrations where finished_at is not null and rolled_back_at is null]], name))
    assert.equal("7", pg.sql("select count(*) from pg_tables where schemaname = 'public'", name))
    run "status"
  end)

  it("of prisma: on a fresh database nothing but the eight marks helps", function()
    if not needs("prisma") then return end
    local name = pg.database()
    local r = tools.run("prisma", pg, name, { "migrate", "deploy" })
    assert.equal(1, r.code, r.out .. r.err)
    assert.equal("20231102000000_import_customers", pg.sql("select migration_name from _prisma_migrations where finished_at is null", name))
  end)

  it("of drizzle: rows for eight are entered, and migrate runs the ninth only", function()
    if not needs("drizzle") then return end
    local name = pg.database()
    pg.sql(tools.drizzle_baseline(), name, "owner")
    local r = tools.run("drizzle", pg, name, { "migrate" })
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("9", pg.sql("select count(*) from drizzle.__drizzle_migrations", name))
    assert.equal("6", pg.sql("select count(*) from pg_tables where schemaname = 'public'", name))
  end)

  it("of drizzle: on a fresh database the eight fail and leave nothing", function()
    if not needs("drizzle") then return end
    local name = pg.database()
    assert.equal(1, tools.run("drizzle", pg, name, { "migrate" }).code)
    assert.equal("0", pg.sql("select count(*) from pg_tables where schemaname = 'public'", name))
  end)
end)
