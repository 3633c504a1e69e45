-- `neap gc`: what runs that are over left on their targets goes (engine/collect.lua), and journals do not grow
-- for ever. Of those only what holds nothing goes: ended, without a debt, without a write nobody knows the
-- outcome of, and with nothing in the ledger that is still there. What is not in a ledger is not touched: to drop
-- a database because its name looks like ours would be the very accident neap is there to prevent.
local codes = require "core.codes"
local collect = require "engine.collect"
local duration = require "core.duration"
local journal = require "native.journal"
local json = require "show.json"
local raise = require "core.raise"
local run = require "command.run"
local runs = require "command.runs"
local show = require "show.run"
local system = require "native.system"
local text = require "core.text"
local undofile = require "native.undofile"
local view = require "command.view"

local M = {}

local finished = { ok = true, undone = true, failed = true, cancelled = true, abandoned = true }

-- May this run's journal go? Says why not otherwise.
local function may_go(row, story)
  if not finished[row.status] then return false, row.status end
  if #story:debts() > 0 or (story.ended and story.ended.owes and #story.ended.owes > 0) then return false, "owes something" end
  if #story:doubtful() > 0 then return false, "holds a write nobody knows the outcome of" end
  return true
end

local function number_of(given, default, flag)
  if not given then return default end
  local n = math.tointeger(tonumber(given))
  if not n or n < 0 then raise("usage", ('--%s cannot be "%s"'):format(flag, given), "Give a whole number.") end
  return n
end

