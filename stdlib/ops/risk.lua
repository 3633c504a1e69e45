--- What a set of migrations would do to a database that is there: per statement the lock, the table's size, and what is dangerous about it.
--
--   risk.of { { name = "2024…", sql = text }, … } , { target = risk.target(db), big = 100 MiB }
--
-- A finding has a rule, an object and a weight:
--
--   loses    rows, columns or tables that hold something are gone afterwards
--   fails    the server will refuse it, or may: what was executed before it in the same file is undone, or worse, is not
--   breaks   the application that runs now asks for a name that is no longer there
--   blocks   the lock is held while a whole table is read or written; serious once the table is big
--   unseen   code that the grammar does not look into
--
-- A table that an earlier statement of the set made is new: nothing about it is dangerous. A serious finding is waived by its id ("rule:object")
-- with a reason, never by a flag for all.
--
-- Rejected: rules without the target (squawk warns about an index on a table of ten rows, and people learn to look away), and a rule for
-- each statement of PostgreSQL (one that is not known here takes its lock and is shown with it, no more is claimed).

local bytes = require "core.bytes"
local raise = require "core.raise"
local rules = require "ops.risk_rules"
local statement = require "ops.statement"

local M = {}

-- The target -----------------------------------------------------------------------------------------------

local TABLES <const> = [[
SELECT n.nspname || '.' || c.relname AS name, c.relkind::text AS kind, c.reltuples::bigint AS rows, pg_catalog.pg_total_relation_size(c.oid) AS bytes,
       pg_catalog.pg_relation_size(c.oid) AS heap, c.oid::pg_catalog.regclass::text AS sql, tn.nspname || '.' || t.relname AS of_table
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'i', 'I') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema']]

local COLUMN <const> = [[
SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) AS type FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped]]

--- What the rules ask about the database, read once; columns and emptiness when they are asked for.
---@param db table the database, bound
---@return table target
---@effect read
function M.target(db)
  local relations = {}
  if db then
    for _, row in ipairs(db:rows(TABLES)) do relations[row.name] = row end
  end
  local target = {}
  --- The relation of this name: { rows =, bytes =, of_table = }, nil when there is none.
  function target.relation(name) return relations[name] end
  --- Has the table no row at all? Asked, not estimated.
  function target.empty(name)
    local found = relations[name]
    if not found or found.heap == 0 and found.kind ~= "p" then return true end
    if found.is_empty == nil then found.is_empty = not db:has(("SELECT 1 FROM %s LIMIT 1"):format(found.sql)) end
    return found.is_empty
  end
  --- The type of a column as PostgreSQL writes it, nil when there is none.
  function target.column(name, column)
    local found = relations[name]
    local row = found and db:rows(COLUMN, found.sql, column)[1]
    return row and row.type
  end
  return target
end

-- Rules about the transaction that a statement is in ---------------------------------------------------------

local function of_transaction(c, f)
  if f.alone and c.together then
    return { { rule = "alone-in-transaction", object = f.kind, weight = "fails", about = ("%s cannot run inside a transaction, and the tool sends %s as one"):format(f.kind, c.together) } }
  end
  local list = {}
  for value, type_name in pairs(c.values) do
    if f.literals[value] then
      list[#list + 1] = { rule = "enum-in-transaction", object = type_name .. "." .. value, weight = "fails",
        about = ("'%s' was added to %s in the same transaction and cannot be used in it; give it a migration of its own"):format(value, type_name) }
    end
  end
  table.sort(list, function (a, b) return a.object < b.object end)
  return list
end

-- The set --------------------------------------------------------------------------------------------------

-- What the set itself has changed so far.
local function learn(c, act)
  if act.what == "create table" then c.made[act.table] = true end
  if act.what == "drop table" then c.made[act.table] = true end              -- whatever comes after it under that name is new
  if act.what == "add column" then c.added[act.table .. "." .. act.column] = true end
  if act.what == "add value" and c.together then c.values[act.value] = act.type end
end

local function weigh(c, f, finding)
  local relation = c.target.relation(finding.table or "")
  local other = finding.other and not c.made[finding.other] and c.target.relation(finding.other)
  finding.id, finding.migration, finding.text = finding.rule .. ":" .. finding.object, c.migration, f.text
  finding.bytes = math.max(relation and relation.bytes or 0, other and other.bytes or 0)
  finding.serious = finding.weight ~= "blocks" or finding.bytes >= c.big
  return finding
end

