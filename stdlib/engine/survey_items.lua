--- The items of a step in a survey: asked side by side, put together in their order.
--
-- As many are asked at once as the step has at a time, each into an entry of its own. What they said comes into the step's entry in the order
-- of the list, so that two previews read the same. The acts of a change are shown one after the other, because what they would write
-- is one list of the guard's.

local M = {}

local clause = require("engine.clause")
local items = require("engine.items")

local function absorb(self, part)
  for _, line in ipairs(part.entry.lines) do self:line(line) end
  self.failures = self.failures + part.failures
  if part.entry.label == "unknown" then self.entry.label, self.entry.sign, self.entry.withheld = "unknown", "?", part.entry.withheld end
  self.entry.failed = self.entry.failed or part.entry.failed
end

-- A survey of one item, with an entry of its own.
local function part_of(self)
  return setmetatable({ entry = { number = self.entry.number, lines = {} }, failures = 0 }, { __index = self })
end

-- So many items are asked side by side as the step has at a time.
local function ask_batch(self, step, list, first, last)
  local parts, at = {}, first
  items.side_by_side(last - first + 1, function ()
    local i = at
    at = at + 1
    parts[i] = part_of(self)
    parts[i].asked = parts[i]:before(step, list[i])
  end)
  return parts
end

-- Items that cannot be asked do not stand in the way of a step that may go on without them; a run tries them again.
local function absorb_failed(self, step, failed, all)
  local bears = #failed < (step.clauses.stop_after or 1)
  for _, one in ipairs(failed) do
    if bears then self:line { label = "unknown", text = ("%s: %s"):format(one.key, one.part.entry.error.message) } else absorb(self, one.part) end
    self.entry.error = self.entry.error or not bears and one.part.entry.error or nil
  end
  if bears and failed[1] then self.unseen[("%d of %d items of step %s"):format(#failed, all, self.entry.number)] = true end
end

--- The items of a change: a batch is asked, then its acts are shown in order. How many are not so yet.
---@param self table the survey
---@param step table
---@param list any[]
---@return integer
function M.change(self, step, list)
  local open, failed, limit = 0, {}, step.clauses.limit or 1
  for first = 1, #list, limit do
    local last = math.min(first + limit - 1, #list)
    local parts = ask_batch(self, step, list, first, last)
    for i = first, last do
      local part = parts[i]
      if part.failures > 0 then
        failed[#failed + 1] = { key = clause.key_of(list[i]), part = part }
        open = open + 1
      else
        absorb(self, part)
        if self:item(step, list[i], part.asked) ~= "already" then open = open + 1 end
      end
    end
  end
  absorb_failed(self, step, failed, #list)
  return open
end

--- The items of a check.
---@param self table the survey
---@param step table
---@param list any[]
function M.check(self, step, list)
  local parts = {}
  local ok, err = pcall(items.each, step, list, function (item)
    local part = part_of(self)
    parts[clause.key_of(item)] = part
    part:check_item(step, item)
    if part.entry.error then error(part.entry.error, 0) end
  end)
  for _, item in ipairs(list) do
    local part = parts[clause.key_of(item)]
    if part then absorb(self, part) end
  end
  if not ok then self.entry.error, self.entry.failed = err, true end
end

return M
