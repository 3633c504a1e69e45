local world = require("tests.support.world")

local plan, run, resume = require("engine.plan"), require("engine.run"), require("engine.resume")

local SET = [[
local function set(key) return { done = function () return w:get(key) == 1 end, act = function () w:set(key, 1) end } end
]]

describe("the preview", function ()
  it("asks done, intercepts act and lists what it would write", function ()
    local w = world.new()
    w.values.a = 1
    local path = w.runbook(SET .. [[step "Set a" (set "a")  step "Set b" (set "b")]])
    local p, err = w.try(plan.run, w.context { runbook = path })
    assert.is_nil(err)
    assert.equal("already", p.steps[1].label)
    assert.equal("predicted", p.steps[2].label)
    assert.equal("set b = 1", p.steps[2].lines[1].text)
    assert.equal(2, p.exit)
    assert.same({}, w.log)
    assert.is_nil(w.values.b)
  end)

  it("never answers a read of a withheld subject from the stale world", function ()
    local w = world.new()
    local path = w.runbook(SET .. [[step "Set a" (set "a")  step "Check a" { verify = function () check(w:get "a" == 1, "a is set") end }]])
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal("unknown", p.steps[2].label)
    assert.equal(1, p.steps[2].withheld)
    assert.equal(2, p.exit)
  end)

  it("ends an act that reads its own result as partly unknown, and says so", function ()
    local w = world.new()
    local path = w.runbook([[step "Set a" { act = function () local r = w:set("a", 1) if r:count() == 1 then w:set("b", 1) end end, verify = function () return true end }]])
    local p = w.try(plan.run, w.context { runbook = path })
    assert.is_true(p.steps[1].partly)
    assert.equal(1, #p.unseen)
  end)

  it("says who would stand in the way of a run", function ()
    local w = world.new()
    w.locked, w.held = "77", "run 77 of book"
    local p = w.try(plan.run, w.context { runbook = w.runbook(SET .. [[step "Set a" (set "a")]]) })
    assert.same({ "\"w\" is in use: run 77 has it", "\"w\" is kept by a run that still owes something: run 77 of book" }, p.blocked)
    assert.equal(2, p.exit)
  end)

  it("fails when a check fails, and exits 1", function ()
    local w = world.new()
    local path = w.runbook([[step "Check" { needs = function () check(w:get "a" == 1, "a is set") end }]])
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal(1, p.exit)
    assert.is_true(p.steps[1].failed)
  end)
end)

describe("a run", function ()
  it("acts, proves, journals, and does nothing the second time", function ()
    local w = world.new()
    local path = w.runbook(SET .. [[step "Set a" (set "a")  step "Set b" (set "b")]])
    local code, err = w.try(run.run, w.context { runbook = path })
    assert.is_nil(err)
    assert.equal(0, code)
    assert.same({ "a", "b" }, w.log)
    assert.same({ "ok", "ok" }, w.ends())
    assert.is_nil(w.held)
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    assert.same({ "a", "b" }, w.log)
    assert.same({ "already", "already" }, w.ends())
  end)

  it("undoes newest first and pays what it owes when a later step fails", function ()
    local w = world.new()
    w.fail.c = 1
    local path = w.runbook([[
      step "A" { act = function () w:set("a", 1) end, done = function () return w:get "a" == 1 end, undo = function () w:set("a", 0) end, after = function () w:set("a_after", 1) end }
      step "B" { act = function () w:set("b", 1) end, done = function () return w:get "b" == 1 end, undo = function () w:set("b", 0) end }
      step "C" { act = function () w:set("c", 1) end, done = function () return w:get "c" == 1 end }]])
    local code = w.try(run.run, w.context { runbook = path })
    assert.equal(1, code)
    assert.same({ "a", "b", "c", "b", "a", "a_after" }, w.log)
    assert.equal("failed", w.last("end").status)
    assert.is_nil(w.held)
  end)

  it("pays an after on success too", function ()
    local w = world.new()
    local path = w.runbook([[step "A" { act = function () w:set("a", 1) end, verify = function () return true end, after = function () w:set("z", 1) end }]])
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    assert.same({ "a", "z" }, w.log)
  end)

  it("keeps the target when an after cannot be paid, and names the run that settles it", function ()
    local w = world.new()
    w.fail.z = 1
    local path = w.runbook([[step "A" { act = function () w:set("a", 1) end, verify = function () return true end, after = function () w:set("z", 1) end }]])
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    local id = w.events[1].body.run
    local _, err = w.try(run.run, w.context { runbook = path })
    assert.equal("busy", err.code)
    assert.equal("Settle it with: neap resume " .. id, err.hint)
    w.events = {}
    assert.equal(0, w.try(resume.run, w.context { run = id }))
    assert.is_nil(w.held)
  end)

  it("changes nothing outside the window, and looks all the same", function ()
    local w = world.new()
    local system = require("native.system")
    local closed = system.iso(system.wall_ms() + 12 * 3600000):match("T(%d%d):")
    w.inventory(("environment \"here\" { window = \"%s:00-%s:59\", w = toy {} }"):format(closed, closed))
    local path = w.runbook(SET .. [[step "Set a" (set "a")]])
    assert.equal(77, w.try(run.run, w.context { runbook = path }))
    assert.same({}, w.log)
    w.values.a = 1
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
  end)

  it("asks needs of every step before anything is written", function ()
    local w = world.new()
    local path = w.runbook(SET .. [[step "Set a" (set "a")
      step "B" { needs = function () check(false, "the moon is new") end, act = function () w:set("b", 1) end, verify = function () return true end }]])
    local code = w.try(run.run, w.context { runbook = path })
    assert.equal(1, code)
    assert.same({}, w.log)
    assert.equal("not so: the moon is new", w.last("end").message)
  end)

  it("refuses to destroy unless the exact name is pinned", function ()
    local w = world.new()
    local path = w.runbook([[local p = params { name = { "what" } }
      step "Drop {name}" { destroys = "everything in {name}", act = function () w:set("dropped", p.name) end, done = function () return w:get "dropped" == p.name end }]])
    local ctx = { runbook = path, arguments = { name = "moon" } }
    assert.equal(77, w.try(run.run, w.context(ctx)))
    assert.equal("Pin the exact name: --confirm destroys=moon", w.last("end").hint)
    ctx.confirm = { "destroys=sun" }
    assert.equal(77, w.try(run.run, w.context(ctx)))
    assert.same({}, w.log)
    ctx.confirm = { "destroys=moon" }
    assert.equal(0, w.try(run.run, w.context(ctx)))
    assert.same({ "dropped" }, w.log)
  end)

  it("gives act's result to later steps, and to none that a clause changed an upvalue for", function ()
    local w = world.new()
    local path = w.runbook([[
      local copy = step "A" { act = function () w:set("a", 1) return { file = "x" } end, verify = function () return true end }
      step "B" { act = function () w:set(copy:result().file, 1) end, done = function () return w:get "x" == 1 end }]])
    local code = w.try(run.run, w.context { runbook = path })
    assert.equal(0, code)
    assert.same({ "a", "x" }, w.log)
    path = w.runbook([[local kept
      step "A" { act = function () kept = 1 w:set("q", 1) end, verify = function () return true end }]], "up")
    assert.equal(65, w.try(run.run, w.context { runbook = path }))
    assert.truthy(w.last("end").message:find("changed the local \"kept\"", 1, true))
  end)

  it("retries an act, asking done in between", function ()
    local w = world.new()
    w.fail.a = 2
    local path = w.runbook([[step "A" { retry = { times = 2, every = "1ms" }, act = function () w:set("a", 1) end, done = function () return w:get "a" == 1 end }]])
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    assert.same({ "a", "a", "a" }, w.log)
  end)

  it("shows all that was recorded before it asks", function ()
    local w, asked = world.new(), nil
    local path = w.runbook("step \"A\" { destroys = \"it\", act = function () w:set(\"a\", 1) end, verify = function () return true end }")
    local function answer(question)
      asked = { question = question.level, shown = w.events[#w.events].kind }
      return "book"
    end
    assert.equal(0, w.try(run.run, w.context { runbook = path, interactive = true, ask = answer }))
    assert.same({ question = "name", shown = "ask" }, asked)
  end)

  it("runs each item once and steps of a parallel side by side", function ()
    local w = world.new()
    w.values.y = 1
    local path = w.runbook(SET .. [[
      step "Items" { each = { "x", "y", "z" }, limit = 2, done = function (k) return w:get(k) == 1 end, act = function (k) w:set(k, 1) end }
      parallel { limit = 2, step "P" (set "p"), step "Q" (set "q") }]])
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    table.sort(w.log)
    assert.same({ "p", "q", "x", "z" }, w.log)
  end)

  it("stops beginning items once so many have failed, and names each of them", function ()
    local w = world.new()
    w.fail.b, w.fail.d, w.fail.e = 1, 1, 1
    local path = w.runbook([[
      step "Items" { each = { "a", "b", "c", "d", "e", "f" }, stop_after = 2, done = function (k) return w:get(k) == 1 end, act = function (k) w:set(k, 1) end }]])
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    assert.same({ "a", "b", "c", "d" }, w.log)
    assert.equal("2 of 6 items failed: b: the toy broke at b; d: the toy broke at d", w.last("end").message)
    assert.equal(1, w.try(resume.run, w.context { run = w.events[1].body.run }))
    assert.same({ "b", "d", "e", "f" }, table.move(w.log, 5, #w.log, 1, {}), "what was done is not done again")
    assert.equal(0, w.try(resume.run, w.context { run = w.events[1].body.run }))
    assert.same({ "e" }, table.move(w.log, 9, #w.log, 1, {}))
  end)

  it("asks every item of a step that only checks, side by side, and shows each", function ()
    local w = world.new()
    w.values.a, w.values.c = 1, 1
    local path = w.runbook([[
      step "Each is set" { each = { "a", "b", "c" }, limit = 3, stop_after = 3, verify = function (k) check(w:get(k) == 1, "{item} is set") end }]])
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal(1, p.exit)
    local shown = {}
    for i, line in ipairs(p.steps[1].lines) do shown[i] = ("%s %s"):format(line.text, line.ok) end
    assert.same({ "a is set true", "b is set false", "c is set true" }, shown)
    w.values.b = 1
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
  end)

  it("refuses a threshold without items, and items of a step that a human does", function ()
    local w = world.new()
    for _, wrong in ipairs { "stop_after = 2, verify = function () return true end", "each = { 1 }, stop_after = 0, verify = function () return true end",
      "each = { 1 }, manual = 'Look'" } do
      local _, err = w.try(plan.run, w.context { runbook = w.runbook("step \"S\" { " .. wrong .. " }") })
      assert.equal("invalid", err.code, wrong)
    end
  end)

  it("begins nothing more side by side once a member failed, and lets the gravest failure decide", function ()
    local w = world.new()
    w.fail.p = 1
    local path = w.runbook([[
      parallel { limit = 1,
        step "P" { act = function () w:set("p", 1) end, done = function () return w:get "p" == 1 end },
        step "Q" { act = function () w:set("q", 1) end, done = function () return w:get "q" == 1 end } }]])
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    assert.same({ "p" }, w.log)
    path = w.runbook([[
      parallel { limit = 2,
        step "P" { act = function () if w:set("x", 1):count() == 1 then error "broken" end end, done = function () return false end },
        step "Q" { act = function ()
            w:set("y", 1):count()
            wait_until(function () return w:get "x" == 1 end, { every = "1ms", within = "1m" })
            error({ code = "unknown", message = "nobody knows" })
          end,
          done = function () return false end } }]], "grave")
    assert.equal(75, w.try(run.run, w.context { runbook = path }))
    assert.equal("unknown", w.last("end").status)
    assert.truthy(w.held)
  end)

  it("keeps the target after an undo that failed, and names neap undo first", function ()
    local w = world.new()
    w.fail.c, w.fail.a0 = 1, 1
    local path = w.runbook([[
      step "A" { act = function () w:set("a", 1) end, done = function () return w:get "a" == 1 end, undo = function () w:set("a0", 0) end }
      step "C" { act = function () w:set("c", 1) end, done = function () return w:get "c" == 1 end }]])
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    local id = w.events[1].body.run
    assert.same({ "neap undo " .. id, "neap resume " .. id }, w.last("end").next)
    assert.truthy(w.held)
    assert.equal(0, w.try(resume.undo, w.context { run = id }))
    assert.is_nil(w.held)
  end)

  it("locks a database once although two roles name it", function ()
    local w = world.new()
    local locks = 0
    local bind, lock = w.client.bind, nil
    w.client.bind = function (role)
      local object = bind(role)
      lock = lock or object.guardians.lock
      object.guardians.lock = function (o) locks = locks + 1 return lock(o) end
      object.methods.card = function () return { kind = "toy", id = "toy:one", lines = {} } end
      return object
    end
    w.inventory("environment \"here\" { w = toy {}, v = toy {} }")
    local path = w.runbook(SET .. [[local v = target.toy "v" step "Set a" (set "a")]])
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    assert.equal(1, locks)
  end)

  it("times out an act that takes longer than within", function ()
    local w = world.new()
    local path = w.runbook([[step "A" { within = "50ms", act = function () w:set("a", 1)
      wait_until(function () return false end, { every = "5ms", within = "10s" }) end, verify = function () return true end }]])
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    assert.equal("timeout", w.last("end").code)
  end)
end)

describe("a resume", function ()
  local BOOK = SET .. [[
    step "A" (set "a")
    step "B" { act = function () w:set("b", 1) end, done = function () return w:get "b" == 1 end }
    step "C" (set "c")]]

  it("never runs a completed step again and goes on where it failed", function ()
    local w = world.new()
    w.fail.b = 1
    local path = w.runbook(BOOK)
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    local id = w.events[1].body.run
    w.values.a = 0
    w.log = {}
    assert.equal(0, w.try(resume.run, w.context { run = id }))
    assert.same({ "b", "c" }, w.log)
  end)

  it("refuses a runbook that has changed, with a diff", function ()
    local w = world.new()
    w.fail.b = 1
    w.try(run.run, w.context { runbook = w.runbook(BOOK) })
    local id = w.events[1].body.run
    w.runbook(BOOK .. "\n-- changed")
    local _, err = w.try(resume.run, w.context { run = id })
    assert.equal("refused", err.code)
    assert.truthy(err.message:find("-- changed", 1, true))
  end)

  it("says when another build of neap began the run", function ()
    local w = world.new()
    w.fail.b = 1
    w.try(run.run, w.context { runbook = w.runbook(BOOK) })
    local system = require("native.system")
    local real = system.stdlib
    finally(function () system.stdlib = real end)
    system.stdlib = function () return "another" end
    assert.equal(0, w.try(resume.run, w.context { run = w.events[1].body.run }))
    assert.truthy(w.last("notice").text:find("another build of neap", 1, true))
  end)

  it("refuses a run that ended well", function ()
    local w = world.new()
    w.try(run.run, w.context { runbook = w.runbook(SET .. [[step "A" (set "a")]]) })
    local _, err = w.try(resume.run, w.context { run = w.events[1].body.run })
    assert.equal("usage", err.code)
  end)

  it("takes a run back, newest first", function ()
    local w = world.new()
    local path = w.runbook([[
      step "A" { act = function () w:set("a", 1) end, done = function () return w:get "a" == 1 end, undo = function () w:set("a", 0) end }
      step "B" { act = function () w:set("b", 1) end, done = function () return w:get "b" == 1 end, undo = function () w:set("b", 0) end }]])
    w.try(run.run, w.context { runbook = path })
    local id = w.events[1].body.run
    w.log = {}
    assert.equal(0, w.try(resume.undo, w.context { run = id }))
    assert.same({ "b", "a" }, w.log)
    assert.equal("undone", w.last("end").status)
  end)
end)

describe("loading", function ()
  local function refused(body)
    local w = world.new()
    local _, err = w.try(plan.run, w.context { runbook = w.runbook(body) })
    return err
  end

  it("refuses an unknown clause with the line and the nearest name", function ()
    local err = refused("step \"A\" { neds = function () end }")
    assert.equal("invalid", err.code)
    assert.equal("Did you mean needs?", err.hint)
    assert.truthy(err.where:find("book.lua:3", 1, true))
  end)

  it("refuses a step that acts without a proof", function ()
    assert.truthy(refused("step \"A\" { act = function () end }").message:find("no proof", 1, true))
  end)

  it("refuses an unknown name, a global, a wrong type, a second step of the same title", function ()
    assert.truthy(refused("stp \"A\" {}").message:find("\"stp\" is not a name", 1, true))
    assert.truthy(refused("x = 1").message:find("would be a global", 1, true))
    assert.truthy(refused("step \"A\" { act = 1, done = function () end }").message:find("act must be a function", 1, true))
    assert.truthy(refused("step \"A\" { needs = function () end } step \"A\" { needs = function () end }").message:find("two steps", 1, true))
  end)

  it("refuses a role and a param that are used while declaring", function ()
    assert.truthy(refused("w:get \"a\"").message:find("not bound while", 1, true))
    assert.truthy(refused("local p = params { x = { \"an x\" } } local y = p.x").message:find("while the runbook is being declared", 1, true))
  end)

  it("stops a declaration that loops", function ()
    assert.truthy(refused("while true do end").message:find("half a second", 1, true))
    assert.truthy(refused("while true do pcall(function () while true do end end) end").message:find("half a second", 1, true))
  end)
end)
