--- The survey: every step in order, asked as far as the world that is there can answer. A preview is one (engine/plan.lua), and a run begins
-- with one.
--
-- Each `done` and each check is asked for real under the read guard; each `act` runs with its writes intercepted, and what
-- it would write is listed with its exact text. What depends on a change that was not made is `unknown` and
-- names the step that withholds it; no value is ever made up. A run begins with the same survey, so
-- that every check has been asked before anything is written, and so that what a run does can be compared
-- with what was predicted.

local M = {}

local clause = require("engine.clause")
local guard = require("native.guard")
local raise = require("core.raise")
local session = require("engine.session")
local survey_items = require("engine.survey_items")
local words = require("engine.words")

local Survey = {}
Survey.__index = Survey

function Survey:checked(c)
  self.entry.lines[#self.entry.lines + 1] = { label = c.label, text = c.text, ok = c.ok, note = not c.ok and c.actual or nil, check = true }
end

function Survey:noted(n)
  self.entry.lines[#self.entry.lines + 1] = { label = "note", text = n.text }
end

function Survey:reported(r)
  self.entry.lines[#self.entry.lines + 1] = { label = "table", grid = r.grid }
end

-- In a survey the result of a step that acts does not exist yet: asking for it ends what asks, because a value that stands for
-- it could be tested and compared, and a check of it would be green. That of one that is already so is nil unless it was recorded.
function Survey:result_of(step)
  local recorded = self.results[step.id]
  if recorded ~= nil or self.completed[step.id] or self.labels[step.id] == "already" then return recorded end
  error(raise.new("withheld", step.id), 0)
end

-- What cannot be known is said once per step, not once per item.
function Survey:line(line)
  local lines = self.entry.lines
  for _, said in ipairs(line.label == "unknown" and lines or {}) do
    if said.text == line.text then return end
  end
  lines[#lines + 1] = line
end

function Survey:failed(err)
  self.entry.failed = true
  self.failures = self.failures + 1
  if err.code ~= "check" or not self.entry.lines[#self.entry.lines] or self.entry.lines[#self.entry.lines].ok ~= false then
    self:line { label = "enforced", text = err.message, ok = false, note = err.hint, error = err }
  end
  self.entry.error = self.entry.error or err
end

function Survey:withhold(err)
  local entry = self.entry
  entry.label, entry.sign = "unknown", "?"
  entry.withheld = entry.withheld or self.numbers[err.message] or err.message
end

-- Ask one reading clause: true, false, or nil when it cannot be known.
function Survey:ask(step, name, item)
  local before = #self.entry.lines
  local ok, result = clause.call(self, step, name, { item = item })
  guard.reads()
  if ok then return true, result end
  if result.code == "withheld" then
    while #self.entry.lines > before do table.remove(self.entry.lines) end
    return nil, result
  end
  return false, result
end

function Survey:is_done(step, item)
  if not step.clauses.done then return false end
  local known, result = self:ask(step, "done", item)
  if known == nil then return nil, result end
  if known == false then
    if result.code == "check" then return false end
    self:failed(result)
    return false
  end
  return result and true or false
end

function Survey:needs(step, item)
  if not step.clauses.needs then return end
  local known, result = self:ask(step, "needs", item)
  if known == nil then
    self:line { label = "unknown", text = "needs: depends on step " .. tostring(self.numbers[result.message] or result.message) }
    self.unseen["needs of step " .. self.entry.number] = true
  elseif known == false then
    self:failed(result)
  elseif result == false then
    self:failed(raise.new("check", "needs does not hold", nil, { where = step.where }))
  end
end

-- Every target of an act that could not be previewed to its end may have been changed. What it is reached through is not
-- in the act's hands.
function Survey:withhold_everything(step)
  for _, t in ipairs(self.targets) do
    if not t.used_by then guard.mark(session.root_of(t.id), step.id) end
  end
end

-- What a preview found out about a write in one line ("300 keys match now") stands beside it; a difference of many does not.
local function aside(plan) return plan and not plan:find("\n", 1, true) and plan or nil end

-- Call a clause that writes, its writes intercepted and listed.
function Survey:intercept(step, name, item, note)
  guard.predictions()
  local ok, result = clause.call(self, step, name, { item = item, within = step.within })
  guard.reads()
  for _, p in ipairs(guard.predictions()) do
    self:line { label = "predicted", text = p.text, target = p.target, effect = p.effect, primitive = p.primitive, plan = p.plan, subject = p.subject,
      note = note or aside(p.plan) }
    self.predicted = self.predicted + 1
    if p.effect == "destroy" then self.entry.sign = "-" end
  end
  return ok, result
end

function Survey:act(step, item)
  local ok, result = self:intercept(step, "act", item)
  if step.clauses.after then self.owed[#self.owed + 1] = { survey = self, entry = self.entry, step = step, item = item } end
  if ok then return end
  if result.code == "withheld" then
    self:line { label = "unknown", text = "what else it does depends on its own result or on an earlier step" }
    self.entry.partly = true
    self.unseen["part of step " .. self.entry.number .. ": it depends on step " .. tostring(self.numbers[result.message] or result.message)] = true
    if self.numbers[result.message] ~= self.entry.number then self:withhold(result) end
    self:withhold_everything(step)
  else
    self:failed(result)
  end
end

-- What the steps that act will owe, newest first, as a run pays it. A check in an `after` asks about a world that
-- is not there yet, so its no is not a failure.
function Survey:afterwards()
  for i = #self.owed, 1, -1 do
    local owed = self.owed[i]
    local survey = owed.survey
    self.entry = owed.entry
    local ok, result = survey:intercept(owed.step, "after", owed.item, "afterwards, whatever happens")
    if not ok and (result.code == "refused" or result.code == "invalid") then survey:failed(result)
    elseif not ok then
      survey:line { label = "unknown", text = "what else it does afterwards depends on what it changed" }
      self.unseen["part of what step " .. owed.entry.number .. " does afterwards"] = true
    end
  end
end

-- What is asked of one item of a change (or the whole of one without `each`) before its act: {done =, err =}.
function Survey:before(step, item)
  local done, err = self:is_done(step, item)
  if not done then self:needs(step, item) end
  return { done = done, err = err }
end

-- Its act, when it is not already so: "already" or "change".
function Survey:item(step, item, asked)
  if asked.done then return "already" end
  self:act(step, item)
  if asked.done == nil then
    self:line { label = "unknown", text = "whether it is already so depends on step " .. tostring(self.numbers[asked.err.message] or asked.err.message) }
  end
  return "change"
end

function Survey:items_of(step)
  local each = step.clauses.each
  local known, result = true, each
  if type(each) == "function" then known, result = self:ask(step, "each") end
  if known == nil then
    self:withhold(result)
    return nil
  end
  local fine, why = known, result
  if known then fine, why = pcall(clause.items, step, result) end
  if fine then return result end
  self:failed(why)
  return nil
end

function Survey:change(step)
  local entry = self.entry
  entry.label, entry.sign = "predicted", "+"
  if not step.clauses.each then
    if self:item(step, nil, self:before(step, nil)) == "already" then entry.label, entry.sign = "already", "=" end
    return
  end
  local list = self:items_of(step)
  if not list then
    self:withhold_everything(step)
    return
  end
  local open = survey_items.change(self, step, list)
  entry.items = { open = open, all = #list }
  if open == 0 then entry.label, entry.sign = "already", "=" end
end

function Survey:check_item(step, item)
  for _, name in ipairs { "needs", "verify" } do
    if step.clauses[name] then
      local known, result = self:ask(step, name, item)
      if known == nil then
        self:withhold(result)
        self.unseen["the check in step " .. self.entry.number] = true
      elseif known == false then
        self:failed(result)
      elseif result == false then
        self:failed(raise.new("check", name .. " does not hold", nil, { where = step.where }))
      end
    end
  end
end

function Survey:check_only(step)
  local entry = self.entry
  entry.label, entry.sign = "enforced", "check"
  if step.clauses.each then
    local list = self:items_of(step)
    if list then survey_items.check(self, step, list) end
  else
    self:check_item(step, nil)
  end
  if entry.label == "enforced" then
    for _, line in ipairs(entry.lines) do
      if line.label == "declared" then entry.label = "declared" end
    end
  end
end

function Survey:manual(step)
  local entry = self.entry
  entry.label, entry.sign, entry.manual = "predicted", "!", words.fill(step, step.clauses.manual)
  if self:is_done(step) then
    entry.label, entry.sign = "already", "="
  else
    self:needs(step)
  end
end

--- The parameters a nested runbook gets: functions are asked as every clause that reads is, texts are filled. One that was chosen by the
--- operator gets what the operator gave for it, too.
function M.child_params(run, step)
  local given, spec = {}, step.clauses.run
  if step.chosen then
    for name, value in pairs(run.passed) do
      if step.child.params.specs[name] then given[name] = value end
    end
  end
  if type(spec) == "string" then return given end
  for name, value in pairs(spec) do
    if type(value) == "function" then
      local ok, result = clause.ask(run, step, "run", value)
      if not ok then error(result, 0) end
      given[name] = type(result) == "table" and table.concat(result, ",") or result ~= nil and tostring(result) or nil
    elseif name ~= 1 then
      given[name] = words.fill(step, tostring(value))
    end
  end
  return given
end

-- What a step that runs another runbook needs stands on a line of its own, before that one's steps.
function Survey:nested_needs(step)
  if not step.clauses.needs then return end
  local entry = self:open(step, self.numbers[step.id])
  entry.label, entry.sign = "enforced", "check"
  self:needs(step)
  for _, line in ipairs(entry.lines) do
    if line.label == "unknown" then entry.label, entry.sign = "unknown", "?" end
  end
end

function Survey:nested(step)
  self:nested_needs(step)
  local ok, why = true, nil
  if not self.given[step.id] then
    ok, why = pcall(function () return session.read_params(self, step.child, M.child_params(self, step)) end)
  end
  if not ok then
    if not step.clauses.needs then
      self:open(step, self.numbers[step.id])
      self.entry.label, self.entry.sign = "enforced", "check"
    end
    if raise.is(why) and why.code == "withheld" then
      self:withhold(why)
      self.unseen["the runbook in step " .. self.entry.number .. ": its parameters depend on step " .. tostring(self.entry.withheld)] = true
      return self:withhold_everything(step)
    end
    return self:failed(clause.error_of(why, step))
  end
  for _, inner in ipairs(step.child.order) do
    if not self.completed[inner.id] then self:step(inner, tostring(step.number) .. "." .. inner.number) end
  end
end

function Survey:open(step, number)
  local entry = { number = number, id = step.id, title = words.fill(step, step.title), lines = {},
    destroys = step.clauses.destroys and words.fill(step, step.clauses.destroys), step = step }
  self.entry = entry
  self.steps[#self.steps + 1] = entry
  return entry
end

function Survey:step(step, number)
  self.numbers[step.id] = number
  if step.kind == "run" then return self:nested(step) end
  local entry = self:open(step, number)
  if step.kind == "change" then self:change(step)
  elseif step.kind == "manual" then self:manual(step)
  else self:check_only(step) end
  if entry.destroys and entry.label ~= "already" then entry.sign = "-" end
  self.labels[step.id] = entry.label
end

local function tally_of(steps)
  local tally = { checks = 0, enforced = 0, declared = 0, predicted = 0, unknown = 0, already = 0, failed = 0 }
  for _, entry in ipairs(steps) do
    tally[entry.label] = tally[entry.label] + 1
    if entry.failed then tally.failed = tally.failed + 1 end
    for _, line in ipairs(entry.lines) do
      if line.check then tally.checks = tally.checks + 1 end
    end
  end
  return tally
end

--- Survey a session.
---@param opened table engine.session
---@param recorded table|nil results of steps that a resumed run has completed, by step id
---@return table plan see show/plan.lua
function M.of(opened, recorded)
  guard.mode("plan")
  guard.clear()
  guard.reads()
  guard.predictions()
  local survey = setmetatable({ params = opened.params, targets = opened.targets, steps = {}, numbers = {}, labels = {}, owed = {}, results = recorded or {},
    completed = opened.completed or {}, given = opened.given or {}, passed = opened.passed, predicted = 0, failures = 0, unseen = {} }, Survey)
  for _, step in ipairs(opened.model.order) do
    if not survey.completed[step.id] then survey:step(step, step.number) end
  end
  survey:afterwards()
  guard.clear()
  local unseen = {}
  for sentence in pairs(survey.unseen) do unseen[#unseen + 1] = sentence end
  table.sort(unseen)
  local tally = tally_of(survey.steps)
  local changes = 0
  for _, entry in ipairs(survey.steps) do
    local asks = entry.step.kind == "check" or entry.step.kind == "run" and entry.label == "enforced"
    if entry.label ~= "already" and not asks then changes = changes + 1 end
  end
  return { runbook = opened.model.name, title = opened.model.title, environment = opened.environment.name, stamp = opened.stamp, params = session.shown_params(opened),
    targets = opened.targets, steps = survey.steps, tally = tally, unseen = unseen,
    exit = tally.failed > 0 and 1 or changes > 0 and 2 or 0 }
end

return M
