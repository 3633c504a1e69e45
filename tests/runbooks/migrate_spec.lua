-- postgres/migrate on real servers, with the real Prisma and the real drizzle-kit: what it judges, rehearses, deploys and proves, and what it
-- refuses before the tool is called.

local kept = require "tests.support.kept"
local migrating = require "tests.support.migrating"
local shops = require "tests.support.shop"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

local RUNBOOK <const> = "postgres/migrate"
local ORDERS <const> = { "2_orders", 'CREATE TABLE "Order" (id serial PRIMARY KEY, "customerId" int NOT NULL REFERENCES "Customer"(id));\nALTER TABLE "Customer" ADD COLUMN phone text;\n' }
local STATUS <const> = { "3_status", 'CREATE INDEX "Customer_name_idx" ON "Customer" (name);\n' }
local DROP <const> = { "2_drop", 'ALTER TABLE "Customer" DROP COLUMN email;\n' }
local WAIVED <const> = { "--waive", "drop-column:public.Customer.email=nobody reads it since May" }

local function words(...)
  local list = { RUNBOOK }
  table.move(migrating.gates, 1, 2, 2, list)
  for _, word in ipairs { ... } do list[#list + 1] = word end
  return list
end

local function run(...) return { "run", table.unpack(words(...)) } end

-- A tool that is none: the shell script does what it does to the database, whose URL it is given without what psql does not know.
local function script(at, lines)
  T.mode(suite.write(at.dir .. "/fake", "#!/bin/sh\nurl=${DATABASE_URL%%\\?*}\n" .. lines .. "\n"), tonumber("755", 8))
  shops.write_tool(at.dir, at.dir .. "/fake")
end

local function record(at, name)
  local sum = suite.read(("%s/%s/migration.sql"):format(at.migrations, name))
  return ("insert into _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count) values ('%s', '%s', now(), '%s', 1)"):format(name,
    require("native.text").sha256(sum), name)
end

describe("postgres/migrate", function ()
  local at

  local function open(tool, pending_ones, options)
    local place, why = migrating.open("direct", tool, pending_ones, options)
    if not place then return pending(why) end
    at = place
    return true
  end

  local function page_of(...)
    local r = at.neap { "plan", table.unpack(words(...)) }
    local page = kept.plain(r.out, { [at.database] = "DATABASE" })
    return page:gsub(at.dir:gsub("%p", "%%%0"), "DIR"):gsub("│ %d%d%d%d+ ", "│ N "), r.code
  end

  -- It ends badly, says all this, and the tool was never called.
  local function refused(list, ...)
    local r = at.neap { "run", "--no-input", table.unpack(list) }
    assert.is_true(r.code ~= 0 and r.code ~= 2, r.all)
    for _, said in ipairs { ... } do assert.matches(said, r.all, 1, true) end
    assert.same({}, at.calls())
    assert.equal("0", at.shadows())
    assert.equal("2", at.pg.sql([[select count(*) from "Customer" where email is not null]], at.database))
    return r
  end

  describe("with Prisma", function ()
    it("plans, rehearses, deploys as it said, and has nothing to do the second time", function ()
      if not open("prisma", { ORDERS, STATUS }) then return end
      local page, code = page_of()
      assert.equal(2, code, page)
      transcript.compare("plan_migrate_prisma", page)
      assert.equal("0", at.shadows())
      assert.is_true(at.held(words(), { "--no-input" }) > 5)
      assert.same({ "migrate deploy" }, at.calls())
      assert.equal("1_init,2_orders,3_status", at.recorded())
      assert.equal("0", at.shadows())
      local notes = table.concat(migrating.notes(at), "\n")
      assert.matches("duration: evidence: measured on a clone", notes, 1, true)
      assert.matches("backup: ticked by hand: shop.dump", notes, 1, true)
      at.ends(0, { "plan", RUNBOOK })
      at.ends(0, { "run", RUNBOOK, "--no-input" })
      assert.same({ "migrate deploy" }, at.calls())
      assert.matches("nothing of this run can be undone", at.ends(0, { "undo", at.latest() }), 1, true)
    end)

    it("destroys only what was waived by its name and confirmed by typing the database's", function ()
      if not open("prisma", { DROP }) then return end
      refused(words(), "drop-column:public.Customer.email (loses): public.Customer.email (character varying(40)) is gone in every row")
      refused(words("--waive", "drop-column:public.Customer.name=wrong"), "every waiver fits a finding", "drop-column:public.Customer.name")
      refused({ RUNBOOK, "--gates", "staging=x", table.unpack(WAIVED) }, "--gates rollback=REASON")
      local gates = migrating.gates[2] .. ",window=Sunday night"
      refused({ RUNBOOK, "--gates", migrating.gates[2], table.unpack(WAIVED) }, "window: it runs when it may disturb", "--gates window=REASON")
      refused({ RUNBOOK, "--gates", gates, table.unpack(WAIVED) }, "nobody confirmed: what the findings call lost, in " .. at.database, "--confirm destroys=" .. at.database)
      at.ends(0, { "run", RUNBOOK, "--no-input", "--gates", gates, "--confirm", "destroys=" .. at.database, table.unpack(WAIVED) })
      assert.equal("1_init,2_drop", at.recorded())
      assert.equal("0", at.pg.sql([[select count(*) from information_schema.columns where column_name = 'email']], at.database))
      assert.matches("waived drop-column:public.Customer.email=nobody reads it since May", table.concat(migrating.notes(at), "\n"), 1, true)
    end)

    it("says who holds the tool up, and gives the tool's statements only so long to wait for a lock", function ()
      if not open("prisma", { { "2_phone", 'ALTER TABLE "Customer" ADD COLUMN phone text;' } }) then return end
      do
        local holder <close> = at.session([[begin; select 'read', count(*) from "Customer";]], "read|2", "report")
        assert.is_table(holder)
        local r = at.neap(run("--no-input", "--lock", "8s"))
        assert.equal(1, r.code, r.all)
        assert.matches("\"2_phone\" failed on the server: canceling statement due to lock timeout", r.all, 1, true)
        assert.matches("pid %d+, [^\n]- of owner waits for AccessExclusiveLock of public.Customer behind pid %d+, report of owner, idle in transaction", r.all)
      end
      assert.equal("2", at.pg.sql([[select count(*) from "Customer"]], at.database))
      assert.equal("0", at.shadows())
    end)

    it("goes on after kill -9 in the middle of the tool, which nobody else may do meanwhile", function ()
      if not open("prisma", { ORDERS }) then return end
      at.kill_at(1)
      local r = at.begin(run "--no-input")
      assert.equal(9, r.signal, r.all)
      local id = at.latest()
      assert.equal("1", at.shadows())
      local other = at.words { "run", RUNBOOK, "--no-input" }
      for i, word in ipairs(other) do
        if word == at.state then other[i] = suite.temp() end
      end
      local busy = require("tests.support.neap")(other, { env = at.env, cwd = at.dir })
      assert.equal(75, busy.code, busy.out .. busy.err)
      assert.matches(id:sub(1, 7), busy.out .. busy.err, 1, true)
      local resumed = at.begin { "resume", id, "--no-input" }
      assert.equal(0, resumed.code, resumed.all)
      assert.equal("1_init,2_orders", at.recorded())
      assert.equal("0", at.shadows())
      at.ends(0, { "run", RUNBOOK, "--no-input" })
    end)
  end)

  describe("with drizzle", function ()
    it("plans, rehearses all of it as the one transaction it is, deploys as it said", function ()
      if not open("drizzle", { { "0001_orders", ORDERS[2]:gsub(";\n", ";\n--> statement-breakpoint\n", 1) }, { "0002_status", STATUS[2] } }) then return end
      local page, code = page_of()
      assert.equal(2, code, page)
      transcript.compare("plan_migrate_drizzle", page)
      assert.is_true(at.held(words(), { "--no-input" }) > 5)
      assert.same({ "migrate" }, at.calls())
      assert.equal("3", at.recorded())
      at.ends(0, { "run", RUNBOOK, "--no-input" })
      assert.same({ "migrate" }, at.calls())
    end)

    it("refuses what cannot run inside that transaction", function ()
      if not open("drizzle", { { "0001_index", 'CREATE INDEX CONCURRENTLY i ON "Customer" (name);' } }, { program = "/bin/true" }) then return end
      refused(words(), "alone-in-transaction:create index (fails)")
      at.pend("0001_index", "ALTER TYPE \"Role\" ADD VALUE 'GUEST'", 1)
      at.pend("0002_use", [[ALTER TABLE "Customer" ADD COLUMN role "Role" DEFAULT 'GUEST']])
      refused(words("--waive", "alone-in-transaction:create index=x"), "0001_index\" was merged late")
    end)
  end)

  describe("refuses before the tool is called", function ()
    before_each(function () open("prisma", { ORDERS }, { program = "/bin/true" }) end)

    it("a history that failed, was edited, or has what the folder has not", function ()
      at.pg.sql("update _prisma_migrations set checksum = 'x'", at.database)
      refused(words(), "\"1_init\" was edited after it was applied")
      at.pg.sql("update _prisma_migrations set finished_at = null, logs = 'ERROR: no space left'", at.database)
      refused(words(), "\"1_init\" failed (begun", "ERROR: no space left")
      at.pg.sql("update _prisma_migrations set finished_at = now(), migration_name = '0_gone'", at.database)
      refused(words(), "\"0_gone\" is recorded in the database and is not in the folder")
      at.pg.sql("drop table _prisma_migrations", at.database)
      refused(words(), "no history", "P3005")
    end)

    it("a gate that nobody passed, a tick of no gate, a waiver of nothing", function ()
      refused({ RUNBOOK, "--gates", "staging=run 4f2c,rollback=x,notified=x" }, "no evidence and no tick: --gates backup=REASON")
      refused({ RUNBOOK, "--gates", "stagin=x" }, "there is no gate \"stagin\"", "staging")
      refused({ RUNBOOK, "--gates", "staging=" }, "ticks no gate")
      refused(words("--waive", "everything"), "waives nothing")
      refused(words("--rehearse", "none"), "duration: how long it takes was estimated", "--gates duration=REASON")
      refused(words("--database", "nowhere"), "there is a database nowhere")
    end)

    it("no backup gate that a fresh backup of this database passes, which a drill brought back", function ()
      local moment = os.time()
      local function backup(name, age, more)
        local manifest = { state = "whole", name = name, database = at.database, server = "pg:" .. at.pg.sql "select system_identifier from pg_control_system()",
          taken_at = os.date("!%Y%m%dT%H%M%SZ", moment - age), bytes = 4, sha256 = "5", counts = {}, shape = {} }
        for key, value in pairs(more or {}) do manifest[key] = value end
        suite.write(("%s/%s"):format(at.backups, name), "dump")
        suite.write(("%s/%s.manifest"):format(at.backups, name), text.json(manifest))
        suite.write(("%s/%s.proof"):format(at.backups, name), text.json { name = name, sha256 = "5", proven_at = os.date("!%Y%m%dT%H%M%SZ", moment) })
      end
      local ticked = { "--gates", "staging=run 4f2c,rollback=x,notified=x" }
      local function gate() return at.neap({ "plan", RUNBOOK, table.unpack(ticked) }).all:match("note +(backup: [^\n]*)") or "" end
      backup("other.dump", 60, { server = "pg:1" })
      backup("part.dump", 60, { tables = { "public.Customer" } })
      refused({ RUNBOOK, table.unpack(ticked) }, "--gates backup=REASON; no backup of " .. at.database .. " in the catalogue was brought back by a drill")
      backup("old.dump", 90000)
      refused({ RUNBOOK, table.unpack(ticked) }, "the newest proven backup is old.dump, taken 1", "older than 24h")
      ticked[2] = ticked[2] .. ",backup=my word"
      assert.matches("^backup: ticked by hand: my word; the newest proven backup is old.dump", gate())
      ticked = { "--fresh", "30h", "--gates", "staging=run 4f2c,rollback=x,notified=x" }
      assert.matches("^backup: evidence: old.dump, taken 1 d 1 h ago", gate())
      suite.write(at.backups .. "/old.dump", "du")
      refused({ RUNBOOK, table.unpack(ticked) }, "old.dump has not the bytes that were proven")
      backup("new.dump", 600)
      ticked[2] = "24h"
      assert.matches("^backup: evidence: new.dump, taken 1%d m", gate())
    end)

    it("what the server itself refuses, in the rehearsal", function ()
      at.pend("3_wrong", 'ALTER TABLE "Customer" ADD CONSTRAINT c CHECK (nope > 0) NOT VALID;')
      refused(words(), "column \"nope\" does not exist")
      assert.equal("1_init", at.recorded())
    end)

    it("what only the rows refuse, in a rehearsal that has them", function ()
      at.pend("3_unique", [[UPDATE "Customer" SET name = 'Ada' WHERE true; CREATE UNIQUE INDEX u ON "Customer" (name);]])
      refused(words("--rehearse", "data"), "could not create unique index \"u\"")
    end)

    it("statements that the grammar does not know", function ()
      at.pend("3_typo", "ALTER TABEL x;")
      refused(words(), "syntax error at or near \"TABEL\"")
    end)
  end)

  describe("does not believe a tool that", function ()
    it("says all is well and has done nothing", function ()
      if not open("prisma", { ORDERS }, { program = "/bin/true" }) then return end
      local r = at.neap(run "--no-input")
      assert.equal(1, r.code, r.all)
      assert.matches("\"2_orders\" is still pending; the tool ended with status 0", r.all, 1, true)
      assert.equal("0", at.shadows())
    end)

    it("does something else than what was rehearsed", function ()
      if not open("prisma", { STATUS }, { program = "/bin/true" }) then return end
      script(at, ([[psql "$url" -qXc 'CREATE INDEX "Customer_name_idx" ON "Customer" (name, id)' -c "%s"]]):format(record(at, "3_status")))
      local r = at.neap(run "--no-input")
      assert.equal(1, r.code, r.all)
      assert.matches("the catalogue is what the rehearsal made of the clone's", r.all, 1, true)
      assert.matches("index public.Customer_name_idx", r.all, 1, true)
    end)

    it("records more than what was pending", function ()
      if not open("prisma", { STATUS }, { program = "/bin/true" }) then return end
      script(at, ([[psql "$url" -qXc 'CREATE INDEX "Customer_name_idx" ON "Customer" (name)' -c "%s" -c "%s"]]):format(record(at, "3_status"),
        "insert into _prisma_migrations (id, checksum, finished_at, migration_name) values ('9', 'x', now(), '9_extra')"))
      local r = at.neap(run "--no-input")
      assert.equal(1, r.code, r.all)
      assert.matches("the history has 3_status more, and nothing else", r.all, 1, true)
    end)

    it("ends with an error although all was done", function ()
      if not open("prisma", { STATUS }, { program = "/bin/true" }) then return end
      script(at, ([[psql "$url" -qXc 'CREATE INDEX "Customer_name_idx" ON "Customer" (name)' -c "%s"; exit 1]]):format(record(at, "3_status")))
      at.ends(0, run "--no-input")
    end)
  end)
end)
