-- postgres/fresh-database and postgres/migrate on the set-ups, with the real drizzle-kit here and the database there; and with the
-- tool where the guides have it: on the host of the containers, in a container.

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
