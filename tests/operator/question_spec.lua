-- Signals that come when no step is at work: at an open question, while an `after` is paid, and to a run that was told
-- not to hear that its terminal hung up.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"

local BOOK <const> = [[
runbook "Ask" { why = "To be asked." }
local db, tool = target.postgres "db", target.command "tool"
local p = params { shop = { "a shop", kind = "name" } }
step "Stop writes" {
  done = function () return db:has("select 1 from pg_tables where tablename = 'stopped'") end,
  act = function () db:exec("create table stopped ()") end,
  after = function () %s db:exec("drop table if exists stopped") end,
}
step "Replace {shop}" {
  destroys = "everything in {shop}",
  act = function () %s end,
  verify = function () check(true, "it is replaced") end,
}
step "Write" { act = function () db:exec("create table if not exists written ()") end, verify = function () check(true, "it is written") end }
step "Look" { verify = function () check(true, "it is there") end }
]]

local CTRL_C <const> = "\003"

describe("a signal between steps", function ()
  local pg, stage
  setup(function () pg = servers.postgres() end)

  local function start(after, act, more)
    stage = stages.open(pg)
    stage.runbook("ask", BOOK:format(after, act))
    return stage.start({ "run", "ask", "--shop", "blue", table.unpack(more or { "--confirm", "destroys=blue" }) }, { tty = true })
  end

  it("takes a question back before anything was written", function ()
    local running = start("", "", {})
    running:expect("Type blue to go on:")
    running:write(CTRL_C)
    local r = running:finish()
    assert.equal(130, r.code, r.out)
    assert.equal("cancelled", stage.last("end").status)
    assert.is_false(stage.has "stopped")
    assert.equal(0, stage.count("intent"))
  end)

  it("takes the question about a failed step back, and pays what is owed", function ()
    local running = start("", 'db:exec("select 1/0")')
    running:expect("hold or abort?")
    running:write(CTRL_C)
    local r = running:finish()
    assert.equal(130, r.code, r.out)
    assert.equal("cancelled", stage.last("end").status)
    assert.equal("failed", stage.last("step", "replace-shop").status)
    assert.is_false(stage.has "stopped")
  end)

  it("holds when the terminal goes away at a question", function ()
    local running = start("", 'db:exec("select 1/0")')
    running:expect("hold or abort?")
    running:close()
    running.handle:wait(120000)
    assert.equal("held", stage.last("end").status)
    assert.is_true(stage.has "stopped")
  end)

  it("cancels an `after` at the second Ctrl-C, which then is still owed and keeps the target", function ()
    local running = start('tool:run { "wait" }', '')
    stages.await(stage.pids, "the after")
    running:write(CTRL_C)
    running:expect("finishing what is owed")
    running:write(CTRL_C)
    running:expect("cancelling what is owed")
    local r = running:finish()
    assert.equal(130, r.code, r.out)
    assert.matches("still owed", r.out, 1, true)
    assert.equal("failed", stage.last("settled").status)
    assert.is_true(stage.has "stopped")
    local other = stage.run("ask", "--shop", "blue", "--no-input")
    assert.equal(75, other.code)
    assert.matches("neap resume " .. stage.latest(), other.err, 1, true)
    os.remove(stage.dir .. "/pids")
    local resumed = stage.start({ "resume", stage.latest(), "--no-input" }, {})
    stages.await(stage.pids, "the after, again")
    stage.go()
    r = resumed:finish()
    assert.equal(0, r.code, r.out .. r.err)
    assert.is_false(stage.has "stopped")
  end)

  it("holds when the terminal is gone although the hangup is ignored", function ()
    stage = stages.open(pg)
    stage.runbook("ask", BOOK:format("", 'tool:run { "wait" }'))
    local words = stage.words { "run", "ask", "--shop", "blue", "--confirm", "destroys=blue" }
    local env = { PATH = os.getenv("PATH"), HOME = stage.dir, LANG = "C.UTF-8", TERM = "xterm", OWNER_PASSWORD = stages.secrets.OWNER_PASSWORD, TOKEN = stages.secrets.TOKEN }
    local running = child.start { argv = { "/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh", neap.binary(), table.unpack(words) }, env = env, tty = true, cwd = "/" }
    stages.await(stage.pids, "the step that waits")
    running:close()
    stage.go()
    running.handle:wait(120000)
    assert.equal("held", stage.last("end").status)
    assert.is_true(stage.has "stopped")
    assert.equal(0, stage.count("signal"))
    assert.is_nil(stage.last("step", "look"))
  end)
end)
