-- What a killed run leaves working: resume waits for it, or ends it when its time is over, before it asks or does anything.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local system = require "native.system"

local BACKEND <const> = [[
runbook "Count" { why = "Once." }
local db = target.postgres "db"
step "Count up" {
  done = function () return db:value("select n from counter") == 1 end,
  act  = function () db:exec("update counter set n = n + 1") end,
  within = %q,
}
]]

local UNDO <const> = [[
runbook "Up and down" { why = "Each once." }
local db = target.postgres "db"
step "Count up" {
  act    = function () db:exec("update counter set n = n + 1") end,
  verify = function () check.same(db:value("select n from counter"), 1, "it counts one") end,
  undo   = function () db:exec("update counter set n = n - 1") end,
}
]]

local PROGRAM <const> = [[
runbook "Work" { why = "Once." }
local db, tool = target.postgres "db", target.command "tool"
step "Work" {
  done = function () return tool:read { "asked" }:out() == "once\n" end,
  act  = function () tool:run { "work" } end,
  within = %q,
}
]]

-- The program has one of its own in its group, which is what really works.
local TOOL <const> = [[
here=%s
case "$1" in
  work) echo begun >>"$here/begun"; { cat "$here/go"; echo once >>"$here/effect"; } & echo $$ $! >"$here/pids.part"; mv "$here/pids.part" "$here/pids"; wait ;;
  asked) cat "$here/effect" 2>/dev/null || true ;;
esac
]]

local KILL <const> = 9

