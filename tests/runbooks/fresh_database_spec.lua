-- The fresh-database runbook against a real PostgreSQL, with the real Prisma and drizzle-kit.

local servers = require "tests.support.servers"
local shops = require "tests.support.shop"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"

local RUNBOOK <const> = "postgres/fresh-database"
local HISTORY <const> = [[select string_agg(migration_name || ' ' || applied_steps_count, ',' order by migration_name)
  from _prisma_migrations where finished_at is not null and rolled_back_at is null]]

describe("postgres/fresh-database", function ()
  local pg, shop
  local count = 0
  setup(function () pg = servers.postgres() end)

  local function name()
    count = count + 1
    return "fresh" .. count
  end

  local function open(tool, program)
    local argv, why = tools.command(tool)
    if not argv and not program then pending(why) end
    shop = shops.open(pg, tool, program)
    return shop
  end

  local function exists(database)
    return pg.sql(("select count(*) from pg_database where datname = '%s'"):format(database:gsub("'", "''"))) == "1"
  end

  -- The statements neap sent since `from` that write, as the server logged them.
  local function writes(from)
    local list = {}
    for line in pg.log():sub(from):gmatch("[^\n]+") do
      local verb = line:match("/neap[^ ]* LOG:  %w+ ?[^:]*: *(%u+)") or line:match("/neap[^ ]* LOG:  %w+ ?[^:]*: *(%l+)")
      if verb and ({ CREATE = 1, INSERT = 1, UPDATE = 1, DELETE = 1, DROP = 1, ALTER = 1, TRUNCATE = 1, COPY = 1 })[verb:upper()] then list[#list + 1] = line end
    end
    return list
  end

  local function run(database, ...)
    return shop.neap { "run", RUNBOOK, "--database", database, "--no-input", ... }
  end

  local function refused(result, ...)
    assert.are_not.equal(0, result.code, result.out .. result.err)
    for _, words in ipairs { ... } do assert.matches(words, result.out .. result.err, 1, true) end
    assert.same({}, shop.calls())
  end

  describe("with Prisma", function ()
    it("records eight, executes the ninth, proves the schema, and does nothing the second time", function ()
      if not open "prisma" then return end
      local database = name()
      local r = run(database, "--tables", "6", "--enums", "2")
      assert.equal(0, r.code, r.out .. r.err)
      local expected = {}
      for i, superseded in ipairs(tools.superseded) do expected[i] = superseded .. " 0" end
      expected[#expected + 1] = tools.baseline .. " 1"
      assert.equal(table.concat(expected, ","), pg.sql(HISTORY, database))
      assert.equal(9, #shop.calls())
      local from = #pg.log() + 1
      local second = run(database)
      assert.equal(0, second.code, second.out .. second.err)
      assert.equal(9, #shop.calls())
      assert.same({}, writes(from))
      assert.equal(0, shop.neap({ "plan", RUNBOOK, "--database", database }).code)
    end)

    it("previews everything and writes nothing", function ()
      if not open "prisma" then return end
      local database, from = name(), #pg.log() + 1
      local r = shop.neap { "plan", RUNBOOK, "--database", database }
      assert.equal(2, r.code, r.out .. r.err)
      assert.is_false(exists(database))
      assert.same({}, writes(from))
      assert.same({}, shop.calls())
      for _, superseded in ipairs(tools.superseded) do assert.matches("migrate resolve --applied " .. superseded, r.out, 1, true) end
      assert.matches("migrate deploy", r.out, 1, true)
    end)

    it("goes on at the third name after a crash behind the second", function ()
      if not open "prisma" then return end
      local database, superseded = name(), shop.shorten(4)
      shop.kill_at(3)
      local r = run(database)
      assert.equal(9, r.signal, r.out .. r.err)
      assert.equal("2", pg.sql("select count(*) from _prisma_migrations", database))
      local id = (r.out .. r.err):match("run (%x+)")
      local resumed = shop.neap { "resume", id, "--no-input" }
      assert.equal(0, resumed.code, resumed.out .. resumed.err)
      local calls = shop.calls()
      assert.equal(6, #calls)
      assert.equal("migrate resolve --applied " .. superseded[3], calls[3])
      assert.equal("migrate resolve --applied " .. superseded[3], calls[4])
      assert.equal("5", pg.sql("select count(*) from _prisma_migrations where finished_at is not null", database))
    end)

    it("takes a half recorded history as it finds it #long", function ()
      if not open "prisma" then return end
      local database = pg.database()
      for i = 1, 4 do assert.equal(0, tools.run("prisma", pg, database, { "migrate", "resolve", "--applied", tools.superseded[i] }).code) end
      local plan = shop.neap { "plan", RUNBOOK, "--database", database }
      assert.equal(2, plan.code, plan.out .. plan.err)
      local r = run(database)
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal(5, #shop.calls())
    end)

    it("takes everything back when the baseline fails, while nothing was made", function ()
      if not open "prisma" then return end
      local database = name()
      shop.shorten(1)
      suite.write(shop.dir .. "/broken", "#!/bin/sh\n[ \"$2\" = deploy ] && exit 1\nexec " .. tools.command("prisma")[1] .. " \"$@\"\n")
      T.mode(shop.dir .. "/broken", tonumber("755", 8))
      suite.write(shop.dir .. "/tool", (suite.read(shop.dir .. "/tool"):gsub("exec %S+", "exec " .. shop.dir .. "/broken")))
      local r = run(database)
      assert.are_not.equal(0, r.code)
      assert.matches("still pending", r.out .. r.err, 1, true)
      assert.is_false(exists(database))
    end)
  end)

  describe("with drizzle", function ()
    it("writes the rows drizzle would have written, executes the last, and does nothing the second time", function ()
      if not open "drizzle" then return end
      local database = name()
      local r = run(database)
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal("9", pg.sql("select count(*) from drizzle.__drizzle_migrations", database))
      assert.equal("6", pg.sql("select count(*) from pg_tables where schemaname = 'public'", database))
      assert.same({ "migrate" }, shop.calls())
      local from = #pg.log() + 1
      local second = run(database)
      assert.equal(0, second.code, second.out .. second.err)
      assert.same({}, writes(from))
      assert.same({ "migrate" }, shop.calls())
    end)

    it("refuses an entry that was merged late", function ()
      if not open("drizzle", "/bin/true") then return end
      local database = pg.database()
      pg.sql([[create schema drizzle; create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint);
        insert into drizzle.__drizzle_migrations (hash, created_at) values ('x', 1700438400000)]], database, "owner")
      refused(run(database), "0000_init\" was merged late", "0003_orders\" was edited")
    end)
  end)

  describe("refuses", function ()
    before_each(function () open("prisma", "/bin/true") end)

    local function prisma_table(database)
      pg.sql([[create table _prisma_migrations (id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz, migration_name varchar(255) not null,
        logs text, rolled_back_at timestamptz, started_at timestamptz not null default now(), applied_steps_count integer not null default 0)]], database, "owner")
    end

    it("a database with tables of somebody else", function ()
      local database = pg.database()
      pg.sql("create table ledger (id int)", database, "owner")
      refused(run(database), "public.ledger")
    end)

    it("a folder with one migration too many, or one missing", function ()
      local names = table.concat(tools.superseded, ",")
      local database = name()
      suite.write(shop.folder .. "/20250101000000_more", "")
      os.remove(shop.folder .. "/20250101000000_more")
      assert(os.execute("mkdir " .. shop.folder .. "/20250101000000_more"))
      suite.write(shop.folder .. "/20250101000000_more/migration.sql", "CREATE TABLE more ();")
      refused(run(database, "--superseded", names, "--baseline", tools.baseline), "the folder holds exactly")
      T.remove_tree(shop.folder .. "/20250101000000_more")
      T.remove_tree(shop.folder .. "/" .. tools.superseded[3])
      refused(run(database, "--superseded", names), "the folder holds exactly")
      refused(run(database, "--superseded", "8"), "the folder holds exactly")
      assert.is_false(exists(database))
    end)

    it("a last migration that is no baseline", function ()
      assert(os.execute("mkdir " .. shop.folder .. "/20250101000000_more"))
      suite.write(shop.folder .. "/20250101000000_more/migration.sql", 'CREATE TABLE "Note" (id int, "userId" text REFERENCES "User"(id));')
      refused(run(name()), "stands alone", "public.User")
      suite.write(shop.folder .. "/20250101000000_more/migration.sql", 'CREATE TABLE "Note" (id int);')
      refused(run(name()), "leave behind", "public.Order")
    end)

    it("a migration that was edited after it was recorded, and one that failed", function ()
      local database = pg.database()
      prisma_table(database)
      pg.sql(("insert into _prisma_migrations (id, checksum, finished_at, migration_name) values ('1', 'other', now(), '%s')"):format(tools.superseded[1]), database, "owner")
      refused(run(database), "was edited after it was applied")
      pg.sql(("update _prisma_migrations set finished_at = null, logs = 'ERROR: no space' where migration_name = '%s'"):format(tools.superseded[1]), database, "owner")
      refused(run(database), "failed (begun", "ERROR: no space")
    end)

    it("a history with a migration that the folder has not", function ()
      local database = pg.database()
      prisma_table(database)
      pg.sql("insert into _prisma_migrations (id, checksum, finished_at, migration_name) values ('1', 'x', now(), '2020_gone')", database, "owner")
      refused(run(database), "2020_gone\" is recorded in the database and is not in the folder")
    end)

    it("names that are none", function ()
      for _, wrong in ipairs { "", "-rf", "a/b", ("x"):rep(64), "a\nb" } do
        assert.equal(64, run(wrong).code)
      end
      refused(run(name(), "--baseline", "20240601"), "20240601")
      refused(run(name(), "--superseded", "x,y"), "the folder holds exactly")
    end)

    it("a tool that says all is well and has done nothing, and takes the new database back", function ()
      local database = name()
      local r = run(database)
      assert.are_not.equal(0, r.code)
      assert.matches("is still not recorded", r.out .. r.err, 1, true)
      assert.is_false(exists(database))
    end)
  end)

  it("sets up databases with odd names", function ()
    for tool, names in pairs { drizzle = { 'we"ird db', "größe-ünï", "o'clock %s" }, prisma = { "we\"ird; ünï $1" } } do
      for _, database in ipairs(names) do
        if not open(tool) then return end
        if tool == "prisma" then shop.shorten(1) end
        local r = run(database)
        assert.equal(0, r.code, database .. "\n" .. r.out .. r.err)
        assert.is_true(exists(database))
      end
    end
  end)
end)
