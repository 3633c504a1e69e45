-- `neap journal`: prove, find and rebuild what is recorded.
local journal = require "native.journal"
local json = require "show.json"
local runs = require "command.runs"
local text = require "core.text"

local M = {}

-- The whole head of one run, so that it can be compared with a copy; a short one in a list of runs.
local function say(context, row, proof, err, alone)
  if context.json then
    context.out(json.line { schema = json.schema, kind = "verify", run = row.run, ok = proof ~= nil, records = proof and proof.records,
      head = proof and proof.head, message = err and err.message } .. "\n")
  elseif proof then
    if context.quiet then return end
    context.lines { ("%s %s  %s, head %s"):format(context.style:mark("ok"), row.run, text.count(proof.records, "record"), alone and proof.head or proof.head:sub(1, 16)) }
  else
    context.lines { context.style:mark("failed") .. " " .. context.style:clean(row.run .. "  " .. err.message) }
  end
end

local actions = {}

function actions.verify(run, context)
  local rows = run and { runs.find(run, context) } or journal.index.list(context.state, { limit = 100000 }) or {}
  local broken = 0
  for _, row in ipairs(rows) do
    local proof, err = journal.verify(context.state, row.run)
    if not proof then broken = broken + 1 end
    say(context, row, proof, err, run ~= nil)
  end
  if #rows == 0 and not context.json and not context.quiet then context.lines { "No run is recorded here." } end
  return broken > 0 and 65 or 0
end

function actions.rebuild(_, context)
  local count, err = journal.index.rebuild(context.state)
  if not count then error(err, 0) end
  if context.json then context.out(json.line { schema = json.schema, kind = "rebuild", count = count } .. "\n")
  elseif not context.quiet then
    local words = type(count) == "number" and text.count(count, "run") .. " in the index" or "the index was rebuilt"
    context.lines { context.style:mark("ok") .. " " .. words }
  end
  return 0
end

function actions.path(run, context)
  context.lines { run and runs.directory(context.state, runs.find(run, context).run) or context.state }
  return 0
end

---@param operands string[]
---@param _ Parsed
---@param context table
---@return integer exit code
function M.run(operands, _, context)
  return actions[operands[1]](operands[2], context)
end

return M
