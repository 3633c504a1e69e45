-- `neap gc`: journals do not grow for ever. Only runs that hold nothing go: ended, without a debt and
-- without a write nobody knows the outcome of. What a run made and did not remove is only listed: to
-- drop a database because its name looks like ours would be the very accident neap is there to prevent.
local duration = require "core.duration"
local journal = require "native.journal"
local json = require "show.json"
local raise = require "core.raise"
local runs = require "command.runs"
local show = require "show.run"
local system = require "native.system"
local text = require "core.text"
local undofile = require "native.undofile"

local M = {}

local finished = { ok = true, undone = true, failed = true, cancelled = true }
local makes = { ["pg.create"] = true, ["file.mkdir"] = true }
local removes = { ["pg.drop"] = true, ["file.remove"] = true }

---What a run made, is not known to have removed, and named after itself.
---@param records table[]
---@param run string id
---@return string[] subjects
function M.leftovers(records, run)
  local made, order = {}, {}
  local story = show.story(records)
  local seqs = {}
  for seq in pairs(story.intents) do seqs[#seqs + 1] = seq end
  table.sort(seqs)
  for _, seq in ipairs(seqs) do
    local intent = story.intents[seq]
    local primitive, subject = intent.body.primitive, intent.body.subject
    local happened = not intent.outcome or intent.outcome.status ~= "failed"
    if subject and happened and makes[primitive] and subject:find(run, 1, true) then
      if made[subject] == nil then order[#order + 1] = subject end
      made[subject] = true
    elseif subject and removes[primitive] and intent.outcome and intent.outcome.status == "ok" then
      made[subject] = made[subject] and false or nil
    end
  end
  local left = {}
  for _, subject in ipairs(order) do
    if made[subject] then left[#left + 1] = subject end
  end
  return left
end

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

---@param _ string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(_, parsed, context)
  local rows, err = journal.index.list(context.state, { limit = 1000000 })
  if not rows then error(err, 0) end
  local keep, older = number_of(parsed.options.keep, 50, "keep"), duration.parse(parsed.options.older or "90d")
  local rows_ms = duration.parse(parsed.options.rows or "30d")
  for _, row in ipairs(M.choose(rows, 0, rows_ms, context.clock())) do forget_rows(row, context, parsed.options["dry-run"]) end
  local dry, removed = parsed.options["dry-run"], 0
  for _, row in ipairs(M.choose(rows, keep, older, context.clock())) do
    local records = journal.read(context.state, row.run) or {}
    local free, why = may_go(row, show.story(records))
    local left = M.leftovers(records, row.run)
    if not free then say(context, row, "kept", why)
    elseif #left > 0 then say(context, row, "kept", "left behind: " .. text.join(left))
    else
      if not dry then remove(row, context) end
      removed = removed + 1
      say(context, row, dry and "would go" or "removed")
    end
  end
  sweep(context, dry)
  if not context.json and not context.quiet then
    context.lines { ("%s %s, %d kept."):format(text.count(removed, "run"), dry and "would go" or "removed", #rows - removed) }
  end
  return 0
end

return M
