-- How long steps take, from the journals of earlier runs, and what that means for a window.

local inventory = require "engine.inventory"
local journal = require "native.journal"
local plan, run = require "engine.plan", require "engine.run"
local system = require "native.system"
local timing = require "engine.timing"
local worlds = require "tests.support.world"

local function has(err, sentence)
  assert.is_not_nil(err)
  local text = type(err) == "table" and err.message .. " " .. (err.hint or "") or tostring(err)
  assert.truthy(text:find(sentence, 1, true), text)
end

local started = 0

-- A run that is over, as its journal has it: steps = { id = ms }, undone = { id = ms that its undo takes }.
local function remember(w, runbook, steps, more)
  more = more or {}
  started = started + 1
  T.run(function ()
    require("native.task").phase("engine")
    local id, state = system.random_id(), w.dir .. "/state"
    local j <close> = assert(journal.create(state, id))
    j:append("run", "", { run = id, runbook = runbook, params = more.params or {} })
    for step, ms in pairs(steps) do j:append("step", step, { state = "end", status = more.status or "ok", ms = ms }) end
    j:flush()
    assert(journal.index.put(state, { run = id, runbook = runbook, environment = more.environment or "here", user = "u", host = "h", status = "ok", targets = {}, started_ms = started }))
    assert(j:seal "ok")
  end)
end

-- A window of the toy's environment that is open now and closes in between `minutes` and one more.
local function open_for(w, minutes, more)
  local function clock(ms) return system.iso(ms):match("T(%d%d:%d%d)") end
  local now = system.wall_ms()
  w.inventory(("environment \"here\" { %s window = \"%s-%s\", w = toy {} }"):format(more or "", clock(now - 3600000), clock(now + (minutes + 1) * 60000)))
end

local BOOK <const> = [[
  step "A" { act = function () w:set("a", 1) end, done = function () return w:get "a" == 1 end, undo = function () w:set("a", 0) end }
  step "B" { act = function () w:set("b", 1) end, done = function () return w:get "b" == 1 end %s }]]

local MINUTE <const> = 60000

describe("the time a plan shows", function ()
  it("is that of earlier runs of the same runbook in the same environment", function ()
    local w = worlds.new()
    local path = w.runbook(BOOK:format(", takes = '7s'"))
    for ms = 1, 40 do remember(w, "book", { a = ms }) end                    -- the newest twenty count: 21 to 40
    remember(w, "book", { a = 9000000 }, { environment = "elsewhere" })
    remember(w, "other", { a = 9000000 })
    remember(w, "book", { a = 9000000 }, { status = "already" })
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal(19, p.steps[1].time.runs)
    assert.is_true(p.steps[1].time.p50 > 20 and p.steps[1].time.p50 < 40)
    assert.equal(40, p.steps[1].time.p95)
    assert.same({ p50 = 7000, p95 = 7000, runs = 0 }, p.steps[2].time)
    assert.same({ 7040, 40, 0 }, { p.time.p95, p.time.back, p.time.unknown })
    assert.is_nil(p.time.window)
  end)

  it("is measured in a real run, its undo too", function ()
    local w = worlds.new()
    local path = w.runbook(BOOK:format(""))
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    w.values.a = 0
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal(1, p.steps[1].time.runs)
    assert.equal(1, p.steps[2].time.runs)
    w.fail.b, w.values.b = 1, 0
    assert.equal(1, w.try(run.run, w.context { runbook = path }))
    assert.equal(0, w.values.a)
    p = w.try(plan.run, w.context { runbook = path })
    assert.equal(2, p.steps[1].time.runs)
    assert.equal(1, p.steps[2].time.runs)
  end)

  it("of a runbook that the operator names is that of runs that named it too, and of runs of it alone", function ()
    local w = worlds.new()
    os.execute("mkdir -p " .. w.dir .. "/share/runbooks")
    local inner = assert(io.open(w.dir .. "/share/runbooks/inner.lua", "w"))
    inner:write("runbook 'Inner' {} local w = target.toy 'w' ", BOOK:format(""))
    inner:close()
    local path = w.runbook("local p = params { what = { 'w', kind = 'runbook' } } step 'In' { run = '{what}' }")
    remember(w, "inner", { a = 5 })
    remember(w, "book", { ["in-a"] = 7 }, { params = { what = "inner" } })
    remember(w, "book", { ["in-a"] = 9000 }, { params = { what = "other" } })
    local p = w.try(plan.run, w.context { runbook = path, share = w.dir .. "/share", arguments = { what = "inner" } })
    assert.same({ p50 = 5, p95 = 7, runs = 2 }, p.steps[1].time)
  end)
end)

