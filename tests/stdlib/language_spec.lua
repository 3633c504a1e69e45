-- The language: each clause, each rule of declaring, parameters, targets, inventories, nesting, asking. What the engine
-- does with steps that work and fail is in engine_spec; here every word has a test that fails when it stops meaning what the manual says.

local suite = require("tests.support.suite")
local world = require("tests.support.world")

local plan, run, resume = require("engine.plan"), require("engine.run"), require("engine.resume")

-- set "a" is an act that makes a 1; is "a" asks.
local WORDS = [[
local function set(key, value) return function () w:set(key, value or 1) end end
local function is(key, value) return function () return w:get(key) == (value or 1) end end
]]

--- Run a body; gives exit code, world, error.
local function go(body, more, w)
  w = w or world.new()
  local ctx = w.context(more)
  ctx.runbook = ctx.runbook or w.runbook(WORDS .. body)
  local code, err = w.try(run.run, ctx)
  return code, w, err
end

local function preview(body, more, w)
  w = w or world.new()
  local ctx = w.context(more)
  ctx.runbook = ctx.runbook or w.runbook(WORDS .. body)
  local p, err = w.try(plan.run, ctx)
  return p, err, w
end

local function refused(body, more, w)
  local p, err = preview(body, more, w)
  if p then error("it was accepted: " .. body, 2) end
  return err
end

local function has(text, part) assert.truthy(tostring(text):find(part, 1, true), ("%q is not in %q"):format(part, tostring(text))) end

local function run_id(w) return w.events[1].body.run end

