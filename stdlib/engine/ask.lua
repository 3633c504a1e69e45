--- Asking people. Three levels, by effect and never by habit: nothing; yes or no; type the name of what is lost.
--
-- Everything that can be asked is asked before the first write. There is no flag that answers everything: unattended, the exact name is
-- pinned (--confirm destroys=NAME), and a question nobody can answer ends the run before it begins.

local M = {}

local raise = require("core.raise")
local task = require("native.task")

local TRIES = 3

local function pinned(ctx, kind, name)
  for _, pin in ipairs(ctx.confirm or {}) do
    if pin == kind .. "=" .. name then return true end
  end
  return false
end

--- Put a question and wait for the answer: a text, nil when nobody is there. A signal takes the question back and stops the run.
---@param run table
---@param question table {level=, text=, step=, card=, answers=}
---@return string|nil
function M.put(run, question)
  while run.question do run.question:join() end     -- steps side by side ask one after the other
  run.record:event("ask", question.step or "", { level = question.level, question = question.text, card = question.card, answers = question.answers })
  run.record:sync()
  run.record:show()
  run:check_stop()
  run.question = task.spawn(function () return run.ctx.ask(question) end)
  local ok, typed = run.question:join()
  run.question = nil
  run:check_stop()
  if not ok then error(typed, 0) end
  return typed
end

local function answered(run, step, value, by, level)
  run.record:event("answer", step or "", { value = value, by = by, level = level })
end

--- The name an operator types for a step that destroys: the value in the last braces of its text.
function M.name_of(run, step)
  local last
  for name in step.clauses.destroys:gmatch("{([%a_][%w_]*)}") do last = name end
  local value = last and step.params.values[last]
  return value ~= nil and tostring(value) or run.model.name
end

local function refuse(kind, name, what)
  raise("refused", ("nobody confirmed: %s"):format(what), ("Pin the exact name: --confirm %s=%s"):format(kind, name))
end

local function confirm_name(run, entry)
  local name = M.name_of(run, entry.step)
  if run.answers[entry.id] == name then return end
  if pinned(run.ctx, "destroys", name) then
    answered(run, entry.id, name, "--confirm")
    return
  end
  if not run.ctx.interactive then refuse("destroys", name, entry.destroys) end
  local card = {}
  for _, t in ipairs(run.targets) do card[#card + 1] = { role = t.role, id = t.id, lines = t.lines } end
  local text = ("Step %s destroys %s. Type %s to go on:"):format(entry.number, entry.destroys, name)
  for try = 1, TRIES do
    local typed = M.put(run, { level = "name", step = entry.id, name = name, card = try == 1 and card or nil, text = text })
    if typed == name then
      answered(run, entry.id, typed, "typed")
      return
    end
    if typed == nil or typed == "" then break end
    text = ("\"%s\" is not %s. Type %s to go on (try %d of %d):"):format(typed, name, name, try + 1, TRIES)
  end
  refuse("destroys", name, entry.destroys)
end

-- What cannot prove who it is must not lose anything by us. Only targets that know of such a proof say false.
local function check_trust(run, entry)
  for _, t in ipairs(run.targets) do
    if t.trusted == false then
      raise("refused", ("step %s destroys %s, and nothing proves that \"%s\" is the server it should be"):format(entry.number, entry.destroys, t.role),
        "Connect with sslmode=verify-full, or say tls = \"off\" in the inventory if the network itself is trusted.")
    end
  end
end

local function confirm_protected(run, plan)
  local environment = run.environment
  if not environment.settings.protected or plan.exit ~= 2 or run.answers.protected == "yes" then return end
  if pinned(run.ctx, "protected", environment.name) then
    answered(run, "protected", "yes", "--confirm")
    return
  end
  if not run.ctx.interactive then refuse("protected", environment.name, ("changes in the protected environment %s"):format(environment.name)) end
  local typed = M.put(run, { level = "yes", text = ("%s is protected. Go on? [y/N]"):format(environment.name) })
  if typed ~= "y" and typed ~= "yes" then raise("refused", "the operator said no") end
  answered(run, "protected", "yes", "typed")
end

--- Ask everything a plan needs, before the first write.
---@param run table
---@param plan table
function M.confirm(run, plan)
  confirm_protected(run, plan)
  for _, entry in ipairs(plan.steps) do
    if entry.step.clauses.destroys and entry.label ~= "already" then
      check_trust(run, entry)
      confirm_name(run, entry)
    end
  end
end

--- A step a human does. Returns true when done, false when skipped.
function M.manual(run, step, what)
  if not run.ctx.interactive then
    raise("unknown", ("step %s is done by a human: %s"):format(step.number, what), "Do it, then resume from a terminal.", { waiting = true })
  end
  while true do
    local typed = M.put(run, { level = "manual", step = step.id, answers = { "done", "skip", "abort" },
      text = ("%s\nType done, skip or abort:"):format(what) })
    if typed == "done" or typed == "skip" then
      answered(run, step.id, typed, "typed", "manual")
      return typed == "done"
    end
    if typed == "abort" or typed == nil then raise("check", ("the operator did not do: %s"):format(what)) end
  end
end

local CHOICES = { "retry", "skip", "undo", "hold", "abort" }

--- What to do about a failed step.
---@return string choice one of CHOICES
---@return string|nil reason of a skip
function M.failed(run, step, err)
  if not run.ctx.interactive then return run.model.on_failure end
  local text, first = ("Step %s failed: %s"):format(step.number, err.message), true
  while true do
    local typed = M.put(run, { level = "failed", step = step.id, answers = CHOICES, error = { code = err.code, message = err.message, hint = err.hint },
      explain = first, text = text .. "\nretry, skip REASON, undo, hold or abort?" })
    if typed == nil then return "hold" end
    first = false
    local word, reason = typed:match("^(%a+)%s*(.*)$")
    for _, choice in ipairs(CHOICES) do
      if word == choice and not (choice == "skip" and reason == "") then
        answered(run, step.id, typed, "typed", "failed")
        return choice, reason
      end
    end
    text = word == "skip" and "A reason is needed: skip REASON." or ("\"%s\" is none of them."):format(typed)
  end
end

return M
