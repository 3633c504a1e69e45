-- db:swap and db:swap_back: one database in place of another, and back.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

local BOOK <const> = [[
runbook "Swap" { why = "A test.", on_failure = "abort" }
local db = target.postgres "db"
local p = params { database = { "database", kind = "name" } }
step "Make another one" {
  each = { "trial" },
  done = function () return db:swapped(p.database, scratch "trial") or db:exists(scratch "trial") and db:on(scratch "trial"):has("select to_regclass('public.t') is not null") end,
  act  = function ()
    if not db:exists(scratch "trial") then db:create_database(scratch "trial") end
    db:on(scratch "trial"):exec "create table if not exists t (id int)"
  end,
}
step "Put it in place of {database}" {
  each = { "swap" },
  needs = function () check.same(db:swap_obstacles(p.database), {}, "nothing stands in the way") end,
  done = function () return db:swapped(p.database, scratch "trial") end,
  act  = function () db:swap(p.database, scratch "trial"%s) end,
  undo = function () db:swap_back(p.database) end,
}
%s
]]

describe("a swap of databases", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function open(given)
    given = given or {}
    local ward = wards.open(pg, { schema = "create table t (id int); insert into t values (1), (2); alter table t owner to owner;", role = given.role, settings = given.settings })
    pg.sql "alter role owner createdb; grant pg_signal_backend, pg_read_all_stats to owner"
    pg.sql(("alter database %s owner to owner"):format(ward.database))
    suite.write(ward.dir .. "/book.lua", BOOK:format(given.sessions or "", given.after or ""))
    ward.words_of = function (verb, ...) return { verb, ward.dir .. "/book.lua", "--database", ward.database, ... } end
    return ward
  end

  local function rows(name) return pg.sql("select count(*) from t", name) end
  local function exists(name) return pg.sql("select count(*) from pg_database where datname = '" .. name .. "'") end
  local function names(ward) return ward.database .. "__kept__" .. ward.latest(), "trial__" .. ward.latest() end
  local function locks() return pg.sql "select count(*) from pg_locks where locktype = 'advisory'" end

  it("gives the name to the other one with all that belongs to it, does as it said, and does nothing twice", function ()
    local ward = open { role = "admin" }
    local live = ward.database
    pg.sql((([[alter database %s set search_path to "$user", public, extra; alter database %s set work_mem to '7MB'; comment on database %s is 'it''s ours';
      alter database %s connection limit 40;
      revoke all on database %s from public; grant connect on database %s to reader; alter role reader in database %s set statement_timeout to '9s']])
      :gsub("%%s", live)))
    ward.held({ ward.dir .. "/book.lua", "--database", live }, { "--no-input" })
    local kept = names(ward)
    assert.equal("0", rows(live))
    assert.equal("2", rows(kept))
    assert.equal("owner|40|{owner=CTc/owner,reader=c/owner}|it's ours", pg.sql(([[select pg_get_userbyid(datdba), datconnlimit, datacl, shobj_description(oid, 'pg_database')
      from pg_database where datname = '%s']]):format(live)))
    assert.equal([[|search_path="$user", public, extra|work_mem=7MB]] .. "\n" .. [[reader|statement_timeout=9s]], pg.sql(([[
      select coalesce(nullif(s.setrole, 0)::regrole::text, ''), array_to_string(s.setconfig, '|')
      from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where d.datname = '%s' order by s.setrole]]):format(live)))
    assert.equal("0", locks())
    assert.is_nil(ward.neap({ "doctor", "--env", "demo", "--inventory", ward.dir .. "/inventory.lua" }).all:find("kept by a run", 1, true))
    ward.ends(0, { "gc" })
    assert.equal("1", exists(live) )
    assert.equal("1", exists(kept))
  end)

  it("tells what it may not carry over, and goes on", function ()
    local ward = open()
    pg.sql(("alter role reader in database %s set statement_timeout to '9s'"):format(ward.database))
    assert.matches("not carried over, db may not: ALTER ROLE reader IN DATABASE", ward.ends(0, ward.words_of("run", "--no-input")), 1, true)
    assert.equal("0", rows(ward.database))
  end)

  it("is taken back, and what came is gc's then", function ()
    local ward = open()
    ward.ends(0, ward.words_of("run", "--no-input"))
    local kept, trial = names(ward)
    local run = ward.latest()
    ward.ends(0, { "undo", run })
    assert.equal("2", rows(ward.database))
    assert.equal("0", rows(trial))
    assert.equal("0", exists(kept))
    assert.matches("nothing of this run can be undone", ward.ends(0, { "undo", run }), 1, true)
    ward.ends(0, { "gc" })
    assert.equal("0", exists(trial))
  end)

  it("names whoever is connected and leaves everything as it is; ends them where that was said", function ()
    for _, sessions in ipairs { "", ", { sessions = \"end\" }" } do
      local ward = open { sessions = sessions }
      local session <close> = ward.session("select 'held';", "held", "colleague")
      assert(session)
      if sessions == "" then
        assert.matches("somebody is connected: pid %d+, colleague of owner from .- in " .. ward.database, ward.ends(75, ward.words_of("run", "--no-input")))
        assert.equal("2", rows(ward.database))
        local run = ward.latest()
        assert.equal("1", exists("trial__" .. run))
        getmetatable(session).__close(session)
        ward.await("select count(*) from pg_stat_activity where application_name = 'colleague'", "0")
        ward.ends(0, { "resume", run, "--no-input" })
      else ward.ends(0, ward.words_of("run", "--no-input")) end
      assert.equal("0", rows(ward.database))
    end
  end)

  it("lets nobody in between, however often they try, and is never without the database", function ()
    local ward = open { sessions = ", { sessions = \"end\" }" }
    local loop = suite.write(ward.dir .. "/loop.sh", ([[while [ ! -e '%s/stop' ]; do '%s/psql' -X -A -t -h '%s' -p %d -U owner -d %s -c 'select count(*) from t' 2>&1; done]])
      :format(ward.dir, pg.bin, pg.dir, pg.port, ward.database))
    local child = require "tests.support.child"
    local storm = {}
    for i = 1, 3 do storm[i] = child.start { argv = { "sh", loop }, env = { PGPASSWORD = ward.env.PASSWORD, PATH = os.getenv("PATH"), PGAPPNAME = "storm" } } end
    for _, process in ipairs(storm) do process:expect "2\n" end
    ward.ends(0, ward.words_of("run", "--no-input"))
    suite.write(ward.dir .. "/stop", "")
    local old = 0
    for _, process in ipairs(storm) do
      for line in process:finish().out:gmatch("[^\n]+") do
        if line == "2" then old = old + 1 end
        assert.is_true(line == "2" or line == "0" or not line:find "^%d+$", line)
        assert.is_nil(line:find("does not exist", 1, true) and not line:find("renamed", 1, true) and not line:find("FATAL", 1, true) and line or nil)
      end
    end
    assert.is_true(old > 0)
    assert.equal("0", rows(ward.database))
  end)

  local function kills(most)
    local why = faults.missing()
    if why then return pending(why) end
    local ward = open()
    local home = ward.dir
    suite.write(home .. "/inventory.lua", (suite.read(home .. "/inventory.lua"):gsub("PASSWORD", "OWNER_PASSWORD")))
    ward.env.OWNER_PASSWORD = ward.env.PASSWORD
    local function arguments() return ward.words(ward.words_of("run", "--no-input")) end
    local _, calls = faults.record(arguments(), { home = home })
    local points = faults.points(calls)
    for _, point in ipairs(faults.spread(points, most, 7)) do
      pg.sql(("drop database %s__kept__%s"):format(ward.database, ward.latest()))
      T.remove_tree(ward.state)
      pg.sql("truncate t; insert into t values (1), (2)", ward.database)
      local killed = faults.start(arguments(), { home = home }, point):finish(60000)
      local run = (T.entries(ward.state .. "/runs") or {})[1]
      if not run or #(journal.read(ward.state, run, 0) or {}) == 0 then ward.ends(0, ward.words_of("run", "--no-input"))
      elseif killed.code ~= 0 then
        local r = ward.neap { "resume", run, "--no-input" }
        assert(r.code == 0 or r.code == 64 and r.all:find("nothing to resume", 1, true), ("killed at %s: %s"):format(point.name, r.all))
      end
      assert.equal("0", rows(ward.database), point.name)
      assert.equal("2", rows((names(ward))), point.name)
      stages.await(function () return locks() == "0" end, "the end of the locks, killed at " .. point.name)
      ward.ends(0, { "gc" })
      assert.equal("0", exists("trial__" .. ward.latest()), point.name)
    end
  end

  it("goes on without a human wherever it was killed #kill", function () kills(4) end)
  it("goes on without a human wherever it was killed, at many points #kill #long", function () kills(60) end)
end)
