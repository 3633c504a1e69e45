--- How long it takes, as earlier runs measured it, and whether what is left of the window is enough for it.
--
-- A step's time is what runs of the same runbook in the same environment took for it, and runs of it alone where it is a step of another one:
-- the middle of them (p50) and the one that 19 of 20 did not exceed (p95). Where none measured it, `takes` of the step is the
-- estimate; where there is neither, nobody knows, and that is said and counted as nothing. Taking a step back takes as long as it did, or as long
-- as the step itself until somebody had to.
--
--   |---------- steps ----------|---- undo, after ----| window's end
--   ^ must begin by                ^ last safe abort
--
-- A run does not begin, and a step does not act, when what it would then take to finish and to take everything back again does not fit. Once there is no
-- time left to turn back, and going on is the shorter way, it goes on.
--
-- Rejected: `within` as an estimate (it is a bound that nobody hopes to reach), and a share of the size (a table twice as large is not twice as slow).

local M = {}

local clock = require("native.system")
local duration = require("core.duration")
local fold = require("engine.fold")
local instant = require("core.instant")
local journal = require("native.journal")
local raise = require("core.raise")
local window = require("core.window")

local RUNS <const>, LISTED <const> = 20, 1000

local Timing = {}
Timing.__index = Timing

-- ---- what was measured ----

-- The milliseconds of one run by clause and step: { act = { id = ms }, undo = …, after = … }, and its first record.
local function measured(records)
  local ms, began = { act = {}, undo = {}, after = {} }, {}
  local function add(clause, step, took) ms[clause][step] = (ms[clause][step] or 0) + took end
  for _, r in ipairs(records) do
    local b = r.body
    if r.kind == "step" and b.state == "end" and b.status == "ok" and not b.found then add("act", r.step, b.ms)
    elseif r.kind == "owed" then began[r.step .. "\0" .. b.clause] = r.at
    elseif r.kind == "settled" and b.status == "ok" and began[r.step .. "\0" .. b.clause] then add(b.clause, r.step, r.at - began[r.step .. "\0" .. b.clause]) end
  end
  return ms, records[1] and records[1].body or {}
end

-- Did that run do the same? A runbook that runs what an operator names is another one for each name.
local function is_same(model, body)
  for name, spec in pairs(model.params.specs) do
    if spec.kind == "runbook" and model.params.values and (body.params or {})[name] ~= model.params.values[name] then return false end
  end
  return true
end

-- Take in what runs of this model measured. `id_of` is what its steps are called there.
local function gather(timing, rows, model, id_of)
  local left = RUNS
  for _, row in ipairs(rows) do
    if left > 0 and row.runbook == model.name and row.environment == timing.environment.name and row.status ~= "running" then
      left = left - 1
      local ms, body = measured(journal.read(timing.state, row.run, 0) or {})
      for _, step in ipairs(is_same(model, body) and model.order or {}) do
        for clause, of in pairs(ms) do
          local list = timing.lists[clause]
          if of[id_of(step)] and not step.child then
            list[step.id] = list[step.id] or {}
            table.insert(list[step.id], of[id_of(step)])
          end
        end
      end
    end
  end
end

