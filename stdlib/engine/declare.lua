--- The declaring words: runbook, target, params, step, parallel, scratch. They make data, the model of a runbook;
-- nothing is asked or done while they run (the guard is in phase "declare").
--
-- The clauses are a closed set. Whatever is wrong is refused here, with the line of the runbook and
-- the nearest right name, because the next chance to notice is 03:00.

local M = {}

local duration = require("core.duration")
local raise = require("core.raise")
local text = require("core.text")
local params = require("engine.params")
local target = require("engine.target")

--- What each clause is for and what it may hold.
M.CLAUSES = {
  needs = { types = { "function" }, help = "must hold before the step acts" },
  each = { types = { "function", "table" }, help = "items; act, done, verify and undo get one item each" },
  done = { types = { "function" }, help = "is the world already so? skips the step, and is its proof afterwards" },
  act = { types = { "function" }, help = "does it; the only clause that may write" },
  verify = { types = { "function" }, help = "proof, where it differs from done" },
  undo = { types = { "function" }, help = "takes it back when the proof or a later step fails, or on neap undo" },
  after = { types = { "function" }, help = "owed from the moment the intent to act is recorded, on success and on failure" },
  destroys = { types = { "string" }, help = "what is lost; the operator types the name in braces" },
  manual = { types = { "string" }, help = "what a human does, and says so" },
  within = { types = { "duration" }, help = "how long acting and proving may take" },
  takes = { types = { "duration" }, help = "how long it usually takes, until runs have measured it" },
  retry = { types = { "number", "table" }, help = "how often to act again: 3, or { times = 3, every = \"5s\" }" },
  max_rows = { types = { "number" }, help = "no write of this step may touch more rows" },
  limit = { types = { "number" }, help = "how many items of each run side by side" },
  stop_after = { types = { "number" }, help = "no new item of each begins once so many have failed" },
  run = { types = { "string", "table" }, help = "another runbook: \"name\", \"{param}\", or { \"name\", param = function () … end }" },
}

local RUNBOOK_FIELDS = { "why", "on_failure", "retired", "window" }
local ON_FAILURE = { "undo", "hold", "abort" }

-- Work that belongs into a maintenance window, and work that must be possible outside of one (a backup, an emergency).
local WINDOW = { "needed", "anytime" }

-- Lua writes "file:line: " before the message of an error.
local function where_of(level)
  local _, message = pcall(error, "", level + 2)
  return message ~= "" and message:sub(1, -3) or nil
end

local function refuse(where, message, hint)
  raise("invalid", message, hint, { where = where })
end

local function check_type(where, clause, value)
  local types = M.CLAUSES[clause].types
  for _, want in ipairs(types) do
    if want == "duration" then
      if type(value) == "string" and pcall(duration.parse, value) then return end
    elseif type(value) == want then
      return
    end
  end
  refuse(where, ("%s must be a %s, not a %s"):format(clause, table.concat(types, " or a "), type(value)),
    types[1] == "duration" and "Write a duration with its unit: \"30s\", \"5m\"." or nil)
end

local function check_clauses(where, title, clauses)
  for name, value in pairs(clauses) do
    if not M.CLAUSES[name] then
      refuse(where, ("step \"%s\" has no clause \"%s\""):format(title, tostring(name)), text.suggest(name, text.keys(M.CLAUSES)))
    end
    check_type(where, name, value)
  end
end

local RETRY = { times = true, every = true }

local function check_count(where, clause, value, least)
  if math.type(value) ~= "integer" or value < least then
    refuse(where, ("%s must be a whole number, at least %d, not %s"):format(clause, least, tostring(value)))
  end
end

-- A limit of zero would do nothing and call it done.
local function check_values(where, c)
  if c.limit then check_count(where, "limit", c.limit, 1) end
  if c.stop_after then check_count(where, "stop_after", c.stop_after, 1) end
  if c.max_rows then check_count(where, "max_rows", c.max_rows, 0) end
  if type(c.retry) == "number" then check_count(where, "retry", c.retry, 0) end
  if type(c.retry) ~= "table" then return end
  for field in pairs(c.retry) do
    if not RETRY[field] then refuse(where, ("retry has no field \"%s\""):format(tostring(field)), text.suggest(field, text.keys(RETRY))) end
  end
  if c.retry.times then check_count(where, "retry's times", c.retry.times, 0) end
  if c.retry.every and not (type(c.retry.every) == "string" and pcall(duration.parse, c.retry.every)) then
    refuse(where, "retry's every must be a duration", "Write a duration with its unit: \"5s\".")
  end
