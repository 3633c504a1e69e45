--- What plan, run, resume and check have in common: a runbook loaded, its environment chosen, its roles bound, its
-- parameters read, its targets identified.

local M = {}

local binding = require("engine.binding")
local context = require("engine.context")
local file = require("native.file")
local guard = require("native.guard")
local instant = require("core.instant")
local inventory = require("engine.inventory")
local ledger = require("engine.ledger")
local load = require("engine.load")
local params = require("engine.params")
local progress = require("engine.progress")
local raise = require("core.raise")
local rows = require("engine.rows")
local sandbox = require("engine.sandbox")
local system = require("native.system")
local target = require("engine.target")
local task = require("native.task")
local told = require("engine.told")

--- Where the inventory is: given, or the first that exists.
function M.inventory_path(given)
  if given then return given end
  local home = system.env("HOME")
  local config = system.env("XDG_CONFIG_HOME") or (home and home .. "/.config")
  local places = { system.env("NEAP_INVENTORY"), "inventory.lua", config and config .. "/neap/inventory.lua", "/etc/neap/inventory.lua" }
  for i = 1, 4 do
    if places[i] and file.stat(places[i]) then return places[i] end
  end
  return nil
end

local function read_inventory(ctx)
  local path = M.inventory_path(ctx.inventory)
  if not path then
    raise("config", "there is no inventory", "Write inventory.lua here, or name one with --inventory or NEAP_INVENTORY.")
  end
  local source, err = file.read(path, { limit = 1024 * 1024 })
  if not source then error(raise.new("config", err.message, err.hint), 0) end
  return inventory.read(source, path, ctx.clients)
end

local function apply_policy(settings)
  if settings.protected then guard.protect() end
  for _, rule in ipairs(settings.never or {}) do
    local ok, err = guard.never(rule[1] or rule, type(rule) == "table" and rule[2] or "")
    if not ok then error(err, 0) end
  end
  for _, host in ipairs(settings.hosts or {}) do guard.allow_host(host) end
end

-- Who says something beside the clause that runs now, perhaps from a task of its own: what is said belongs to that clause's step.
local function speaker()
  local c = context.current()
  return function (severity, message, role)
    if c and c.run.noticed then c.run:noticed { step = c.step, severity = severity, text = message, from = role } end
  end
end

local function new_binding(session)
  return binding.new(session.environment, session.ctx.clients, {
    application = ("neap:%s:%s"):format(session.model.name, session.run_id),
    environment = session.environment.name,
    max_rows = function ()
      local c = context.current()
      return c and c.step.clauses.max_rows or session.environment.settings.max_rows
    end,
    progress = progress.watch,
    rows = rows,
    ledger = ledger,
    told = told,
    notice = function (severity, message, role) speaker()(severity, message, role) end,
    speaker = speaker,
  }, session.ctx.secrets)
end

local function bind_all(session, model)
  target.bind(model, session.binding)
  for _, step in ipairs(model.order) do
    if step.child then bind_all(session, step.child) end
  end
end

-- Fill in the defaults, those that are functions worked out under the read guard.
local function complete_params(session, model, values)
  return params.complete(model.params, values, function (name, default)
    local phase = task.phase("read")
    local ok, value = context.with({ run = session, step = { where = model.file, clauses = {} }, clause = "default" }, default)
    task.phase(phase)
    if not ok then
      local err = raise.of(value, "check")
      error(raise.new(err.code, ("the default of --%s: %s"):format(name, err.message), err.hint), 0)
    end
    return value
  end)
end

