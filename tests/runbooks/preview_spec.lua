-- A preview writes nothing: fresh-database, health and the upkeep of PostgreSQL on a real server whose every write would be seen
-- (tests/support/evidence.lua). Every shipped runbook is looked at on the four set-ups in setups_preview_spec.lua.

local evidence = require "tests.support.evidence"
local text = require "native.text"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local shops = require "tests.support.shop"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local here = os.getenv("PWD")

describe("a preview", function ()
  local pg, shop, places
  local count = 0
  setup(function () pg = evidence.server() end)

  -- A shop, and a directory and a home that hold nothing but what a runbook needs to be found.
  local function open(tool, program)
    shop = shops.open(pg, tool, program)
    places = { cwd = suite.temp(), home = suite.temp() }
    os.execute(("ln -s '%s/runbooks' '%s/runbooks'"):format(here, places.cwd))
    suite.write(places.home .. "/.pgpass", "")
    T.mode(places.home .. "/.pgpass", tonumber("600", 8))
    count = count + 1
    return "previewed" .. count
  end

  local function neap(arguments) return shop.neap(arguments, { cwd = places.cwd, env = { HOME = places.home } }) end

  local function look()
    evidence.settle(pg)
    return evidence.look(pg, { shop.folder, places.cwd, places.home, here .. "/runbooks" })
  end

  local function plan_of(arguments)
    local r = neap { "plan", "--json", table.unpack(arguments) }
    assert.equal("", r.err)
    return text.parse(r.out), r.code
  end

  local function fresh(tool, lines)
    local database = open(tool, "/bin/false")
    local before = look()
    local r = neap { "plan", "postgres/fresh-database", "--database", database }
    assert.equal(2, r.code, r.out .. r.err)
    local system = pg.sql("select system_identifier from pg_control_system()")
    for _, words in ipairs { "pg:" .. system .. "/", "file:" .. shop.folder, "process:migrate", "enforced", "predicted", "unknown", "Create the database " .. database,
      "Record the superseded migrations as applied", "Prove the schema of " .. database, ('CREATE DATABASE "%s" → db'):format(database), table.unpack(lines) } do
      assert.matches(words, r.out, 1, true)
    end
    assert.matches("6 steps: %d+ checks made for real, %d predicted, %d unknown%.", r.out)
    before.same("the preview of a database that is not there")
    assert.matches("/neap", before.log(), 1, true)
    local data, code = plan_of { "postgres/fresh-database", "--database", database }
    assert.equal(2, code)
    assert.equal(6, #data.steps)
    assert.same({ "enforced", "enforced", "predicted" }, { data.steps[1].label, data.steps[2].label, data.steps[3].label })
    before.same("the same for a program")
    assert.same({}, shop.calls())
    assert.is_nil(T.entries(shop.state))
  end

  it("of fresh-database with Prisma lists every step, its targets, identities, labels and a tally, and writes nothing", function ()
    fresh("prisma", { "migrate deploy → migrate", "migrate resolve --applied " .. tools.superseded[8] })
  end)

  it("of fresh-database with drizzle does too", function () fresh("drizzle", { "tool migrate → migrate" }) end)

  for _, tool in ipairs { "prisma", "drizzle" } do
    it(("of fresh-database is kept by a run with %s, then exits 0, and a second run writes nothing"):format(tool), function ()
      local argv, why = tools.command(tool)
      if not argv then return pending(why) end
      local database = open(tool)
      local r = neap { "plan", "postgres/fresh-database", "--database", database }
      local own = suite.read(shop.dir .. "/inventory.lua"):match("127.0.0.1:%d+/(%w+)")
      transcript.compare("plan_fresh_" .. tool, kept.plain(r.out, { [shop.dir] = "DIR", [own] = "OWN", [database] = "DATABASE" }))
      if tool == "prisma" then shop.shorten(2) end
      local plan = plan_of { "postgres/fresh-database", "--database", database }
      local run = { "run", "postgres/fresh-database", "--database", database, "--no-input" }
      r = neap(run)
      assert.equal(0, r.code, r.out .. r.err)
      local id = journal.index.list(shop.state)[1].run
      local wrong, writes, proofs = kept.compare(plan, journal.read(shop.state, id, 0), id)
      assert.equal("", table.concat(wrong, "\n"))
      assert.is_true(writes >= (tool == "prisma" and 4 or 10) and proofs >= 6, ("%d writes, %d proofs"):format(writes, proofs))
      local calls = #shop.calls()
      local before = look()
      r = neap { "plan", "postgres/fresh-database", "--database", database }
      assert.equal(0, r.code, r.out .. r.err)
      assert.matches("nothing would change", r.out, 1, true)
      before.same("the preview")
      r = neap(run)
      assert.equal(0, r.code, r.out .. r.err)
      before.same("the second run")
      assert.equal(calls, #shop.calls())
    end)
  end

  it("of health writes nothing, and neither does its run", function ()
    open("prisma", "/bin/false")
    local before = look()
    for _, command in ipairs { "plan", "run" } do
      local r = neap { command, "postgres/health" }
      assert.equal(0, r.code, r.out .. r.err)
      before.same(command)
    end
  end)

  -- What each of them finds here: a table with dead rows, a session in a transaction, a user's sessions.
  local UPKEEP <const> = {
    ["postgres/vacuum"] = {}, ["postgres/reindex"] = {}, ["postgres/terminate"] = { "--database" }, ["incident/revoke-sessions"] = { "--user", "u1" },
    ["incident/database-unresponsive"] = { "--database" }, ["incident/disk-full"] = {}, ["incident/corruption"] = { "--checks", "--database" },
  }

  for name, flags in pairs(UPKEEP) do
    it(("of %s writes nothing"):format(name), function ()
      local ward = wards.open(pg, { role = "admin" })
      pg.sql("create extension amcheck", ward.database)
      local holder = ward.session("begin read only; select 'held' from kept;", nil, "shop")
      ward.await("select count(*) from pg_stat_activity where application_name = 'shop' and state = 'idle in transaction'", "1")
      local words = table.move(flags, 1, #flags, 3, { "plan", name })
      if flags[#flags] == "--database" then words[#words + 1] = ward.database end
      local r
      if name ~= "postgres/terminate" then getmetatable(holder).__close(holder) end
      if name == "postgres/terminate" then
        local from = #pg.log() + 1
        r = ward.neap(words)                        -- somebody is there: looked at by the server's log alone
        assert.same({}, evidence.writes(pg.log():sub(from)))
        assert.equal("1", pg.sql "select count(*) from pg_stat_activity where application_name = 'shop'")
        getmetatable(holder).__close(holder)
      end
      evidence.settle(pg)
      local before = evidence.look(pg, { ward.dir .. "/inventory.lua", here .. "/runbooks" })
      local again = ward.neap(words)
      before.same(name)
      r = r or again
      assert.is_true(r.code == 0 or r.code == 2, r.all)
      assert.matches("Nothing was written", r.out, 1, true)
      assert.is_nil(T.entries(ward.state))
    end)
  end

  it("is looked at by eyes that see a row, a comment, a sequence, a statement and a file", function ()
    open("prisma", "/bin/false")
    local database = pg.database()
    pg.sql("create table t (id int); create sequence s", database)
    for _, write in ipairs { "insert into t values (1)", "begin; insert into t values (1); rollback", "comment on table t is 'x'", "select nextval('s')",
      "select pg_current_xact_id()", "alter role app set work_mem = '1MB'", "create database other_one", "drop database other_one" } do
      local before = look()
      pg.sql(write, database)
      assert.is_false((pcall(before.same)), write)
    end
    assert.same({ "insert into t values (1)" }, evidence.writes("x /neap:a:1 LOG:  execute <unnamed>: insert into t values (1)\nx /neap:a:1 LOG:  statement: BEGIN READ ONLY"))
    local before = look()
    suite.write(places.home .. "/x", "")
    assert.is_false((pcall(before.same)))
  end)
end)
