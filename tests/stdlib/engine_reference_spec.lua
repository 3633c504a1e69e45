-- Entries of an inventory that stand on other entries of it.

local card = require("show.card")
local style = require("show.style")
local world = require("tests.support.world")

local plan, run, resume = require("engine.plan"), require("engine.run"), require("engine.resume")

local STEP <const> = [[step "Set a" { done = function () return w:get "a" == 1 end, act = function () w:set("a", 1) end }]]

-- A world whose toys can stand on one another. `w.told` lists what happened: "bind x", "card x", "close x".
local function standing(inventory)
  local w = world.new()
  w.told, w.seen = {}, {}
  w.inventory(("environment \"here\" { %s }"):format(inventory))
  local bind, ask = w.client.bind, w.methods.card
  w.client.fields.on = { type = "string" }
  w.methods.card = function (o)
    w.told[#w.told + 1] = "card " .. o.role
    return ask(o)
  end
  w.client.bind = function (role, spec, context)
    local object = bind(role)
    object.below = spec.on and context.target(spec.on, w.kinds)
    w.seen[role] = { object = object, spec = spec, context = context }
    w.told[#w.told + 1] = "bind " .. role
    return object
  end
  w.client.close = function (object) w.told[#w.told + 1] = "close " .. object.role end
  return w
end

local function previewed(w, body)
  local data, err = w.try(plan.run, w.context { runbook = w.runbook(body or STEP) })
  assert.is_nil(err)
  return data
end

local function refused(w, code)
  local data, err = w.try(plan.run, w.context { runbook = w.runbook(STEP) })
  assert.is_nil(data)
  assert.equal(code, err.code)
  return err
end

describe("an entry that stands on another", function ()
  it("is given the bound object, bound and proved before it and closed after it", function ()
    local w = standing [[w = toy { on = "road" }, road = toy { on = "gate" }, gate = toy {}, other = toy {}]]
    previewed(w)
    assert.equal(w.seen.road.object, w.seen.w.object.below)
    assert.same({ "bind gate", "bind road", "bind w", "card gate", "card road", "card w", "close w", "close road", "close gate" }, w.told)
  end)

  it("shares one road with whoever else stands on it, the roles of an inner runbook too", function ()
    local w = standing [[w = toy { on = "road" }, v = toy { on = "road" }, road = toy {}]]
    w.runbook([[local v = target.toy "v"  step "Look" { needs = function () check(v:get "a" == nil and w:get "a" == nil, "nothing is there") end }]], "inner")
    local data = previewed(w, ("step \"In\" { run = %q }"):format(w.dir .. "/inner.lua"))
    assert.same({ "bind road", "bind w", "bind v" }, { w.told[1], w.told[2], w.told[3] })
    assert.equal(w.seen.w.object.below, w.seen.v.object.below)
    assert.equal(3, #data.targets)
  end)

  it("is shown with it in the plan, below the role that uses it", function ()
    local w = standing [[w = toy { on = "road" }, v = toy { on = "gate" }, road = toy { on = "gate" }, gate = toy {}]]
    local data = previewed(w, "local v = target.toy \"v\"\n" .. STEP)
    local shown = {}
    for i, t in ipairs(data.targets) do shown[i] = (t.used_by or "book") .. ": " .. t.role end
    assert.same({ "book: w", "w: road", "road: gate", "book: v" }, shown)
    local lines = card.list(data.targets, style.new { width = 80 })
    assert.matches("^  w         toy:w", lines[1])
    assert.matches("^    road    toy:road", lines[2])
    assert.matches("^      gate  toy:gate", lines[3])
    assert.matches("^  v         toy:v", lines[4])
  end)

  it("stands where the runbook names it, when it names it itself", function ()
    local w = standing [[w = toy { on = "road" }, road = toy {}]]
    local data = previewed(w, "local road = target.toy \"road\"\n" .. STEP)
    assert.equal(2, #data.targets)
    assert.is_nil(data.targets[2].used_by)
  end)

  it("has its road's secrets fetched", function ()
    local w = standing [[w = toy { on = "road" }, road = toy { note = secret { env = "NEAP_REFERENCE_SPEC" } }]]
    T.setenv("NEAP_REFERENCE_SPEC", "very-secret-value")
    previewed(w)
    assert.is_true(require("native.secret").is(w.seen.road.spec.note))
    T.setenv("NEAP_REFERENCE_SPEC", nil)
    assert.matches("NEAP_REFERENCE_SPEC", refused(standing [[w = toy { on = "road" }, road = toy { note = secret { env = "NEAP_REFERENCE_SPEC" } }]], "config").message)
  end)

  it("is not asked anything when its road is not the pinned one", function ()
    local w = standing [[w = toy { on = "road" }, road = toy { pin = "toy:another" }]]
    local err = refused(w, "refused")
    assert.equal("\"road\" is toy:road, the inventory pins toy:another", err.message)
    assert.same({ "bind road", "bind w", "card road", "close w", "close road" }, w.told)
  end)

  it("is refused when it names nobody, with the nearest name", function ()
    local err = refused(standing [[w = toy { on = "raod" }, road = toy {}]], "config")
    assert.equal("\"w\" stands on \"raod\", which environment \"here\" does not have", err.message)
    assert.equal("Did you mean road?", err.hint)
  end)

  it("is refused when it stands on itself, however far round", function ()
    local err = refused(standing [[w = toy { on = "w" }]], "config")
    assert.equal("\"w\" needs \"w\"", err.message)
    err = refused(standing [[w = toy { on = "a" }, a = toy { on = "b" }, b = toy { on = "a" }]], "config")
    assert.equal("\"a\" needs \"b\", which needs \"a\"", err.message)
  end)

  it("is refused when it stands on what cannot carry it", function ()
    local w = standing [[w = toy { on = "road" }, road = toy {}]]
    w.kinds = { "host", "container" }
    assert.equal("\"w\" stands on \"road\", which is a toy and not a host or a container", refused(w, "config").message)
  end)

  it("brings in nothing new once the run has begun", function ()
    local w = standing [[w = toy {}, road = toy {}]]
    previewed(w)
    local ok, err = pcall(w.seen.w.context.target, "road")
    assert.is_false(ok)
    assert.equal("bug", err.code)
  end)
end)

describe("a road", function ()
  it("is neither locked nor held: two runs may go the same way", function ()
    local w = standing [[w = toy { on = "road" }, road = toy {}]]
    local locked = {}
    local bind = w.client.bind
    w.client.bind = function (...)
      local object = bind(...)
      object.guardians.lock = function (o) locked[#locked + 1] = o.role return true end
      return object
    end
    assert.equal(0, (w.try(run.run, w.context { runbook = w.runbook(STEP) })))
    assert.same({ "w" }, locked)
    local targets = w.events[1].body.targets
    assert.same({ "w", "road" }, { targets[1].role, targets[2].role })
    assert.equal("w", targets[2].used_by)
  end)

  it("may be another one when the run is resumed, and what stands on it may not", function ()
    local w = standing [[w = toy { on = "road" }, road = toy {}]]
    w.fail.z = 1
    local body = [[step "A" { act = function () w:set("a", 1) end, verify = function () return true end, after = function () w:set("z", 1) end }]]
    assert.equal(1, (w.try(run.run, w.context { runbook = w.runbook(body) })))
    local id = w.events[1].body.run
    local ask = w.methods.card
    w.methods.card = function (o)
      local found = ask(o)
      found.id = o.role == w.moved and "toy:moved" or found.id
      return found
    end
    w.moved = "w"
    local _, err = w.try(resume.run, w.context { run = id })
    assert.equal("\"w\" was toy:w when the run began and is toy:moved now", err.message)
    w.moved = "road"
    assert.equal(0, (w.try(resume.run, w.context { run = id })))
  end)
end)
