-- postgres/restore-to-time on a real cluster that archives: an accident, the moment before it in a second cluster, everything that is refused, and
-- runs that were killed. The first cluster must not notice any of it.

local archives = require "tests.support.archive"
local faults = require "tests.support.faults"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"

local function until_it(holds)
  local ends = T.now_ms() + 60000
  while not holds() do
    if T.now_ms() > ends then error("it did not come", 2) end
    T.pause(10)
  end
end

describe("postgres/restore-to-time", function ()
  local first, log
  setup(function ()
    first = archives.start()
    log = #first.pg.log()
  end)

  -- It has heard of nobody, and nothing was put into its archive.
  local function untouched()
    assert.is_nil(first.pg.log():find("/neap:", log, true))
    assert.equal("1", first.pg.sql "select count(*) from orders where id = 666")
    assert.equal("f", first.pg.sql "select pg_is_in_recovery()")
    assert.is_nil(io.open(first.wal .. "/00000002.history"))
  end

  local ROWS <const> = "select (select count(*) from orders where id = 101), (select count(*) from orders where id = 666), (select count(*) from orders where a = 'spoilt')"

  -- The second cluster is at the moment and takes writes.
  local function right(at, what)
    assert.equal("1|0|0", at.sql(ROWS), what)
    assert.equal("f|2", at.sql "select pg_is_in_recovery(), ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int", what)
    at.sql "create table if not exists accepted ()"
  end

  local MONDAY <const> = { "--base", "monday", "--confirm", "destroys=monday", "--no-input" }

  it("plans, brings back the good row and not the bad one as it said, has nothing left to do, and is taken back", function ()
    local at = first.open()
    local page = at.neap(at.wants("plan", first.at.between, { "--base", "monday" }))
    assert.equal(2, page.code, page.all)
    transcript.compare("plan_restore_to_time", archives.plain(page.out, at, first))
    assert.is_nil(T.entries(at.second))
    local plan = at.plan(at.wants("plan", first.at.between, { "--base", "monday" }))
    at.ends(0, at.wants("run", first.at.between, MONDAY))
    local run = at.latest()
    local wrong, writes = kept.compare(plan, at.records(run), run)
    assert.same({}, wrong)
    assert.equal(12, writes)
    right(at)
    at.ends(0, at.wants("plan", first.at.between, { "--base", "monday" }))
    at.ends(0, at.wants("run", first.at.between, MONDAY))
    for _, record in ipairs(at.records()) do assert.not_equal("intent", record.kind) end
    untouched()
    at.ends(0, { "undo", run, "--no-input" })
    assert.is_nil(T.entries(at.second))
    assert.is_false(at.is_running())
    untouched()
  end)

  it("takes a base in the tar format to exactly the last commit that is in the archive #long", function ()
    local at = first.open()
    local moments = at.plan(at.wants("plan", first.at.between)).steps[1].lines[1].grid
    assert.equal("tuesday", moments.rows[2][1])
    at.ends(0, at.wants("run", moments.rows[2][4], { "--confirm", "destroys=tuesday", "--no-input" }, { "666,bad", "667" }))
    assert.equal("1|1|49", at.sql(ROWS))
    assert.matches("recovery_target_lsn", suite.read(at.second .. "/server.conf"), 1, true)
    untouched()
  end)

  it("stops before the promotion when the rows are not as they must be, and goes on from there", function ()
    local at = first.open()
    assert.matches("not so: the good row is there", at.ends(1, at.wants("run", first.at.between, MONDAY, { "101,other" })), 1, true)
    assert.equal("t", at.sql "select pg_is_in_recovery()")
    assert.matches("it holds the cluster made from monday for " .. first.at.between .. " by run " .. at.latest(),
      at.ends(1, at.wants("plan", first.at.before, { "--base", "monday" })), 1, true)
    local stopped = at.latest()
    at.ends(0, at.wants("run", first.at.between, MONDAY))
    right(at)
    assert.matches("is run " .. at.latest() .. "'s now, and stays", at.ends(0, { "undo", stopped, "--no-input" }), 1, true)
    right(at)
  end)

  it("lets a human look before it is promoted, and is not promoted by anybody else #long", function ()
    local at = first.open()
    assert.matches("done by a human", at.ends(75, at.wants("run", first.at.between, { "--base", "monday", "--confirm", "destroys=monday", "--no-input", "--look" })), 1, true)
    assert.equal("t|1|0|0", at.sql("select pg_is_in_recovery(), * from (" .. ROWS .. ") r"))
    at.ends(0, { "undo", at.latest(), "--no-input" })
    assert.is_nil(T.entries(at.second))
  end)

  -- A plan says so, with exit 1, and nothing is made.
  local function refused(words, at, time, more)
    local said = at.ends(1, at.wants("plan", time, more)):gsub("  +", "  ")
    assert.matches(words, said, 1, true)
    assert.is_nil(T.entries(at.second .. "/data"))
    return said
  end

  it("refuses by name what cannot be reached", function ()
    local at = first.open()
    refused("2999-01-01 00:00:00Z is not in the future  it is 20", at, "2999-01-01 00:00:00Z")
    refused("monday was over before 2001-01-01 00:00:00Z  it ended 20", at, "2001-01-01 00:00:00Z")
    refused(first.at.last .. " is not after the last commit in the archive  the last one was at 20", at, first.at.last)
    for time, why in pairs { ["yesterday"] = "is not a time", ["2026-02-30 00:00:00Z"] = "is not a time", ["2026-04-25 02:00:00"] = "has no time zone",
      ["2026-10-25 02:30:00 CET"] = 'has the time zone "CET", which is not exact' } do
      assert.matches(why, at.ends(64, at.wants("plan", time)), 1, true)
    end
    local names = first.segments()
    os.execute(("cp '%s/%s' '%s/0000000200000000000000FF'"):format(at.wal, names[#names], at.wal))
    refused("; timeline 2 is in the archive without its 00000002.history", at, first.at.last)
    assert.matches('"friday" is no base backup with a backup_manifest', at.ends(1, at.wants("plan", first.at.between, { "--base", "friday" })), 1, true)
    untouched()
  end)

  -- A moment of the second that runs was called one in the future: the clock of the place is told in whole seconds.
  it("takes the second that runs as over", function ()
    local at = first.open()
    suite.write(at.dir .. "/clock.lua", [[runbook "Clock" { why = "x" } local second = target.cluster "second"
      step "Look" { verify = function () check.same(second:clock() % 1000000, 999999, "the last moment of its second") end }]])
    at.ends(0, { "run", at.dir .. "/clock.lua" })
  end)

  it("names the first segment that is missing, and takes what is before the gap", function ()
    local at = first.open()
    os.remove(at.wal .. "/" .. first.middle)
    refused(("the archive has every segment from tuesday to %s  the first missing one is %s, and "):format(first.at.between, first.middle), at, first.at.between)
    at.ends(2, at.wants("plan", first.at.early, nil, { "1,old" }))
    os.execute(("rm %s/????????????????????????"):format(at.wal))
    assert.matches("the archive holds no segment of the log", at.ends(1, at.wants("plan", first.at.between)), 1, true)
    untouched()
  end)

  it("refuses a place that is not fit, and says every reason", function ()
    local at = first.open { port = first.pg.port }
    os.execute(("mkdir '%s' && touch '%s/kept'"):format(at.second, at.second))
    if T.uid() == 0 then T.owner(at.second, "postgres") end
    local words = ("it can be made there: nothing is in the way, its port is free, and there is room  %s is not empty: it holds kept; somebody listens on port %d; ")
    local said = refused(words:format(at.second, first.pg.port), at, first.at.between, { "--spare", "1024TiB" })
    assert.matches(" are free, 1.00 PiB are needed", said, 1, true)
    assert.equal("kept", table.concat(T.entries(at.second)))
    local inside = first.open { directory = first.pg.dir .. "/data/second" }
    assert.matches(first.pg.dir .. "/data is another cluster, and it would be inside", inside.ends(1, inside.wants("plan", first.at.between)), 1, true)
  end)

  it("refuses another version's programs, another server's archive, and a base that is not whole", function ()
    local bin = suite.temp()
    for _, name in ipairs { "postgres", "pg_ctl" } do
      suite.write(bin .. "/" .. name, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n")
      T.mode(bin .. "/" .. name, tonumber("755", 8))
    end
    T.mode(bin, tonumber("755", 8))
    local other = first.open { bin = bin }
    refused("its programs are of PostgreSQL 9, the log is of ", other, first.at.between)

    local at = first.open()
    for _, name in ipairs(first.segments()) do
      local bytes = suite.read(first.wal .. "/" .. name)
      os.remove(at.wal .. "/" .. name)
      suite.write(at.wal .. "/" .. name, bytes:sub(1, 24) .. ("<I8"):pack(4711) .. bytes:sub(33))
    end
    refused("the archive is of the server that monday was taken from  monday is of ", at, first.at.between, { "--base", "monday" })

    local spoilt = first.open()
    local path = spoilt.bases .. "/monday/global/pg_filenode.map"
    local bytes = suite.read(path)
    os.remove(path)
    suite.write(path, bytes:sub(1, 100) .. "!" .. bytes:sub(102))
    local said = spoilt.ends(1, spoilt.wants("run", first.at.between, MONDAY))
    assert.matches('checksum mismatch for file "global/pg_filenode.map"', said, 1, true)
    assert.matches("not so: every file of monday is as its manifest says", said, 1, true)
    assert.is_false(spoilt.is_running())
    local left = spoilt.latest()
    assert.matches("can be resumed: neap resume " .. left, spoilt.ends(0, { "gc" }), 1, true)
    assert.matches('"state":"unpacked"', suite.read(spoilt.second .. "/neap.json"), 1, true)
    assert.matches("removed", spoilt.ends(0, { "gc", "--abandoned", left }), 1, true)          -- the ledger knows the directory
    assert.is_nil(T.entries(spoilt.second))
  end)

  it("goes on after kill -9 in the middle of the unpacking, keeps everybody else out until then, and is taken back", function ()
    local at = first.open()
    local process = at.start(at.wants("run", first.at.between, MONDAY))
    until_it(function () return T.entries(at.second .. "/data/base") end)
    process:kill(9)
    process:finish()
    local run, other = at.latest(), T.uid() == 0 and "postgres" or nil
    local state = at.state
    at.state = at.dir .. "/elsewhere"
    local r = at.neap(at.wants("run", first.at.between, MONDAY), other)
    assert.equal(75, r.code, r.all)
    assert.matches("neap resume " .. run, r.all, 1, true)
    at.state = state
    at.ends(0, { "resume", run, "--no-input", "--confirm", "destroys=monday" })
    right(at)
    assert(journal.verify(at.state, run))
    untouched()
    at.ends(0, { "undo", run, "--no-input" })
    assert.is_nil(T.entries(at.second))
  end)

  it("is made on a host, from base backups and an archive that are on another", function ()
    local hermes, iris = servers.sshd { name = "hermes" }, servers.sshd { name = "iris" }
    if not iris.uid then return pending("no mount namespace can be made for the hosts") end
    local config = servers.ssh_home({ hermes = hermes, iris = iris }).config
    local at = first.open { directory = hermes.home .. "/second", on = "hermes", kept = { on = "iris", server = iris },
      more = ('hermes = host { ssh = "hermes", config = "%s" }, iris = host { ssh = "iris", config = "%s" },'):format(config, config) }
    at.ends(0, at.wants("run", first.at.between, MONDAY))
    right(at)
    at.ends(0, { "undo", at.latest(), "--no-input" })
    assert.is_nil(T.entries(at.second))
    untouched()
  end)

  it("ends in the same state wherever it was killed and resumed #kill #long", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local whole = first.open()
    local done, calls = faults.record(whole.words(whole.wants("run", first.at.between, MONDAY)), { home = whole.home })
    assert(done.code == 0, done.out .. done.err)
    local resumed = 0
    for _, point in ipairs(faults.spread(faults.points(calls), 8, 7)) do
      local at = first.open()
      faults.start(at.words(at.wants("run", first.at.between, MONDAY)), { home = at.home }, point):finish(120000)
      local rows = journal.index.list(at.state)
      if rows and rows[1] and #(at.records() or {}) > 0 then
        local r = at.neap { "resume", at.latest(), "--no-input", "--confirm", "destroys=monday" }
        assert.is_true(r.code == 0 or r.code == 64, point.name .. "\n" .. r.all)
        if r.code == 0 then
          right(at, "killed at " .. point.name)
          resumed = resumed + 1
        end
      end
      at.stop()
    end
    assert.is_true(resumed > 3)
  end)
end)