end

local OF_ACT, NOT_OF_RUN, OF_EACH = { "undo", "after", "destroys", "retry", "max_rows" }, { "done", "verify", "within" }, { "limit", "stop_after" }
local NONE <const> = {}

-- A step that acts proves itself; the rest are rules about which clauses make sense together.
local function check_sense(where, title, c)
  local function no(message, hint) refuse(where, ("step \"%s\" %s"):format(title, message), hint) end
  if c.act and not (c.done or c.verify) then
    no("acts but has no proof", "Give it a done (is the world so?) or a verify (did it work?).")
  end
  if c.act and (c.manual or c.run) then no("has act beside manual or run", "Make two steps of it.") end
  if c.manual and c.run then no("has both manual and run", "Make two steps of it.") end
  if not (c.act or c.manual or c.run or c.needs or c.verify) then no("has nothing to check or to do") end
  for _, name in ipairs(c.act and NONE or OF_ACT) do
    if c[name] then no(("has %s but no act"):format(name)) end
  end
  if c.each and (c.manual or c.run) then no("has each beside manual or run") end
  for _, name in ipairs(c.run and NOT_OF_RUN or NONE) do
    if c[name] then no(("has %s beside run"):format(name), "The steps of the other runbook prove and bound themselves.") end
  end
  for _, name in ipairs(c.each and NONE or OF_EACH) do
    if c[name] then no(("has %s but no each"):format(name)) end
  end
end

-- The guard keeps 63 bytes of an id.
local OWN_ID, NESTED_ID = 40, 58

local function slug(title, taken, most)
  local id = title:lower():gsub("[^%w]+", "-"):match("^%-?(.*)"):sub(1, most):gsub("%-$", "")
  if id == "" then id = "step" end
  local unique, n = id, 1
  while taken[unique] do
    n = n + 1
    unique = id .. "-" .. n
  end
  taken[unique] = true
  return unique
end

local function kind_of(clauses)
  return clauses.act and "change" or clauses.manual and "manual" or clauses.run and "run" or "check"
end

local function declare_step(model, title, clauses, where)
  if type(title) ~= "string" or title == "" then refuse(where, "a step needs a title: step \"Stop writes\" { … }") end
  if model.titles[title] then refuse(where, ("there are two steps with the title \"%s\""):format(title), "A step is known by its title.") end
  if type(clauses) ~= "table" then refuse(where, ("step \"%s\" needs its clauses in braces"):format(title)) end
  check_clauses(where, title, clauses)
  check_sense(where, title, clauses)
  check_values(where, clauses)
  model.titles[title] = true
  local step = { title = title, clauses = clauses, params = model.params, where = where, kind = kind_of(clauses), id = slug(title, model.ids, OWN_ID) }
  step.within = clauses.within and duration.parse(clauses.within) or nil
  model.handles[step] = true
  return step
end

-- What `step` returns is empty; all that it can be asked is in the metatable they share. Later clauses ask it for the step's result.
local function handle_meta(model, results)
  local function step_of(handle)
    return model.by_handle[handle or false] or raise("usage", "a step is asked with a colon", "Write handle:result().")
  end
  return {
    __index = { result = function (handle) return results(step_of(handle)) end, title = function (handle) return step_of(handle).title end },
    __newindex = function () raise("usage", "a step cannot be changed") end,
    __metatable = false,
  }
end

