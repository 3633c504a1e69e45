-- `neap doctor`: each finding is one line with its fix. It only reads. A finding is good, a warning
-- (neap works, somebody will be surprised) or bad (a run would fail); only bad ones give exit 1.
local context_of = require "command.context"
local duration = require "core.duration"
local json = require "show.json"
local raise = require "core.raise"
local system = require "native.system"
local term = require "native.term"
local text = require "core.text"

local M = {}

local Findings = {}
Findings.__index = Findings

function Findings:add(level, subject, fact, fix, lines)
  self[#self + 1] = { level = level, subject = subject, fact = fact, fix = fix, lines = lines }
end

function Findings:good(subject, fact, lines) self:add("good", subject, fact, nil, lines) end
function Findings:warn(subject, fact, fix) self:add("warning", subject, fact, fix) end
function Findings:bad(subject, fact, fix) self:add("bad", subject, fact, fix) end

local checks = {}

function checks.libraries(found)
  local libraries, parts = system.libraries(), {}
  for _, name in ipairs(text.keys(libraries)) do
    local version = libraries[name]:match("%d[%w.]*") or libraries[name]
    parts[#parts + 1] = name .. " " .. version
  end
  found:good("neap " .. system.version(), table.concat(parts, ", "))
end

local function permissions(found, stat, state)
  local mode = stat.mode and stat.mode & 511
  if mode and mode & 63 ~= 0 then
    found:bad("state", ("%s can be read by others (%03o)"):format(state, mode), "chmod 700 " .. state)
  elseif stat.uid and stat.uid ~= system.uid() and system.uid() ~= 0 then
    found:bad("state", state .. " belongs to somebody else", "Use another one with --state, or run neap as its owner.")
  else
    found:good("state", state .. " is ours alone")
  end
end

function checks.state(found, parsed, context)
  local file = require "native.file"
  local stat = file.stat(context.state)
  if not stat then
    found:good("state", context.state .. " will be made by the first run")
    return
  end
  permissions(found, stat, context.state)
  local space = file.space(context.state)
  local free = type(space) == "table" and (space.free or space.available) or space
  if type(free) == "number" and free < 256 * 1024 * 1024 then
    found:warn("state", ("only %s are free for journals"):format(require("core.bytes").format(free)), "Make room, or move it with --state.")
  end
  local journal = require "native.journal"
  for _, row in ipairs(journal.index.list(context.state, { unfinished = true, limit = 20 }) or {}) do
    if row.status == "held" or row.status == "unknown" then
      found:warn("run " .. row.run, ("%s (%s) still holds its targets"):format(row.runbook, row.status), "neap resume " .. row.run)
    end
  end
  return parsed
end

function checks.inventory(found, parsed, context)
  local session = require "engine.session"
  local path = session.inventory_path(parsed.options.inventory)
  if not path then
    found:bad("inventory", "there is none", "Write inventory.lua here, or name one with --inventory; see neap man inventory.")
    return
  end
  local source, err = require("native.file").read(path, { limit = 1024 * 1024 })
  if not source then return found:bad("inventory", path .. ": " .. err.message, err.hint or "Make it readable.") end
  local ok, environments = pcall(require("engine.inventory").read, source, path, require("command.clients").all())
  if not ok then
    local failure = raise.of(environments)
    found:bad("inventory", failure.message, failure.hint or "See neap man inventory.")
    return
  end
  found:good("inventory", ("%s names %s"):format(path, text.join(text.keys(environments))))
  context.environments = environments
end

local safer = { postgres = "Add sslmode=verify-full to its url, if it leaves this machine.", redis = "Use rediss://, if it leaves this machine.",
  url = "Use https://, if it leaves this machine." }

local function encryption(found, role, kind, card)
  for _, line in ipairs(card.lines or {}) do
    local label, value = tostring(line[1]):lower(), tostring(line[2])
    if (label:match("tls") or label:match("ssl") or label:match("encrypt")) and (value:lower():match("^no") or value == "off" or value == "false") then
      found:warn(role, "the connection is not encrypted", safer[kind] or "Encrypt it, if it leaves this machine.")
    end
  end
end

-- What mends it, when the error itself does not say.
local mends = { unreachable = "Is it running, and can it be reached from here?", timeout = "Is it running, and can it be reached from here?",
  auth = "Look at the user and the secret of its entry in the inventory.", closed = "Ask again; then look at its own log." }

local function mend(err) return err.hint or mends[err.code] or "Look at its entry in the inventory." end

-- Was what this one stands on found wanting? Then asking it would only say so again, or send a password the wrong way.
local function bad_below(binding, role, bad)
  for _, name in ipairs(binding:below(role) or {}) do
    if bad[name] then return name end
  end
end

local function ask_target(found, binding, role, entry)
  local ok, card = pcall(function () return binding:identify(role, binding.cards) end)
  if not ok then
    local err = raise.of(card)
    found:bad(role, err.message, mend(err))
    return false
  end
  found:good(role, card.id, card.lines)
  if card.wrong then found:bad(role, card.wrong.message, card.wrong.hint or "Look at it before a run needs it.") end
  if not entry.spec.pin and binding.clients[entry.kind].fields.pin then
    found:warn(role, "its identity is not pinned", ('Add pin = "%s" to it in the inventory.'):format(card.lasting or card.id))
  end
  encryption(found, role, entry.kind, card)
  return true
end

-- One target, and before it whatever it stands on, each once.
local function one_target(found, binding, role, bad, seen)
  if seen[role] then return end
  seen[role] = true
  local entry = binding.environment.targets[role]
  local ok, err = pcall(binding.get, binding, role)
  if not ok then
    err, bad[role] = raise.of(err), true
    return found:bad(role, err.message, mend(err))
  end
  for _, name in ipairs(binding:below(role)) do one_target(found, binding, name, bad, seen) end
  local below = bad_below(binding, role, bad)
  bad[role] = below ~= nil or not ask_target(found, binding, role, entry)
  if below then found:warn(role, ("not asked, because it stands on %s"):format(below), ("Mend %s first."):format(below)) end
end

-- The roles to ask: the one that was named, or all.
local function roles_of(environment, named)
  local roles = text.keys(environment.targets)
  if not named then return roles end
  if not environment.targets[named] then
    raise("usage", ("environment \"%s\" has no \"%s\""):format(environment.name, named), text.suggest(named, roles))
  end
  return { named }
end

function checks.targets(found, parsed, context)
  if not context.environments then return end
  local name = parsed.options.env
  if not name and not context.role then
    found:good("targets", "not asked; name an environment with --env to ask each for its identity")
    return
  end
  local environment = require("engine.inventory").choose(context.environments, name)
  local roles = roles_of(environment, context.role)
  local binding = require("engine.binding").new(environment, require("command.clients").all(),
    { application = "neap:doctor", environment = environment.name }, require "native.secret")
  binding.cards = {}
  local bad, seen = {}, {}
  for _, role in ipairs(roles) do one_target(found, binding, role, bad, seen) end
  binding:close()
end

function checks.clock(found)
  local now = system.wall_ms()
  if now < 1767225600000 then found:bad("clock", "it says " .. system.iso(now), "Set the clock; journals are read by their time.")
  else found:good("clock", system.iso(now)) end
end

function checks.terminal(found, parsed, context)
  local cron = parsed.options["as-cron"]
  if cron or not (term.is_tty(0) and term.is_tty(2)) then
    found:good("terminal", "none: nothing can be asked here; pin answers with --confirm and use --quiet")
  else
    local columns, rows = term.size()
    found:good("terminal", ("%d by %d, %s, %s"):format(columns, rows, context.ascii and "ASCII" or "Unicode",
      context_of.wants_color(2, parsed.options.color) and "colour" or "no colour"))
  end
end

local not_in_cron = { "NEAP_STATE", "NEAP_INVENTORY", "NEAP_ENV", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "PGPASSFILE", "SSH_AUTH_SOCK" }

-- What cron gives: HOME, LOGNAME, SHELL and PATH=/usr/bin:/bin, and nothing else.
function checks.cron(found, parsed)
  if not parsed.options["as-cron"] then return end
  for _, name in ipairs(not_in_cron) do
    if system.env(name) then
      found:warn("cron", name .. " is set here and will not be there",
        ("Write it into the crontab, or give the flag that stands for %s."):format(name))
    end
  end
  if system.env("PATH") ~= "/usr/bin:/bin" then
    found:warn("cron", "PATH is /usr/bin:/bin there", "Give commands of the inventory with their full path.")
  end
end

local order = { "libraries", "state", "inventory", "targets", "clock", "terminal", "cron" }
local only = { "inventory", "targets" }             -- when one target is named

---Asks everything; a check that itself fails is a finding.
---@param parsed Parsed
---@param context table
---@return table findings
function M.examine(parsed, context)
  local found = setmetatable({}, Findings)
  for _, name in ipairs(context.role and only or order) do
    local ok, err = pcall(checks[name], found, parsed, context)
    if not ok then
      local failure = raise.of(err)
      if failure.code == "usage" then error(failure, 0) end
      found:bad(name, failure.message, failure.hint or "This is how far it could be asked.")
    end
  end
  return found
end

local marks = { good = "ok", warning = "unknown", bad = "failed" }

---@param found table[]
---@param style table
---@return string[]
function M.lines(found, style)
  local out = {}
  for _, finding in ipairs(found) do
    local lines = style:labelled(style:clean(finding.subject), style:clean(finding.fact), { indent = style:mark_width() + 1, column = 12,
      label_paint = "bold" })
    lines[1] = style:mark(marks[finding.level]) .. lines[1]:sub(style:mark_width() + 1)
    for _, line in ipairs(lines) do out[#out + 1] = line end
    for _, line in ipairs(finding.lines or {}) do
      local more = style:labelled("", style:clean(("%s: %s"):format(line[1], line[2])), { indent = style:mark_width() + 1, column = 12, paint = "dim" })
      for _, part in ipairs(more) do out[#out + 1] = part end
    end
    local fix = finding.fix and style:labelled("", "fix: " .. style:clean(finding.fix), { indent = style:mark_width() + 1, column = 12,
      paint = "cyan" })
    for _, line in ipairs(fix or {}) do out[#out + 1] = line end
  end
  return out
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  local began = context.clock()
  context.role = operands[1]
  local found = M.examine(parsed, context)
  local bad = 0
  for _, finding in ipairs(found) do if finding.level == "bad" then bad = bad + 1 end end
  if context.json then
    for _, f in ipairs(found) do
      context.out(json.line { schema = json.schema, kind = "finding", level = f.level, subject = f.subject, fact = f.fact,
        fix = f.fix, lines = f.lines } .. "\n")
    end
  elseif not context.quiet or bad > 0 then
    context.lines(M.lines(found, context.style))
    local verdict = bad == 0 and "A run can begin here." or text.count(bad, "thing") .. " to mend."
    context.lines { "", ("%s (%s)"):format(verdict, duration.format(context.clock() - began)) }
  end
  return bad > 0 and 1 or 0
end

return M