describe("a run in a window", function ()
  it("begins when it fits, and says until when it can turn back", function ()
    local w = worlds.new()
    local path = w.runbook(BOOK:format(""))
    open_for(w, 10)
    remember(w, "book", { a = 1000, b = 2000 })
    local p = w.try(plan.run, w.context { runbook = path })
    assert.same({ 3000, 1000 }, { p.time.p95, p.time.back })
    assert.equal(p.time.window.closes - 4000, p.time.window.begin_by)
    assert.equal(p.time.window.closes - 1000, p.time.window.abort_by)
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
    has(w.last("notice").text, "the last safe moment to turn back is")
  end)

  it("does not begin when what is left is not enough to finish and to turn back", function ()
    local w = worlds.new()
    local path = w.runbook(BOOK:format(""))
    open_for(w, 10)
    remember(w, "book", { a = 6 * MINUTE, b = 1 })
    assert.equal(77, w.try(run.run, w.context { runbook = path }))
    assert.same({}, w.log)
    has(w.last("end").message, "what is left of the window is not enough for this run")
    has(w.last("end").message, "this takes 6 min, and taking it back 6 min")
    local p = w.try(plan.run, w.context { runbook = path })
    has(p.blocked[1], "not enough")
    w.values.a, w.values.b = 1, 1
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
  end)

  it("begins whatever nobody has measured, and says so", function ()
    local w = worlds.new()
    open_for(w, 1)
    local path = w.runbook(BOOK:format(""))
    local p = w.try(plan.run, w.context { runbook = path })
    assert.equal(2, p.time.unknown)
    assert.equal(0, w.try(run.run, w.context { runbook = path }))
  end)

  -- A run in the middle, made by hand: its clock is the real one, so its steps are hours long.
  local function middle(w, ms, step)
    local model = { name = "book", params = { specs = {} }, order = {} }
    for i, id in ipairs { "a", "b", "c" } do
      model.order[i] = { id = id, number = i, clauses = { act = 1, undo = id == "a" and 1 or nil } }
    end
    remember(w, "book", ms)
    local ctx = w.context()
    local file <close> = assert(io.open(ctx.inventory))
    local one = { ctx = ctx, model = model, items = {}, item_status = {}, status = { a = "ok" },
      stack = { debts = function () return { { step = model.order[1], clause = "undo" } } end } }
    return T.run(function ()
      require("native.task").phase("engine")
      one.environment = inventory.choose(inventory.read(file:read("a"), "i", ctx.clients))
      one.timing = timing.guarding(one)
      local ok, err = pcall(timing.check_step, one, model.order[step])
      return ok or err
    end)
  end

  it("does not act when a step does not fit any more, while turning back still does", function ()
    local w = worlds.new()
    open_for(w, 30)
    has(middle(w, { a = 10 * MINUTE, b = 25 * MINUTE, c = 1 }, 2), "what is left of the window is not enough for step 2")
  end)

  it("acts when it fits", function ()
    local w = worlds.new()
    open_for(w, 30)
    assert.is_true(middle(w, { a = 10 * MINUTE, b = 15 * MINUTE, c = 1 }, 2))
  end)

  it("goes on when there is no time left to turn back and going on is the shorter way", function ()
    local w = worlds.new()
    open_for(w, 30)
    assert.is_true(middle(w, { a = 60 * MINUTE, b = 2 * MINUTE, c = 1 }, 2))
    w = worlds.new()
    open_for(w, 30)
    has(middle(w, { a = 60 * MINUTE, b = 2 * MINUTE, c = 90 * MINUTE }, 2), "not enough for step 2")
  end)
end)

describe("a runbook that belongs into a window", function ()
  local function book(w, class)
    local path = w.dir .. "/classed.lua"
    local file = assert(io.open(path, "w"))
    file:write("runbook 'Classed' { window = '", class, "' } local w = target.toy 'w' ", BOOK:format(""))
    file:close()
    return path
  end

  it("is refused where a protected environment has none", function ()
    local w = worlds.new()
    w.inventory("environment \"here\" { protected = true, w = toy {} }")
    assert.equal(77, w.try(run.run, w.context { runbook = book(w, "needed"), confirm = { "protected=here" } }))
    has(w.last("end").message, "belongs into a maintenance window")
    assert.same({}, w.log)
    w.inventory("environment \"here\" { w = toy {} }")
    assert.equal(0, w.try(run.run, w.context { runbook = book(w, "needed") }))
  end)

  it("binds nobody who must be able to act at any time", function ()
    local w = worlds.new()
    local closed = system.iso(system.wall_ms() + 12 * 3600000):match("T(%d%d):")
    w.inventory(("environment \"here\" { window = \"%s:00-%s:59\", w = toy {} }"):format(closed, closed))
    assert.equal(77, w.try(run.run, w.context { runbook = book(w, "needed") }))
    assert.equal(0, w.try(run.run, w.context { runbook = book(w, "anytime") }))
    local _, err = w.try(run.run, w.context { runbook = book(w, "anytme") })
    has(err, "Did you mean anytime?")
  end)
end)