---Chooses what goes: finished, older than `older_ms`, and not among the newest `keep`.
---@param rows table[] newest first
---@return table[]
function M.choose(rows, keep, older_ms, now)
  local chosen = {}
  for n, row in ipairs(rows) do
    local ended = row.ended_ms and row.ended_ms > 0 and row.ended_ms or row.started_ms
    if n > keep and finished[row.status] and now - ended > older_ms then chosen[#chosen + 1] = row end
  end
  return chosen
end

local function remove(row, context)
  local ok, err = journal.index.remove(context.state, row.run)
  if not ok then error(err, 0) end
  ok, err = system.remove_tree(runs.directory(context.state, row.run))
  if not ok then error(err, 0) end
end

local function say(context, row, what, more)
  if context.json then
    context.out(json.line { schema = json.schema, kind = "gc", run = row.run, runbook = row.runbook, action = what, detail = more } .. "\n")
  elseif not context.quiet then
    context.lines { context.style:clean(("%-8s %s  %s%s"):format(what, row.run, row.runbook, more and "  " .. more or "")) }
  end
end

-- Directories of sockets: a run that is killed cannot take away its tunnels and its connections' control sockets.
local function sweep(context, dry)
  for _, path in ipairs(system.leftovers(not dry)) do
    local what = dry and "would go" or "removed"
    if context.json then
      context.out(json.line { schema = json.schema, kind = "gc", path = path, action = what } .. "\n")
    elseif not context.quiet then
      context.lines { context.style:clean(("%-8s %s  sockets of a neap that was killed"):format(what, path)) }
    end
  end
end

-- Rows kept for undo are secrets of the people they are about: they go long before the run that took them does.
local function forget_rows(row, context, dry)
  for _, name in ipairs(system.list(runs.directory(context.state, row.run)) or {}) do
    if name:find("^rows%-") then
      if not dry then
        local gone, err = undofile.remove(context.state, row.run, name)
        if gone == nil then error(err, 0) end
      end
      say(context, row, dry and "would go" or "removed", "rows kept for undo: " .. name)
    end
  end
end

-- ---- what runs left on their targets ----

local function names_of(things)
  local names = {}
  for n, thing in ipairs(things) do names[n] = ("%s %s of %s"):format(thing.kind, thing.name, thing.role) end
  return text.join(names)
end

-- May this run's things go now? Says why not otherwise. A run that is given up is from now on, in its own evidence.
local function is_free(left, context, options, now)
  local row, standing = left.row, left.standing
  if standing == "over" then return true end
  local given, long_ago = false, now - (row.ended_ms > 0 and row.ended_ms or row.started_ms) > options.left_ms
  for _, id in ipairs(options.abandoned) do given = given or row.run == id end
  if standing == "resumable" and (given or long_ago) then
    local ok, err = pcall(function () return options.dry or collect.give_up(context.state, row.run) end)
    return ok, not ok and tostring(raise.of(err).message) or nil
  end
  if standing == "living" then return false, "is still running" end
  if standing == "owing" then return false, ("died or holds, and may owe something: neap resume %s, or neap undo %s"):format(row.run, row.run) end
  return false, ("can be resumed: neap resume %s; or give it up: neap gc --abandoned %s"):format(row.run, row.run)
end

-- The things that may go, by the inventory and the environment their runs used.
local function free_groups(found, context, options, now)
  local groups, by_key = {}, {}
  for _, left in ipairs(found) do
    local free, why = is_free(left, context, options, now)
    if not free then say(context, left.row, "kept", ("%s; it left %s"):format(why, names_of(left.things)))
    elseif not options.environment or options.environment == left.head.environment then
      local inventory = options.inventory or left.head.inventory
      local key = left.head.environment .. "\0" .. inventory
      if not by_key[key] then
        by_key[key] = { environment = left.head.environment, inventory = inventory, things = {}, rows = {} }
        groups[#groups + 1] = by_key[key]
      end
      for _, thing in ipairs(left.things) do
        thing.host, by_key[key].rows[thing.run] = left.head.host, left.row
        table.insert(by_key[key].things, thing)
      end
    end
  end
  return groups
end

local function collect_group(group, parsed, context, dry)
  local engine, exit = run.engine_context(parsed, context), 0
  engine.environment, engine.inventory = group.environment, group.inventory
  local function told(thing, what)
    local row, name = group.rows[thing.run], names_of { thing }
    if raise.is(what) then
      exit = exit == 0 and codes.of(what.code) or exit
      say(context, row, "kept", ("%s: %s"):format(name, what.message))
    elseif what then say(context, row, what, name) end
  end
  local ok, result = pcall(view.while_open, engine.view, function () return collect.run(engine, group.things, dry, told) end)
  if ok then return exit == 0 and result or exit end
  result = raise.of(result)
  for _, thing in ipairs(group.things) do told(thing, result) end
  return exit
end

-- One environment in one go: its policy binds this process from then on.
local function collect_left(rows, parsed, context, options)
  local groups = free_groups(collect.find(rows, context.state), context, options, context.clock())
  for n = 2, #groups do
    local other = groups[n]
    for _, thing in ipairs(other.things) do
      say(context, other.rows[thing.run], "kept", ("%s: another environment: neap gc --env %s%s"):format(names_of { thing }, other.environment,
        other.environment == groups[1].environment and " --inventory " .. other.inventory or ""))
    end
  end
  return groups[1] and collect_group(groups[1], parsed, context, options.dry) or 0
end

-- ---- journals ----

local function prune(rows, context, keep, older_ms, dry)
  local removed, holding = 0, {}
  for _, left in ipairs(collect.find(rows, context.state)) do holding[left.row.run] = left.things end
  for _, row in ipairs(M.choose(rows, keep, older_ms, context.clock())) do
    local free, why = may_go(row, show.story(journal.read(context.state, row.run) or {}))
    local left = holding[row.run]
    if not free then say(context, row, "kept", why)
    elseif left and not dry then say(context, row, "kept", "left behind: " .. names_of(left))
    else
      if not dry then remove(row, context) end
      removed = removed + 1
      say(context, row, dry and "would go" or "removed")
    end
  end
  return removed
end

local function abandoned(given, context)
  local ids = {}
  for n, prefix in ipairs(given or {}) do ids[n] = runs.find(prefix, context).run end
  return ids
end

---@param _ string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(_, parsed, context)
  local given = parsed.options
  local rows, err = journal.index.list(context.state, { limit = 1000000 })
  if not rows then error(err, 0) end
  local keep, older, rows_ms = number_of(given.keep, 50, "keep"), duration.parse(given.older or "90d"), duration.parse(given.rows or "30d")
  local options = { dry = given["dry-run"], abandoned = abandoned(given.abandoned, context), left_ms = duration.parse(given.left or "14d"), environment = parsed.given.env and given.env,
    inventory = parsed.given.inventory and given.inventory }      -- what the shell sets for runs to come is not what those that are over used
  local exit = collect_left(rows, parsed, context, options)
  for _, row in ipairs(M.choose(rows, 0, rows_ms, context.clock())) do forget_rows(row, context, options.dry) end
  local removed = prune(rows, context, keep, older, options.dry)
  sweep(context, options.dry)
  if not context.json and not context.quiet then
    context.lines { ("%s %s, %d kept."):format(text.count(removed, "journal"), options.dry and "would go" or "removed", #rows - removed) }
  end
  return exit
end

return M
