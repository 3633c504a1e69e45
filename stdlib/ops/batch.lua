--- What is pending, as one batch: which migrations, what was recorded before them, and what came of it. Methods of a history (ops.migrations).
--
-- A batch is plain data and is journaled when a run first asks for it, so that a run that died and was resumed still knows what it set out to
-- do and what was there before: { key = "20240601_more and 2 others", names = {…}, before = {…} }.

local risk = require "ops.risk"

local batch = {}

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

local function without(names, set)
  local list = {}
  for _, name in ipairs(names) do
    if not set[name] then list[#list + 1] = name end
  end
  return list
end

local function applied(history)
  local names = {}
  for i, row in ipairs(history:applied()) do names[i] = row.name end
  return names
end

--- All that is pending, as the items of a step: one batch, or none.
---@return { key: string, names: string[], before: string[] }[]
---@effect read
function batch:batch()
  local names = self:pending()
  if #names == 0 then return {} end
  local others = #names - 1
  local key = others == 0 and names[1] or ("%s and %d %s"):format(names[1], others, others == 1 and "other" or "others")
  return { { key = key, names = names, before = applied(self) } }
end

--- What is pending and not of the batch: it came into the folder since.
---@param of table
---@return string[] names
---@effect read
function batch:beyond(of) return without(self:pending(), set_of(of.names)) end

--- What was recorded as applied since the batch was made.
---@param of table
---@return string[] names
---@effect read
function batch:added(of) return without(applied(self), set_of(of.before)) end

--- Which of these are not recorded as applied.
---@param names string[]
---@return string[]
---@effect read
function batch:without(names) return without(names, set_of(applied(self))) end

--- Is each of them?
---@param names string[]
---@return boolean
---@effect read
function batch:has_all(names) return #self:without(names) == 0 end

--- Who is migrating this database now, by the lock of the tool, in sentences: at most one. Where the tool takes no lock there is nobody to see.
---@return string[]
---@effect read
function batch:holders()
  local holder = self:holder()
  if not holder then return {} end
  return { ("pid %d, %s of %s from %s since %s holds %s's lock"):format(holder.pid, holder.application == "" and "a session without a name" or holder.application,
    holder.role, holder.client, holder.since, self:dialect().name) }
end

local SAYS_NOTHING <const> = { migration = true, update = true, updates = true, fix = true, fixes = true, change = true, changes = true, test = true, tmp = true, wip = true, new = true }

--- Which of these names say nothing about what the migration does ("20240101_fix", "0003_migration_1"), or are no snake_case.
---@param names string[]
---@return string[]
---@effect pure
function batch.nameless(_, names)
  local list = {}
  for _, name in ipairs(names) do
    local words = name:gsub("^%d+_*", "")
    if words == "" or words:find("[^%l%d_]") or SAYS_NOTHING[words:gsub("_*%d*$", "")] then list[#list + 1] = name end
  end
  return list
end

--- These migrations, statement by statement, held against the database (ops.risk).
---@param names string[]
---@param big integer bytes from which a table is big
---@return table[] statements
---@effect read
function batch:judged(names, big)
  if #names == 0 then return {} end
  local exists = self.db:exists(self.database)
  return risk.of(self:scripts(names), { target = risk.target(exists and self:there() or nil), big = big, whole = self:dialect().whole })
end

return batch