--- An operator who gives these answers, one after the other; keeps the questions.
local function operator(...)
  local answers, asked = table.pack(...), {}
  return { interactive = true, asked = asked, ask = function (question)
    asked[#asked + 1] = question
    return answers[#asked]
  end }
end

describe("declaring", function ()
  it("makes data: nothing is asked and nothing written while the file runs", function ()
    for _, call in ipairs { "w:get 'a'", "w:set('a', 1)", "check(true, 'x')", "note 'x'", "wait_until(function () return true end, { within = '1s' })" } do
      local err = refused(call .. "  step 'A' { needs = function () end }")
      assert.equal("invalid", err.code, call)
    end
  end)

  it("wants one runbook, a title, and steps", function ()
    local w = world.new()
    local function file(text)
      suite.write(w.dir .. "/odd.lua", text)
      local _, err = w.try(plan.run, w.context { runbook = w.dir .. "/odd.lua" })
      return err
    end
    has(file("step 'A' { needs = function () end }"), "declares no runbook")
    has(file("runbook 'X' { why = 'x' }"), "no steps")
    has(file("runbook 'X' {} runbook 'Y' {} step 'A' { needs = function () end }"), "one runbook")
    has(file("runbook '' {}"), "needs a title")
    has(file("runbook 'X' { whi = 'x' }"), "Did you mean why?")
    has(file("runbook 'X' { on_failure = 'hodl' }"), "Did you mean hold?")
    has(file("runbook 'X' { retired = 'see y' } step 'A' { needs = function () end }"), "is retired: see y")
    has(file("runbook 'X' {"), "expected")
  end)

  it("refuses steps that make no sense, each with its line", function ()
    local F = "function () end"
    for body, why in pairs {
      ["step 'A' {}"] = "nothing to check or to do",
      ["step 'A' { done = F }"] = "nothing to check or to do",
      ["step 'A' { act = F, done = F, manual = 'x' }"] = "act beside manual",
      ["step 'A' { manual = 'x', run = 'y' }"] = "both manual and run",
      ["step 'A' { needs = F, undo = F }"] = "undo but no act",
      ["step 'A' { needs = F, after = F }"] = "after but no act",
      ["step 'A' { needs = F, destroys = 'x' }"] = "destroys but no act",
      ["step 'A' { needs = F, retry = 1 }"] = "retry but no act",
      ["step 'A' { needs = F, max_rows = 1 }"] = "max_rows but no act",
      ["step 'A' { needs = F, limit = 1 }"] = "limit but no each",
      ["step 'A' { run = 'x', done = F }"] = "done beside run", ["step 'A' { run = 'x', verify = F }"] = "verify beside run",
      ["step 'A' { run = 'x', within = '1m' }"] = "within beside run",
      ["step 'A' { needs = F, within = '5' }"] = "within must be",
      ["step 'A' { needs = F, within = 5 }"] = "unit",
      ["step 'A' { act = F, done = F, each = {}, limit = 0 }"] = "at least 1",
      ["step 'A' { act = F, done = F, each = {}, limit = 1.5 }"] = "whole number",
      ["step 'A' { act = F, done = F, retry = -1 }"] = "at least 0",
      ["step 'A' { act = F, done = F, retry = { time = 3 } }"] = "Did you mean times?",
      ["step 'A' { act = F, done = F, retry = { every = 5 } }"] = "unit",
      ["step 'A' { act = F, done = F, max_rows = -1 }"] = "at least 0",
      ["step 'A' 'B'"] = "in braces",
      ["step '' { needs = F }"] = "needs a title",
      ["step 'A {nam}' { needs = F }"] = "which is no parameter",
      ["step 'A' { act = F, done = F, destroys = 'all of {x}' }"] = "which is no parameter",
      ["step 'A' { manual = 'pull {x}' }"] = "which is no parameter",
      ["parallel {}"] = "needs steps",
      ["parallel { limit = 0, step 'A' { needs = F } }"] = "at least 1",
      ["parallel { limt = 1, step 'A' { needs = F } }"] = "no field",
      ["local a = step 'A' { needs = F } step 'B' { needs = F } parallel { a }"] = "takes the steps it declares",
      ["local a = step 'A' { needs = F } a.x = 1"] = "cannot be changed",
      ["target.toy 'w'"] = "declared twice",
      ["target.toy ''"] = "needs a role's name",
      ["scratch 'a b'"] = "is not a name",
    } do
      local err = refused((body:gsub("%f[%w]F%f[%W]", F)))
      assert.equal("invalid", err.code, body)
      has(tostring(err), why)
    end
  end)

  it("knows a step by its raw title", function ()
    local p = preview [[local p = params { n = { "n", default = "x" } }
      step "Do {n}" { needs = function () end } step "Do x" { needs = function () end }]]
    assert.same({ "Do x", "Do x" }, { p.steps[1].title, p.steps[2].title })
    assert.are_not.equal(p.steps[1].id, p.steps[2].id)
  end)

  it("fills {param} and {item} and nothing else, and never fills what was filled in", function ()
    local p = preview([[local p = params { n = { "n" } }
      step "Do {n}" { each = { "a" }, act = function (i) note("{item} of {n} {other}") w:set(i, 1) end, done = is "x" }]], { arguments = { n = "{item}" } })
    assert.equal("Do {item}", p.steps[1].title)
    assert.equal("a of {item} {other}", p.steps[1].lines[1].text)
  end)
end)

describe("parameters", function ()
  local function value(spec, given)
    local w = world.new()
    local p, err = preview(([[local p = params { x = { "an x", %s } }
      step 'A' { needs = function () note(math.type(p.x) or type(p.x)) note(tostring(type(p.x) == 'table' and table.concat(p.x, '|') or p.x)) end }]])
      :format(spec), { arguments = { x = given } }, w)
    if not p then return nil, err end
    return p.steps[1].lines[1].text .. " " .. p.steps[1].lines[2].text
  end

  it("of each kind take what fits, and refuse the rest by name", function ()
    for _, case in ipairs {
      { "kind = 'text'", "any thing", "string any thing" }, { "", "", "string " },
      { "kind = 'name'", "orders", "string orders", "", "a/b", "-x", ("x"):rep(64), "a\nb" },
      { "kind = 'path'", "/a/b", "string /a/b", "", "a\0b" },
      { "kind = 'integer', min = 1, max = 9", "5", "integer 5", "0", "10", "x", "1.5", "" },
      { "kind = 'number'", "1.5", "float 1.5", "x", "" },
      { "kind = 'boolean'", "yes", "boolean true", "maybe", "" },
      { "kind = 'duration'", "5m", "string 5m", "5", "m" },
      { "kind = 'bytes'", "1KiB", "integer 1024", "1", "KiB" },
      { "choices = { 'a', 'b' }", "b", "string b", "c", "" },
      { "kind = 'list'", "a,b,,c", "table a|b|c" },
      { "pattern = '^%d+$'", "12", "string 12", "1x" },
    } do
      assert.equal(case[3], value(case[1], case[2]), case[1])
      for i = 4, #case do
        local got, err = value(case[1], case[i])
        assert.is_nil(got, case[1] .. " took " .. case[i])
        assert.equal("usage", err.code)
        has(err, "--x")
      end
    end
  end)

  it("have defaults of their kind, worked out once under the read guard", function ()
    assert.equal("integer 7", value("kind = 'integer', default = 7"))
    assert.equal("integer 7", value("kind = 'integer', default = '7'"))
    assert.equal("table a|b", value("kind = 'list', default = { 'a', 'b' }"))
    assert.equal("string 1", value("default = function () return tostring((w:get 'a') or 1) end"))
    for _, spec in ipairs { "kind = 'integer', default = 'x'", "kind = 'integer', default = {}", "default = {}", "kind = 'list', default = { {} }",
      "kind = 'name', default = function () return 'a/b' end", "pattern = '^%d$', default = function () return 'x' end",
      "kind = 'integer', max = 3, default = function () return 4 end" } do
      local got, err = value(spec)
      assert.is_nil(got, spec)
      assert.equal("invalid", err.code)
    end
    local got, err = value("default = function () w:set('a', 1) end")
    assert.is_nil(got)
    assert.equal("refused", err.code)
    got, err = value("default = function () error('no') end")
    assert.is_nil(got)
    has(err, "the default of --x")
  end)

  it("are named when missing or unknown", function ()
    local got, err = value("kind = 'name'")
    assert.is_nil(got)
    has(err, "missing: --x")
    assert.equal("nil nil", value("optional = true"))
    local body = "params { database = { 'd', default = 'x' } }  step 'A' { needs = function () end }"
    has(refused(body, { arguments = { databse = "y" } }), "Did you mean database?")
  end)

  it("are declared as data", function ()
    for body, why in pairs {
      ["params { x = 'y' }"] = "needs a description",
      ["params { x = { 'x', kid = 'name' } }"] = "Did you mean kind?", ["params { x = { 'x', kind = 'nme' } }"] = "Did you mean name?",
      ["params { x = { 'x', kind = 'choice' } }"] = "has no choices", ["params { ['a b'] = { 'x' } }"] = "is not a name",
      ["params {} params { x = { 'x' } } params { y = { 'y' } }"] = "declared twice",
      ["params 'x'"] = "needs a table", ["local p = params { x = { 'x' } } p.x = 1"] = "cannot be changed", ["local p = params { x = { 'x' } } local y = p.y"] = "no param",
      ["local p = params { x = { 'x' } } local t = 'a' .. p.x"] = "in a clause, or {x} in a text",
    } do
      local err = refused(body .. "  step 'A' { needs = function () end }")
      assert.equal("invalid", err.code, body)
      has(err, why)
    end
  end)

  it("stay the same over a resume, lists too, and a default is not asked again", function ()
    local body = [[local p = params { xs = { "x", kind = "list" }, n = { "n", kind = "integer", default = function () return (w:get "count" or 0) + 5 end } }
      step "A" { act = function () w:set("a", #p.xs .. ":" .. p.n) end, verify = function () return true end }]]
    local w = world.new()
    w.fail.a = 1
    local code = go(body, { arguments = { xs = "a,b" } }, w)
    assert.equal(1, code)
    w.values.count = 100
    assert.equal(0, w.try(resume.run, w.context { run = run_id(w) }))
    assert.equal("2:5", w.values.a)
  end)
end)

describe("targets", function ()
  local ONE = "step 'A' { needs = function () end }"

  it("are refused before anything runs: missing, of another kind, of no kind, moved", function ()
    local w = world.new()
    local other = { kind = "other", fields = {}, bind = w.client.bind }
    local clients = { toy = w.client, other = other }
    local err = refused("local x = target.toy 'x' " .. ONE, nil, w)
    assert.equal("config", err.code)
    has(err, "has no \"x\"")
    has(refused("local x = target.toyy 'x' " .. ONE, nil, w), "Did you mean target.toy?")
    has(refused("local x = target.other 'x' " .. ONE, { clients = clients }, w), "has no \"x\"")
    w.inventory("environment \"here\" { w = toy {}, x = toy {} }")
    err = refused("local x = target.other 'x' " .. ONE, { clients = clients }, w)
    assert.equal("config", err.code)
    has(err, "is a toy in environment \"here\", the runbook wants a other")
    w.inventory("environment \"here\" { w = toy { pin = \"toy:elsewhere\" } }")
    err = refused(ONE, nil, w)
    assert.equal("refused", err.code)
    has(err, "the inventory pins toy:elsewhere")
    w.inventory("environment \"here\" { w = toy { pin = \"toy:w\" } }")
    assert.truthy(preview(ONE, nil, w))
  end)

  it("may be optional: a clause asks whether there is one, and a use of none says so", function ()
    local OPTIONAL = "local x = target.toy('x', { optional = true }) "
    local w = world.new()
    local p = preview(OPTIONAL .. "step 'A' { needs = function () check(not x:is_bound() and w:is_bound(), 'one of two') end }", nil, w)
    assert.equal(0, p.exit)
    p = preview(OPTIONAL .. "step 'A' { needs = function () x:get 'a' end }", nil, w)
    assert.is_true(p.steps[1].failed)
    has(p.steps[1].error, "has no \"x\"")
    has(p.steps[1].error.hint, "x:is_bound()")
    has(refused("local x = target.toy('x', { optional = true }) x:is_bound() " .. ONE, nil, w), "is not bound while the runbook is being declared")
    has(refused("local x = target.toy('x', { optionl = true }) " .. ONE, nil, w), "has no option \"optionl\"")
    has(refused("local x = target.toy('x', 'optional') " .. ONE, nil, w), "is { optional = true }")
    w.inventory("environment \"here\" { w = toy {}, x = toy {} }")
    p = preview(OPTIONAL .. "step 'A' { needs = function () check(x:is_bound() and x:get 'a' == nil, 'it answers') end }", nil, w)
    assert.equal(0, p.exit)
  end)

  it("stay for a resume when they were bound", function ()
    local w = world.new()
    w.inventory("environment \"here\" { w = toy {}, x = toy {} }")
    local code = go("local x = target.toy('x', { optional = true }) step 'A' { act = set 'a', verify = function () return w:get 'b' == 1 end }", nil, w)
    assert.equal(1, code)
    w.inventory("environment \"here\" { w = toy {} }")
    local _, err = w.try(resume.run, w.context { run = run_id(w) })
    has(err, "the inventory no longer has it")
  end)

  it("offer their methods and nothing of what lies behind", function ()
    local p = preview("step 'A' { needs = function () w:gett 'a' end }")
    has(p.steps[1].error, "Did you mean get?")
    for _, reach in ipairs { "w.spec", "w.methods", "w.guardians", "w.kind" } do
      p = preview(("step 'A' { needs = function () local x = %s check(x == nil, 'x') end }"):format(reach))
      assert.is_true(p.steps[1].failed, reach)
    end
    p = preview("step 'A' { needs = function () check(tostring(w) == 'w' and w:on('z'):get('a') == nil, 'on gives another') w.x = 1 end }")
    has(p.steps[1].error, "cannot be changed")
  end)
end)

describe("inventories", function ()
  local function inventory(text, more)
    local w = world.new()
    w.inventory(text)
    return preview("step 'A' { needs = function () end }", more, w)
  end

  it("are refused with the right name: fields, kinds, settings, types, doubles, syntax", function ()
    for text, why in pairs {
      ["environment 'here' { w = toy { nte = 'x' } }"] = "Did you mean note?",
      ["environment 'here' { w = tooy {} }"] = "Did you mean toy?",
      ["environment 'here' { w = toy 'x' }"] = "in braces",
      ["environment 'here' { w = toy {}, protcted = true }"] = "Did you mean protected?",
      ["environment 'here' { w = toy {}, protected = 'yes' }"] = "must be a boolean",
      ["environment 'here' { w = toy {}, hosts = 'a' }"] = "must be a table",
      ["environment 'here' { w = toy {}, never = { { 'drop (', 'x' } } }"] = "is not a regular expression",
      ["environment 'here' (5)"] = "in braces",
      ["environment (5) {}"] = "needs a name",
      ["environment 'here' { w = 5 }"] = "neither a target nor a setting",
      ["environment 'here' {} environment 'here' {}"] = "declared twice",
      ["environment 'here' {"] = "expected",
      [""] = "names no environment",
      ["x = 1"] = "would be a global",
      ["os.exit(1)"] = "is not a name",
      ["environment 'here' { w = toy { note = secret { envv = 'X' } } }"] = "Did you mean env?",
      ["environment 'here' { w = toy { note = secret { env = 'X', file = 'y' } } }"] = "exactly one source",
      ["environment 'here' { w = toy { note = secret {} } }"] = "exactly one source",
      ["environment 'here' { w = toy { note = secret 'x' } }"] = "in braces",
      ["environment 'here' { w = toy { note = 5 } }"] = "must be a string",
    } do
      local p, err = inventory(text)
      assert.is_nil(p, text)
      assert.equal("config", err.code, text .. tostring(err))
      has(err, why)
    end
  end)

  it("are chosen by name, without one only when there is no choice", function ()
    local two = "environment 'one' { w = toy {} } environment 'two' { w = toy {} }"
    local _, err = inventory(two, { environment = "tow" })
    has(err, "Did you mean two?")
    local w = world.new()
    w.inventory(two)
    local ctx = w.context { runbook = w.runbook("step 'A' { needs = function () end }") }
    ctx.environment = nil
    _, err = w.try(plan.run, ctx)
    assert.equal("usage", err.code)
    has(err, "one, two")
    w.inventory("environment 'one' { w = toy {} }")
    assert.truthy(w.try(plan.run, ctx))
    _, err = w.try(plan.run, w.context { runbook = ctx.runbook, inventory = w.dir .. "/nowhere.lua" })
    assert.equal("config", err.code)
  end)

  it("hand a target its secrets, which stay secret, and say which is missing", function ()
    local w = world.new()
    local seen
    local bind = w.client.bind
    w.client.bind = function (role, spec, context)
      seen = spec.note
      return bind(role, spec, context)
    end
    w.inventory("environment 'here' { w = toy { note = secret { env = 'NEAP_LANGUAGE_SPEC' } } }")
    T.setenv("NEAP_LANGUAGE_SPEC", "very-secret-value")
    assert.truthy(preview("step 'A' { needs = function () end }", nil, w))
    assert.is_true(require("native.secret").is(seen))
    assert.is_nil(tostring(seen):find("very-secret", 1, true))
    T.setenv("NEAP_LANGUAGE_SPEC", nil)
    local err = refused("step 'A' { needs = function () end }", nil, w)
    has(err, "NEAP_LANGUAGE_SPEC")
  end)
end)

describe("done and verify", function ()
  it("prove the act: done is asked again until it holds or within ends", function ()
    local code, w = go [[step "A" { within = "1s", act = set "a", done = is "b" }]]
    assert.equal(1, code)
    has(w.last("end").message, "done still says no")
    w = world.new()
    local get, asked = w.methods.get, 0
    w.methods.get = function (...)
      asked = asked + 1
      local value = get(...)
      if value == 1 and asked < 5 then return 0 end
      return value
    end
    code = go([[step "A" { act = set "a", done = is "a" }]], nil, w)
    assert.equal(0, code)
    assert.same({ "a" }, w.log)
    assert.equal(5, asked)
  end)

  it("fail the step when verify says false or raises, not when it returns nothing", function ()
    assert.equal(0, (go [[step "A" { act = set "a", verify = function () end }]]))
    local code, w = go [[step "A" { act = set "a", verify = function () return false end }]]
    assert.equal(1, code)
    has(w.last("end").message, "verify does not hold")
    code, w = go [[step "A" { act = set "a", verify = function () check.same(w:get "a", 2, "a is two") end }]]
    assert.equal(1, code)
    has(w.last("end").message, "a is two")
  end)

  it("and each, needs may not write, in a run either", function ()
    for _, clause in ipairs { "needs", "done", "verify", "each" } do
      local proof = clause == "verify" and "" or "verify = function () end, "
      local code, w = go(([[step "A" { act = set "a", %s%s = function () w:set("b", 1) return {} end }]]):format(proof, clause))
      assert.truthy(code ~= 0, clause)
      has(w.last("end").message, "only act, undo and after may write")
    end
  end)
end)

describe("needs", function ()
  it("is asked again just before its step", function ()
    local code, w = go [[
      step "Break" { act = set "broken", done = is "broken" }
      step "A" { needs = function () check(w:get "broken" ~= 1, "it is whole") end, act = set "a", done = is "a" }]]
    assert.equal(1, code)
    assert.same({ "broken" }, w.log)
    has(w.last("end").message, "it is whole")
  end)

  it("is not asked of a step that is done already", function ()
    local w = world.new()
    w.values.a = 1
    local code = go([[step "A" { needs = function () check(false, "never") end, act = set "a", done = is "a" }]], nil, w)
    assert.equal(0, code)
  end)
end)

describe("undo and after", function ()
  it("undo the step whose own proof failed, and then pay its after", function ()
    local code, w = go [[step "A" { act = set "a", verify = function () return false end, undo = set("a", 0), after = set "z" }]]
    assert.equal(1, code)
    assert.same({ "a", "a", "z" }, w.log)
  end)

  it("owe nothing for a step that never began", function ()
    local code, w = go [[
      step "A" { act = set "a", verify = function () return false end, undo = set("a", 0) }
      step "B" { act = set "b", done = is "b", undo = set("b", 0), after = set "y" }]]
    assert.equal(1, code)
    assert.same({ "a", "a" }, w.log)
  end)

  it("are given the item, newest first", function ()
    local w = world.new()
    w.fail.c = 1
    local code = go([[step "A" { each = { "a", "b", "c" }, act = function (k) w:set(k, 1) end, done = function (k) return w:get(k) == 1 end,
      undo = function (k) w:set("un" .. k, 1) end }]], nil, w)
    assert.equal(1, code)
    assert.same({ "a", "b", "c", "unc", "unb", "una" }, w.log)
  end)

  it("do what on_failure says: hold lists the debts, abort pays the afters only", function ()
    local function failing(choice)
      local w = world.new()
      w.fail.b = 1
      suite.write(w.dir .. "/odd.lua", ("runbook 'X' { on_failure = %q } local w = target.toy 'w'\n%s"):format(choice, WORDS .. [[
        step "A" { act = set "a", done = is "a", undo = set("a", 0), after = set "z" }
        step "B" { act = set "b", done = is "b" }]]))
      w.try(run.run, w.context { runbook = w.dir .. "/odd.lua" })
      return w
    end
    local w = failing("hold")
    assert.same({ "a", "b" }, w.log)
    assert.equal("held", w.last("end").status)
    assert.same({ "after of step 1" }, w.last("end").owes)
    assert.truthy(w.held)
    w = failing("abort")
    assert.same({ "a", "b", "z" }, w.log)
    w = failing("undo")
    assert.same({ "a", "b", "a", "z" }, w.log)
  end)
end)

describe("each", function ()
  it("takes a list whose items can be told apart, and refuses the rest", function ()
    for each, why in pairs { ["{ 'a', 'a' }"] = "twice", ["{ a = 1 }"] = "not a list", ["{ {} }"] = "without a key", ["{ true }"] = "without a key",
      ["function () return 5 end"] = "gave a number", ["function () end"] = "gave a nil", ["{ { key = 'x' }, 'x' }"] = "twice" } do
      local code, w = go(("step 'A' { each = %s, act = function (i) w:set('a', 1) end, done = is 'b' }"):format(each))
      assert.equal(65, code, each)
      has(w.last("end").message, why)
      assert.same({}, w.log)
    end
  end)

  it("goes on with the same list on resume, whatever the world says by then", function ()
    local w = world.new()
    w.values.names, w.fail.b = "a b c", 1
    local body = [[step "A" { each = function () local l = {} for n in w:get("names"):gmatch("%a+") do l[#l + 1] = { key = n, size = #l } end return l end,
      act = function (i) w:set(i.key, i.size) end, done = function (i) return w:get(i.key) == i.size end }]]
    assert.equal(1, (go(body, nil, w)))
    w.values.names, w.log = "x y z", {}
    assert.equal(0, w.try(resume.run, w.context { run = run_id(w) }))
    assert.same({ "b", "c" }, w.log)
    assert.equal(2, w.values.c)
  end)

  it("does nothing for an empty list, and says so", function ()
    local code, w = go [[step "A" { each = function () return {} end, act = function () w:set("a", 1) end, done = is "a" }]]
    assert.equal(0, code)
    assert.same({ "already" }, w.ends())
  end)

  it("stops starting items after the first failure", function ()
    local w = world.new()
    w.fail.b = 1
    go([[step "A" { each = { "a", "b", "c", "d" }, act = function (k) w:set(k, 1) end, verify = function () end }]], nil, w)
    assert.same({ "a", "b" }, w.log)
  end)
end)

describe("retry and within", function ()
  it("acts once more for each retry and then fails with the last error", function ()
    local w = world.new()
    w.fail.a = 9
    local code = go([[step "A" { retry = { times = 2, every = "1ms" }, act = set "a", done = is "a" }]], nil, w)
    assert.equal(1, code)
    assert.same({ "a", "a", "a" }, w.log)
    has(w.last("end").message, "the toy broke")
  end)

  it("does not retry what retrying cannot mend", function ()
    local code, w = go [[step "A" { retry = 5, act = function () w:set("a", 1):count() error { code = "refused", message = "no" } end, done = is "b" }]]
    assert.equal(77, code)
    assert.same({ "a" }, w.log)
  end)
end)

describe("results", function ()
  it("are plain data, live in the journal, and come back after a resume", function ()
    local w = world.new()
    w.fail.b = 1
    local body = [[local a = step "A" { act = function () w:set("a", 1) return { list = { 1, 2 }, name = "x" } end, verify = function () end }
      step "B" { act = function () w:set("b", a:result().name .. #a:result().list) end, verify = function () end }]]
    go(body, nil, w)
    assert.equal(0, w.try(resume.run, w.context { run = run_id(w) }))
    assert.equal("x2", w.values.b)
  end)

  it("that are not plain are refused", function ()
    for _, value in ipairs { "function () end", "w", "{ f = check }" } do
      local code, w = go(("step 'A' { act = function () w:set('a', 1) return %s end, verify = function () end }"):format(value))
      assert.equal(65, code, value)
      has(w.last("end").message, "cannot be journaled")
    end
  end)

  it("are read in clauses only", function ()
    has(refused("local a = step 'A' { needs = function () end } local x = a:result()"), "in clauses only")
  end)

  it("are unknown in a preview, together with what is made of them", function ()
    local p = preview [[local a = step "A" { act = function () w:set("a", 1) return 1 end, done = is "a" }
      step "B" { needs = function () check(a:result() + 1 == 2, "it is two") end }]]
    assert.equal("unknown", p.steps[2].label)
    assert.equal(1, p.steps[2].withheld)
  end)

  it("must go by the result: a changed upvalue is refused, however deep", function ()
    for _, body in ipairs {
      "local kept step 'A' { act = function () w:set('a', 1) kept = 1 end, verify = function () end }",
      "local kept local function keep() kept = 1 end step 'A' { act = function () w:set('a', 1) keep() end, verify = function () end }",
      "local kept step 'A' { act = set 'a', verify = function () kept = 1 end }",
      "local kept step 'A' { act = set 'a', done = function () kept = (kept or 0) + 1 return w:get 'a' == 1 end }",
    } do
      local code, w = go(body)
      assert.equal(65, code, body)
      has(w.last("end").message, "changed the local \"kept\"")
    end
  end)
end)

describe("parallel", function ()
  it("waits for all its steps, and fails when one fails", function ()
    local w = world.new()
    w.fail.b = 1
    local code = go([[parallel { limit = 2, step "A" { act = set "a", done = is "a" }, step "B" { act = set "b", done = is "b" } }
      step "C" { act = set "c", done = is "c" }]], nil, w)
    assert.equal(1, code)
    table.sort(w.log)
    assert.same({ "a", "b" }, w.log)
  end)

  it("keeps what each step asks and owes apart", function ()
    local code, w = go [[parallel { step "A" { act = function () w:set("a", 1) wait_until(function () return w:get "b" == 1 end, { every = "1ms", within = "1m" }) note "from a" end, done = is "a" },
      step "B" { act = function () w:set("b", 1) note "from b" end, done = is "b" } }]]
    assert.equal(0, code)
    local notes = {}
    for _, e in ipairs(w.events) do if e.kind == "note" then notes[e.step] = e.body.text end end
    assert.same({ a = "from a", b = "from b" }, notes)
  end)
end)

describe("run", function ()
  local function nested(outer, inner, more, w)
    w = w or world.new()
    suite.write(w.dir .. "/runbook.lua", "")
    os.execute("mkdir -p " .. w.dir .. "/share/runbooks")
    suite.write(w.dir .. "/share/runbooks/inner.lua", "runbook 'Inner' { why = 'x' } local w = target.toy 'w'\n" .. WORDS .. inner)
    local ctx = w.context(more)
    ctx.share = w.dir .. "/share"
    ctx.runbook = w.runbook(WORDS .. outer)
    return ctx, w
  end

  local INNER = [[local p = params { key = { "k", kind = "name" } }
    step "A" { act = function () w:set(p.key, 1) end, done = function () return w:get(p.key) == 1 end, undo = function () w:set("un" .. p.key, 1) end }]]

  it("runs another runbook with its own parameters, steps of the same title too", function ()
    local ctx, w = nested([[
      local a = step "A" { act = function () w:set("outer", 1) return "fromresult" end, done = is "outer" }
      step "One" { run = { "inner", key = "k{item}" } }
      step "Two" { run = { "inner", key = function () return a:result() end } }]], INNER)
    local p, err = w.try(plan.run, ctx)
    assert.is_nil(err)
    assert.equal(2, p.exit)
    assert.equal("unknown", p.steps[#p.steps].label)
    assert.equal(0, w.try(run.run, ctx))
    assert.same({ "outer", "k{item}", "fromresult" }, w.log)
  end)

  it("goes on inside the inner runbook after a resume, and takes it back", function ()
    local ctx, w = nested([[step "First" { act = set "first", done = is "first" } step "In" { run = { "inner", key = "x" } } step "Last" { act = set "last", done = is "last" }]], INNER)
    w.fail.last = 1
    assert.equal(1, w.try(run.run, ctx))
    assert.same({ "first", "x", "last", "unx" }, w.log)
    w.log = {}
    local again = w.context { run = run_id(w) }
    again.share = ctx.share
    w.values.x, w.values.first = 0, 0
    assert.equal(0, w.try(resume.run, again))
    assert.same({ "x", "last" }, w.log)
  end)

  it("refuses what does not exist, what runs itself, and what lacks a parameter", function ()
    local ctx, w = nested("step 'In' { run = 'iner' }", INNER)
    local _, err = w.try(plan.run, ctx)
    has(err, "Did you mean inner?")
    ctx, w = nested("step 'In' { run = 'inner' }", "step 'In' { run = 'inner' }")
    _, err = w.try(plan.run, ctx)
    has(err, "8 deep")
    ctx, w = nested("step 'In' { run = 'inner' }", INNER)
    local p = w.try(plan.run, ctx)
    assert.equal(1, p.exit)
    has(p.steps[1].error, "missing: --key")
  end)

  local OUTER = [[local p = params { what = { "w", kind = "runbook" }, key = { "k", kind = "name" }, bound = { "b", kind = "integer", default = 1 } }
    step "First" { act = function () w:set("first" .. p.key, 1) end, done = function () return w:get("first" .. p.key) == 1 end }
    step "In" { run = "{what}" } step "Last" { act = set "last", done = is "last" }]]

  it("runs the runbook that the operator names, whose parameters are given beside", function ()
    local ctx, w = nested(OUTER, (INNER:gsub("k\", kind = \"name\" }", "%0, more = { \"m\", kind = \"integer\" }")), { arguments = { what = "inner", key = "x", more = "7" } })
    local p = w.try(plan.run, ctx)
    assert.same({ 1, "2.1", 3 }, { p.steps[1].number, p.steps[2].number, p.steps[3].number })
    w.fail.last = 1
    assert.equal(1, w.try(run.run, ctx))
    assert.same({ "firstx", "x", "last", "unx" }, w.log)
    w.log, w.values.x = {}, 0
    local again = w.context { run = run_id(w) }
    again.share = ctx.share
    assert.equal(0, w.try(resume.run, again))
    assert.same({ "x", "last" }, w.log)
  end)

  it("checks what the named runbook is given before anything is written", function ()
    local more = (INNER:gsub("k\", kind = \"name\" }", "%0, more = { \"m\", kind = \"integer\" }"))
    local function fails(arguments, sentence, inner)
      local ctx, w = nested(OUTER, inner or more, { arguments = arguments })
      local code, err = w.try(run.run, ctx)
      assert.not_equal(0, code)
      has(err or w.last("end").message, sentence)
      assert.same({}, w.log)
    end
    fails({ what = "inner", key = "x" }, "missing: --more")
    fails({ what = "inner", key = "x", more = "many" }, "must be a whole number")
    fails({ what = "inner", key = "x", more = "1", none = "1" }, "no parameter --none")
    fails({ key = "x" }, "missing: --what")
    fails({ what = "iner", key = "x" }, "Did you mean inner?")
    local ctx, w = nested(OUTER, INNER, { arguments = { what = "old", key = "x" } })
    suite.write(w.dir .. "/share/runbooks/old.lua", "runbook 'Old' { retired = 'gone' } step 'A' { needs = function () end }")
    local _, err = w.try(run.run, ctx)
    has(err, "is retired: gone")
  end)

  it("asks what the step needs before the first step of the inner runbook, in the plan too", function ()
    local book = [[step "First" { act = set "first", done = is "first" } step "In" { run = { "inner", key = "x" }, needs = function () check(%s, "it is time") end }]]
    local ctx, w = nested(book:format "true", INNER)
    local p = w.try(plan.run, ctx)
    assert.same({ 1, 2, "2.1" }, { p.steps[1].number, p.steps[2].number, p.steps[3].number })
    assert.equal("enforced", p.steps[2].label)
    assert.equal(0, w.try(run.run, ctx))
    assert.equal(0, w.try(plan.run, ctx).exit)
    ctx, w = nested(book:format "false", INNER)
    assert.equal(1, w.try(run.run, ctx))
    assert.same({}, w.log)
    has(w.last("end").message, "it is time")
    ctx, w = nested(book:format "w:get 'first' == 1 and not w:get 'late'", INNER, nil)
    p = w.try(plan.run, ctx)
    assert.equal("unknown", p.steps[2].label)
    local set = w.methods.set
    w.methods.set = function (o, key, value) if key == "first" then w.values.late = true end return set(o, key, value) end
    assert.equal(1, w.try(run.run, ctx))
    assert.same({ "first" }, w.log)
  end)

  it("names a parameter of that kind, which is given or has a text", function ()
    for source, sentence in pairs {
      ["step 'In' { run = '{what}' }"] = "which is no parameter of kind",
      ["local p = params { what = { 'w' } } step 'In' { run = '{what}' }"] = "which is no parameter of kind",
      ["local p = params { what = { 'w', kind = 'runbook', optional = true } } step 'In' { run = '{what}' }"] = "names a runbook: it is given",
      ["local p = params { what = { 'w', kind = 'runbook', default = function () end } } step 'In' { run = '{what}' }"] = "names a runbook: it is given",
    } do
      local ctx, w = nested(source, INNER)
      local _, err = w.try(plan.run, ctx)
      has(err, sentence)
    end
  end)

  it("identifies the targets that only the inner runbook names", function ()
    local ctx, w = nested("step 'In' { run = 'inner' }", "local x = target.toy 'x' step 'A' { needs = function () check(x:get 'a' == nil, 'x answers') end }")
    local _, err = w.try(plan.run, ctx)
    has(err, "has no \"x\"")
    w.inventory("environment 'here' { w = toy {}, x = toy { pin = 'toy:moved' } }")
    _, err = w.try(plan.run, ctx)
    assert.equal("refused", err.code)
  end)
end)

describe("stamp", function ()
  it("is the moment the run began, the same in every step, in a runbook inside and after a resume", function ()
    local w = world.new()
    os.execute("mkdir -p " .. w.dir .. "/share/runbooks")
    suite.write(w.dir .. "/share/runbooks/inner.lua", [[runbook 'Inner' {} local w = target.toy 'w'
      step 'A' { act = function () w:set('inner', stamp()) end, done = function () return w:get 'inner' end }]])
    local path = w.runbook([[local began = stamp()
      step "A" { act = function () w:set("first", began) end, done = function () return w:get "first" end }
      step "In" { run = "inner" }
      step "B" { act = function () w:set("last", stamp()) end, done = function () return w:get "last" end }]])
    w.fail.last = 1
    local ctx = w.context { runbook = path, share = w.dir .. "/share" }
    assert.equal(1, w.try(run.run, ctx))
    local id, began = run_id(w), w.values.first
    assert.matches("^%d%d%d%d%d%d%d%dT%d%d%d%d%d%dZ$", began)
    T.pause(1100)
    assert.equal(0, w.try(resume.run, w.context { run = id, share = w.dir .. "/share" }))
    assert.same({ began, began, began }, { w.values.first, w.values.inner, w.values.last })
  end)
end)

describe("manual", function ()
  local BODY = [[step "Pull the plug of {rack}" { manual = "Pull it in {rack}", done = function () return w:get "pulled" == 1 end } step "B" { act = set "b", done = is "b" }]]
  BODY = [[local p = params { rack = { "r", default = "r7" } } ]] .. BODY

  it("is done by a human, who says so, and is proved where there is a done", function ()
    local human = operator("done")
    local w = world.new()
    local ask = human.ask
    human.ask = function (q)
      w.values.pulled = 1
      return ask(q)
    end
    assert.equal(0, (go(BODY, human, w)))
    has(human.asked[1].text, "Pull it in r7")
    assert.same({ "ok", "ok" }, w.ends())
    w = world.new()
    w.values.pulled = 1
    assert.equal(0, (go(BODY, operator(), w)))
    assert.same({ "already", "ok" }, w.ends())
  end)

  it("may be skipped, and aborted, and asks again after nonsense", function ()
    local human = operator("wat", "skip")
    local code, w = go(BODY, human)
    assert.equal(0, code)
    assert.equal(2, #human.asked)
    assert.same({ "skipped", "ok" }, w.ends())
    code, w = go(BODY, operator("abort", "abort"))
    assert.equal(1, code)
    assert.same({}, w.log)
  end)

  it("with nobody there leaves the run for a resume from a terminal: 75", function ()
    local code, w = go(BODY)
    assert.equal(75, code)
    assert.equal("held", w.last("end").status)
    has(w.last("end").hint, "resume from a terminal")
    w.values.pulled = 1
    assert.equal(0, w.try(resume.run, w.context { run = run_id(w) }))
    assert.same({ "b" }, w.log)
  end)
end)

describe("a failed step", function ()
  local BODY = [[
    step "A" { act = set "a", done = is "a", undo = set("a", 0), after = set "z" }
    step "B" { act = set "b", done = is "b", within = "30s" }
    step "C" { act = set "c", done = is "c" }]]

  local function fails(times, ...)
    local w, human = world.new(), operator(...)
    w.fail.b = times
    local code = go(BODY, human, w)
    return code, w, human
  end

  it("offers retry, skip with a reason, undo, hold and abort", function ()
    local code, w, human = fails(1, "retry")
    assert.equal(0, code)
    assert.same({ "a", "b", "b", "c", "z" }, w.log)
    assert.same({ "retry", "skip", "undo", "hold", "abort" }, human.asked[1].answers)
    has(human.asked[1].text, "the toy broke at b")
  end)

  it("skip wants a reason, which is recorded", function ()
    local code, w, human = fails(9, "skip", "skip it is done by hand")
    assert.equal(0, code)
    assert.equal(2, #human.asked)
    assert.same({ "a", "b", "c", "z" }, w.log)
    local reason
    for _, e in ipairs(w.events) do if e.kind == "step" and e.body.status == "skipped" then reason = e.body.reason end end
    assert.equal("it is done by hand", reason)
  end)

  it("undo takes back, hold keeps the target and lists debts, abort pays afters only", function ()
    local code, w = fails(9, "undo")
    assert.equal(1, code)
    assert.same({ "a", "b", "a", "z" }, w.log)
    code, w = fails(9, "hold")
    assert.equal(1, code)
    assert.same({ "a", "b" }, w.log)
    assert.equal("held", w.last("end").status)
    assert.truthy(w.held)
    code, w = fails(9, "abort")
    assert.equal(1, code)
    assert.same({ "a", "b", "z" }, w.log)
    code, w = fails(9)
    assert.equal("held", w.last("end").status, "nobody answered: hold")
    assert.equal(1, code)
  end)
end)

describe("confirmations", function ()
  local BODY = [[local p = params { database = { "d", kind = "name" } }
    step "Ready" { act = set "ready", done = is "ready" }
    step "Drop {database}" { destroys = "all of {database}", act = set "dropped", done = is "dropped" }]]

  it("come before the first write, with the target's card, and want the exact name", function ()
    local human = operator("shp", "shop")
    local code, w = go(BODY, { arguments = { database = "shop" }, interactive = true, ask = human.ask })
    assert.equal(0, code)
    assert.equal("name", human.asked[1].level)
    has(human.asked[1].text, "all of shop")
    assert.equal("toy:w", human.asked[1].card[1].id)
    local ask_at, write_at
    for i, e in ipairs(w.events) do
      if e.kind == "answer" then ask_at = i elseif e.kind == "intent" then write_at = write_at or i end
    end
    assert.truthy(ask_at < write_at)
  end)

  it("end the run untouched after three wrong names or an empty one", function ()
    for _, answers in ipairs { { "a", "b", "c", "shop" }, { "" }, { } } do
      local human = operator(table.unpack(answers))
      local code, w = go(BODY, { arguments = { database = "shop" }, interactive = true, ask = human.ask })
      assert.equal(77, code)
      assert.same({}, w.log)
    end
  end)

  it("are not asked for what is already so", function ()
    local w = world.new()
    w.values.dropped, w.values.ready = 1, 1
    assert.equal(0, (go(BODY, { arguments = { database = "shop" } }, w)))
  end)

  it("of a protected environment are asked once, or pinned", function ()
    local function protected(more)
      local w = world.new()
      w.inventory("environment 'here' { protected = true, w = toy {} }")
      local code = go([[step "A" { act = set "a", done = is "a" }]], more, w)
      return code, w
    end
    assert.equal(77, (protected()))
    assert.equal(0, (protected { confirm = { "protected=here" } }))
    assert.equal(77, (protected { confirm = { "protected=there" } }))
    assert.equal(0, (protected(operator("y"))))
    local code, w = protected(operator("n"))
    assert.equal(77, code)
    assert.same({}, w.log)
  end)
end)

describe("words", function ()
  local function clause(body) return preview("step 'A' { needs = function () " .. body .. " end }") end

  it("check states the truth hoped for and what is so instead", function ()
    local p = clause("check(1 == 1, 'one is one') check.same({ a = { 1, 2 } }, { a = { 1, 2 } }, 'same') check.at_least(2, 1, 'enough') check.at_most(1, 2, 'few')")
    assert.equal(0, p.exit)
    assert.equal(4, p.tally.checks)
    for call, shown in pairs { ["check(false, 'x', 5)"] = "5", ["check.same({ a = { 1, 2 } }, { a = { 1, 3 } }, 'x')"] = "a.2: 2, not 3", ["check.same({}, { b = 1 }, 'x')"] = "b: nil, not 1",
      ["check.at_least(1, 2, 'x')"] = "1", ["check.at_most(3, 2, 'x')"] = "3" } do
      p = clause(call)
      assert.equal(1, p.exit, call)
      has(p.steps[1].lines[1].note, shown)
    end
    has(clause("check(true)").steps[1].error, "needs a sentence")
  end)

  it("wait_until has a deadline always, and may want several yeses", function ()
    has(clause("wait_until(function () return true end)").steps[1].error, "needs within")
    has(clause("wait_until(function () return true end, { within = 5 })").steps[1].error, "duration")
    has(clause("wait_until(function () return true end, { within = '1s', evry = '1s' })").steps[1].error, "no field")
    local p = clause("wait_until(function () return false end, { every = '5ms', within = '20ms' })")
    assert.equal("timeout", p.steps[1].error.code)
    assert.equal(0, clause("local n = 0 wait_until(function () n = n + 1 return n ~= 2 end, { every = '1ms', within = '1m', times = 3 }) check(n == 5, 'five')").exit)
  end)

  it("try gives nil and the error", function ()
    assert.equal(0, clause("local v, err = try(function () error('no') end) check(v == nil and err.message == 'no', 'told') check(try(function (a) return a end, 7) == 7, 'seven')").exit)
  end)

  it("scratch is the same name for the whole run, and another run's is another", function ()
    local body = [[step "A" { act = function () w:set("name", scratch "trial") end, verify = function () check.same(w:get "name", scratch "trial", "the same") end }]]
    local _, w = go(body)
    local first = w.values.name
    has(first, "trial__" .. run_id(w))
    _, w = go(body)
    assert.are_not.equal(first, w.values.name)
  end)
end)

describe("a check that was green", function ()
  local BOOK <const> = [[
    step "Before" { verify = function () note "before" end }
    step "A" { act = set "a", done = is "a", after = function () w:set("a", 0) end }
    step "Between" { verify = function () note "between" end }
    %s
    step "After" { verify = function () note "after" check(w:get "a" == 1, "a is so") end }
    step "Last" { act = set "last", done = is "last" }]]

  local function notes(w)
    local list = {}
    for _, e in ipairs(w.events) do
      if e.kind == "note" then list[#list + 1] = e.body.text end
    end
    return list
  end

  it("is asked again on a resume when a step before it is pending again and nothing was done since", function ()
    for done, asked in pairs { [""] = { "between", "after" }, ["step 'B' { act = set 'b', done = is 'b' }"] = { "after" } } do
      local w = world.new()
      local path = w.runbook(WORDS .. BOOK:format(done))
      w.fail.last = 1
      assert.equal(1, w.try(run.run, w.context { runbook = path }))
      assert.equal(0, w.values.a)
      local id = run_id(w)
      w.events = {}
      assert.equal(0, w.try(resume.run, w.context { run = id }))
      assert.same(asked, notes(w))
    end
  end)
end)
