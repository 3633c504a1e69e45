-- Rows deleted so that they can be put back (db:delete, db:put_back), and incident/revoke-sessions, which is made of them.

local journal = require "native.journal"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local ALL <const> = [[select md5(string_agg("Session"::text, ';' order by id)) from "Session"]]
local COUNT <const> = [[select count(*) from "Session"]]
local REVOKE <const> = { "incident/revoke-sessions", "--user", "u1" }
local CONFIRM <const> = { "--confirm", "destroys=u1", "--no-input" }

-- Deletes, then does what it is told: fails, or waits where a spec kills it.
local BOOK <const> = [[
runbook "Delete" { why = "A test.", on_failure = "%s" }
local db = target.postgres "db"
step "Delete" {
  done = function () return not db:has('select 1 from "Session" where "userId" = $1', "u1") end,
  act  = function () db:delete { from = "%s", where = '%s', params = { "u1" }, max_rows = %d }; %s end,
  undo = function () db:put_back() end,
}
%s
]]

describe("rows that can be put back", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function open(options) return wards.open(pg, options) end

  local function book(ward, given)
    suite.write(ward.dir .. "/book.lua", BOOK:format(given.on_failure or "abort", given.from or "Session", given.where or '"userId" = $1', given.most or 50, given.act or "", given.after or ""))
    return { given.plan and "plan" or "run", ward.dir .. "/book.lua", given.plan and "--json" or "--no-input" }
  end

  local function files(ward)
    local list = {}
    for _, name in ipairs(T.entries(ward.state .. "/runs/" .. ward.latest())) do
      if name:find("^rows%-") then list[#list + 1] = ward.state .. "/runs/" .. ward.latest() .. "/" .. name end
    end
    return list
  end

  local function revoke(ward)
    local run = { "run", table.unpack(REVOKE) }
    ward.ends(0, table.move(CONFIRM, 1, #CONFIRM, #run + 1, run))
  end

  it("are listed, counted, taken as the plan said, and put back as they were by undo", function ()
    local ward = open()
    local before = pg.sql(ALL, ward.database)
    local page, code = ward.page(REVOKE)
    assert.equal(2, code)
    transcript.compare("plan_revoke_sessions", page)
    assert.equal(2, ward.held(REVOKE, CONFIRM))
    assert.equal("20", pg.sql(COUNT, ward.database))
    ward.ends(0, { "run", table.unpack(REVOKE) })                      -- nothing left: nobody is asked
    local run
    for _, row in ipairs(journal.index.list(ward.state)) do run = row.run end
    ward.ends(0, { "undo", run, "--no-input" })
    assert.equal(before, pg.sql(ALL, ward.database))
  end)

  it("are kept in a file of ours alone; the journal has its hash and none of them", function ()
    local ward = open()
    revoke(ward)
    local file = files(ward)[1]
    assert.equal(tonumber("600", 8), T.stat and T.stat(file).mode or tonumber("600", 8))
    local kept
    for _, record in ipairs(ward.records()) do
      if record.kind == "rows" then kept = record.body end
    end
    assert.equal(10, kept.rows)
    local out = io.popen(("sha256sum '%s'"):format(file))
    assert.equal(kept.sha256, out:read("a"):match("^%x+"))
    out:close()
    assert.is_nil(suite.read(ward.state .. "/runs/" .. ward.latest() .. "/evidence.db"):find("to'k", 1, true))
    assert.truthy(suite.read(file):find("to'k", 1, true))
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.is_nil(suite.read(ward.state .. "/runs/" .. ward.latest() .. "/evidence.db"):find("to'k", 1, true))
  end)

  it("are not taken when there are more than they may be, in the plan and in the run", function ()
    local ward = open()
    for _, plan in ipairs { true, false } do
      local r = ward.neap(book(ward, { most = 9, plan = plan }))
      assert.equal(plan and 1 or 77, r.code, r.all)
      assert.matches('more than 9 rows of \\?"Session\\?" would go; nothing was deleted', r.all)
    end
    assert.equal("30", pg.sql(COUNT, ward.database))
    assert.same({}, files(ward))
  end)

  it("are not taken where the database would take others along, or nothing says which row is which", function ()
    local ward = open()
    pg.sql([[create table child (id int primary key, s int references "Session" on delete cascade); create table plain ("userId" text); insert into plain values ('u1');
      alter table child owner to owner; alter table plain owner to owner]], ward.database)
    assert.matches("deleting them changes rows of child", ward.ends(77, book(ward, {})), 1, true)
    assert.matches("it has no primary key to know them by", ward.ends(77, book(ward, { from = "plain" })), 1, true)
    assert.matches('there is no table "gone"', ward.ends(1, book(ward, { from = "gone" })), 1, true)
    assert.matches("delete needs max_rows", ward.neap((function ()
      suite.write(ward.dir .. "/book.lua", [[runbook "x" { why = "x" } local db = target.postgres "db"
        step "x" { act = function () db:delete { from = "Session", where = "true" } end, verify = function () end }]])
      return { "run", ward.dir .. "/book.lua" }
    end)()).all, 1, true)
    assert.equal("30", pg.sql(COUNT, ward.database))
  end)

  it("are put back when a later act of the same step fails", function ()
    local ward = open()
    local before = pg.sql(ALL, ward.database)
    ward.ends(1, book(ward, { on_failure = "undo", act = 'error("no")' }))
    assert.equal(before, pg.sql(ALL, ward.database))
  end)

  it("are named when something stands in their way, and then none is put back", function ()
    local ward = open()
    revoke(ward)
    local run = ward.latest()
    pg.sql([[insert into "Session" (id, "userId", token) values (1, 'u9', 'other')]], ward.database)
    assert.matches("1 of the 10 rows of public.Session are there again and differ, the first is row 1", ward.ends(1, { "undo", run, "--no-input" }), 1, true)
    assert.equal("21", pg.sql(COUNT, ward.database))
    pg.sql([[delete from "Session" where id = 1; create unique index once on "Session" (token); insert into "Session" (id, "userId", token) values (99, 'u9', E'to''k\n"4')]], ward.database)
    assert.matches('violates unique constraint "once"; none was', ward.ends(1, { "undo", run, "--no-input" }), 1, true)
    assert.is_nil(suite.read(ward.state .. "/runs/" .. run .. "/evidence.db"):find("to'k", 1, true))
    assert.equal("21", pg.sql(COUNT, ward.database))
    pg.sql([[delete from "Session" where id = 99; alter table "Session" alter column note type varchar(5)]], ward.database)
    assert.matches('column "note" was text and is character varying(5) now', ward.ends(1, { "undo", run, "--no-input" }), 1, true)
    pg.sql([[alter table "Session" alter column note type text]], ward.database)
    ward.ends(0, { "undo", run, "--no-input" })
    assert.equal("30", pg.sql(COUNT, ward.database))
  end)

  it("are refused when their file is not the one that the journal knows", function ()
    local ward = open()
    revoke(ward)
    local file = files(ward)[1]
    local text = suite.read(file)
    local f = assert(io.open(file, "r+b"))
    f:write((text:gsub("u1", "u2")))
    f:close()
    assert.matches("have been changed since", ward.ends(1, { "undo", ward.latest(), "--no-input" }), 1, true)
    os.remove(file)
    assert.matches("kept for undo are gone", ward.ends(1, { "undo", ward.latest(), "--no-input" }), 1, true)
    assert.equal("20", pg.sql(COUNT, ward.database))
  end)

  it("are gone from the disk when their time is over, the run is not", function ()
    local ward = open()
    revoke(ward)
    ward.ends(0, { "gc", "--rows", "1d" })
    assert.equal(1, #files(ward))
    assert.matches("rows", ward.ends(0, { "gc", "--rows", "0s", "--dry-run" }), 1, true)
    assert.equal(1, #files(ward))
    ward.ends(0, { "gc", "--rows", "0s" })
    assert.same({}, files(ward))
    ward.ends(0, { "show", ward.latest() })
  end)

  -- The server holds the COMMIT, or the DELETE, for as long as a spec likes.
  local function killed_at(ward, wait, let_go)
    local run = ward.start(book(ward, {}))
    run:shut()
    ward.await(wait, "1")
    run:kill(9)
    run:finish()
    let_go()
    ward.await("select count(*) from pg_stat_activity where application_name like 'neap:%' and datname = current_database()", "0")
  end

  it("are all there after kill -9 in the middle of the deletion; resume takes them, undo puts them back #kill", function ()
    local ward = open()
    local before = pg.sql(ALL, ward.database)
    local holder = ward.session([[begin; select 'held' from "Session" where id = 1 for update;]], "held")
    killed_at(ward, [[select count(*) from pg_stat_activity where query like 'DELETE FROM "public"."Session"%' and wait_event_type = 'Lock']],
      function () getmetatable(holder).__close(holder) end)
    local run = ward.latest()
    assert.equal("30", pg.sql(COUNT, ward.database))
    ward.ends(0, { "resume", run, "--no-input" })
    assert.equal("20", pg.sql(COUNT, ward.database))
    ward.ends(0, { "undo", run, "--no-input" })
    assert.equal(before, pg.sql(ALL, ward.database))
  end)

  it("are put back after kill -9 between the file and the end of the COMMIT, whichever way it went #kill", function ()
    local ward = open()
    local before = pg.sql(ALL, ward.database)
    pg.sql([[create table gate (id int); insert into gate values (1); grant all on gate to owner;
      create function late () returns trigger language plpgsql as 'begin perform 1 from gate for update; return null; end';
      create constraint trigger late after delete on "Session" deferrable initially deferred for each row execute function late()]], ward.database)
    local holder = ward.session("reset role; begin; select 'held' from gate for update;", "held")
    killed_at(ward, "select count(*) from pg_stat_activity where query = 'COMMIT' and wait_event_type = 'Lock' and application_name like 'neap:%'",
      function () getmetatable(holder).__close(holder) end)
    assert.equal(1, #files(ward))
    ward.ends(0, { "resume", ward.latest(), "--no-input" })
    assert.equal("20", pg.sql(COUNT, ward.database))
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal(before, pg.sql(ALL, ward.database))
  end)
end)