-- Every role once, those of nested runbooks too: a role is one target of the environment, whoever names it.
local function all_bound(model, into)
  into = into or { seen = {} }
  for _, bound in ipairs(target.bound(model)) do
    if not into.seen[bound.role] then into[#into + 1] = bound end
    into.seen[bound.role] = true
  end
  for _, step in ipairs(model.order) do
    if step.child then all_bound(step.child, into) end
  end
  return into
end

--- Values for a model's parameters, with defaults worked out under the read guard.
function M.read_params(session, model, given)
  return complete_params(session, model, params.read(model.params, given))
end

--- The values that a run recorded. Secrets were not: their defaults are asked again.
---@param recorded table see recorded_params
function M.restore_params(session, model, recorded)
  local values = params.restore(model.params, recorded.params)
  for _, name in ipairs(recorded.secret_params or {}) do values[name] = nil end
  if recorded.secret_params then return complete_params(session, model, values) end
  return values
end

local OURS <const> = { withheld = true, cancelled = true, refused = true, journal = true, memory = true }

-- What a target says when it is asked who it is, with its role and something to try.
local function named(session, err)
  local role = err.role
  if not role or OURS[err.code] or err.message:find(("\"%s\""):format(role), 1, true) then return err end
  err.message = ("\"%s\": %s"):format(role, err.message)
  err.hint = err.hint or ("Everything about it: neap doctor --env %s"):format(session.environment.name)
  return err
end

--- Who each target is, now. Below a role stand those it is reached through, once: {used_by = role}. Waits.
function M.identify(session)
  local targets, cards, listed = {}, {}, {}
  local bound = all_bound(session.model)
  for _, b in ipairs(bound) do listed[b.role] = true end
  local function add(role, used_by)
    local ok, card = pcall(session.binding.identify, session.binding, role, cards)
    if not ok then error(named(session, raise.of(card)), 0) end
    for _, subject in ipairs(card.made_of or {}) do guard.stands(M.root_of(card.id), subject) end
    targets[#targets + 1] = { role = role, kind = session.environment.targets[role].kind, id = card.id, lines = card.lines,
      trusted = card.trusted, object = session.binding:get(role), used_by = used_by }
    for _, below in ipairs(session.binding:below(role)) do
      if not listed[below] then
        listed[below] = true
        add(below, role)
      end
      local place = session.binding:identify(below, cards)
      if session.binding:get(role).beyond ~= below then guard.stands(M.root_of(card.id), M.root_of(place.id)) end
    end
  end
  for _, b in ipairs(bound) do add(b.role) end
  return targets
end

--- Let every target's connections go.
function M.close(session)
  if session.binding then session.binding:close() end
end

--- Choose the environment, let its policy bind, and be ready to bind what is in it.
---@param session table {ctx, model, run_id}; gets environment and binding
function M.enter(session)
  session.environment = inventory.choose(read_inventory(session.ctx), session.ctx.environment)
  apply_policy(session.environment.settings)
  session.binding = new_binding(session)
end

-- What was given, parted into what is the runbook's own and what goes to the runbooks chosen for its steps; a name that both have goes to both.
local function part(model, given)
  local own, passed = {}, {}
  for name, value in pairs(given) do
    local theirs = load.takes(model, name)
    if theirs then passed[name] = value end
    if model.params.specs[name] or not theirs then own[name] = value end
  end
  return own, passed
end

-- Kept to be read, however deep.
local function refuse_retired(model)
  if model.retired then raise("refused", ("\"%s\" is retired: %s"):format(model.name, tostring(model.retired)), "It is kept to be read.") end
  for _, step in ipairs(model.order) do
    if step.child then refuse_retired(step.child) end
  end
end

-- What happens to a session between being loaded and being usable; whatever it opened is closed by the caller when it raises.
local function prepare(session, options)
  local ctx = session.ctx
  M.enter(session)
  bind_all(session, session.model)
  session.binding:seal()
  if options.recorded then
    session.passed, session.params = options.recorded.passed or {}, M.restore_params(session, session.model, options.recorded)
  else
    local own
    own, session.passed = part(session.model, ctx.arguments or {})
    session.params = M.read_params(session, session.model, own)
  end
  session.targets = M.identify(session)
end

-- What a runbook is called in the journal, on the target and on the screen: its name below a folder of runbooks, or the
-- name of its file. A path would push the run's id out of a session's name, which has 63 bytes on PostgreSQL.
local function name_of(given)
  if not given then return nil end
  local name, below = given:gsub("%.lua$", ""):gsub("^.*runbooks/", "")
  local is_path = below == 0 and (given:find("^%.?%.?/") or given:find("%.lua$"))
  return is_path and name:match("[^/]+$") or name
end

-- The runbook, and when this run of it began: as it was found for the command line, or read now.
local function model_of(session, options)
  local ctx, recorded = session.ctx, options.recorded
  local found, name = ctx.found, name_of(ctx.runbook)
  if found and found.run_id == session.run_id then
    found.model.name = name
    return found.model, found.stamp
  end
  local folders, stamp = load.folders(ctx.share), recorded and recorded.stamp or instant.compact(system.wall_ms())
  return load.load(options.path or load.find(ctx.runbook, folders), {
    run_id = session.run_id, stamp = stamp, folders = folders, name = name, given = recorded and recorded.params or ctx.arguments,
  }), stamp
end

--- Open a session.
---@param ctx table the command's context; found = what its words were read by (load.inspect), which is what runs, though the file may be another by now
---@param options table {run_id=, path=, recorded= what a run recorded of its parameters}
function M.open(ctx, options)
  options = options or {}
  sandbox.limit()
  local session = { ctx = ctx, run_id = options.run_id or "plan", results = {} }
  session.model, session.stamp = model_of(session, options)
  refuse_retired(session.model)
  function session.checked() end
  function session.noted() end
  function session.reported() end
  local ok, err = pcall(prepare, session, options)
  if not ok then
    M.close(session)
    error(err, 0)
  end
  return session
end

--- The result of a step, for `handle:result()` in a later clause.
function M.result_of(step)
  local c = context.current()
  if not c then raise("usage", "a step's result can be read in clauses only") end
  return c.run:result_of(step)
end

--- The parameters as they may be shown: no secrets, plain data.
function M.shown_params(session)
  return M.recorded_params(session.params).params
end

--- Parameters as they are recorded: { params = values by name, secret_params = names of those that are only shown, or nil }.
function M.recorded_params(values)
  local shown, secret = {}, {}
  for name, value in pairs(values) do
    local kind = type(value)
    shown[name] = (kind == "userdata" or kind == "table") and params.shown(value) or value
    if kind == "userdata" then secret[#secret + 1] = name end
  end
  return { params = shown, secret_params = secret[1] and secret or nil }
end

--- What can keep a target for a run: lock, prove, held, hold, release. A command has none; its guardian only knows orphans.
function M.keeper(t)
  local g = t.object.guardians
  return g and g.lock and g or nil
end

--- Where a target's subjects begin: for PostgreSQL the whole cluster, for Redis the whole server, for a container whenever it was started.
function M.root_of(id)
  return id:match("^(pg:[^/]+)") or id:match("^(redis:[^/]+)") or id:match("^(docker:[^@]+)") or id
end

--- What of an identity a run does not change itself: a container that it starts again is the same one.
function M.lasting(id) return id:match("^(docker:[^@]+)") or id end

return M
