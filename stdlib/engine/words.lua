--- The words that clauses use: check, wait_until, note, try, scratch.

local M = {}

local clause = require("engine.clause")
local context = require("engine.context")
local duration = require("core.duration")
local guard = require("native.guard")
local params = require("engine.params")
local raise = require("core.raise")
local sandbox = require("engine.sandbox")
local task = require("native.task")
local text = require("core.text")
local null = require("native.value").null

local function current(word)
  local c = context.current()
  if not c then raise("usage", ("%s may be used in clauses only"):format(word)) end
  return c
end

--- Fill the {param} of a step's runbook, and {item}, into a text.
---@param step table
---@param template string
---@param item any
function M.fill(step, template, item)
  if not template:find("{", 1, true) then return template end
  local values = {}
  for name, value in pairs(step.params and step.params.values or {}) do values[name] = params.shown(value) end
  values.item = clause.key_of(item)
  return text.fill(template, values)
end

-- What was asked decides how far a check may be trusted. A declared read counts for every check of the clause that comes after it: what it
-- answered may be in a variable.
local function label_of_reads(c)
  for _, read in ipairs(guard.reads()) do c.declared = c.declared or read.label == "declared" end
  return c.declared and "declared" or "enforced"
end

local function settle(c, ok, truth, actual)
  local filled = M.fill(c.step, truth, c.item)
  c.run:checked { step = c.step, text = filled, ok = ok, actual = actual, label = label_of_reads(c), clause = c.clause, item = c.item }
  if not ok then raise("check", ("not so: %s"):format(filled), actual, { where = c.step.where }) end
end

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  return tostring(value)
end

-- The first place where two plain values differ: path, a, b; nil when they are the same.
local function difference(a, b, path)
  if type(a) ~= "table" or type(b) ~= "table" then
    if a == b then return nil end
    return path, a, b
  end
  local keys = {}
  for key in pairs(a) do keys[#keys + 1] = key end
  for key in pairs(b) do
    if a[key] == nil then keys[#keys + 1] = key end
  end
  table.sort(keys, function (x, y) return tostring(x) < tostring(y) end)
  for _, key in ipairs(keys) do
    local at, x, y = difference(a[key], b[key], (path == "" and "" or path .. ".") .. tostring(key))
    if at then return at, x, y end
  end
  return nil
end

local check = {}

--- check.same(a, b, "truth hoped for"): deep equality of plain values; says where they first differ.
function check.same(a, b, truth)
  local c = current("check.same")
  local at, x, y = difference(a, b, "")
  local actual = at and ("%s%s, not %s"):format(at == "" and "" or at .. ": ", shown(x), shown(y))
  settle(c, at == nil, truth or "both are the same", actual)
end

--- check.at_least(value, bound, "truth hoped for").
function check.at_least(value, bound, truth)
  local c = current("check.at_least")
  settle(c, value >= bound, truth or ("at least %s"):format(bound), ("it is %s"):format(shown(value)))
end

--- check.at_most(value, bound, "truth hoped for").
function check.at_most(value, bound, truth)
  local c = current("check.at_most")
  settle(c, value <= bound, truth or ("at most %s"):format(bound), ("it is %s"):format(shown(value)))
end

--- check(ok, "truth hoped for", actual): the message states what should be so.
M.check = setmetatable({}, {
  __index = check,
  __newindex = function () raise("usage", "check cannot be changed") end,
  __call = function (_, ok, truth, actual)
    local c = current("check")
    if type(truth) ~= "string" then raise("usage", "check needs a sentence: check(ok, \"orders are back\")") end
    settle(c, ok and true or false, truth, actual ~= nil and tostring(actual) or nil)
  end,
  __metatable = false,
})

local WAIT = { every = true, within = true, times = true }

-- In a preview the act before it was not made, so waiting for its consequence would wait for nothing.
local function give_up_in_preview()
  local c = context.current()
  if c and (c.clause == "act" or c.clause == "after") and guard.mode() == "plan" then error(raise.new("withheld", c.step.id), 0) end
end

--- Ask until it is so. `times` asks for that many yeses in a row.
---@param fn fun(): boolean
---@param options {every: string, within: string, times: integer|nil}
function M.wait_until(fn, options)
  current("wait_until")
  options = options or {}
  for field in pairs(options) do
    if not WAIT[field] then raise("usage", ("wait_until has no field \"%s\""):format(tostring(field)), "It takes every, within and times.") end
  end
  if not options.within then raise("usage", "wait_until needs within", "Every wait has a deadline: { every = \"5s\", within = \"2m\" }.") end
  local every, within = duration.parse(options.every or "1s"), duration.parse(options.within)
  local begun, yes = task.now_ms(), 0
  while true do
    yes = fn() and yes + 1 or 0
    if yes >= (options.times or 1) then return true end
    local left = within - (task.now_ms() - begun)
    give_up_in_preview()
    if left <= 0 then raise("timeout", ("not so within %s"):format(options.within)) end
    task.sleep(math.min(every, left))
  end
end

--- One line of evidence beside the step's title.
function M.note(format, ...)
  local c = current("note")
  local line = select("#", ...) > 0 and format:format(...) or tostring(format)
  c.run:noted { step = c.step, text = M.fill(c.step, line, c.item), item = c.item }
end

local REPORT = { title = "string", columns = "table", rows = "table", remark = "string" }

--- A table as a result: shown as one, and data in --json. Rows are lists in the order of the columns; a hole is NULL.
---@param grid { title: string?, columns: string[], rows: any[][], remark: string? }
function M.report(grid)
  local c = current("report")
  if type(grid) ~= "table" then raise("usage", "report takes a table: report { columns = { … }, rows = { … } }") end
  for field, value in pairs(grid) do
    if type(value) ~= REPORT[field] then
      raise("usage", ("report: %s cannot be a %s"):format(tostring(field), type(value)), "It takes title, columns, rows and remark.")
    end
  end
  local rows = {}
  for i, row in ipairs(grid.rows or {}) do
    rows[i] = {}
    for k = 1, #(grid.columns or row) do rows[i][k] = row[k] == nil and null or row[k] end
  end
  c.run:reported { step = c.step, grid = { title = grid.title, columns = grid.columns, rows = rows, remark = grid.remark } }
end

--- try(fn, …): nil, err instead of an error; what is not the runbook's to catch is raised all the same.
function M.try(fn, ...)
  local result = table.pack(pcall(fn, ...))
  if result[1] then return table.unpack(result, 2, result.n) end
  if sandbox.is_fatal(result[2]) then error(result[2], 0) end
  return nil, raise.of(result[2], "check")
end

return M
