-- A run may die after any of its records. Whatever the record: resume comes to the world that the undisturbed run comes to, and no
-- act that was recorded as done is done again.

local cuts = require("tests.support.cuts")
local suite = require("tests.support.suite")

local WORDS = [[
local function set(key, value) return function (item) w:set(item or key, value or 1) end end
local function is(key, value) return function (item) return w:get(item or key) == (value or 1) end end
-- It is a done that fails, and not one that is asked until the time is over, while the world is not ready.
local function when_ready(key) return function ()
  if w:get(key) == 1 then check(w:get "ready" == 1, "the world is ready") end
  return w:get(key) == 1
end end
]]

-- In any order, where steps run side by side. An after that was begun is paid again: it has no proof that it was paid.
local function acts_of(list)
  local acts = {}
  for _, key in ipairs(list) do
    if not key:find "_after" then acts[#acts + 1] = key end
  end
  table.sort(acts)
  return acts
end

local function told(whole, n, way, result)
  local r = whole.records[n]
  return ("cut after record %d (%s %s %s), the open write %s: %s"):format(n, r.kind, r.step, tostring(r.body.state or r.body.clause or r.body.item or ""), way,
    tostring(result.err or table.concat(result.log, " ")))
end

-- A human who has a failed step taken back, and an interrupted undo begun again.
local function with_operator(book)
  book.asked = 0
  book.context = { interactive = true, ask = function (question)
    if question.level == "failed" then return "undo" end
    book.asked = book.asked + 1
    return "again"
  end }
end

-- Is an undo under way after `n` records?
local function is_undoing(whole, n)
  for i = n, 1, -1 do
    local r = whole.records[i]
    if r.kind == "owed" or r.kind == "settled" then return r.kind == "owed" and r.body.clause == "undo" end
  end
  return false
end

-- Cut the run everywhere; nobody is asked anything but about an undo that was interrupted, which has no proof. An after is paid again.
local function everywhere(book, exit, check)
  book.body = WORDS .. book.body
  with_operator(book)
  local whole = cuts.whole(book)
  assert.equal(exit, whole.code)
  cuts.each(book, whole, function (result, n, way)
    local where = told(whole, n, way, result)
    assert.equal(0, result.code, where)
    assert.is_true(book.asked == 0 or is_undoing(whole, n), where .. ": asked")
    assert.is_nil(result.held, where)
    book.asked = 0
    check(result, whole, where)
  end)
end

-- The same world and the same acts as the undisturbed run.
local function same_as_whole(book)
  everywhere(book, 0, function (result, whole, where)
    assert.same(whole.values, result.values, where)
    assert.same(acts_of(whole.log), acts_of(result.log), where)
  end)
end

-- A run that failed and took back what it could: a resume comes to `goal`, and no act is done on top of itself.
local function comes_to(goal, book)
  everywhere(book, 1, function (result, _, where)
    assert.same(goal, result.values, where)
    local now = {}
    for _, write in ipairs(result.writes) do
      local again = now[write.key] == write.value and not write.key:find "_after"
      assert.is_false(again and write.value == 1, where .. ": " .. write.key .. " twice")
      now[write.key] = write.value
    end
  end)
end

describe("a run that died after any record", function ()
  it("goes on, with done as its proof", function ()
    same_as_whole { body = [[step "A" { act = set "a", done = is "a" } step "B" { act = set "b", done = is "b" } step "C" { verify = is "b" }]] }
  end)

  it("goes on, with only verify as its proof, and results", function ()
    same_as_whole { body = [[
      local a = step "A" { act = function () w:set("a", 1) return { key = "from_a" } end, done = is "a" }
      step "B" { act = function () w:set((a:result() or { key = "from_a" }).key, 1) end, verify = is "from_a" }
      step "C" { act = set "c", verify = is "c" }]] }
  end)

  it("pays what is owed once when all steps were done", function ()
    same_as_whole { body = [[
      step "A" { act = set "a", done = is "a", undo = set "a_undo", after = set "a_after" }
      step "B" { act = set "b", verify = is "b", after = set "b_after" }]] }
  end)

  it("pays an after again that was interrupted, and asks about it only where nobody knows the end of one of its writes", function ()
    local book = { body = WORDS .. [[step "A" { act = set "a", done = is "a", after = function () w:set("first", 1) w:set("second", 1) end }]] }
    local whole, intents = cuts.whole(book), {}
    for n, r in ipairs(whole.records) do intents[#intents + 1] = r.kind == "intent" and n or nil end
    local known = cuts.resumed(book, whole, intents[3], "lost")
    assert.equal(0, known.code, tostring(known.err))
    assert.same({ "a", "first", "first", "second" }, known.log)
    local unsure = cuts.resumed(book, whole, intents[3], "unsure", true)
    assert.equal(75, unsure.code, tostring(unsure.err))
    assert.same({}, unsure.resumed)
    assert.is_truthy(unsure.held)
  end)

  it("does each item once, with done", function ()
    same_as_whole { before = { y = 1 }, body = [[step "Items" { each = { "x", "y", "z", "" }, act = set(), done = is() } step "B" { act = set "b", done = is "b" }]] }
  end)

  it("does each item once, with only verify", function ()
    same_as_whole { body = [[step "Items" { each = function () return { { key = "x" }, { key = "y" }, { key = "z" } } end,
      act = function (item) w:set(item.key, 1) end, verify = function (item) return w:get(item.key) == 1 end, after = function (item) w:set(item.key .. "_after", 1) end }]] }
  end)

  it("does items and steps that run side by side once", function ()
    same_as_whole { body = [[
      step "Items" { each = { 1, 2, 3 }, limit = 3, act = function (item) w:set("i" .. item, 1) end, verify = function (item) return w:get("i" .. item) == 1 end }
      parallel { limit = 2, step "P" { act = set "p", done = is "p" }, step "Q" { act = set "q", verify = is "q", after = set "q_after" }, step "R" { act = set "r", done = is "r" } }
      step "Z" { act = set "z", done = is "z" }]] }
  end)

  it("goes on inside a runbook that it runs, with that one's parameters", function ()
    same_as_whole {
      setup = function (w)
        os.execute("mkdir -p " .. w.dir .. "/share/runbooks")
        suite.write(w.dir .. "/share/runbooks/inner.lua", "runbook 'Inner' { why = 'x' } local w = target.toy 'w'\n" .. [[
          local p = params { key = { "k", kind = "name" } }
          step "A {key}" { act = function () w:set(p.key, 1) end, verify = function () check(w:get(p.key) == 1, "{key} is set") end, after = function () w:set(p.key .. "_after", 1) end }
          step "B" { act = function () w:set(p.key .. "2", 1) end, done = function () return w:get(p.key .. "2") == 1 end }]])
      end,
      body = [[
        local a = step "A" { act = function () w:set("outer", 1) return "result" end, done = is "outer" }
        step "In" { run = { "inner", key = function () return a:result() or "result" end } }
        step "Last" { act = set "last", done = is "last" }]] }
  end)

  it("comes to the end of what failed and was taken back", function ()
    comes_to({ a = 1, b = 1, c = 1, a_after = 1, ready = 1 }, { mend = { ready = 1 }, body = [[
      step "A" { act = set "a", done = is "a", undo = set("a", 0), after = set "a_after" }
      step "B" { act = set "b", done = is "b", undo = set("b", 0) }
      step "C" { act = set "c", done = when_ready "c" }]] })
  end)

  it("takes back single items, and does only those again", function ()
    comes_to({ x = 1, y = 1, z = 1, ready = 1 }, { mend = { ready = 1 }, body = [[
      step "Items" { each = { "x", "y" }, act = set(), done = is(), undo = function (item) w:set(item, 0) end }
      step "Z" { act = set "z", done = when_ready "z" }]] })
  end)
end)
