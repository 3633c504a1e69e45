-- Fresh-database killed: at points spread over the whole run with the real tools, and while the tool works, seen by the person who
-- resumes, by the one who comes along with a run of his own, and by the one who takes it back.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local shops = require "tests.support.shop"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local wards = require "tests.support.ward"

local RUNBOOK <const> = "runbooks/postgres/fresh-database.lua"
local KILL <const> = 9

-- Waits for a word in the fifo before it becomes the tool; another word lets it fail. Its output goes elsewhere than into the pipe
-- of a neap that is no longer there, of which drizzle-kit would die before it has done anything.
local GATE <const> = [[
#!/bin/sh
here=%s
echo "$*" >>"$here/calls"
echo $$ >"$here/tool-pid.part"; mv "$here/tool-pid.part" "$here/tool-pid"
read word <"$here/go"
[ "$word" = on ] || exit 1
exec %s "$@" >"$here/output" 2>&1
]]

describe("postgres/fresh-database, killed #kill", function ()
  local pg, shop
  local count = 0
  setup(function () pg = servers.postgres() end)

  local function name()
    count = count + 1
    return "killed" .. count
  end

  local function open(tool)
    local argv, why = tools.command(tool)
    if not argv then pending(why) end
    shop = shops.open(pg, tool)
    shop.database = suite.read(shop.dir .. "/inventory.lua"):match("127%.0%.0%.1:%d+/(%w+)")
    return argv
  end

  local function exists(database) return pg.sql(("select count(*) from pg_database where datname = '%s'"):format(database)) == "1" end

  -- Holds and locks on the database of the inventory.
  local function kept()
    return pg.sql([[select (select count(*) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
        where d.datname = current_database() and array_to_string(setconfig, ' ') like '%neap.hold%')
      + (select count(*) from pg_description where description like 'neap.hold%')
      + (select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database()))]], shop.database)
  end

  local APPLIED <const> = {
    drizzle = "select count(*) from drizzle.__drizzle_migrations",
    prisma = "select count(*) from _prisma_migrations where finished_at is not null and rolled_back_at is null",
  }

  local function is_right(tool, database, calls, what)
    assert.equal("9", pg.sql(APPLIED[tool], database), what)
    assert.equal("6", pg.sql("select count(*) from pg_tables where schemaname = 'public' and tablename <> '_prisma_migrations'", database), what)
    stages.await(function () return kept() == "0" end, "nothing kept, " .. (what or tool))
    assert.equal(calls, #shop.calls(), what)
    assert.equal(1, select(2, pg.log():gsub(('LOG:  execute [^\n]*CREATE DATABASE "%s"'):format(database), "")), what)
  end

  local function only_run()
    local names = T.entries(shop.state .. "/runs") or {}
    assert.is_true(#names <= 1)
    return names[1]
  end

  -- Run it, die at the point, resume.
  local function try(tool, calls, point)
    open(tool)
    local database = name()
    local arguments = { "run", RUNBOOK, "--database", database, "--no-input", "--json", "--env", "demo", "--inventory", shop.dir .. "/inventory.lua", "--state", shop.state }
    if not point then return faults.record(arguments, { home = shop.dir }) end
    local what = "killed at " .. point.name
    local killed = faults.start(arguments, { home = shop.dir }, point):finish(120000)
    if killed.code == 0 then return end
    local run = only_run()
    local before = run and journal.read(shop.state, run, 0) or {}
    if #before == 0 then
      assert.is_false(exists(database), what)
      return
    end
    local r = shop.neap { "resume", run, "--no-input" }
    if r.code ~= 64 then assert.equal(0, r.code, what .. "\n" .. r.out .. r.err) end
    is_right(tool, database, calls, what)
    assert(journal.verify(shop.state, run))
  end

  local function sweep(tool, calls, many)
    local why = faults.missing()
    if why then return pending(why) end
    if not tools.command(tool) then return open(tool) end
    local result, list = try(tool, calls)
    assert.equal(0, result.code, result.out .. result.err)
    for _, point in ipairs(faults.spread(faults.points(list), many, 7)) do try(tool, calls, point) end
  end

  it("is right after a resume, at ten points with drizzle", function () sweep("drizzle", 1, 10) end)
  it("is right after a resume, at ten points with Prisma #long", function () sweep("prisma", 9, 10) end)

  describe("while the tool works", function ()
    local database, run

    -- Run until the tool waits at its gate, and kill neap there.
    before_each(function ()
      local argv = open "drizzle"
      if not argv then return end
      suite.write(shop.dir .. "/tool", GATE:format(shop.dir, argv[1]))
      assert(os.execute("mkfifo " .. shop.dir .. "/go && chmod -R a+rX " .. shop.dir))
      database = name()
      local running = neap.start({ "run", RUNBOOK, "--database", database, "--no-input", "--env", "demo",
        "--inventory", shop.dir .. "/inventory.lua", "--state", shop.state }, { env = { OWNER_PASSWORD = servers.passwords.owner } })
      stages.await(function () return io.open(shop.dir .. "/tool-pid") end, "the tool"):close()
      running:kill(KILL)
      running:finish()
      wards.await_unlocked(pg, shop.database)
      run = only_run()
    end)

    local function go(word)
      local fifo <close> = assert(io.open(shop.dir .. "/go", "w"))
      fifo:write(word, "\n")
    end

    -- Somebody else, with a home and a state of his own, on the same server.
    local function refused_to_another()
      suite.write(shop.dir .. "/copy.lua", suite.read(RUNBOOK))
      assert(os.execute("chmod a+r " .. shop.dir .. "/copy.lua"))
      local options = { env = { OWNER_PASSWORD = servers.passwords.owner }, cwd = "/" }
      if T.uid() == 0 then options.user = "nobody" else options.env.HOME = suite.temp() end
      local r = neap({ "run", shop.dir .. "/copy.lua", "--database", "another", "--no-input", "--env", "demo", "--inventory", shop.dir .. "/inventory.lua" }, options)
      assert.equal(75, r.code, r.out .. r.err)
      assert.matches("neap resume " .. run, r.out .. r.err, 1, true)
      assert.is_false(exists "another")
    end

    local function resume()
      local resumed = neap.start({ "resume", run, "--no-input", "--inventory", shop.dir .. "/inventory.lua", "--state", shop.state },
        { env = { OWNER_PASSWORD = servers.passwords.owner } })
      stages.await(function ()
        for _, r in ipairs(journal.read(shop.state, run, 0)) do
          if r.kind == "notice" and r.body.text:find("is still being worked on", 1, true) then return true end
        end
      end, "resume waiting for the tool")
      return resumed
    end

    local function undo() return shop.neap { "undo", run, "--no-input" } end

    it("another user is refused, resume waits and finishes, and an undo leaves what the baseline made and says so", function ()
      if not run then return end
      refused_to_another()
      local resumed = resume()
      go "on"
      local r = resumed:finish(60000)
      assert.equal(0, r.code, r.out .. r.err)
      is_right("drizzle", database, 1)
      local undone = undo()
      assert.equal(1, undone.code, undone.out .. undone.err)
      assert.matches("stays recorded: the database has 6 tables", undone.out .. undone.err, 1, true)
      assert.equal("9", pg.sql(APPLIED.drizzle, database))
    end)

    it("another user is refused, resume cannot tell when the tool failed, and an undo takes everything back", function ()
      if not run then return end
      refused_to_another()
      local resumed = resume()
      go "off"
      local r = resumed:finish(60000)
      assert.equal(75, r.code, r.out .. r.err)
      refused_to_another()
      local undone = undo()
      assert.equal(0, undone.code, undone.out .. undone.err)
      assert.is_false(exists(database))
      assert.equal("0", kept())
      assert.same({ "migrate" }, shop.calls())
      assert(journal.verify(shop.state, run))
    end)
  end)
end)
