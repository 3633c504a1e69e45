-- The guard's table (guard/guard.h), cell by cell, through the real gate, in a state of its own, because what an
-- environment forbids cannot be taken back.

-- Helpers inside that state: ask(mode, phase, primitive, …) -> one word, and the error.
local HEAD = [=[
local eyes = ...
local guard, task = require("native.guard"), require("native.task")
local function ask(mode, phase, primitive, subject, text, host)
  guard.mode(mode)
  local before, step = task.phase(phase), task.step("here")
  local ok, value = pcall(eyes.touch, primitive, "db", subject or "pg:1/app", text or "the text", host)
  task.phase(before)
  task.step(step)
  if not ok then return value.code == "withheld" and "withheld by " .. value.message or value.code, value end
  return value == true and "allow" or "predict", nil
end
local out = {}
local function say(...) out[#out + 1] = table.concat({ ... }, " ") end
]=]

local function inside(code)
  return T.genuine(HEAD .. code .. " return table.concat(out, '\\n')")
end

local EFFECTS = { read = "pg.read", write = "pg.exec", destroy = "pg.drop" }

-- mode, phase -> what reads, writes and destroys get.
local TABLE = {
  plan = {
    declare = { read = "refused", write = "refused", destroy = "refused" },
    read = { read = "allow", write = "refused", destroy = "refused" },
    act = { read = "allow", write = "predict", destroy = "predict" },
    engine = { read = "allow", write = "refused", destroy = "refused" },
  },
  run = {
    declare = { read = "refused", write = "refused", destroy = "refused" },
    read = { read = "allow", write = "refused", destroy = "refused" },
    act = { read = "allow", write = "allow", destroy = "allow" },
    engine = { read = "allow", write = "refused", destroy = "refused" },
  },
}

describe("the guard", function ()
  for mode, phases in pairs(TABLE) do
    for phase, effects in pairs(phases) do
      for effect, expected in pairs(effects) do
        it(("answers a %s in phase %s of a %s: %s"):format(effect, phase, mode, expected), function ()
          assert.equal(expected, inside(("say((ask(%q, %q, %q)))"):format(mode, phase, EFFECTS[effect])))
        end)
      end
    end
  end

  it("treats every row by its effect, none by its name", function ()
    local said = inside([[
      local expected = { pure = { "allow", "allow", "allow" }, read = { "refused", "allow", "allow" }, write = { "refused", "refused", "allow" }, destroy = { "refused", "refused", "allow" } }
      for _, row in ipairs(guard.effects()) do
        for i, phase in ipairs { "declare", "read", "act" } do
          local got = ask("run", phase, row.name)
          if got ~= expected[row.effect][i] then say(row.name, phase, got) end
        end
      end]])
    assert.equal("", said)
  end)

  it("says what is refused, why, and where it belongs", function ()
    local said = inside([[
      for _, phase in ipairs { "declare", "read" } do
        local _, err = ask("run", phase, "pg.exec")
        say(err.message, "|", err.hint)
      end]])
    assert.equal("pg.exec is refused here: the runbook is only being declared | Put the call into a clause: needs, done, act, verify, undo or after.\n"
      .. "pg.exec is refused here: only act, undo and after may write | needs, each, done and verify ask; they run in previews too.", said)
  end)

  it("refuses everything outside a task, and copies phase and step to the tasks a task spawns", function ()
    local said = inside([[
      task.phase("read")
      task.step("mine")
      guard.mode("run")
      local t = task.spawn(function () say(task.phase(), task.step()) say(tostring(pcall(eyes.touch, "pg.exec", "db", "pg:1", "x"))) task.phase("act") end)
      t:join()
      say(task.phase())]])
    assert.equal("read mine\nfalse\nread", said)
  end)
end)

describe("withheld subjects", function ()
  it("are what an intercepted write touched, and what covers it or lies below it", function ()
    local said = inside([[
      ask("plan", "act", "pg.exec", "pg:1/app")
      for _, subject in ipairs { "pg:1/app", "pg:1/app/public.orders", "pg:1", "pg:1/other", "pg:1/application", "pg:2/app", "pg", "file:/x" } do
        say(subject, (ask("plan", "read", "pg.read", subject)))
      end]])
    assert.equal("pg:1/app withheld by here\npg:1/app/public.orders withheld by here\npg:1 withheld by here\npg:1/other allow\n"
      .. "pg:1/application allow\npg:2/app allow\npg allow\nfile:/x allow", said)
  end)

  it("name the first step that withheld them, are withheld in every phase, and are forgotten with a new plan", function ()
    local said = inside([[
      guard.mark("pg:1/app", "first")
      guard.mark("pg:1/app/t", "second")
      guard.mark("file:/a", "third")
      say(guard.withheld("pg:1/app/t"), guard.withheld("file:/a/b"), tostring(guard.withheld("file:/b")))
      for _, phase in ipairs { "read", "act", "engine" } do say(phase, (ask("plan", phase, "pg.read"))) end
      guard.clear()
      say(tostring(guard.withheld("pg:1/app")), (ask("plan", "read", "pg.read")))]])
    assert.equal("first third nil\nread withheld by first\nact withheld by first\nengine withheld by first\nnil allow", said)
  end)

  it("are not made by a run, nor by what was refused", function ()
    local said = inside([[
      ask("run", "act", "pg.exec")
      ask("plan", "read", "pg.exec")
      guard.never("forbidden", "")
      ask("plan", "act", "pg.exec", "pg:1/app", "forbidden")
      say(tostring(guard.withheld("pg:1/app")))]])
    assert.equal("nil", said)
  end)

  it("give a value that raises {withheld} however it is used", function ()
    local said = inside([[
      guard.mode("plan")
      task.phase("act")
      task.step("here")
      local v = eyes.touch("pg.exec", "db", "pg:1/app", "x")
      local uses = { function () return v.x end, function () v.x = 1 end, function () return v() end, function () return v .. "x" end, function () return #v end,
        function () return v == eyes.touch("pg.exec", "db", "pg:2", "x") end, function () return v < v end, function () return v + 1 end, function () return -v end,
        function () return tostring(v) end, function () for _ in pairs(v) do break end end, function () return v:rows() end, function () return v & 1 end }
      for i, use in ipairs(uses) do
        local ok, err = pcall(use)
        if ok or err.code ~= "withheld" or err.message ~= "here" then say(i, tostring(ok)) end
      end
      do local closing <close> = v end
      say("done")]])
    assert.equal("done", said)
  end)
end)

describe("predictions", function ()
  it("are listed once, in order, with what would have been done, and reads with how far they can be trusted", function ()
    local said = inside([[
      ask("plan", "act", "pg.exec", "pg:1/a", "insert")
      ask("plan", "act", "file.remove", "file:/b", "rm /b")
      ask("plan", "read", "pg.read", "pg:9/z", "select")
      ask("plan", "read", "process.read", "process:x", "ls")
      for _, p in ipairs(guard.predictions()) do say(p.primitive, p.effect, p.target, p.subject, p.text, p.step) end
      for _, r in ipairs(guard.reads()) do say(r.primitive, r.label) end
      say(#guard.predictions(), #guard.reads())]])
    assert.equal("pg.exec write db pg:1/a insert here\nfile.remove destroy db file:/b rm /b here\npg.read enforced\nprocess.read declared\n0 0", said)
  end)
end)

describe("policy", function ()
  it("refuses what a never pattern matches, without regard to case, in previews and runs, with the reason", function ()
    local said = inside([[
      assert(guard.never("drop +(database|schema)", "this is production"))
      for _, text in ipairs { "DROP DATABASE x", "drop   schema y", "drop table z", "-- drop database" } do
        say(text, (ask("plan", "act", "pg.exec", "pg:" .. text, text)), (ask("run", "act", "pg.exec", "pg:" .. text, text)))
      end
      local _, err = ask("run", "act", "pg.drop", "pg:1", "drop database x")
      say(err.message)
      say(err.hint)]])
    assert.equal("DROP DATABASE x refused refused\ndrop   schema y refused refused\ndrop table z predict allow\n-- drop database refused refused\n"
      .. "this environment never allows \"drop +(database|schema)\": this is production\n"
      .. "The rule is in the inventory's never list; no flag overrides it.", said)
  end)

  it("has nothing to say about reads", function ()
    assert.equal("allow", inside([[guard.never("select", "") say((ask("run", "act", "pg.read", "pg:1", "select 1")))]]))
  end)

  it("refuses a pattern that is none", function ()
    local said = inside([[local ok, err = guard.never("drop (", "") say(tostring(ok), err.code, err.message:match("^never pattern \"drop %(\""))]])
    assert.equal("nil config never pattern \"drop (\"", said)
  end)

  it("lets writes reach listed hosts only, once one is listed; this machine needs no listing", function ()
    local said = inside([[
      say("open", (ask("run", "act", "pg.exec", "pg:1", "x", "db7")))
      guard.allow_host("db1")
      guard.allow_host("10.0.0.2")
      for _, host in ipairs { "db1", "DB1", "10.0.0.2", "db10", "db7", "" } do
        say(host, (ask("run", "act", "pg.exec", "pg:1", "x", host)), (ask("plan", "act", "pg.exec", "pg:" .. host, "x", host)))
      end
      say("local", (ask("run", "act", "file.write", "file:/x", "x")), "read", (ask("run", "read", "pg.read", "pg:0", "x", "db7")))]])
    assert.equal("open allow\ndb1 allow predict\nDB1 allow predict\n10.0.0.2 allow predict\ndb10 refused refused\ndb7 refused refused\n"
      .. " refused refused\nlocal allow read allow", said)
  end)
end)
