-- postgres/repair-migrations on a real server, with the real Prisma and drizzle: P3018, P3009 and P3005 as they come about, what is
-- recorded about them and on what proof, what stops for a human, and what an undo leaves.

local projects = require "tests.support.project"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local INIT <const> = 'CREATE TABLE "User" (id int PRIMARY KEY, email text NOT NULL);'
local UNIQUE <const> = 'ALTER TABLE "User" ADD COLUMN nick text;\nCREATE UNIQUE INDEX "User_email_key" ON "User" (email);'
local MORE <const> = 'CREATE TABLE "Note" (id int PRIMARY KEY, "userId" int REFERENCES "User" (id));'
local HISTORY <const> = "select string_agg(h::text, E'\\n' order by started_at, id) from _prisma_migrations h"
local MARKS <const> = [[select string_agg(migration_name || case when rolled_back_at is not null then ' rolled back' when finished_at is null then ' failed'
  else ' applied ' || applied_steps_count end,
  ', ' order by started_at, id) from _prisma_migrations]]
local TRACES <const> = "select to_regnamespace('drizzle'), to_regclass('drizzle.__drizzle_migrations')"
local TRIALS <const> = "select count(*) from pg_database where datname like 'repair\\_\\_%'"

-- Counts, and dies with its caller before the call that the file names.
local WRAPPER <const> = [[
#!/bin/sh
here=%s
echo "$*" >>"$here/calls"
at=$(cat "$here/kill-at" 2>/dev/null)
if [ -n "$at" ] && [ "$(wc -l <"$here/calls")" -eq "$at" ]; then rm "$here/kill-at"; until [ -s "$here/pid" ]; do sleep 0.02; done; kill -9 "$(cat "$here/pid")"; exit 1; fi
exec %s "$@"
]]

