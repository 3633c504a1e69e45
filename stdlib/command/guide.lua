-- `neap show RUNBOOK --markdown`: a runbook as a page for people, from its text; with --env also what its preview says there.
--
-- The preview is the real one, made under the guard: it asks the targets of that environment, and writes nothing.
local clients = require "command.clients"
local json = require "show.json"
local load = require "engine.load"
local markdown = require "show.markdown"
local options = require "command.options"
local params = require "engine.params"
local runbooks = require "command.runbooks"
local source = require "core.source"

local M = {}

local BOUNDS <const> = { "within", "takes", "max_rows", "limit", "stop_after", "retry" }

-- The step of the text that begins where the step of the model does; one in a loop is many of the model.
local function written(texts, step)
  local line, found = tonumber(step.where:match(":(%d+):?$")), nil
  for _, one in ipairs(texts) do
    if one.line <= line then found = one end
  end
  return found or { clauses = {} }
end

-- What is said above a step, without why it has no undo, and that.
local function said(comment)
  if not comment then return nil end
  local before, why = comment:match("^(.-)%s*No undo: (.*)$")
  if not why then return comment end
  return before ~= "" and before or nil, why
end

local function steps_of(model, plan)
  local texts, list = source.steps(model.source), {}
  for i, step in ipairs(model.order) do
    local own, c = written(texts, step), step.clauses
    local run = type(c.run) == "table" and c.run[1] or c.run
    local comment, no_undo = said(own.comment)
    list[i] = { number = step.number, title = step.title, kind = step.kind, comment = comment, no_undo = no_undo, clauses = own.clauses,
      destroys = c.destroys, manual = c.manual, runs = run, bounds = {} }
    for _, name in ipairs(BOUNDS) do list[i].bounds[name] = c[name] end
    for _, planned in ipairs(plan and plan.steps or {}) do
      if planned.id == step.id then list[i].plan, list[i].title, list[i].destroys = planned, planned.title, planned.destroys end
    end
  end
  return list
end

local function planned(name, parsed, context)
  local given = options.pairs(parsed.options.set)
  return require("engine.plan").run {
    state = context.state, inventory = parsed.options.inventory, environment = parsed.options.env, runbook = name,
    arguments = given, confirm = {}, interactive = false, share = context.share, clients = clients.all(), secrets = require "native.secret",
  }
end

--- The page of a runbook.
---@param name string name or path
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(name, parsed, context)
  local folders = runbooks.folders(context)
  local model = load.load(load.find(name, folders), { folders = folders, name = name })
  local plan = parsed.options.env and planned(name, parsed, context)
  local roles = plan and plan.targets or {}
  if not plan then
    for i, slot in ipairs(model.roles or {}) do roles[i] = { role = slot.role, kind = slot.kind } end
  end
  local page = markdown.page { name = name, title = plan and plan.title or model.title, why = model.why, about = source.head(model.source), retired = model.retired,
    window = model.window, on_failure = model.on_failure, hash = model.hash, params = params.describe(model.params), targets = roles, steps = steps_of(model, plan),
    helpers = source.helpers(model.source), plan = plan or nil }
  context.out(context.json and json.line { schema = json.schema, kind = "page", runbook = name, markdown = page } .. "\n" or page)
  return plan and plan.exit == 1 and 1 or 0
end

return M
