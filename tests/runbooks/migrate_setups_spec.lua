-- postgres/fresh-database and postgres/migrate on the set-ups, with the real drizzle-kit here and the database there; and with the
-- tool where the guides have it: on the server with everything on it (the real Prisma), on the host of the containers, in a container.

local kept = require "tests.support.kept"
local migrating = require "tests.support.migrating"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"

local PATH <const> = os.getenv("PATH")

local function database_of(at)
  local name = at.database .. "_fresh"
  suite.after(function () at.pg.sql(("drop database if exists %s with (force)"):format(name)) end)
  return name
end

describe("migrations", function ()
  for _, name in ipairs { "docker", "compose", "direct" } do
    it("are set up afresh and then deployed on the set-up " .. name .. (name == "compose" and " #long" or ""), function ()
      local program, missing = tools.command("drizzle")
      if not program then return pending(missing) end
      local at, why = setups.open(name, { tool = "drizzle", schema = "" })
      if not at then return pending(why) end
      local database = database_of(at)
      assert(tools.with_folder("drizzle", at.dir .. "/program", at.migrations))
      require("tests.support.shop").write_tool(at.dir, at.dir .. "/program")
      at.ends(0, { "run", "postgres/fresh-database", "--database", database, "--no-input" })
      at.ends(0, { "run", "postgres/fresh-database", "--database", database, "--no-input" })
      assert.same({ "migrate" }, at.calls())
      local journal = suite.read(at.migrations .. "/meta/_journal.json")
      suite.write(at.migrations .. "/meta/_journal.json", (journal:gsub("%s*%]%s*}%s*$", ',{"idx":9,"version":"7","when":1900000000000,"tag":"0009_more","breakpoints":true}]}')))
      suite.write(at.migrations .. "/0009_more.sql", "CREATE TABLE more (id int);\n")
      at.ends(0, { "run", "postgres/migrate", "--database", database, "--no-input", table.unpack(migrating.gates) })
      at.ends(0, { "run", "postgres/migrate", "--database", database, "--no-input" })
      assert.same({ "migrate", "migrate" }, at.calls())
      assert.equal("10", at.pg.sql("select count(*) from drizzle.__drizzle_migrations", database))
      assert.equal("0", at.pg.sql("select count(*) from pg_database where datname like 'rehearsal\\_\\_%'"))
    end)
  end
end)

describe("migrations and their tool on the one server that has everything", function ()
  local BASE <const> = [[
    CREATE TABLE "Customer" (id serial PRIMARY KEY, name text NOT NULL, email varchar(40));
    CREATE TABLE "Order" (id serial PRIMARY KEY);
    CREATE TYPE "Role" AS ENUM ('USER');]]

  it("are set up afresh and then deployed, with the real Prisma", function ()
    local at, why = migrating.open("plain", "prisma", { { "2_base", BASE } })
    if not at then return pending(why) end
    local database = database_of(at)
    at.ends(0, { "run", "postgres/fresh-database", "--database", database, "--tables", "2", "--no-input" })
    at.ends(0, { "run", "postgres/fresh-database", "--database", database, "--tables", "2", "--no-input" })
    assert.same({ "migrate resolve --applied 1_init", "migrate deploy" }, at.calls())
    at.pend("3_more", "CREATE TABLE more (id int);\n")
    local words = { "postgres/migrate", "--database", database, table.unpack(migrating.gates) }
    local plan = at.plan(words)
    at.ends(0, { "run", "--no-input", table.unpack(words) })
    local run = at.latest()
    local wrong, writes = kept.compare(plan, at.records(run), run)
    assert.same({}, wrong)
    assert.is_true(writes > 5)
    at.ends(0, { "run", "--no-input", table.unpack(words) })
    assert.equal(3, #at.calls())
    assert.equal("1_init,2_base,3_more", at.pg.sql("select string_agg(migration_name, ',' order by migration_name) from _prisma_migrations where finished_at is not null", database))
    assert.equal("0", at.shadows())
  end)

  it("are asked for in few commands, however many they are", function ()
    local many = {}
    for i = 10, 39 do many[#many + 1] = { i .. "_made", ("CREATE TABLE made%d (id int);\n"):format(i) } end
    local at, why = migrating.open("plain", "prisma", many, { program = "/bin/false" })
    if not at then return pending(why) end
    local function asked_for()
      local before = at.hosts.server.commands()
      assert.equal(2, at.neap({ "plan", "postgres/migrate", table.unpack(migrating.gates) }).code)
      return at.hosts.server.commands() - before
    end
    local pending_ones = asked_for()                 -- what is pending is read, once
    local list = {}
    for _, one in ipairs(many) do
      list[#list + 1] = ("('%s', '%s', now(), '%s', 1)"):format(one[1], require("native.text").sha256(one[2]), one[1])
      if #list == #many - 1 then break end
    end
    at.pg.sql("insert into _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count) values " .. table.concat(list, ","), at.database)
    local recorded = asked_for()
    assert.equal(pending_ones - 29, recorded)
    assert.is_true(recorded <= 70, recorded .. " commands")
  end)
end)

describe("the migration tool", function ()
  local MORE <const> = { "2_more", "CREATE TABLE more (id int);\n" }

  local function deploys(at, entry)
    at.bind { entries = entry }
    local page = at.neap { "plan", "postgres/migrate", table.unpack(migrating.gates) }
    assert.equal(2, page.code, page.all)
    assert.matches("migrate deploy → ", page.all, 1, true)
    at.ends(0, { "run", "postgres/migrate", "--no-input", table.unpack(migrating.gates) })
    assert.equal("1_init,2_more", at.recorded())
    for _, secret in ipairs { migrating.passwords.owner } do assert.not_matches(secret, page.all, 1, true) end
  end

  it("runs on the host of the containers, and reaches the database at its own address", function ()
    local at, why = migrating.open("docker", "prisma", { MORE })
    if not at then return pending(why) end
    deploys(at, ('  migrate = command { on = "hermes", argv = { %q }, env = { PATH = %q }, sees = "%s:5432" },'):format(at.dir .. "/tool", PATH, at.pg.address()))
    assert.same({ "migrate deploy" }, at.calls())
  end)

  it("runs in a container, with the URL as it is seen from there", function ()
    local at, why = migrating.open("docker", "prisma", { MORE }, { program = "/bin/false" })
    if not at then return pending(why) end
    local sum = require("native.text").sha256(MORE[2])
    local script = ([[psql "${DATABASE_URL%%%%\?*}" -qXc "create table more (id int)" -c "insert into _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
      values ('2', '%s', now(), '2_more', 1)"]]):format(sum)
    deploys(at, ('  migrate = command { on = "dbc", argv = { "sh", "-c", %q, "tool" }, sees = "127.0.0.1:5432" },'):format(script):gsub("\\\n", "\\n"))
    assert.same({}, at.calls())
  end)

  it("is refused where it says no address that it sees", function ()
    local at, why = migrating.open("direct", "prisma", { MORE }, { program = "/bin/true" })
    if not at then return pending(why) end
    for _, entry in ipairs { 'sees = "db"', 'sees = "postgresql://db:5432"', 'on = "nowhere"', 'on = "db"' } do
      at.bind { entries = ('  migrate = command { argv = { "/bin/true" }, %s },'):format(entry) }
      local r = at.neap { "plan", "postgres/migrate" }
      assert.equal(78, r.code, r.all)
    end
  end)
end)
