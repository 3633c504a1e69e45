-- kept.lua: what a plan promised, held against what the run's journal says.
--
--   kept.compare(plan, records, run)   plan: `neap plan --json`, decoded; records: native.journal.read; run: its id
--
-- A write is an intent in the journal. It was announced when a line of its step's plan has its primitive, target and text, or
-- when that step's plan says that some of it is unknown. BEGIN is no write of its own: the statements in it are compared. A proof that
-- was green in the plan must not be red in the run. Writes of an undo are left out: a plan is of a run that goes well.

local M = {}

local function lines_of(plan)
  local by_step = {}
  for _, step in ipairs(plan.steps) do
    local known = by_step[step.id] or { predicted = {}, green = {}, title = step.title }
    by_step[step.id] = known
    known.open = known.open or step.label == "unknown"
    for _, line in ipairs(step.lines) do
      if line.label == "unknown" then known.open = true end
      if line.label == "predicted" then known.predicted[("%s\0%s\0%s"):format(line.primitive, line.target or "", line.text)] = true end
      if line.ok == true then known.green[line.text] = true end
    end
  end
  return by_step
end

-- A name that only the run has is another one in the plan, and so is the moment it began.
local function as_planned(text, run, stamps) return (text:gsub("__" .. run, "__plan"):gsub(":" .. run .. "'", ":plan'"):gsub(stamps[1], stamps[2])) end

local function is_announced(known, body, run, stamps)
  if not known then return false end
  if body.primitive == "pg.begin" then return known.open or next(known.predicted) ~= nil end
  return known.open or known.predicted[("%s\0%s\0%s"):format(body.primitive, body.target or "", as_planned(body.text or "", run, stamps))] or false
end

--- Everything in which the run was not as the plan said; empty when it was.
---@param plan table
---@param records table[]
---@param run string id
---@return string[]
---@return integer writes how many writes were compared
---@return integer proofs how many green proofs were asked again
function M.compare(plan, records, run)
  local steps, wrong, undoing = lines_of(plan), {}, {}
  local writes, proofs, stamps = 0, 0, { records[1].body.stamp or "\0", plan.stamp or "" }
  for _, r in ipairs(records) do
    local known = steps[r.step]
    if r.kind == "owed" then undoing[r.step] = r.body.clause == "undo" end
    if r.kind == "settled" then undoing[r.step] = nil end
    if r.kind == "intent" and not undoing[r.step] then
      writes = writes + 1
      if not is_announced(known, r.body, run, stamps) then
        wrong[#wrong + 1] = ("not announced: %s of step %s: %s"):format(r.body.primitive, r.step, r.body.text)
      end
    elseif r.kind == "check" and known and known.green[r.body.text] then
      proofs = proofs + 1
      if not r.body.ok then wrong[#wrong + 1] = ("green in the plan, red in the run: %s of step %s"):format(r.body.text, r.step) end
    end
  end
  return wrong, writes, proofs
end

--- A plan's page without what differs from machine to machine: places, versions, how far columns are apart.
---@param page string
---@param names table<string, string> what is replaced by which word
---@return string
function M.plain(page, names)
  page = page:gsub("PostgreSQL [%d.]+[^\n]- on 127%.0%.0%.1:%d+", "PostgreSQL VERSION on 127.0.0.1:PORT"):gsub("pg:%d+/", "pg:SYSTEM/")
  local order = {}
  for name in pairs(names) do order[#order + 1] = name end
  table.sort(order, function (a, b) return #a > #b or #a == #b and a < b end)      -- one may be the beginning of another
  for _, name in ipairs(order) do page = page:gsub((name:find("^%w") and "%f[%w]" or "") .. name:gsub("%p", "%%%0") .. "%f[%W]", names[name]) end
  return (page:gsub(" +\n", "\n"):gsub("([^\n ])   +", "%1  "))
end

return M