describe("postgres/repair-migrations", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  -- A project with these migrations, a database, an inventory; nil when the tool is not installed.
  local function open(tool, migrations)
    local dir = suite.temp()
    local project, why = projects[tool](dir, migrations)
    if not project then return pending(why) end
    suite.write(dir .. "/counted", WRAPPER:format(dir, project.tool))
    T.mode(dir .. "/counted", tonumber("755", 8))
    local ward = wards.open(pg, { schema = "select 1",
      settings = ('migrations = folder { path = "%s" }, migrate = command { argv = { "%s/counted" } },'):format(project.folder, dir) })
    ward.project = project
    function ward.tool(...) return project.run(pg, ward.database, { ... }) end
    function ward.repair(...) return { "postgres/repair-migrations", "--database", ward.database, ... } end
    function ward.sql(text) return pg.sql(text, ward.database, "owner") end
    function ward.calls()
      local _, count = suite.read(dir .. "/calls"):gsub("\n", "")
      return count
    end
    -- Did the newest run say so, to whoever follows it?
    function ward.told(words)
      for _, record in ipairs(ward.records()) do
        if record.kind == "notice" and record.body.text:find(words, 1, true) then return true end
      end
    end
    -- Start a run that is killed by the nth call of the tool.
    function ward.doomed(words, n)
      suite.write(dir .. "/kill-at", tostring(n))
      local process = ward.start(words)
      suite.write(dir .. "/pid", tostring(process:pid()))
      return process
    end
    return ward
  end

  -- The first migration is applied, the second failed.
  local function failed(second, ...)
    local ward = open("prisma", { { "1_init", INIT }, { "2_unique", second or UNIQUE }, ... })
    if ward then ward.project.record(ward.sql, { { "1_init", "applied" }, { "2_unique", "failed" } }) end
    return ward
  end

  local function run(...) return { "run", ... } end

  it("settles P3018 and P3009: nothing of it is there, so it is rolled back and executed, and a second run writes nothing", function ()
    local ward = open("prisma", { { "1_init", INIT } })
    if not ward then return end
    assert.equal(0, ward.tool("migrate", "deploy").code)
    ward.sql [[insert into "User" values (1, 'a'), (2, 'a')]]                    -- two rows of one address
    ward.project.add("2_unique", UNIQUE)
    ward.project.add("3_more", MORE)
    assert.equal(1, ward.tool("migrate", "deploy").code)                        -- P3018
    assert.equal("1_init applied 1, 2_unique failed", ward.sql(MARKS))
    local again = ward.tool("migrate", "deploy")
    assert.equal(1, again.code)
    assert.matches("P3009", again.out .. again.err, 1, true)
    ward.sql [[delete from "User" where id = 2]]
    local page, code = ward.page(ward.repair())
    assert.equal(2, code, page)
    transcript.compare("plan_repair_migrations", (page:gsub("begun [^)]*", "begun THEN"):gsub("%S+/counted", "TOOL"):gsub("%S+/migrations", "FOLDER")))
    ward.held(ward.repair())
    assert.equal("1_init applied 1, 2_unique rolled back, 2_unique applied 1, 3_more applied 1", ward.sql(MARKS))
    assert.equal("0", pg.sql(TRIALS))
    local calls = ward.calls()
    ward.ends(0, { "plan", table.unpack(ward.repair()) })
    ward.ends(0, { "run", table.unpack(ward.repair()) })
    for _, record in ipairs(ward.records()) do assert.are_not.equal("intent", record.kind) end
    assert.equal(calls, ward.calls())
  end)

  it("records as applied what somebody finished by hand, and undo makes the history what it was", function ()
    local ward = failed()
    if not ward then return end
    ward.sql(UNIQUE)
    local before = ward.sql(HISTORY)
    ward.ends(0, run(table.unpack(ward.repair "--no-input")))
    assert.equal("1_init applied 1, 2_unique rolled back, 2_unique applied 0", ward.sql(MARKS))
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal(before, ward.sql(HISTORY))
    assert.equal("0", pg.sql(TRIALS))
  end)

  it("stops for a human where a part of it is there, names which, and goes on when the rest is done", function ()
    local ward = failed()
    if not ward then return end
    ward.sql [[alter table "User" add nick varchar(9)]]
    local said = ward.ends(75, run(table.unpack(ward.repair "--no-input")))
    assert.matches("2_unique: some", said, 1, true)
    assert.matches('column public.User.nick +│ other +│ character varying%(9%) +│ text', said)
    assert.matches('index public.User_email_key +│ missing', said)
    assert.matches("step 5 is done by a human: Step 3 shows which objects", said, 1, true)
    local id = ward.latest()
    assert.equal("1_init applied 1, 2_unique failed", ward.sql(MARKS))
    ward.sql [[alter table "User" alter nick type text]]
    ward.ends(75, { "resume", id, "--no-input" })
    ward.sql [[create unique index "User_email_key" on "User" (email)]]
    ward.ends(0, { "resume", id, "--no-input" })
    assert.equal("1_init applied 1, 2_unique rolled back, 2_unique applied 0", ward.sql(MARKS))
    assert.equal("0", pg.sql(TRIALS))
  end)

  it("takes a part back by its down.sql, but only while nothing was written into it #long", function ()
    local ward = failed('BEGIN; ALTER TABLE "User" ADD COLUMN nick text; CREATE TABLE "Tag" (id int); COMMIT;\nCREATE UNIQUE INDEX "User_email_key" ON "User" (email);')
    if not ward then return end
    ward.sql [[alter table "User" add nick text; create table "Tag" (id int)]]  -- what its own COMMIT kept
    ward.project.add("2_unique", 'DROP TABLE IF EXISTS "Tag"; ALTER TABLE "User" DROP COLUMN IF EXISTS nick;', "down.sql")
    ward.sql [[insert into "User" values (1, 'a', 'x'); insert into "Tag" values (1)]]
    local said = ward.ends(1, run(table.unpack(ward.repair("--revert", "2_unique", "--no-input"))))
    assert.matches("public.Tag has 1 rows; public.User.nick holds 1 values that are not its default", said, 1, true)
    assert.equal("1_init applied 1, 2_unique failed", ward.sql(MARKS))
    ward.sql [[update "User" set nick = null; truncate "Tag"]]
    ward.ends(0, run(table.unpack(ward.repair("--revert", "2_unique", "--deploy=no", "--no-input"))))
    assert.equal("1_init applied 1, 2_unique rolled back", ward.sql(MARKS))
    assert.equal("id,email", ward.sql [[select string_agg(attname, ',') from pg_attribute where attrelid = '"User"'::regclass and attnum > 0 and not attisdropped]])
    assert.equal("0", pg.sql(TRIALS))
  end)

  it("asks a human about rows, and executes nothing that fails in the scratch database too #long", function ()
    local ward = failed([[UPDATE "User" SET id = 1;]], { "3_bad", 'ALTER TABLE "Nowhere" ADD COLUMN x int;' })
    if not ward then return end
    local said = ward.ends(1, run(table.unpack(ward.repair "--no-input")))
    assert.matches("2_unique changes rows, which the schema does not show: look whether it did, and give --rows 2_unique=there or 2_unique=missing", said, 1, true)
    assert.matches("says nothing about rows", ward.ends(64, run(table.unpack(ward.repair("--rows", "2_unique=perhaps", "--no-input")))), 1, true)
    assert.equal("1_init applied 1, 2_unique failed", ward.sql(MARKS))
    said = ward.ends(1, run(table.unpack(ward.repair("--rows", "2_unique=missing", "--no-input"))))
    assert.matches('3_bad: relation "Nowhere" does not exist', said, 1, true)
    assert.equal("1_init applied 1, 2_unique rolled back", ward.sql(MARKS))     -- proved, and kept
    assert.equal("0", pg.sql(TRIALS))
  end)

  it("says what no migration explains, and goes on only when it is told that it may stay #long", function ()
    local ward = failed()
    if not ward then return end
    ward.sql "create table ledger (id int)"
    local said = ward.ends(1, run(table.unpack(ward.repair "--no-input")))
    assert.matches("not by any migration: table public.ledger is new", said, 1, true)
    assert.equal("1_init applied 1, 2_unique failed", ward.sql(MARKS))
    ward.ends(0, run(table.unpack(ward.repair("--drift", "--deploy=no", "--no-input"))))
    assert.equal("1_init applied 1, 2_unique rolled back", ward.sql(MARKS))
  end)

  it("baselines what the schema has when there is no history (P3005), and undo takes the history away again", function ()
    local ward = open("prisma", { { "1_init", INIT }, { "2_unique", UNIQUE } })
    if not ward then return end
    ward.sql(INIT)
    local r = ward.tool("migrate", "deploy")
    assert.equal(1, r.code)
    assert.matches("P3005", r.out .. r.err, 1, true)
    ward.held(ward.repair("--deploy=no"))
    assert.equal("1_init applied 0", ward.sql(MARKS))
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal("", ward.sql "select to_regclass('_prisma_migrations')")
    ward.sql 'create index stray on "User" (email)'
    assert.matches("the nearest is 1_init: index public.stray is new", ward.ends(1, run(table.unpack(ward.repair "--no-input"))), 1, true)
    ward.sql "drop index stray"
    ward.ends(0, run(table.unpack(ward.repair "--no-input")))
    assert.equal("1_init applied 0, 2_unique applied 1", ward.sql(MARKS))
    assert.matches('"1_init" stays recorded: "2_unique" was executed after it', ward.ends(1, { "undo", ward.latest(), "--no-input" }), 1, true)
  end)

  it("asks which it was where two migrations leave the same schema #long", function ()
    local ward = open("prisma", { { "1_init", INIT }, { "2_fill", [[INSERT INTO "User" VALUES (7, 'x');]] } })
    if not ward then return end
    ward.sql(INIT)
    assert.matches("give the last that was executed with --up-to: 1_init, 2_fill", ward.ends(1, run(table.unpack(ward.repair "--no-input"))), 1, true)
    ward.ends(0, run(table.unpack(ward.repair("--up-to", "1_init", "--no-input"))))
    assert.equal("1_init applied 0, 2_fill applied 1", ward.sql(MARKS))
  end)

  it("baselines a drizzle database, whose own tool fails without a word, and undo leaves no trace of it", function ()
    local ward = open("drizzle", { { "0000_init", INIT }, { "0001_unique", UNIQUE }, { "0002_more", MORE } })
    if not ward then return end
    ward.sql(INIT .. UNIQUE)
    assert.are_not.equal(0, ward.tool("migrate").code)
    local before = ward.sql(TRACES)                                             -- drizzle leaves its schema, or more, when it fails
    ward.held(ward.repair("--deploy=no"))
    assert.equal("2", ward.sql "select count(*) from drizzle.__drizzle_migrations")
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal(before, ward.sql(TRACES))
    ward.ends(0, run(table.unpack(ward.repair "--no-input")))
    assert.equal("3", ward.sql "select count(*) from drizzle.__drizzle_migrations")
    ward.ends(0, { "plan", table.unpack(ward.repair()) })
  end)

  it("refuses a database that is not there, a history that is another folder's, and somebody who is migrating", function ()
    local ward = failed()
    if not ward then return end
    assert.matches("there is a database nowhere", ward.ends(1, run("postgres/repair-migrations", "--database", "nowhere")), 1, true)
    local holder = ward.session("select pg_advisory_lock(72707369); select 'held';", "held")
    assert.matches("nobody is migrating", ward.ends(1, run(table.unpack(ward.repair()))), 1, true)
    getmetatable(holder).__close(holder)
    ward.sql "insert into _prisma_migrations (id, checksum, migration_name, finished_at) values ('x', 'x', '0_other', now())"
    assert.matches("every migration that is recorded is in the folder", ward.ends(1, run(table.unpack(ward.repair()))), 1, true)
    assert.equal("0", pg.sql(TRIALS))
  end)

  it("killed before the tool: another user is refused, resume ends right, and undo takes it back", function ()
    local ward = failed()
    if not ward then return end
    local before = ward.sql(HISTORY)
    local process = ward.doomed(run(table.unpack(ward.repair("--deploy=no", "--no-input"))), 1)
    process:shut()
    assert.equal(9, process:finish(60000).signal)
    wards.await_unlocked(pg, ward.database)
    local id, state = ward.latest(), ward.state
    ward.state = ward.dir .. "/other"
    assert.matches("neap resume " .. id, ward.ends(75, run(table.unpack(ward.repair "--no-input"))), 1, true)
    ward.state = state
    assert.equal(before, ward.sql(HISTORY))
    ward.ends(0, { "resume", id, "--no-input" })
    assert.equal("1_init applied 1, 2_unique rolled back", ward.sql(MARKS))
    assert.equal("0", pg.sql(TRIALS))
    ward.ends(0, { "undo", id, "--no-input" })
    assert.equal(before, ward.sql(HISTORY))
  end)

  it("killed while it executes the migrations in the scratch database: resume begins that anew, without a human #kill", function ()
    local ward = failed([[CREATE TABLE "Slow" (id int); SELECT pg_sleep(300) FROM pg_stat_activity WHERE application_name = 'gate';]])
    if not ward then return end
    local gate = ward.session("select 'held';", "held", "gate")
    local process = ward.start(run(table.unpack(ward.repair("--deploy=no", "--no-input"))))
    process:shut()
    local asleep = "from pg_stat_activity where wait_event = 'PgSleep' and datname like 'repair\\_\\_%'"
    ward.await("select count(*) " .. asleep, "1")
    process:kill(9)
    process:finish()
    assert.equal("1", pg.sql(TRIALS))
    getmetatable(gate).__close(gate)
    local resumed = ward.start { "resume", ward.latest(), "--no-input" }
    resumed:shut()
    stages.await(function () return ward.told "is still being worked on" end, "resume waiting for the migration")
    pg.sql("select pg_terminate_backend(pid) " .. asleep)
    local r = resumed:finish()
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("1_init applied 1, 2_unique rolled back", ward.sql(MARKS))
    assert.equal("0", pg.sql(TRIALS))
  end)
end)
