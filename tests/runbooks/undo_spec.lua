-- What is said about undo is true of every shipped runbook: a step that acts either has an undo, which takes it back so that the step is to be done
-- again, or a comment above it that says why it has none.

local load = require "engine.load"
local asked = require "tests.support.setups.asked"
local setups = require "tests.support.setups"
local source = require "core.source"
local suite = require "tests.support.suite"

local function path_of(runbook) return ("runbooks/%s.lua"):format(runbook) end

local function steps(runbook) return source.steps(suite.read(path_of(runbook))) end

-- The numbers of the steps that claim an undo.
local function claims(runbook)
  local list = {}
  for _, step in ipairs(T.run(function () return load.load(path_of(runbook), { folders = { "runbooks" } }) end).order) do
    if step.clauses.undo then list[#list + 1] = step.number end
  end
  return list
end

describe("every step that acts", function ()
  it("has an undo, or says above it why there is none", function ()
    local wrong, acting = {}, 0
    for _, runbook in ipairs(asked.shipped()) do
      for _, step in ipairs(steps(runbook)) do
        if step.clauses.act then
          acting = acting + 1
          local reason = step.comment and step.comment:match "No undo: (.+)"
          if not step.clauses.undo and not reason then wrong[#wrong + 1] = ("%s:%d acts and has neither undo nor a comment \"No undo: …\""):format(path_of(runbook), step.line) end
          if step.clauses.undo and reason then wrong[#wrong + 1] = ("%s:%d has an undo, and says that it has none"):format(path_of(runbook), step.line) end
        end
      end
    end
    assert.same({}, wrong)
    assert.is_true(acting >= 19, acting .. " steps act")
  end)

  it("would be seen without either", function ()
    local bare = source.steps 'step "x" { done = f, act = function () end }\n-- No undo: it is\n-- so.\nlocal y = step "z" { act = function () end, undo = f }'
    assert.is_nil(bare[1].comment)
    assert.equal("No undo: it is so.", bare[2].comment)
    assert.truthy(bare[2].clauses.undo)
  end)
end)

describe("what a run did is taken back by neap undo, and is to be done again:", function ()
  local function signs(at, runbook)
    local words, list = asked.line("plan", runbook, at), {}
    for _, step in ipairs(at.plan(table.move(words, 2, #words, 1, {})).steps) do list[step.number] = step.sign end
    return list
  end

  local function goes_there_and_back(at, runbook, claimed)
    asked.furnish(at)
    local confirm, prepare = asked.of(runbook).confirm, asked.of(runbook).before
    if prepare then prepare(at) end
    local before = signs(at, runbook)
    at.ends(0, asked.line("run", runbook, at, "--no-input", table.unpack(confirm and confirm(at) or {})))
    local run, done = at.latest(), signs(at, runbook)
    at.ends(0, { "undo", run, "--no-input" })
    local undone = signs(at, runbook)
    for _, number in ipairs(claimed) do
      assert.are_not.equal("=", before[number], ("step %d was so before"):format(number))
      assert.equal("=", done[number], ("step %d is not so after the run"):format(number))
      assert.are_not.equal("=", undone[number], ("step %d is not to be done again after the undo"):format(number))
    end
  end

  -- Where everything is near it is shown in every run of the suite; through SSH and containers the words are the same, and the way is longer.
  for _, name in ipairs(setups.names) do
    for _, runbook in ipairs(asked.shipped()) do
      local claimed = claims(runbook)
      if #claimed > 0 and asked.runbooks[runbook] and not asked.runbooks[runbook].elsewhere then
        it(name == "direct" and runbook or ("%s on %s #long"):format(runbook, name), function ()
          local at, why = setups.open(name)
          if not at then return pending(why) end
          goes_there_and_back(at, runbook, claimed)
        end)
      end
    end
  end

  it("where that takes a place of its own, another spec shows it", function ()
    for _, runbook in ipairs(asked.shipped()) do
      local elsewhere = asked.of(runbook).elsewhere
      local path, words = (elsewhere or ""):match "^(%S+): (.+)$"
      if elsewhere then assert.truthy(suite.read(path):find(words, 1, true), elsewhere) end
    end
  end)
end)
