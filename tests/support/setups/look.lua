-- look.lua: was anything written on a set-up? Everything that its servers can tell, before and after.
--
--   local look = require("tests.support.setups.look").of(at)
--   local found = look.during(function () … end)                      a list of sentences; empty when nothing was written
--
-- PostgreSQL: the next transaction id (so nobody took one), rows inserted, updated and deleted anywhere (with autovacuum off), databases, roles
-- and their settings, advisory locks, prepared transactions, and each statement that neap sent. Redis: each command, by MONITOR. Files: name,
-- kind, mode, length, times and bytes of all that the roles of folders, hosts and services have. The Engine: its events. The application: whether
-- it runs. The chat: what was posted. The migration tool: how it was called. The write-ahead log: each record that came meanwhile, by its kind (pg_walinspect),
-- because a server that may have replicas logs a line about itself now and then, and its position alone would say so.

local evidence = require "tests.support.evidence"
local keep = require "tests.support.keep"

local M = {}

local FACTS <const> = [[
select concat_ws(E'\n', 'log position: ' || pg_current_wal_insert_lsn(), 'next transaction: ' || pg_snapshot_xmax(pg_current_snapshot()),
  (select 'rows: ' || sum(tup_inserted) || ' ' || sum(tup_updated) || ' ' || sum(tup_deleted) from pg_stat_database),
  (select 'databases: ' || string_agg(datname, ',' order by datname) from pg_database),
  (select 'roles: ' || md5(string_agg(r::text, ',' order by r.rolname)) from pg_authid r), (select 'settings: ' || count(*) from pg_db_role_setting),
  'advisory locks: ' || (select count(*) from pg_locks where locktype = 'advisory'),
  'prepared: ' || (select count(*) from pg_prepared_xacts), (select 'slots: ' || count(*) from pg_replication_slots))]]

-- What was written to the log between two positions, by kind. Three kinds are nobody's doing: what a server that may have replicas says of itself now and
-- then, a checkpoint, and the tidying of a page, which a mere SELECT may begin. What is in the log but not on the disk yet, such as the end of a
-- transaction that was rolled back, cannot be read: a checkpoint takes it there.
local LOG <const> = [[
checkpoint;
select string_agg(kind || ' ' || n, ', ' order by kind) from (
  select resource_manager || '/' || record_type as kind, count(*) as n from pg_get_wal_records_info('%s', '%s')
   where resource_manager || '/' || record_type !~ '^(Standby/RUNNING_XACTS|XLOG/(CHECKPOINT_|FPI_FOR_HINT)|Heap2/PRUNE)' group by 1) k]]

-- A question that a migration tool is asked is no write; anything else is.
local ASKED <const> = { "^migrate status", "^migrate diff", "^%-%-config %S+ migrate status", "^%-%-config %S+ migrate diff", "^%-?%-?version" }

-- Commands in containers and looks at files there only read when their author says so, and health checks are made of them; whatever else
-- happens to a container is a write.
local HARMLESS <const> = { "^exec_", "^health_status", "^archive%-path", "^top" }

local function events(engine, since)
  local list = {}
  for _, action in ipairs(engine.events(since)) do
    local is_harmless = false
    for _, pattern in ipairs(HARMLESS) do is_harmless = is_harmless or action:find(pattern) ~= nil end
    if not is_harmless then list[#list + 1] = action end
  end
  return list
end

local function is_asked(call)
  for _, pattern in ipairs(ASKED) do
    if call:find(pattern) then return true end
  end
  return false
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

local function facts(at)
  if not at.pg.has_walinspect then at.pg.sql "create extension if not exists pg_walinspect" end
  at.pg.has_walinspect = true
  evidence.quiet(at.pg)
  return { server = lines_of(at.pg.sql(FACTS)), files = lines_of(evidence.tree(at.folders)), application = at.app.running() }
end

local function set_of(list)
  local set = {}
  for _, line in ipairs(list) do set[line] = true end
  return set
end

-- One sentence for each fact of the server that is another one now, and one for the files.
local function differences(at, before, after)
  local list, there, now = {}, set_of(before.files), set_of(after.files)
  local from, to = before.server[1]:match("%S+$"), after.server[1]:match("%S+$")
  local written = from ~= to and at.pg.sql(LOG:format(from, to)) or ""
  if written ~= "" then list[1] = "the write-ahead log: " .. written end
  for i = 2, #before.server do
    if before.server[i] ~= after.server[i] then list[#list + 1] = before.server[i] .. " → " .. after.server[i] end
  end
  for _, line in ipairs(before.files) do if not now[line] then list[#list + 1] = "files, before: " .. line end end
  for _, line in ipairs(after.files) do if not there[line] then list[#list + 1] = "files, after: " .. line end end
  if before.application ~= after.application then list[#list + 1] = ("application: it runs: %s → %s"):format(before.application, after.application) end
  return list
end

local function add(found, list, what)
  for _, one in ipairs(list) do found[#found + 1] = what .. ": " .. one end
end

--- Look now, once everything is as it shall be.
---@param at table a place of setups.open
---@return table
function M.of(at)
  local before = facts(at)
  local look = {}

  --- Call fn; what was written meanwhile, as sentences.
  function look.during(fn)
    local from, calls, said = #at.pg.log() + 1, #at.calls(), #at.said()
    local since = at.engine and at.engine.now()
    local sent = at.watch(fn)
    local found = differences(at, before, facts(at))
    add(found, evidence.writes(at.pg.log():sub(from)), "sent to PostgreSQL")
    add(found, keep.writes(sent), "sent to Redis")
    add(found, table.move(at.said(), said + 1, 1000, 1, {}), "posted")
    if since then add(found, events(at.engine, since), "a container") end
    for i = calls + 1, #at.calls() do
      if not is_asked(at.calls()[i]) then found[#found + 1] = "the migration tool: " .. at.calls()[i] end
    end
    if T.entries(at.state) then found[#found + 1] = "a state directory was made" end
    return found
  end

  return look
end

return M
