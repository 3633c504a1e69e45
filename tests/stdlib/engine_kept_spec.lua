-- Random runbooks over the toy world: what a plan said is kept by the run. Each is made from a grammar, planned, and
-- run in the same world; every act that changed the world was predicted, or its step was said to be partly unknown, and a
-- proof that was green did not turn red. The seed of one that fails is in the message.

local kept = require "tests.support.kept"
local plan, run = require "engine.plan", require "engine.run"
local worlds = require "tests.support.world"

local KEYS <const> = { "a", "b", "c", "d", "e" }

-- A small generator of its own, so that a seed means the same everywhere.
local function dice(seed)
  local state = seed * 2654435761 % 4294967296
  return function (n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return (state >> 16) % n + 1
  end
end

local function one_of(roll, list) return list[roll(#list)] end

-- What a clause that acts does: writes, reads, results of its own and of earlier steps, branches, waiting.
local function act_of(roll, before, key)
  local lines = {}
  for _ = 1, roll(3) do
    local other, value = one_of(roll, KEYS), roll(3)
    local writes = ("w:set(%s, %d)"):format(key or ("%q"):format(other), value)
    lines[#lines + 1] = one_of(roll, {
      writes, writes, ("if w:get %q == %d then %s end"):format(one_of(roll, KEYS), value, writes),
      ("local r = %s if r:count() == 1 then w:set(%q, %d) end"):format(writes, other, value),
      ("pcall(function () if w:get %q then %s end end)"):format(other, writes), ("wait_until(function () return w:get %q ~= 9 end, { within = '1s' }) %s"):format(other, writes),
      #before > 0 and ("if %s:result() == %d then %s else w:set(%q, 7) end"):format(one_of(roll, before), value, writes, other) or writes,
    })
  end
  return table.concat(lines, " ") .. (" return %d"):format(roll(3))
end

local function truth_of(roll, before)
  local key, value = one_of(roll, KEYS), roll(3)
  return one_of(roll, { ("w:get %q == %d"):format(key, value), ("w:get %q ~= 9"):format(key), "true", ("w:get %q or true"):format(key),
    #before > 0 and ("%s:result() ~= 9"):format(one_of(roll, before)) or "true" })
end

local function change(roll, before, key)
  local clauses = { ("act = function (item) %s end"):format(act_of(roll, before, key)) }
  local proof = roll(3)
  if proof ~= 1 then
    clauses[#clauses + 1] = ("verify = function (item) %s end"):format(roll(2) == 1 and "return true" or ("check(w:get %q ~= 9, 'never nine')"):format(one_of(roll, KEYS)))
  end
  if proof == 1 then                                -- a done that its own act makes true
    local name, value = one_of(roll, KEYS), roll(3)
    clauses[1] = ("act = function (item) %s w:set(%q, %d) end"):format(act_of(roll, before, key):gsub(" return %d$", ""), name, value)
    clauses[#clauses + 1] = ("done = function () return w:get %q == %d end"):format(name, value)
  end
  if roll(3) == 1 then clauses[#clauses + 1] = ("needs = function () check(%s or true, 'what it needs') end"):format(truth_of(roll, before)) end
  if roll(4) == 1 then clauses[#clauses + 1] = ("after = function () w:set(%q, %d) end"):format(one_of(roll, KEYS), roll(3)) end
  if roll(4) == 1 then clauses[#clauses + 1] = ("undo = function () w:set(%q, 0) end"):format(one_of(roll, KEYS)) end
  if roll(5) == 1 then clauses[#clauses + 1] = "retry = { times = 1, every = '1ms' }" end
  return clauses
end

local function step_of(roll, n, before)
  local kind = roll(6)
  local clauses
  if kind == 1 then clauses = { ("verify = function () check(%s or true, 'the check of %d') end"):format(truth_of(roll, before), n) }
  elseif kind == 2 then
    clauses = change(roll, before, "item")
    for i = #clauses, 2, -1 do if clauses[i]:find("^done") then table.remove(clauses, i) end end
    if not clauses[2] or not table.concat(clauses, " "):find("verify", 1, true) then clauses[#clauses + 1] = "verify = function () return true end" end
    clauses[#clauses + 1] = one_of(roll, { "each = { 'a', 'b', 'c' }",
      "each = function () local list = {} for _, k in ipairs { 'a', 'b', 'd' } do if w:get(k) ~= 1 then list[#list + 1] = k end end return list end" })
    if roll(2) == 1 then clauses[#clauses + 1] = "limit = 2" end
  else clauses = change(roll, before) end
  return ("step \"Step %d\" { %s }"):format(n, table.concat(clauses, ", "))
end

local function book_of(seed)
  local roll = dice(seed)
  local lines, before, n = {}, {}, 0
  for _ = 1, roll(5) + 1 do
    n = n + 1
    if roll(5) == 1 then
      local members = { step_of(roll, n, before), step_of(roll, n + 1, before) }
      n = n + 1
      lines[#lines + 1] = ("parallel { limit = %d, %s }"):format(roll(2), table.concat(members, ", "))
    else
      lines[#lines + 1] = ("local s%d = %s"):format(n, step_of(roll, n, before))
      before[#before + 1] = "s" .. n
    end
  end
  return table.concat(lines, "\n")
end

local function try(world, seed)
  local roll = dice(seed + 7919)
  for _, key in ipairs(KEYS) do world.values[key] = one_of(roll, { 1, 2, 3, nil }) end
  world.log, world.events, world.held = {}, {}, nil
  local body = book_of(seed)
  local path = world.runbook(body)
  local function wrong(what) return ("seed %d: %s\n%s"):format(seed, what, body) end
  local planned, why = world.try(plan.run, world.context { runbook = path, state = world.state })
  assert(planned, wrong(tostring(why)))
  assert(#world.log == 0, wrong "the preview wrote")
  local _, err = world.try(run.run, world.context { runbook = path, state = world.state })
  assert(not err, wrong(tostring(err)))
  local differs, writes = kept.compare(planned, world.events, world.events[1].body.run)
  assert(#differs == 0, wrong(table.concat(differs, "\n")))
  assert(planned.exit == 2 or #world.log == 0, wrong("the plan said that nothing would change, or that a check fails: " .. planned.exit))
  return writes, planned.tally.unknown
end

describe("a random runbook", function ()
  local function sweep(first, last)
    local world, writes, unknown = worlds.new(), 0, 0
    world.state = world.dir .. "/state"
    for seed = first, last do
      local w, u = try(world, seed)
      writes, unknown = writes + w, unknown + u
    end
    return writes, unknown
  end

  it("keeps what its plan said, in three hundred", function ()
    local writes, unknown = sweep(1, 300)
    assert.is_true(writes > 300 and unknown > 30, ("%d writes, %d unknown"):format(writes, unknown))
  end)

  it("keeps what its plan said, in two thousand more #long", function () sweep(301, 2300) end)
end)
