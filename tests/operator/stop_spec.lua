-- Ctrl-C once, twice and three times, SIGTERM, SIGHUP and a terminal that is closed, each while a step waits in the
-- server and while it waits for a child: the release binary on a real terminal, against a real PostgreSQL.

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
  act = function () %s; db:exec("create table waited ()") end,
  verify = function () check(db:has("select 1 from pg_tables where tablename = 'waited'"), "it has waited") end,
}
step "Fill" {
  done = function () return db:has("select 1 from pg_tables where tablename = 'filled'") end,
  act = function () db:exec("create table filled ()") end,
}
]]

local INT <const>, HUP <const>, TERM <const> = 2, 1, 15
local CTRL_C <const> = "\003"

-- A zombie that nobody has collected yet does nothing any more.
local function is_alive(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local state = file and file:read("a"):match("%) (%a)")
  if file then file:close() end
  return state ~= nil and state ~= "Z"
end

-- How a step waits: what it does, when it has begun, how it is let go, how to make it deaf, and what must be gone.
local places = {
  server = {
    act = 'db:exec("do $$ begin while exists (select from nap where seconds = 60) loop perform pg_sleep(0.02); end loop; end $$")',
    long = 'db:exec("select pg_sleep(seconds) from nap")',
    begun = function (stage) return stage.active("%pg_sleep%") end,
    go = function (stage) servers.postgres().sql("update nap set seconds = 0", stage.database) end,
    deaf = function (_, pid) T.signal(pid, 19) end,
    hears = function (_, pid) T.signal(pid, 18) end,
    is_gone = function (stage) return not stage.active("%pg_sleep%") end,
  },
  child = {
    act = 'tool:run { "wait" }', long = 'tool:run { "wait" }', stubborn = 'tool:run { "stubborn" }',
    begun = function (stage) return stage.pids() end,
    go = function (stage) stage.go() end,
    deaf = function () end, hears = function () end,
    is_gone = function (_, pids)
      for _, pid in ipairs(pids) do
        if is_alive(pid) then return false end
      end
      return true
    end,
  },
}

for name, place in pairs(places) do
  describe("a run that waits in a " .. name, function ()
    local pg, stage, running
    setup(function () pg = servers.postgres() end)

    -- The run on a terminal, waiting in its second step.
    local function begin(act)
      stage = stages.open(pg)
      pg.sql("create table nap (seconds int); insert into nap values (60); grant select on nap to owner", stage.database)
      stage.runbook("stop", BOOK:format(act))
      running = stage.start({ "run", "stop" }, { tty = true })
      running:expect("Stop writes")
      return stages.await(function () return place.begun(stage) end, "the step that waits")
    end

    -- The message comes while the step waits: nobody lets it go before.
    local function press(words)
      running:write(CTRL_C)
      running:expect(words)
    end

    local function attempts() return stage.count("step", function (body, step) return step == "wait" and body.state == "intent" end) end

    -- Goes on after a step that was stopped half-way; the write of a child has no outcome, so a human is asked.
    local function resume(child_works)
      pg.sql("delete from nap", stage.database)
      local run = stage.latest()
      if name == "child" then
        local nobody = stage.start({ "resume", run, "--no-input" }, {})
        if child_works then
          stages.await(function () return stage.last("resume") end, "the resumed run")
          place.go(stage)
        end
        local r = nobody:finish()
        assert.equal(75, r.code, r.out .. r.err)
        assert.equal(1, attempts())
        os.remove(stage.dir .. "/pids")
      end
      local resumed = stage.start({ "resume", run }, { tty = name == "child" })
      if name == "child" then
        resumed:expect("Type done, again or abort")
        resumed:write("again\r")
        stages.await(function () return place.begun(stage) end, "the child of the resumed run")
        place.go(stage)
      end
      local r = resumed:finish()
      assert.equal(0, r.code, r.out .. r.err)
      assert.is_true(stage.has "filled")
      assert.is_false(stage.has "stopped")
      assert.equal("ok", stage.last("end").status)
      assert.equal(2, attempts())
    end

    local function finished_and_stopped(signal, code)
      local r = running:finish()
      assert.equal(code, r.code, r.out)
      assert.equal("cancelled", stage.last("end").status)
      assert.equal("ok", stage.last("step", "wait").status)
      assert.equal("ok", stage.last("settled", "stop-writes").status)
      assert.equal(signal, stage.last("signal").name)
      assert.is_false(stage.has "stopped")
      assert.matches("neap resume " .. stage.latest(), r.out, 1, true)
      local again = stage.neap { "resume", stage.latest(), "--no-input" }
      assert.equal(0, again.code, again.out .. again.err)
      assert.equal(1, attempts())
      assert.is_true(stage.has "filled")
    end

    it("finishes the step at the first Ctrl-C, pays what it owes, and goes on later", function ()
      begin(place.act)
      press("finishing this step, then stopping")
      place.go(stage)
      finished_and_stopped("interrupt", 130)
    end)

    it("takes SIGTERM for a first Ctrl-C", function ()
      begin(place.act)
      running:kill(TERM)
      running:expect("finishing this step, then stopping")
      place.go(stage)
      finished_and_stopped("terminate", 143)
    end)

    it("cancels the step at the second, records its outcome and pays what it owes", function ()
      local there = begin(place.long)
      press("finishing this step, then stopping")
      press("cancelling the step")
      local r = running:finish()
      assert.equal(130, r.code, r.out)
      stages.await(function () return place.is_gone(stage, there) end, "the end of what was cancelled")
      assert.equal("cancelled", stage.last("step", "wait").status)
      assert.is_truthy(stage.last("outcome", "wait"))
      assert.equal("ok", stage.last("settled", "stop-writes").status)
      assert.equal("cancelled", stage.last("end").status)
      assert.is_false(stage.has "stopped")
      resume(false)
    end)

    it("exits at once at the third, by the signal, and the journal knows", function ()
      local there = begin(place.stubborn or place.long)
      place.deaf(stage, there)
      press("finishing this step, then stopping")
      press("cancelling the step")
      running:write(CTRL_C)
      local r = running:finish()
      place.hears(stage, there)
      assert.equal(INT, r.signal, r.out)
      assert.is_nil(stage.last("end"))
      assert.is_truthy(stage.last("intent", "wait"))
      assert.is_nil(stage.last("outcome", "wait"))
      assert.is_true(stage.has "stopped")
      assert.is_false(name == "child" and place.is_gone(stage, there))
      resume(true)
      stages.await(function () return place.is_gone(stage, there) end, "the end of what was left working")
    end)

    it("finishes the step and holds when the terminal hangs up", function ()
      begin(place.act)
      running:kill(HUP)
      running:expect("finishing this step, then holding")
      place.go(stage)
      local r = running:finish()
      assert.equal(129, r.code, r.out)
      assert.equal("held", stage.last("end").status)
      assert.equal("ok", stage.last("step", "wait").status)
      assert.is_true(stage.has "stopped")
      local other = stage.run("stop", "--no-input")
      assert.equal(75, other.code)
      assert.matches("neap resume " .. stage.latest(), other.err, 1, true)
      assert.equal(1, #stage.runs())
      local again = stage.neap { "resume", stage.latest(), "--no-input" }
      assert.equal(0, again.code, again.out .. again.err)
      assert.equal(1, attempts())
    end)

    it("finishes the step and holds when its terminal is closed", function ()
      begin(place.act)
      running:close()
      place.go(stage)
      assert.equal(129, running.handle:wait(60000))
      assert.equal("held", stage.last("end").status)
      assert.equal("ok", stage.last("step", "wait").status)
      assert.is_true(stage.has "stopped")
      local again = stage.neap { "resume", stage.latest(), "--no-input" }
      assert.equal(0, again.code, again.out .. again.err)
      assert.is_true(stage.has "filled")
      assert.equal(1, attempts())
    end)
  end)
end
