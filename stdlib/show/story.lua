-- A run as its events tell it. Views do not keep books of their own: they give every event to a
-- story and read from it which step is where, what is owed, what nobody knows and how it ended. The
-- same events come live or from the journal, so `neap show` and the screen cannot disagree.
local M = {}
local Story = {}
Story.__index = Story

---@return table story
function M.new()
  return setmetatable({
    run = nil, steps = {}, by_id = {}, owed = {}, notices = {}, resumes = {}, intents = {}, talk = {}, records = 0,
    ended = nil, asking = nil,
  }, Story)
end

---A question without the words that only say what may be typed.
---@param body table of an ask
---@return string
function M.question(body)
  return (tostring(body.question or "asked"):match("^[^\n]*"))
end

local function clock_of(e) return e.at or 0 end

function Story:step_of(id)
  local step = self.by_id[id]
  if not step and id and id ~= "" then
    step = { id = id, number = #self.steps + 1, title = id, checks = {}, notes = {}, tables = {}, intents = {}, owed = {} }
    self.steps[#self.steps + 1], self.by_id[id] = step, step
  end
  return step
end

local on = {}

function on.run(self, e)
  self.run = e.body
  self.began = clock_of(e)
  for _, declared in ipairs(e.body.steps or {}) do
    local step = self:step_of(declared.id)
    step.number, step.title = declared.number or step.number, declared.title or step.title
    step.effect, step.destroys = declared.effect, declared.destroys
  end
end

-- What was running when the old process died is pending again until the new one begins it.
function on.resume(self, e)
  if not self.run and e.body.run then on.run(self, e) end
  self.resumes[#self.resumes + 1] = { at = clock_of(e), by = e.body.user, host = e.body.host }
  self.ended, self.asking = nil, nil
  for _, step in ipairs(self:having("running")) do step.status = nil end
end

function on.step(self, e)
  local step, body = self:step_of(e.step), e.body
  if not step then return end
  step.title, step.number = body.title or step.title, body.number or step.number
  if body.state == "begin" then
    step.status, step.began, step.attempt, step.note, step.error, step.progress = "running", clock_of(e), body.attempt, nil, nil, nil
  elseif body.state == "end" then
    step.status, step.ms, step.error, step.result = body.status, body.ms, body.error, body.result
    step.note, step.progress = body.note or body.reason or step.note, nil
    if not step.ms and step.began then step.ms = clock_of(e) - step.began end
  else
    step.acting = true
    for _, debt in ipairs(self.owed) do       -- it acts again, and owes again
      if debt.step == e.step then debt.settled = nil end
    end
  end
end

function on.check(self, e)
  local step = self:step_of(e.step)
  if step then step.checks[#step.checks + 1] = e.body end
end

function on.note(self, e)
  local step = self:step_of(e.step)
  if not step then return end
  step.note = e.body.text
  step.notes[#step.notes + 1] = e.body.text
end

function on.table(self, e)
  local step = self:step_of(e.step)
  if step then step.tables[#step.tables + 1] = e.body end
end

function on.intent(self, e)
  local intent = { seq = e.seq, step = e.step, body = e.body, at = clock_of(e) }
  self.intents[e.seq or #self.intents + 1] = intent
  local step = self:step_of(e.step)
  if step then step.intents[#step.intents + 1] = intent end
end

function on.outcome(self, e)
  local intent = self.intents[e.body.intent]
  if intent then intent.outcome, intent.ended = e.body, clock_of(e) end
end

function on.ask(self, e)
  self.asking = { step = e.step, body = e.body, at = clock_of(e) }
  self.talk[#self.talk + 1] = self.asking
end

function on.answer(self, e)
  if self.asking then self.asking.answer = e.body end
  self.asking = nil
end

local function debt_of(self, e)
  for _, debt in ipairs(self.owed) do
    if debt.step == e.step and debt.clause == e.body.clause and debt.item == e.body.item then return debt end
  end
  local debt = { step = e.step, clause = e.body.clause, item = e.body.item }
  self.owed[#self.owed + 1] = debt
  return debt
end

function on.owed(self, e) debt_of(self, e).settled = nil end
function on.settled(self, e)
  debt_of(self, e).settled = e.body.status
  local step = self.by_id[e.step]
  if step and e.body.clause == "undo" and e.body.status == "ok" then step.status, step.note, step.ms = "undone", nil, nil end
end

function on.notice(self, e)
  self.notices[#self.notices + 1] = { at = clock_of(e), body = e.body, step = e.step }
end

on["end"] = function(self, e)
  self.ended, self.finished = e.body, clock_of(e)
end

---Takes in one event; kinds this version does not know are counted and passed over.
---@param e table
function Story:event(e)
  self.records = self.records + 1
  self.last = clock_of(e)
  local handler = on[e.kind]
  if handler then handler(self, e) end
end

---Takes in a progress report, which is shown and never recorded.
---@param p table {step, bytes, total, rate, text}
function Story:progress(p)
  local step = self.by_id[p.step]
  if step then step.progress = p end
end

---@return table[] steps with that status ("pending" for those not begun)
function Story:having(status)
  local list = {}
  for _, step in ipairs(self.steps) do
    if (step.status or "pending") == status then list[#list + 1] = step end
  end
  return list
end

---The step the run stopped at, if one failed.
function Story:failed()
  local named = self.ended and self.ended.failed and self.by_id[self.ended.failed]
  return named or self:having("failed")[1] or self:having("unknown")[1]
end

---Writes that began and whose outcome nobody recorded or knows.
function Story:doubtful()
  local list = {}
  for _, step in ipairs(self.steps) do
    for _, intent in ipairs(step.intents) do
      if not intent.outcome or intent.outcome.status == "unknown" then list[#list + 1] = intent end
    end
  end
  return list
end

---`after` clauses that are still owed. An `undo` is an offer, never a debt.
function Story:debts()
  local list = {}
  for _, debt in ipairs(self.owed) do
    if debt.clause == "after" and debt.settled ~= "ok" then list[#list + 1] = debt end
  end
  return list
end

---Did the run end as it should, undone runs included?
function Story:well()
  return self.ended ~= nil and (self.ended.status == "ok" or self.ended.exit == 0)
end

---Milliseconds from the first record to the last.
function Story:elapsed(now)
  return math.max((self.finished or now or self.last or 0) - (self.began or 0), 0)
end

return M
