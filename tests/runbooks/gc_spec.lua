-- neap gc: what runs that are over left on their targets goes, what is somebody's stays.

local journal = require "native.journal"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

-- Makes a scratch database and a file, then does what it is told; takes nothing away.
local BOOK <const> = [[
runbook "Make" { why = "A test.", on_failure = "abort" }
local db, staged = target.postgres "db", target.folder "staged"
step "Make {0}" {
  done = function () return db:exists(scratch "trial") end,
  act  = function () db:create_database(scratch "trial"); staged:write(scratch "list" .. ".txt", "x"); %s end,
}
%s
]]

local FAILS <const> = [[step "Fail" { verify = function () check(not db:exists(scratch "trial"), "nothing was made") end }]]

describe("neap gc", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function open(settings)
    local ward = wards.open(pg, { role = "owner" })
    pg.sql "alter role owner createdb"
    suite.write(ward.dir .. "/inventory.lua", ([[environment "demo" { %s
      db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" }, tls = "off" }, staged = folder { path = "%s/staged" } }]])
      :format(settings or "", pg.port, ward.database, ward.dir))
    os.execute("mkdir '" .. ward.dir .. "/staged'")
    return ward
  end

  local function book(ward, act, after)
    suite.write(ward.dir .. "/book.lua", (BOOK:gsub(" {0}", ""):format(act or "", after or "")))
    return { "run", ward.dir .. "/book.lua", "--no-input" }
  end

  local function there(ward) return pg.sql("select count(*) from pg_database where datname = 'trial__" .. ward.run .. "'") .. #(T.entries(ward.dir .. "/staged") or {}) end

  local function ended(ward, code, words)
    ward.ends(code, words)
    ward.run = ward.latest()
  end

  it("removes what a run that ended well left, as a run of its own, once", function ()
    local ward = open()
    ended(ward, 0, book(ward))
    assert.equal("11", there(ward))
    local dry = ward.ends(0, { "gc", "--dry-run" })
    assert.matches("would go " .. ward.run .. "  book  database trial__" .. ward.run .. " of db", dry, 1, true)
    assert.equal("11", there(ward))
    local said = ward.ends(0, { "gc" })
    assert.matches("removed  " .. ward.run .. "  book  database trial__" .. ward.run .. " of db", said, 1, true)
    assert.matches("removed  " .. ward.run .. "  book  file list__" .. ward.run .. ".txt of staged", said, 1, true)
    assert.equal("00", there(ward))
    local writes = {}
    for _, record in ipairs(ward.records()) do
      if record.kind == "intent" then writes[#writes + 1] = record.body.primitive end
    end
    assert.same({ "file.remove", "pg.drop" }, writes)
    assert.equal("gc", journal.index.list(ward.state)[1].runbook)
    assert.is_nil(ward.ends(0, { "gc" }):find("removed  ", 1, true))
    assert.equal(2, #journal.index.list(ward.state))
  end)

  it("keeps what a run that failed left while it can be resumed, until it is given up", function ()
    local ward = open()
    ended(ward, 1, book(ward, "", FAILS))
    local said = ward.ends(0, { "gc" })
    assert.matches("can be resumed: neap resume " .. ward.run, said, 1, true)
    assert.equal("11", there(ward))
    assert.matches("would go", ward.ends(0, { "gc", "--dry-run", "--abandoned", ward.run:sub(1, 6) }), 1, true)
    ward.ends(0, { "gc", "--abandoned", ward.run:sub(1, 6) })
    assert.equal("00", there(ward))
    assert.matches("was given up", ward.ends(64, { "resume", ward.run }), 1, true)
    assert.truthy(journal.verify(ward.state, ward.run))
  end)

  it("gives a run up by its age", function ()
    local ward = open()
    ended(ward, 1, book(ward, "", FAILS))
    assert.equal("11", there(ward))
    ward.ends(0, { "gc", "--left", "1h" })
    assert.equal("11", there(ward))
    ward.ends(0, { "gc", "--left", "0s" })
    assert.equal("00", there(ward))
  end)

  it("touches nothing of a run that was killed and may owe something, and says how to go on #kill", function ()
    local ward = open()
    local run = ward.start(book(ward, [[local dump <close> = staged:open("dump", "w"); db:exec "select pg_sleep(60)"]]))
    run:shut()
    ward.await("select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and datname = current_database()", "1")
    run:kill(9)
    run:finish()
    ward.run = ward.latest()
    local said = ward.ends(0, { "gc", "--abandoned", ward.run, "--left", "0s" })
    assert.matches("may owe something: neap resume " .. ward.run, said, 1, true)
    assert.equal("12", there(ward))
    pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and datname = current_database()", ward.database)
    ward.ends(0, { "resume", ward.run })
    ward.ends(0, { "gc" })
    assert.equal("00", there(ward))
  end)

  it("removes nothing where another server answers, or while somebody is connected", function ()
    local ward = open()
    ended(ward, 0, book(ward))
    local other = servers.postgres { name = "gc-other" }
    local inventory = suite.read(ward.dir .. "/inventory.lua")
    suite.write(ward.dir .. "/other.lua", (inventory:gsub(":" .. pg.port .. "/[%w_]+", ":" .. other.port .. "/postgres")))
    other.sql("create database trial__" .. ward.run .. " owner owner")
    assert.matches("is not the server that trial__" .. ward.run .. " was made on", ward.ends(77, { "gc", "--inventory", ward.dir .. "/other.lua" }), 1, true)
    assert.equal("1", other.sql("select count(*) from pg_database where datname = 'trial__" .. ward.run .. "'"))
    local live = ward.database
    ward.database = "trial__" .. ward.run
    local session = ward.session("select 'held';", "held", "curious")
    ward.database = live
    assert.matches("trial__" .. ward.run .. " is in use: pid %d+, curious of owner", ward.ends(75, { "gc" }))
    assert.equal("10", there(ward))
    getmetatable(session).__close(session)
    ward.await("select count(*) from pg_stat_activity where application_name = 'curious'", "0")
    ward.ends(0, { "gc" })
    assert.equal("00", there(ward))
  end)

  it("touches neither what was handed over nor what is in no ledger", function ()
    local ward = open()
    ended(ward, 0, book(ward))
    pg.sql("create database trial__" .. ("0"):rep(12))
    pg.sql(("alter database trial__%s rename to taken__%s"):format(ward.run, ward.run))
    ward.ends(0, { "gc" })
    assert.equal("2", pg.sql("select count(*) from pg_database where datname in ('trial__000000000000', 'taken__" .. ward.run .. "')"))
    pg.sql "drop database trial__000000000000"
    pg.sql("drop database taken__" .. ward.run)
  end)

  it("asks for the name of a protected environment", function ()
    local ward = open "protected = true,"
    local run = book(ward)
    table.move({ "--confirm", "protected=demo" }, 1, 2, #run + 1, run)
    ended(ward, 0, run)
    assert.matches("demo", ward.ends(77, { "gc" }), 1, true)
    assert.equal("11", there(ward))
    ward.ends(0, { "gc", "--confirm", "protected=demo" })
    assert.equal("00", there(ward))
  end)
end)
