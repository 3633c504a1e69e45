-- look.lua: was anything written on a set-up? Everything that its servers can tell, before and after.
--
--   local look = require("tests.support.setups.look").of(at)
--   local found = look.during(function () … end)                      a list of sentences; empty when nothing was written
--
-- PostgreSQL: the next transaction id (so nobody took one), rows inserted, updated and deleted anywhere (with autovacuum off), databases, roles
-- and their settings, advisory locks, prepared transactions, and each statement that neap sent. Redis: each command, by MONITOR. Files: name,
-- kind, mode, length, times and bytes of all that the roles of folders, hosts and services have. The Engine: its events. The application: whether
-- it runs. The chat: what was posted. The migration tool: how it was called. The position of the write-ahead log is no witness here, because a server
-- that may have replicas logs a line about itself now and then; that is looked at on a server of its own (evidence.lua).

local evidence = require "tests.support.evidence"
local keep = require "tests.support.keep"

local M = {}

local FACTS <const> = [[
select concat_ws(E'\n', 'next transaction ' || pg_snapshot_xmax(pg_current_snapshot()),
  (select 'rows ' || sum(tup_inserted) || ' ' || sum(tup_updated) || ' ' || sum(tup_deleted) from pg_stat_database),
  (select 'databases ' || string_agg(datname, ',' order by datname) from pg_database),
  (select 'roles ' || md5(string_agg(r::text, ',' order by r.rolname)) from pg_authid r), (select 'settings ' || count(*) from pg_db_role_setting),
  'advisory locks ' || (select count(*) from pg_locks where locktype = 'advisory'),
  'prepared ' || (select count(*) from pg_prepared_xacts), (select 'slots ' || count(*) from pg_replication_slots))]]

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

local function facts(at)
  evidence.quiet(at.pg)
  return { server = at.pg.sql(FACTS), files = evidence.tree(at.folders), application = tostring(at.app.running()) }
end

local function differences(before, after)
  local list = {}
  for _, what in ipairs { "server", "files", "application" } do
    if before[what] ~= after[what] then list[#list + 1] = ("%s\n--- before\n%s\n--- after\n%s"):format(what, before[what], after[what]) end
  end
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
    local from, calls = #at.pg.log() + 1, #at.calls()
    local since = at.engine and at.engine.now()
    local sent = at.watch(fn)
    local found = differences(before, facts(at))
    add(found, evidence.writes(at.pg.log():sub(from)), "sent to PostgreSQL")
    add(found, keep.writes(sent), "sent to Redis")
    add(found, at.said(), "posted")
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
