-- db:restore with jobs, by the built binary: killed in the middle and resumed, it ends whole, and nothing of it is left.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

-- The index takes as long as a session of the test stands in its way, so that the kill comes when the rows are there and the rest is not.
local SCHEMA <const> = [[
  create function slow(int) returns int immutable language plpgsql as 'begin while exists (select from pg_stat_activity where application_name = ''gate'') loop
    perform pg_sleep(0.02); perform pg_stat_clear_snapshot(); end loop; return $1; end';
  create table one (id int primary key); insert into one values (1); create index one_slow on one (slow(id)); create table two (id int primary key references one);]]

local BOOK <const> = [[
runbook "Try the dump" { why = "to be killed" }
local db, backups, stage = target.postgres "db", target.folder "backups", target.folder "stage"
step "Restore it beside the others" {
  each = { "trial" }, within = "5m",
  act = function () db:restore { from = backups:open "night.dump", into = scratch "trial", jobs = 2, stage = stage } end,
  done = function () return db:exists(scratch "trial") and db:on(scratch "trial"):has "select 1 from pg_constraint where contype = 'f'" end,
}
]]

describe("a restore in several sessions whose run is killed", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function is_waiting(records)
    for _, record in ipairs(records) do
      if record.kind == "notice" and record.body.text:find("is still being worked on", 1, true) then return true end
    end
  end

  -- Killed while the index is built, perhaps with its program; then resumed, and what is temporary taken away.
  local function story(with_program, restores)
    local stage, backups = suite.temp(), suite.temp()
    local ward = wards.open(pg, { role = "admin", schema = SCHEMA,
      settings = ('stage = folder { path = "%s" }, backups = folder { path = "%s" },'):format(stage, backups) })
    suite.write(ward.dir .. "/book.lua", BOOK)
    child.must { argv = { pg.bin .. "/pg_dump", "-Fc", "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin", "-f", backups .. "/night.dump", ward.database },
      env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH") } }
    local gate = ward.session("select 'held';", "held", "gate")
    local run = ward.start { "run", ward.dir .. "/book.lua", "--no-input" }
    ward.await("select count(*) from pg_stat_activity where application_name like 'neap:restore:%' and query like 'CREATE INDEX%'", "1")
    local id = ward.latest()
    local database = "trial__" .. id
    suite.after(function () pg.sql(("drop database if exists %s with (force)"):format(database)) end)
    assert.same({ database .. ".dump" }, T.entries(stage))
    assert.matches("^600", child.must { argv = { "stat", "-c", "%a", ("%s/%s.dump"):format(stage, database) } })
    run:kill(9)
    run:finish()
    for _, record in ipairs(with_program and ward.records(id) or {}) do
      if record.kind == "started" then child.must { argv = { "kill", "-9", "--", "-" .. record.body.pid } } end
    end
    local resumed = ward.start { "resume", id, "--no-input" }
    resumed:shut()
    if not with_program then stages.await(function () return is_waiting(ward.records(id)) end, "resume waiting for the program") end
    getmetatable(gate).__close(gate)
    local r = resumed:finish()
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("t", pg.sql("select bool_and(indisvalid) from pg_index where indrelid = 'one'::regclass", database))
    local begun = 0
    for _, record in ipairs(ward.records(id)) do
      if record.kind == "intent" and (record.body.text or ""):find("--jobs=2", 1, true) then begun = begun + 1 end
    end
    assert.equal(restores, begun)
    if with_program then assert.same({}, T.entries(stage)) end
    ward.ends(0, { "gc" })
    assert.same({}, T.entries(stage))
    assert.equal("0", pg.sql(("select count(*) from pg_database where datname = '%s'"):format(database)))
  end

  it("is waited for by the next, and found done #kill", function () story(false, 1) end)
  it("begins again when its program was killed too, and ends whole #kill", function () story(true, 2) end)
end)