describe("resume after kill -9 #kill", function ()
  local pg, stage
  setup(function () pg = servers.postgres() end)
  before_each(function () stage = stages.open(pg) end)

  local function kill(running)
    assert.equal(KILL, stage.strike(running).signal)
    return stage.latest()
  end

  -- A notice of the newest run with these words.
  local function noticed(words)
    return function () return stage.count("notice", function (body) return body.text:find(words, 1, true) end) > 0 end
  end

  -- A new run is refused with 75 and told what settles the old one.
  local function refused(name, run)
    local r = stage.run(name, "--no-input")
    assert.equal(75, r.code, r.out .. r.err)
    assert.matches("neap resume " .. run, r.out .. r.err, 1, true)
  end

  describe("while a statement is still waiting in the server", function ()
    local holder

    -- Somebody who stands in the way of every update.
    local function hold()
      local session = child.start {
        argv = { pg.bin .. "/psql", "-X", "-A", "-t", "-h", pg.dir, "-p", tostring(pg.port), "-U", "admin", "-d", stage.database },
        env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH"), PGAPPNAME = "holder" },
      }
      session:write("begin; select 'held' from counter for update;\n")
      session:expect("held")
      return session
    end

    before_each(function ()
      pg.sql("create table counter (n int); insert into counter values (0); alter table counter owner to owner", stage.database)
      holder = hold()
    end)

    -- Sessions of neap have the server look every two seconds whether anybody still listens. One that may not ask for that is not looked after, as on
    -- PostgreSQL 13: what it was told to do stays to be done for as long as the test takes.
    local function let_nobody_notice()
      pg.sql("revoke execute on function set_config(text, text, boolean) from public", stage.database)
    end

    local function let_go()
      holder:write("commit;\n\\q\n")
      holder:shut()
      holder:finish()
    end

    local function blocked()
      return pg.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update counter%'") == "1"
    end

    local function begin(within)
      stage.runbook("count", BACKEND:format(within))
      local from = #pg.log() + 1
      local running = stage.start { "run", "count", "--no-input" }
      stages.await(blocked, "the statement in the server")
      return kill(running), from
    end

    local function executions(from)
      return select(2, pg.log():sub(from):gsub("LOG:  execute [^\n]*update counter", ""))
    end

    it("waits for it, finds it done, and does it no second time", function ()
      let_nobody_notice()
      local run, from = begin "10m"
      refused("count", run)
      local resumed = stage.start { "resume", run, "--no-input" }
      stages.await(noticed "is still being worked on", "resume noticing the orphan")
      assert.is_true(blocked())
      let_go()
      local r = resumed:finish()
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal("1", pg.sql("select n from counter", stage.database))
      assert.equal(1, executions(from))
      assert.is_true(stage.last("step", "count-up").found)
      assert.equal("done", stage.last("outcome", "count-up").found)
    end)

    it("knows that an undo was done, and takes nothing back twice", function ()
      let_nobody_notice()
      stage.runbook("down", UNDO)
      let_go()
      assert.equal(0, stage.run("down", "--no-input").code)
      local run = stage.latest()
      holder = hold()
      local running = stage.start { "undo", run, "--no-input" }
      stages.await(blocked, "the undo in the server")
      kill(running)
      refused("down", run)
      local again = stage.start { "undo", run, "--no-input" }
      stages.await(noticed "is still being worked on", "undo noticing the orphan")
      let_go()
      local r = again:finish()
      assert.equal("0", pg.sql("select n from counter", stage.database))
      assert.equal(75, r.code, r.out .. r.err)
      local asked = stage.start({ "undo", run }, { tty = true })
      asked:expect("again or abort")
      asked:write("done\n")
      r = asked:finish()
      assert.equal(0, r.code, r.out)
      assert.equal("0", pg.sql("select n from counter", stage.database))
      assert.equal("undone", stage.last("end").status)
      assert.equal(0, stage.run("down", "--no-input").code)
    end)

    it("does it again when the server noticed that nobody listens, and took it back", function ()
      local run, from = begin "1m"
      local resumed = stage.start { "resume", run, "--no-input" }
      stages.await(function () return stage.count("outcome", function (body) return body.found == "not begun" end) == 1 end, "the end of the orphan")
      let_go()
      local r = resumed:finish()
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal("1", pg.sql("select n from counter", stage.database))
      assert.equal(2, executions(from))
    end)
  end)

  describe("while a program is still working", function ()
    before_each(function ()
      suite.write(stage.dir .. "/tool.sh", TOOL:format(stage.dir))
    end)

    local function begin(within)
      stage.runbook("work", PROGRAM:format(within or "1m"))
      local running = stage.start { "run", "work", "--no-input" }
      local pids = stages.await(stage.pids, "the program")
      return kill(running), pids
    end

    local function finish_later(run)
      local resumed = stage.start { "resume", run, "--no-input" }
      stages.await(noticed "is still being worked on", "resume noticing the orphan")
      assert.equal("begun\n", suite.read(stage.dir .. "/begun"))
      stage.go()
      local r = resumed:finish()
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal("begun\n", suite.read(stage.dir .. "/begun"))
      assert.equal("once\n", suite.read(stage.dir .. "/effect"))
      assert.is_true(stage.last("step", "work").found)
    end

    it("waits for it and starts it no second time", function ()
      local run = begin()
      refused("work", run)
      finish_later(run)
    end)

    it("waits for what it started, when it is gone itself", function ()
      local run, pids = begin()
      T.signal(pids[1], KILL)
      finish_later(run)
    end)

    it("ends it with all it started when the time of its step is over", function ()
      local run, pids = begin "4s"
      local r = stage.neap { "resume", run, "--no-input" }
      assert.equal(75, r.code, r.out .. r.err)
      assert.is_true(noticed "has had its time; ending it"())
      for _, pid in ipairs(pids) do assert.equal(0, system.started(pid)) end
      assert.equal("begun\n", suite.read(stage.dir .. "/begun"))
    end)

    it("asks a human when it ended and nobody can say how", function ()
      local run, pids = begin()
      T.signal(-pids[1], KILL)
      local r = stage.neap { "resume", run, "--no-input" }
      assert.equal(75, r.code, r.out .. r.err)
      assert.matches("nobody can say whether it was done", r.out .. r.err, 1, true)
      assert.equal("nobody knows", stage.last("outcome", "work").found)
      assert.equal("begun\n", suite.read(stage.dir .. "/begun"))
      refused("work", run)
      local asked = stage.start({ "resume", run }, { tty = true })
      asked:expect("again or abort")
      os.remove(stage.dir .. "/pids")
      asked:write("again\n")
      stages.await(stage.pids, "the program, a second time")
      stage.go()
      assert.equal(0, asked:finish().code)
      assert.equal("once\n", suite.read(stage.dir .. "/effect"))
    end)
  end)
end)
