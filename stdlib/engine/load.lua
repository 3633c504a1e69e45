--- From a name to a model: find the file, run it once in its sandbox with every primitive refusing, check the result.
--
-- The text that ran, and that of every module it required, is kept: it goes into the journal, and a resume
-- with another text is refused.

local M = {}

local declare = require("engine.declare")
local file = require("native.file")
local guard_words = require("engine.words")
local modules = require("engine.modules")
local params = require("engine.params")
local raise = require("core.raise")
local sandbox = require("engine.sandbox")
local system = require("native.system")
local text = require("core.text")
local text_native = require("native.text")

local TEXT_BYTES = 1024 * 1024

--- The folders runbooks are looked for in, nearest first.
---@param share string where the installed ones are
function M.folders(share)
  local folders = { "runbooks" }
  local home = system.env("HOME")
  local config = system.env("XDG_CONFIG_HOME") or (home and home .. "/.config")
  if config then folders[#folders + 1] = config .. "/neap/runbooks" end
  folders[#folders + 1] = "/etc/neap/runbooks"
  if share then folders[#folders + 1] = share .. "/runbooks" end
  return folders
end

local function exists(path)
  local stat = file.stat(path)
  return stat and stat.kind == "file"
end

-- Every runbook below a folder, as names: "postgres/health".
local function collect(folder, prefix, found, seen)
  for _, entry in ipairs(file.list(folder) or {}) do
    local path = folder .. "/" .. entry.name
    if entry.kind == "directory" then
      collect(path, prefix .. entry.name .. "/", found, seen)
    elseif entry.name:match("%.lua$") then
      local name = prefix .. entry.name:sub(1, -5)
      if not seen[name] then
        seen[name] = true
        found[#found + 1] = { name = name, path = path }
      end
    end
  end
end

--- All runbooks that can be found: list of {name, path}, sorted by name; a nearer folder hides a farther one.
function M.list(folders)
  local found, seen = {}, {}
  for _, folder in ipairs(folders) do collect(folder, "", found, seen) end
  table.sort(found, function (a, b) return a.name < b.name end)
  return found
end

--- The file of a runbook's name (or path).
function M.find(name, folders)
  if name:match("%.lua$") and exists(name) then return name end
  for _, folder in ipairs(folders) do
    local path = folder .. "/" .. name .. ".lua"
    if not name:find("%.%.") and exists(path) then return path end
  end
  local names = {}
  for _, entry in ipairs(M.list(folders)) do names[#names + 1] = entry.name end
  local near = text.nearest(name, names)
  raise("usage", ("there is no runbook \"%s\""):format(name), near and ("Did you mean %s?"):format(near) or "neap list shows what there is.")
end

local function read(path)
  local source, err = file.read(path, { limit = TEXT_BYTES })
  if not source then error(err, 0) end
  return source
end

local function declare_phase(chunk)
  local ok, err = sandbox.bounded(chunk)
  if ok then return end
  err = raise.of(err, "invalid")
  if err.code == "timeout" then err = raise.new("invalid", "declaring took longer than half a second", "Put the work into a clause.") end
  if err.code == "memory" then err = raise.new("invalid", "declaring took more than 32 MiB", "Put the work into a clause.") end
  if err.code == "check" or err.code == "bug" or err.code == "usage" then err.code = "invalid" end
  error(err, 0)
end

-- Which runbook a step runs: its name, or the one that a parameter of that kind was given. Nil when none was given yet. What was looked up is noted in
-- `chosen`, false for nothing.
local function runs(model, step, given, chosen)
  local run = step.clauses.run
  local name = type(run) == "table" and run[1] or run
  local param = type(name) == "string" and name:match("^{([%a_][%w_]*)}$")
  if not param then return name end
  local spec = model.params.specs[param]
  if not spec or spec.kind ~= "runbook" then
    raise("invalid", ("step \"%s\" runs {%s}, which is no parameter of kind \"runbook\""):format(step.title, param), nil, { where = step.where })
  end
  step.chosen, chosen[param] = true, given[param] or false
  return given[param] or spec.default
end

-- The runbooks inside this one are loaded with it: their steps are part of the plan, their texts of the record.
local function load_children(model, options)
  model.chosen = options.chosen or {}
  for _, step in ipairs(model.order) do
    local name = step.kind == "run" and runs(model, step, options.given or {}, model.chosen)
    if name then
      step.child = M.load(M.find(name, options.folders or {}), {
        run_id = options.run_id, folders = options.folders, depth = (options.depth or 0) + 1, name = name, given = options.given, stamp = options.stamp,
        outer = step.id, ids = options.ids or model.ids, chosen = model.chosen })
    end
  end
end

--- Does a parameter of this name belong to a runbook that an operator chose for one of the steps?
---@param model table
---@param name string
---@return boolean
function M.takes(model, name)
  for _, step in ipairs(model.order) do
    if step.child and step.chosen and step.child.params.specs[name] or step.child and M.takes(step.child, name) then return true end
  end
  return false
end

-- Asked for while a clause runs, when there is a session.
local function result_of(step) return require("engine.session").result_of(step) end

--- Load a runbook.
---@param path string
---@param options table {run_id=, name=, folders=, depth=, given= texts of parameters that name a runbook, stamp= when the run began}
---@return table model; its `chosen` holds what was given for each parameter, also of nested runbooks, that names a runbook to run
function M.load(path, options)
  options = options or {}
  if (options.depth or 0) > 8 then raise("invalid", ("runbooks run one another more than 8 deep at %s"):format(path)) end
  local source = options.source or read(path)
  local words, model = declare.words(result_of)
  for _, word in ipairs { "check", "wait_until", "note", "report", "try" } do words[word] = guard_words[word] end
  words.scratch, words.stamp = declare.scratch(options.run_id), function () return options.stamp or "19700101T000000Z" end
  local environment, close_modules
  words.require, close_modules = modules.words(model, path:match("^(.*)/[^/]*$") or ".", function () return environment end)
  environment = sandbox.environment(words, "runbook")
  model.file, model.source, model.modules = path, source, {}
  model.hash, model.name = text_native.sha256(source), options.name or path:match("([^/]+)%.lua$") or path
  local chunk, err = sandbox.compile(source, path, environment)
  if not chunk then error(err, 0) end
  declare_phase(chunk)
  close_modules()
  declare.finish(model, path)
  if options.outer then declare.nest(model, options.outer, options.ids) end
  load_children(model, options)
  return model
end

--- Every text beside the runbook's own that a run of it goes by: its modules, the runbooks it runs, and theirs.
---@param model table
---@return table[] list of {name, hash, text}
function M.texts(model, into)
  into = into or {}
  for _, module in ipairs(model.modules) do into[#into + 1] = module end
  for _, step in ipairs(model.order) do
    local child = step.child
    if child then
      into[#into + 1] = { name = child.name, hash = child.hash, text = child.source }
      M.texts(child, into)
    end
  end
  return into
end

-- The parameters an operator may give: those of the runbook, then those of the runbooks chosen for its steps. A name that both have is given to both.
local function described(model, into, seen)
  for _, param in ipairs(params.describe(model.params)) do
    if not seen[param.name] then into[#into + 1] = param end
    seen[param.name] = true
  end
  for _, step in ipairs(model.order) do
    if step.child and step.chosen then described(step.child, into, seen) end
  end
  return into
end

--- What `list` and `help` show, without binding anything; and the model, which a run of that id goes on with.
function M.inspect(path, options)
  local model = M.load(path, options)
  local steps, destroys = {}, {}
  for _, step in ipairs(model.order) do
    steps[#steps + 1] = { number = step.number, title = step.title, kind = step.kind, destroys = step.clauses.destroys }
    if step.clauses.destroys then destroys[#destroys + 1] = step.clauses.destroys end
  end
  local targets = {}
  for _, slot in ipairs(model.roles or {}) do targets[#targets + 1] = { role = slot.role, kind = slot.kind, optional = slot.optional } end
  return { name = model.name, title = model.title, why = model.why, params = described(model, {}, {}), steps = steps,
    destroys = destroys, targets = targets, retired = model.retired, file = path, model = model, run_id = options.run_id, stamp = options.stamp }
end

return M
