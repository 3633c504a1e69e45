--- One step: done? → needs → intent → act → proof, with retry, items and nesting. See run.lua for what surrounds it.
--
-- Outcomes are "ok", "already", "skipped", "failed", "cancelled", "unknown". A step whose intent is recorded
-- and whose outcome is not is in doubt; resume.lua settles it.

local M = {}

local ask = require("engine.ask")
local clause = require("engine.clause")
local duration = require("core.duration")
local hold = require("engine.hold")
local items = require("engine.items")
local raise = require("core.raise")
local session = require("engine.session")
local survey = require("engine.survey")
local task = require("native.task")
local words = require("engine.words")

local PROOF_MS, POLL_MS = 30000, 200

M.key_of = clause.key_of

local function error_body(err)
  return { code = err.code, message = err.message, hint = err.hint, sqlstate = err.sqlstate, status = err.status, where = err.where }
end

local function holds(run, step, name, options)
  local ok, result = clause.call(run, step, name, options)
  if not ok then error(result, 0) end
  return result
end

local function check_needs(run, step, options)
  if step.clauses.needs and holds(run, step, "needs", options) == false then
    raise("check", "needs does not hold", nil, { where = step.where })
  end
end

-- `done` asked again after the act, until it holds or the time is over.
local function prove_done(run, step, options, ends_ms)
  while true do
    if holds(run, step, "done", options) then return end
    local left = ends_ms - task.now_ms()
    if left <= 0 then raise("check", "it acted, and done still says no", nil, { where = step.where }) end
    task.sleep(math.min(POLL_MS, left))
  end
end

local function prove(run, step, options, ends_ms)
  if step.clauses.verify and holds(run, step, "verify", options) == false then
    raise("check", "verify does not hold", nil, { where = step.where })
  end
  if step.clauses.done then prove_done(run, step, options, ends_ms) end
end

-- The intent is durable before the act begins, and from then on undo and after are owed.
local function intend(run, step, item, attempt)
  run:check_window(step)
  hold.prove(run)
  hold.hold(run)
  task.act(run.record:event("step", step.id, { state = "intent", number = step.number, attempt = attempt, item = M.key_of(item) }))
  run.stack:owe(step, item)
  run.record:sync()
end

local function act_once(run, step, item, attempt)
  local begun = task.now_ms()
  local options = { item = item, attempt = attempt, within = step.within }
  intend(run, step, item, attempt)
  local result = holds(run, step, "act", options)
  task.act(0)
  local ends = step.within and begun + step.within or task.now_ms() + PROOF_MS
  prove(run, step, { item = item, attempt = attempt, within = math.max(ends - task.now_ms(), 1) }, ends)
  return result
end

local FATAL = { cancelled = true, journal = true, refused = true, unknown = true, invalid = true, bug = true }

local function retries_of(step)
  local retry = step.clauses.retry
  if not retry then return 1, 0 end
  if type(retry) == "number" then return retry + 1, 1000 end
  return (retry.times or 1) + 1, duration.parse(retry.every or "1s")
end

--- Act and prove one item (or the whole step): "already" or "ok" and the result. Raises.
local function change(run, step, item)
  local options = { item = item }
  local times, pause = retries_of(step)
  for attempt = 1, times do
    if step.clauses.done and holds(run, step, "done", options) then return attempt == 1 and "already" or "ok" end
    check_needs(run, step, options)
    local ok, result = pcall(act_once, run, step, item, attempt)
    if ok then return "ok", result end
    result = clause.error_of(result, step)
    if FATAL[result.code] or attempt == times then error(result, 0) end
    run.record:event("notice", step.id, { severity = "warning", text = ("attempt %d of %d failed: %s"):format(attempt, times, result.message), from = "neap" })
    task.sleep(pause)
  end
end

-- The list of items is journaled when first evaluated; a resumed run goes on with the same list.
local function items_of(run, step)
  local known = run.items[step.id]
  if known then return known end
  local list = step.clauses.each
  if type(list) == "function" then list = holds(run, step, "each") end
  clause.items(step, list)
  run.items[step.id] = list
  run.record:event("each", step.id, { items = list })
  return list
end