local function judge(c, f)
  local found = of_transaction(c, f)
  for _, act in ipairs(f.acts) do
    local gone = act.table and (c.made[act.table] or not c.target.relation(act.table))
    local finding = not gone and rules[act.what] and rules[act.what](c, act)
    if finding then
      finding.table = act.table
      found[#found + 1] = finding
    end
  end
  for _, finding in ipairs(found) do weigh(c, f, finding) end
  for _, act in ipairs(f.acts) do learn(c, act) end
  return found
end

local function locks_of(c, f)
  for _, act in ipairs(f.acts) do
    local index = act.what == "drop index" and c.target.relation(act.name)
    if index and index.of_table then f.locks[index.of_table] = act.concurrently and 4 or 8 end
  end
  local list = {}
  for name, mode in pairs(f.locks) do
    local relation = not c.made[name] and c.target.relation(name)
    if relation then list[#list + 1] = { table = name, mode = statement.MODES[mode], bytes = relation.bytes, rows = math.max(relation.rows, 0) } end
  end
  table.sort(list, function (a, b) return a.table < b.table end)
  return list
end

--- The statements of migrations in their order, each with its locks of tables that are there and its findings.
---@param files { name: string, statements: string[] }[]
---@param given { target: table, big: integer, whole: boolean?, schema: string? } big: bytes from which blocking is serious; whole: all files are one transaction
---@return { migration: string, text: string, kind: string, locks: table[], findings: table[] }[]
---@effect read
function M.of(files, given)
  local c = { target = given.target, big = given.big, made = {}, added = {}, values = {} }
  local list = {}
  for _, file in ipairs(files) do
    c.migration, c.acts, c.together = file.name, {}, given.whole and "all migrations" or #file.statements > 1 and "the file" or nil
    if not given.whole then c.values = {} end
    local facts = {}
    for i, text in ipairs(file.statements) do
      facts[i] = statement.of(text, given.schema)
      table.move(facts[i].acts, 1, #facts[i].acts, #c.acts + 1, c.acts)
    end
    for _, f in ipairs(facts) do
      local locks = locks_of(c, f)
      list[#list + 1] = { migration = file.name, text = f.text, kind = f.kind, locks = locks, findings = judge(c, f) }
    end
  end
  return list
end

--- The findings of a list of statements, in their order.
---@param statements table[]
---@param keep? fun(finding: table): boolean
---@return table[]
---@effect pure
function M.findings(statements, keep)
  local list = {}
  for _, one in ipairs(statements) do
    for _, finding in ipairs(one.findings) do
      if not keep or keep(finding) then list[#list + 1] = finding end
    end
  end
  return list
end

--- Would these statements disturb anybody: something is lost, or a big table is held?
---@param statements table[]
---@return boolean
---@effect pure
function M.is_disturbing(statements)
  return #M.findings(statements, function (finding) return finding.serious and (finding.weight == "loses" or finding.weight == "blocks") end) > 0
end

--- What would be lost.
---@param statements table[]
---@return table[] findings
---@effect pure
function M.losses(statements)
  return M.findings(statements, function (finding) return finding.weight == "loses" end)
end

local function cut(text, most) return #text > most and text:sub(1, most - 1) .. "…" or text end

--- The statements as a table to be shown.
---@param title string
---@param statements table[]
---@return table answer for `report`
---@effect pure
function M.table(title, statements)
  local rows = {}
  for _, one in ipairs(statements) do
    local ids = {}
    for i, finding in ipairs(one.findings) do ids[i] = ("%s %s"):format(finding.serious and finding.weight or "small:", finding.id) end
    local row = { one.migration, cut(one.text, 60), nil, nil, nil, nil, table.concat(ids, "; ") }
    if #one.locks == 0 then rows[#rows + 1] = row end
    for _, lock in ipairs(one.locks) do
      rows[#rows + 1] = { row[1], row[2], lock.mode, lock.table, lock.rows, lock.bytes, row[7] }
    end
  end
  return { title = title, columns = { "migration", "statement", "lock", "table", "rows", "bytes", "findings" }, rows = rows,
    remark = "Rows are the statistics' estimate; a table that the migrations make themselves takes no lock that anybody waits for." }
end

-- Waivers --------------------------------------------------------------------------------------------------

--- Waivers as people write them, "rule:object=reason", taken apart.
---@param list string[]
---@return table<string, string> reasons by id
---@effect pure
function M.waivers(list)
  local reasons = {}
  for _, text in ipairs(list) do
    local id, reason = text:match("^%s*([%w-]+:[^=]-)%s*=%s*(.-)%s*$")
    if not id or reason == "" then
      raise("usage", ("\"%s\" waives nothing"):format(text), "Write rule:object=reason, as the plan lists them: drop-column:public.User.name=copied to display_name.")
    end
    reasons[id] = reason
  end
  return reasons
end

--- The serious findings that nobody waived, in sentences; and the waivers that fit no finding.
---@param statements table[]
---@param reasons table<string, string> of `waivers`
---@return string[] open
---@return string[] idle
---@effect pure
function M.open(statements, reasons)
  local open, used, idle, said = {}, {}, {}, {}
  for _, finding in ipairs(M.findings(statements)) do
    used[finding.id] = true
    if finding.serious and not reasons[finding.id] and not said[finding.id] then
      said[finding.id] = true
      open[#open + 1] = ("%s (%s%s): %s"):format(finding.id, finding.weight, finding.weight == "blocks" and ", " .. bytes.format(finding.bytes) or "", finding.about)
    end
  end
  for id in pairs(reasons) do
    if not used[id] then idle[#idle + 1] = id end
  end
  table.sort(idle)
  return open, idle
end

return M