local function gather_all(timing, rows, model)
  local function walk(outer, top)
    for _, step in ipairs(outer.order) do
      if step.child then
        gather(timing, rows, step.child, function (inner) return inner.own end)
        top[#top + 1] = step.child
        walk(step.child, top)
      end
    end
    return top
  end
  local whole = { name = model.name, params = model.params, order = {} }
  for _, one in ipairs { model, table.unpack(walk(model, {})) } do table.move(one.order, 1, #one.order, #whole.order + 1, whole.order) end
  gather(timing, rows, whole, function (step) return step.id end)
end

--- What earlier runs say about the steps of an open session.
---@param session table engine.session
---@return table timing
function M.of(session)
  local timing = setmetatable({ state = session.ctx.state, environment = session.environment, lists = { act = {}, undo = {}, after = {} } }, Timing)
  gather_all(timing, journal.index.list(timing.state, { limit = LISTED }) or {}, session.model)
  for _, lists in pairs(timing.lists) do
    for _, list in pairs(lists) do table.sort(list) end
  end
  return timing
end

-- The smallest of them that this share did not exceed.
local function quantile(list, share) return list[math.max(math.ceil(share * #list), 1)] end

--- How long a step takes: { p50 =, p95 =, runs = } in milliseconds; runs is 0 where it is only declared. Nil where nobody knows.
---@param step table
---@param clause string|nil "act", "undo" or "after"
---@return table|nil
function Timing:step(step, clause)
  local list = self.lists[clause or "act"][step.id]
  if list then return { p50 = quantile(list, 0.5), p95 = quantile(list, 0.95), runs = #list } end
  if clause == "undo" then return self:step(step) end
  if clause == "after" or not step.clauses.takes then return nil end
  local takes = duration.parse(step.clauses.takes)
  return { p50 = takes, p95 = takes, runs = 0 }
end

-- Each clause of a step once: what was measured is of all its items together.
local function add(self, sum, step, clause)
  local key = step.id .. "\0" .. clause
  if sum.seen[key] then return end
  sum.seen[key] = true
  local time = self:step(step, clause)
  if time then sum.p50, sum.p95, sum.runs = sum.p50 + time.p50, sum.p95 + time.p95, math.max(sum.runs, time.runs)
  elseif clause == "act" and not step.child then sum.unknown = sum.unknown + 1 end
end

local function nothing() return { p50 = 0, p95 = 0, runs = 0, unknown = 0, seen = {} } end

--- What steps take together: forwards, and to be taken back with what they owe.
---@param ahead table[] steps that will act or be asked
---@param debts table[] of steps that acted: list of {step, clause}
---@return { p50: integer, p95: integer, runs: integer, unknown: integer } forwards
---@return { p50: integer, p95: integer } back
function Timing:sum(ahead, debts)
  local forwards, back = nothing(), nothing()
  for _, step in ipairs(ahead) do
    add(self, forwards, step, "act")
    for _, clause in ipairs { "undo", "after" } do
      if step.clauses[clause] then add(self, back, step, clause) end
    end
  end
  for _, debt in ipairs(debts) do add(self, back, debt.step, debt.clause) end
  return forwards, back
end

-- ---- the window ----

--- The window that is open at this moment or opens next: { opens =, closes =, begin_by =, abort_by = } in milliseconds, nil without one.
---@param forwards table
---@param back table
---@param now integer
---@return table|nil
function Timing:window(forwards, back, now)
  local of = self.environment.settings.window
  if not of then return nil end
  local opens, closes = window.span(of, now)
  return { text = of.text, opens = opens, closes = closes, begin_by = closes - forwards.p95 - back.p95, abort_by = closes - back.p95 }
end

local function moment(ms, now)
  return (instant.date(ms) == instant.date(now) and "" or instant.date(ms) .. " ") .. instant.time(ms) .. "Z"
end

-- The window as one sentence for the screen.
local function sentence(open, now)
  local begins = open.opens > now and ("opens %s, "):format(moment(open.opens, now)) or ""
  return ("the window %s %scloses %s; the run must begin by %s, the last safe moment to turn back is %s"):format(open.text, begins, moment(open.closes, now),
    moment(open.begin_by, now), moment(open.abort_by, now))
end

-- The steps that a plan found to be open.
local function open_steps(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    if entry.label ~= "already" then list[#list + 1] = entry.step end
  end
  return list
end

--- What a plan says of it: { p50, p95, runs, unknown, back, window, sentence }; its entries get their `time`.
---@param session table
---@param data table the plan
---@return table
function M.forecast(session, data)
  local timing, now = M.of(session), clock.wall_ms()
  for _, entry in ipairs(data.steps) do
    if entry.label ~= "already" then entry.time = timing:step(entry.step) end
  end
  local forwards, back = timing:sum(open_steps(data.steps), {})
  local time = { p50 = forwards.p50, p95 = forwards.p95, runs = forwards.runs, unknown = forwards.unknown, back = back.p95 }
  local open = session.model.window ~= "anytime" and timing:window(forwards, back, now) or nil
  if open then
    time.window, time.sentence = open, sentence(open, now)
    if data.exit == 2 and now > open.begin_by then table.insert(data.blocked, "what is left of the window is not enough for it") end
  end
  return time
end

-- ---- the guard of a run ----

-- Does the runbook, or one that it runs, belong into a window?
local function needs_window(model)
  if model.window == "needed" then return true end
  for _, step in ipairs(model.order) do
    if step.child and needs_window(step.child) then return true end
  end
  return false
end

--- What a run has to ask before it acts; nil where no window binds it.
---@param run table
---@return table|nil timing
function M.guarding(run)
  local settings = run.environment.settings
  if settings.window then return run.model.window ~= "anytime" and M.of(run) or nil end
  if settings.protected and needs_window(run.model) then
    raise("refused", ("\"%s\" belongs into a maintenance window, and environment \"%s\" has none"):format(run.model.name, run.environment.name),
      "Give it one in the inventory: window = \"Sun 02:00-04:00\", in UTC.")
  end
  return nil
end

local function check_open(run)
  local of = run.environment.settings.window
  if window.holds(of, clock.wall_ms()) then return end
  raise("refused", ("it is outside the window %s of environment \"%s\""):format(of.text, run.environment.name),
    "The window is in UTC; it is set in the inventory and no flag overrides it.")
end

local function refuse(open, now, what, forwards, back)
  raise("refused", ("what is left of the window is not enough for %s: it closes at %sZ, in %s; this takes %s, and taking it back %s"):format(what,
    instant.time(open.closes), duration.format(open.closes - now), duration.format(forwards.p95), duration.format(back.p95)),
    ("As earlier runs measured it. It had to begin by %sZ; wait for the next window."):format(instant.time(open.begin_by)))
end

--- Refuse to begin outside the window, or what does not fit into what is left of it.
---@param run table
---@param surveyed table the survey
---@return string the window, as one sentence
function M.check_start(run, surveyed)
  check_open(run)
  local forwards, back = run.timing:sum(open_steps(surveyed.steps), run.stack:debts(true))
  local now = clock.wall_ms()
  local open = run.timing:window(forwards, back, now)
  if now > open.begin_by then refuse(open, now, "this run", forwards, back) end
  return sentence(open, now)
end

-- The steps from here on that have not come to an end, those inside a runbook too.
local function ahead_of(run, model, into)
  for _, step in ipairs(model.order) do
    if step.child then ahead_of(run, step.child, into)
    elseif not fold.GOOD[run.status[step.id]] then into[#into + 1] = step end
  end
  return into
end

-- How much of a step with items is still to be done: 1 at its beginning.
local function share_left(run, step)
  local list, over = run.items[step.id], 0
  if not list then return 1 end
  for _ in pairs(run.item_status[step.id] or {}) do over = over + 1 end
  return (#list - over) / math.max(#list, 1)
end

--- Refuse an act outside the window, or one that does not fit while turning back still does.
---@param run table
---@param step table it is about to act
function M.check_step(run, step)
  check_open(run)
  local timing, debts, now = run.timing, run.stack:debts(true), clock.wall_ms()
  local forwards, back = timing:sum({ step }, debts)
  forwards.p95 = math.ceil(forwards.p95 * share_left(run, step))
  local open = timing:window(forwards, back, now)
  if now <= open.begin_by then return end
  local _, before = timing:sum({}, debts)
  local onwards = timing:sum(ahead_of(run, run.model, {}), {})
  if now + before.p95 > open.closes and onwards.p95 <= before.p95 then return end
  refuse(open, now, ("step %s"):format(step.number), forwards, back)
end

return M