local function one_item(run, step, item)
  local key = M.key_of(item)
  local status = run.item_status[step.id] and run.item_status[step.id][key]
  if status then return status end
  local begun = task.now_ms()
  status = change(run, step, item)
  if status == "already" and run.doubted[step.id .. "\0" .. key] then status = "ok" end   -- a run that died did it
  run.record:event("item", step.id, { item = key, status = status, ms = task.now_ms() - begun })
  return status
end

-- What is known to have failed is written down item by item; what nobody knows keeps its doubt.
local function item_failed(run, step, item, err)
  if items.is_grave(err) then return end
  run.record:event("item", step.id, { item = M.key_of(item), status = "failed", error = error_body(err) })
end

local function all_items(run, step)
  local list, acted = items_of(run, step), 0
  items.each(step, list, function (item)
    if one_item(run, step, item) ~= "already" then acted = acted + 1 end
  end, function (item, err) item_failed(run, step, item, err) end)
  run:noted { step = step, text = acted == 0 and ("%d items, all already so"):format(#list) or ("%d of %d items changed"):format(acted, #list) }
  return acted == 0 and "already" or "ok"
end

local function manual(run, step)
  if step.clauses.done and holds(run, step, "done") then return "already" end
  check_needs(run, step)
  local did = ask.manual(run, step, words.fill(step, step.clauses.manual))
  if did then prove(run, step, {}, task.now_ms() + (step.within or PROOF_MS)) end
  return did and "ok" or "skipped"
end

local function check_item(run, step, item)
  for _, name in ipairs { "needs", "verify" } do
    if step.clauses[name] and holds(run, step, name, { item = item }) == false then raise("check", name .. " does not hold", nil, { where = step.where }) end
  end
end

local function check_only(run, step)
  if not step.clauses.each then
    check_item(run, step, nil)
    return "ok"
  end
  items.each(step, items_of(run, step), function (item) check_item(run, step, item) end, function (item, err) item_failed(run, step, item, err) end)
  return "ok"
end

local function nested(run, step)
  check_needs(run, step)
  if not run.given[step.id] then
    local params = session.read_params(run, step.child, survey.child_params(run, step))
    run.record:event("params", step.id, session.recorded_params(params))
    run.given[step.id] = true
  end
  run:steps(step.child)
  return "ok"
end

local KINDS = {
  check = check_only, manual = manual, run = nested,
  change = function (run, step)
    if step.clauses.each then return all_items(run, step) end
    return change(run, step, nil)
  end,
}

-- The result goes into the journal, so it must be plain data.
local function has_locked(value)
  if type(value) ~= "table" then return false end
  if getmetatable(value) == false then return true end
  for _, member in pairs(value) do
    if has_locked(member) then return true end
  end
  return false
end

local function keep_result(run, step, result)
  if result == nil then return nil end
  local plain, why = run.plain(result)
  if plain ~= nil and has_locked(result) then plain, why = nil, { message = "a target, a step or a library is not plain data" } end
  if plain == nil then
    raise("invalid", ("act returned something that cannot be journaled: %s"):format(why.message), "Return numbers, texts and tables of them.", { where = step.where })
  end
  run.step_results[step.id] = result
  return result
end

local function finish(run, step, begun, attempt, body)
  body.state, body.number, body.ms, body.attempt = "end", step.number, task.now_ms() - begun, attempt
  run.record:event("step", step.id, body)
  run.status[step.id] = body.status
end

--- Run one step to an outcome. Returns the status; for "failed", "cancelled" and "unknown" also the error.
function M.run(run, step, attempt)
  local begun = task.now_ms()
  run.record:event("step", step.id, { state = "begin", number = step.number, title = words.fill(step, step.title), attempt = attempt })
  local ok, status, result = pcall(function ()
    local status, result = KINDS[step.kind](run, step)
    return status, keep_result(run, step, result)
  end)
  if ok then
    finish(run, step, begun, attempt, { status = status, result = result })
    return status
  end
  local err = clause.error_of(status, step)
  if err.code == "journal" then return "failed", err end   -- its end cannot be written down either
  local ended = err.waiting and "held" or err.code == "cancelled" and "cancelled" or err.code == "unknown" and "unknown" or "failed"
  finish(run, step, begun, attempt, { status = ended, error = error_body(err) })
  return ended, err
end

return M
