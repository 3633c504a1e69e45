-- `neap history`: the index of past runs, filtered.
local duration = require "core.duration"
local history = require "show.history"
local journal = require "native.journal"
local json = require "show.json"
local raise = require "core.raise"

local M = {}

local all = 100000

local function limit_of(options)
  if not options.limit then return 20 end
  local limit = math.tointeger(tonumber(options.limit))
  if not limit or limit < 1 then raise("usage", ('--limit cannot be "%s"'):format(options.limit), "Give a number of runs.") end
  return limit
end

---Keeps the rows that were asked for.
---@param rows table[]
---@param options table
---@param runbook string|nil
---@param now integer
---@return table[]
function M.filter(rows, options, runbook, now)
  local since = options.since and now - duration.parse(options.since)
  local limit, kept = limit_of(options), {}
  for _, row in ipairs(rows) do
    local wanted = (not runbook or row.runbook == runbook) and (not options.env or row.environment == options.env)
      and (not since or row.started_ms >= since)
      and not (options.failed and (row.status == "ok" or row.status == "running" or row.status == "undone"))
    if wanted and #kept < limit then kept[#kept + 1] = row end
  end
  return kept
end

-- "running" is what the run said of itself; nobody speaks for one that was killed.
local function tell_the_dead(rows, state)
  for _, row in ipairs(rows) do
    if row.status == "running" and not journal.is_written(state, row.run) then row.status = "died" end
  end
end

---@param operands string[]
---@param parsed Parsed
---@param context table
---@return integer exit code
function M.run(operands, parsed, context)
  local rows, err = journal.index.list(context.state, { limit = all })
  if not rows then error(err, 0) end
  tell_the_dead(rows, context.state)
  local now = context.clock()
  local kept = M.filter(rows, parsed.options, operands[1], now)
  if context.json then
    for _, row in ipairs(kept) do
      context.out(json.line { schema = json.schema, kind = "history", run = row.run, runbook = row.runbook, environment = row.environment,
        status = row.status, user = row.user, host = row.host, started_ms = row.started_ms, ended_ms = row.ended_ms } .. "\n")
    end
    return 0
  end
  context.lines(history.lines(kept, context.style, now))
  return 0
end

return M
