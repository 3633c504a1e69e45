-- One target, two users of one machine, each with a state directory of their own: one runs, the other is told who does.
-- A run that was killed while it owed something keeps the target until it is resumed, whoever comes.

local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"

local BOOK <const> = [[
runbook "Stop it" { why = "To be stopped." }
local db, tool = target.postgres "db", target.command "tool"
step "Stop writes" {
  done = function () return db:has("select 1 from pg_tables where tablename = 'stopped'") end,
  act = function () db:exec("create table stopped ()") end,
  after = function () db:exec("drop table stopped") end,
}
step "Wait" {
  act = function () tool:run { "wait" } end,
  done = function () return db:has("select 1 from pg_tables where tablename = 'waited'") end,
}
]]

describe("one target and two users", function ()
  local pg, first, second
  setup(function () pg = servers.postgres() end)

  local function open()
    local root = T.uid() == 0
    first = stages.open(pg, { user = root and "daemon" or nil })
    second = stages.open(pg, { user = root and "nobody" or nil, database = first.database })
    first.runbook("stop", BOOK)
    second.runbook("other", BOOK)
    second.as = root and "as daemon on " .. require("native.system").host() .. " " or "Settle it "
    first.owner, second.owner = root and "daemon" or os.getenv("USER"), root and "nobody" or os.getenv("USER")
  end

  local function begin()
    local running = first.start({ "run", "stop", "--no-input" }, {})
    stages.await(first.pids, "the step that waits")
    return running
  end

  it("lets one run and turns the other away at once, naming the holder", function ()
    open()
    local running = begin()
    local r = second.run("other", "--no-input")                    -- the first has not been let go
    assert.equal(75, r.code, r.out .. r.err)
    for _, words in ipairs { '"db" is in use', "run " .. first.latest(), first.owner } do assert.matches(words, r.err, 1, true) end
    assert.same({}, second.runs())
    local json = second.run("other", "--no-input", "--json")
    assert.equal(75, json.code)
    assert.matches('"code":"busy"', json.out, 1, true)
    pg.sql("create table waited ()", first.database)
    first.go()
    r = running:finish()
    assert.equal(0, r.code, r.out .. r.err)
    r = second.run("other", "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
  end)

  it("keeps the target for a run that was killed in debt, and says which command settles it", function ()
    open()
    assert.equal(9, first.strike(begin()).signal)
    local id = first.latest()
    for _ = 1, 2 do
      local r = second.run("other", "--no-input")
      assert.equal(75, r.code, r.out .. r.err)
      for _, words in ipairs { id, first.owner, second.as .. "with: neap resume " .. id } do assert.matches(words, r.err, 1, true) end
    end
    local own = first.run("stop", "--no-input")
    assert.equal(75, own.code)
    assert.matches("neap resume " .. id, own.err, 1, true)
    assert.equal(1, #first.runs())
    assert.is_true(first.has "stopped")
    pg.sql("create table waited ()", first.database)
    local resuming = first.start({ "resume", id, "--no-input" }, {})
    first.go()                                             -- what was left working goes on, and is waited for
    local resumed = resuming:finish()
    assert.equal(0, resumed.code, resumed.out .. resumed.err)
    assert.is_false(first.has "stopped")
    assert.equal("ok", first.last("end").status)
    local r = second.run("other", "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("ok", second.last("end").status)
  end)

  it("lets a human settle a run whose journal is gone, and only such a one", function ()
    open()
    assert.equal(9, first.strike(begin()).signal)
    local id = first.latest()
    local function settle(who, ...)
      local r = who.start({ "settle", id, "--env", "demo", "--no-input", ... }, {}):finish()
      return r.code, r.out .. r.err
    end
    assert.equal(64, (settle(second)))
    local code, said = settle(first, "--reason", "looked", "--confirm", "settle=" .. id)
    assert.equal(77, code, said)
    assert.matches("neap resume " .. id, said, 1, true)
    first.go()
    T.remove_tree(first.state)
    code, said = settle(second, "--reason", "made by hand")
    assert.equal(77, code, said)
    assert.matches("--confirm settle=" .. id, said, 1, true)
    assert.equal(75, second.run("other", "--no-input").code)
    code, said = settle(second, "--reason", "made by hand", "--confirm", "settle=" .. id)
    assert.equal(0, code, said)
    assert.matches("run " .. id .. " is settled by hand: made by hand", said:gsub("%s+", " "), 1, true)
    assert.equal("ok", second.last("end").status)
    pg.sql("create table if not exists waited ()", first.database)
    local r = second.run("other", "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal(64, (settle(second, "--reason", "again")))
  end)

  it("does not show one user's runs to another", function ()
    if T.uid() ~= 0 then return pending("not root: there is one user only") end
    open()
    local running = begin()
    for _, command in ipairs { "watch", "show", "resume" } do
      local r = neap({ command, first.latest(), "--state", first.state }, { user = "nobody" })
      assert.are_not.equal(0, r.code)
      assert.is_nil((r.out .. r.err):find("Stop writes", 1, true))
    end
    pg.sql("create table waited ()", first.database)
    first.go()
    assert.equal(0, running:finish().code)
  end)
end)
