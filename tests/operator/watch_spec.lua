-- `neap watch RUN` from another terminal: live, afterwards, and with no hand on the run, whatever becomes of the watcher.

local servers = require "tests.support.servers"
local stages = require "tests.support.stage"

local BOOK <const> = [[
runbook "Follow it" { why = "To be watched." }
local db, tool = target.postgres "db", target.command "tool"
step "Begin" { verify = function () check(db:has("select 1"), "the server answers") end }
step "Wait" {
  act = function () tool:run { "wait" }; db:exec("create table waited ()") end,
  done = function () return db:has("select 1 from pg_tables where tablename = 'waited'") end,
}
step "Fill" {
  act = function () db:exec("create table filled ()") end,
  verify = function () check(true, "it is full") end,
}
]]

describe("neap watch", function ()
  local pg, stage, running
  setup(function () pg = servers.postgres() end)

  local function begin()
    stage = stages.open(pg)
    stage.runbook("follow", BOOK)
    running = stage.start({ "run", "follow", "--no-input" }, {})
    stages.await(stage.pids, "the step that waits")
  end

  it("follows a run to its end, on a terminal and as JSON, and tells it again afterwards", function ()
    begin()
    local terminal = stage.start({ "watch", stage.latest():sub(1, 7) }, { tty = true })
    local json = stage.start({ "watch", stage.latest(), "--json" }, {})
    terminal:expect("Wait")
    json:expect('"primitive":"process.run"')
    stage.go()
    assert.equal(0, running:finish().code)
    local seen, events = terminal:finish(), json:finish()
    assert.equal(0, seen.code, seen.out)
    for _, words in ipairs { "Follow it", "Begin", "Wait", "Fill", "3 steps done" } do assert.matches(words, seen.out, 1, true) end
    assert.equal(0, events.code)
    local _, lines = events.out:gsub("\n", "\n")
    assert.equal(#stage.records(), lines)
    local later = stage.neap { "watch", stage.latest(), "--json" }
    assert.equal(events.out, later.out)
    assert.equal(0, later.code)
  end)

  -- A watcher's socket was closed before the journal was: the last records failed on it, without a word, and no view was told of them.
  it("has nothing to add to what the run itself tells, to its last record", function ()
    stage = stages.open(pg)
    stage.runbook("look", [[
runbook "Look" { why = "To be told to its end." }
local tool = target.command "tool"
step "Look" { act = function () return 1 end, verify = function () check(tool ~= nil, "it is there") end }
]])
    local told = stage.neap { "run", "look", "--no-input", "--json" }
    assert.equal(0, told.code, told.err)
    assert.equal("", told.err)
    local _, lines = told.out:gsub("\n", "\n")
    assert.equal(#stage.records(), lines)
    assert.matches('"kind":"end"', told.out:match("[^\n]*\n$"), 1, true)
  end)

  it("ends with its own Ctrl-C, and dies, and stands still, without the run knowing", function ()
    begin()
    local watchers = {}
    for i = 1, 3 do
      watchers[i] = stage.start({ "watch", stage.latest() }, { tty = true })
      watchers[i]:expect("Wait")
    end
    watchers[1]:write("\003")
    assert.equal(2, watchers[1]:finish().signal or 2)
    watchers[2]:kill(9)
    watchers[2]:finish()
    watchers[3]:kill(19)
    stage.go()
    local r = running:finish()
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal(0, stage.count("signal"))
    assert.equal("ok", stage.last("end").status)
    watchers[3]:kill(18)
    assert.equal(0, watchers[3]:finish().code)
  end)

  it("says that a run has died, instead of waiting for ever", function ()
    begin()
    local watcher = stage.start({ "watch", stage.latest() }, { tty = true })
    watcher:expect("Wait")
    running:kill(9)
    running:finish()
    local seen = watcher:finish()
    assert.equal(75, seen.code, seen.out)
    assert.matches("neap resume " .. stage.latest(), seen.out, 1, true)
    stage.go()                                             -- lets the orphan end
    assert.equal(75, stage.neap({ "watch", stage.latest() }).code)
  end)

  it("goes on when the run is resumed", function ()
    begin()
    running:kill(2)
    running:kill(15)
    running:finish()
    assert.equal("cancelled", stage.last("end").status)
    pg.sql("create table waited ()", stage.database)
    local r = stage.neap { "resume", stage.latest(), "--no-input" }
    assert.equal(0, r.code, r.out .. r.err)
    local seen = stage.neap { "watch", stage.latest() }
    assert.equal(0, seen.code, seen.out)
    assert.matches("resumed by", seen.err, 1, true)
  end)
end)