local function add(model, step)
  model.steps[#model.steps + 1] = step
end

local function word_step(model, results)
  local meta = handle_meta(model, results)
  return function (title)
    return function (clauses)
      local step = declare_step(model, title, clauses, where_of(2))
      add(model, step)
      local handle = setmetatable({}, meta)
      model.by_handle[handle] = step
      return handle
    end
  end
end

-- parallel { limit = 2, step "a" {…}, step "b" {…} }: its steps were just added one by one; take them back out.
local function word_parallel(model)
  return function (group)
    local where = where_of(2)
    if type(group) ~= "table" or #group == 0 then refuse(where, "parallel needs steps in braces") end
    for name in pairs(group) do
      if math.type(name) ~= "integer" and name ~= "limit" then
        refuse(where, ("parallel has no field \"%s\""):format(tostring(name)), "It takes steps and limit.")
      end
    end
    local members = {}
    for i, handle in ipairs(group) do
      local step = model.by_handle[handle]
      if not step or model.steps[#model.steps - #group + i] ~= step then
        refuse(where, "parallel takes the steps it declares", "Write step \"…\" {…} inside its braces.")
      end
      members[i] = step
    end
    for _ = 1, #group do table.remove(model.steps) end
    if group.limit then check_count(where, "limit", group.limit, 1) end
    add(model, { kind = "parallel", title = "side by side", id = slug("parallel", model.ids, OWN_ID), members = members,
      limit = group.limit or #members, clauses = {}, where = where })
  end
end

local function word_runbook(model)
  return function (title)
    local where = where_of(2)
    if model.title then refuse(where, "a file declares one runbook", nil) end
    if type(title) ~= "string" or title == "" then refuse(where, "runbook needs a title: runbook \"Restore …\" { why = … }") end
    model.title = title
    return function (fields)
      for name in pairs(fields) do
        local known = false
        for _, field in ipairs(RUNBOOK_FIELDS) do known = known or field == name end
        if not known then refuse(where, ("runbook has no field \"%s\""):format(tostring(name)), text.suggest(name, RUNBOOK_FIELDS)) end
      end
      local choice, class = fields.on_failure, fields.window
      if class ~= nil and class ~= "needed" and class ~= "anytime" then
        refuse(where, ("window cannot be \"%s\""):format(tostring(class)), text.suggest(tostring(class), WINDOW))
      end
      if choice and not (choice == "undo" or choice == "hold" or choice == "abort") then
        refuse(where, ("on_failure cannot be \"%s\""):format(tostring(choice)), text.suggest(choice, ON_FAILURE))
      end
      model.why, model.on_failure, model.retired, model.window = fields.why, choice or "undo", fields.retired, class
    end
  end
end

--- A scratch name is pure: the same for the whole run, and nobody else's.
---@param run_id string|nil
function M.scratch(run_id)
  return function (name)
    if type(name) ~= "string" or not name:match("^[%a_][%w_]*$") then
      raise("usage", ("scratch \"%s\" is not a name"):format(tostring(name)), "Use letters, digits and underscores.")
    end
    return ("%s__%s"):format(name, run_id or "run")
  end
end

--- The declaring words for one file, and the model they fill.
---@param results fun(step: table): any how a step's result is looked up while clauses run
---@return table words
---@return table model {title, why, steps, params, targets, …}
function M.words(results)
  local model = { steps = {}, titles = {}, ids = {}, handles = {}, by_handle = {}, targets = {}, on_failure = "undo" }
  model.params = params.new()
  local words = {
    runbook = word_runbook(model),
    step = word_step(model, results),
    parallel = word_parallel(model),
    params = function (specs) return params.declare(model.params, specs, where_of(2)) end,
    target = target.word(model, where_of),
  }
  return words, model
end

-- {name} in a text is a parameter or the item; a misspelt one would be shown, and typed by the operator, as it stands.
local function check_text(model, step, words)
  if not (words and words:find("{", 1, true)) then return end
  for name in words:gmatch("{([%a_][%w_]*)}") do
    if name ~= "item" and not model.params.specs[name] then
      refuse(step.where, ("step \"%s\" names {%s}, which is no parameter"):format(step.title, name), text.suggest(name, model.params.names))
    end
  end
end

--- The steps of a runbook that another one runs get ids of their own: two files may use the same titles.
---@param model table
---@param outer string id of the step that runs it
---@param taken table the ids of the whole run
function M.nest(model, outer, taken)
  for _, step in ipairs(model.order) do step.own, step.id = step.id, slug(outer .. " " .. step.id, taken, NESTED_ID) end
end

--- Number the steps and check what can only be checked at the end of the file.
---@param model table
---@param file string
function M.finish(model, file)
  if not model.title then refuse(file .. ":1", "the file declares no runbook", "Begin it with runbook \"Title\" { why = \"…\" }.") end
  if #model.steps == 0 then refuse(file .. ":1", "the runbook has no steps") end
  local number = 0
  model.order = {}
  local function count(step)
    if step.kind == "parallel" then
      for _, member in ipairs(step.members) do count(member) end
      return
    end
    check_text(model, step, step.title)
    check_text(model, step, step.clauses.destroys)
    check_text(model, step, step.clauses.manual)
    number = number + 1
    step.number = number
    model.order[number] = step
  end
  for _, step in ipairs(model.steps) do count(step) end
  return model
end

return M
