-- asked.lua: what each shipped runbook is asked with on a set-up (tests/support/setups.lua), and a world in which it has something to do.
--
-- Of each runbook: words(at), its parameters; exit, what its preview ends with there (2: there is something to do, 0: there is not);
-- confirm(at), the names that a run must be told; before(at), what must be so for all its
-- steps to have something to do, where that is not so for the others; elsewhere, the test that shows its undo, where that takes a place of its own.
-- A runbook that is shipped and is not here fails the specs that walk the folder of runbooks.

local archives = require "tests.support.archive"
local migrating = require "tests.support.migrating"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local text = require "native.text"

local M = {}

local function database(at) return { "--database", at.database } end
local function destroys(name) return function (at) return { "--confirm", "destroys=" .. (type(name) == "function" and name(at) or name) } end end

local function appending(at)
  at.redis.cli("config", "set", "appendonly", "yes")
  local until_ms = T.now_ms() + 60000
  while not at.redis.cli("info", "persistence"):find "aof_rewrite_in_progress:0%s+aof_rewrite_scheduled:0" do
    if T.now_ms() > until_ms then error("the append-only file is not written", 0) end
    T.pause(10)
  end
end

M.runbooks = {
  ["incident/corruption"] = { words = database, exit = 2 },
  ["incident/database-unresponsive"] = { words = database, exit = 0 },
  ["incident/disk-full"] = { exit = 2 },
  ["incident/revoke-sessions"] = { words = function () return { "--user", "u1" } end, exit = 2, confirm = destroys "u1" },
  ["postgres/accept-restore"] = { words = function (at) return { "--kept", at.database .. "_gone" } end, exit = 0 },
  ["postgres/backup"] = { words = function () return { "--name", "night.dump" } end, exit = 2 },
  ["postgres/fresh-database"] = { words = function (at) return { "--database", at.database .. "_fresh" } end, exit = 2,
    elsewhere = "tests/runbooks/fresh_database_spec.lua: takes everything back when the baseline fails" },
  ["postgres/health"] = { exit = 0 },
  ["postgres/migrate"] = { words = function (at) return { "--database", at.database .. "_shop", table.unpack(migrating.gates) } end, exit = 2 },
  ["postgres/reindex"] = { exit = 2 },
  ["postgres/repair-migrations"] = { words = database, exit = 2, elsewhere = "tests/runbooks/repair_migrations_spec.lua: and undo makes the history what it was" },
  ["postgres/repair-ownership"] = { words = function (at) return { "--database", at.database, "--role", "pg_read_all_data", "--own=no" } end, exit = 2,
    elsewhere = "tests/runbooks/repair_ownership_spec.lua: and undo gives everything back" },
  ["postgres/restore"] = { words = function () return { "--dump", "new.sql", "--idle", "200ms" } end, exit = 2,
    elsewhere = "tests/runbooks/restore_spec.lua: puts the backup in place of the database as it said, and takes it back" },
  ["postgres/retention"] = { words = function (at) return { "--database", at.database, "--keep", "1" } end, exit = 2 },
  ["postgres/restore-to-time"] = { words = function (at) return at.moment end, exit = 2,
    elsewhere = "tests/runbooks/restore_to_time_spec.lua: and is taken back" },
  ["postgres/terminate"] = { words = database, exit = 0 },
  ["postgres/vacuum"] = { exit = 2 },
  ["postgres/verify-backup"] = { words = function () return { "--dump", "new.sql" } end, exit = 2 },
  ["redis/backup"] = { words = function () return { "--name", "night", "--begun", "1" } end, exit = 2, before = appending },
  ["redis/enable-aof"] = { words = function () return { "--until-restart", "--before", "no,everysec,0" } end, exit = 2 },
  ["redis/flush-prefix"] = { words = function () return { "--prefix", "catalog:" } end, exit = 2 },
  ["redis/health"] = { exit = 0 },
  ["service/maintenance-window"] = { words = function () return { "--operation", "postgres/vacuum", "--tested", "7f3a91c0", "--rollback", "none needed", "--flat", "200ms" } end, exit = 2,
    elsewhere = "tests/runbooks/maintenance_window_spec.lua: shows every step and those of the operation, and does what it showed, and takes it back" },
  ["redis/set-eviction"] = { words = function () return { "--policy", "noeviction", "--limit", "64MiB", "--until-restart", "--before", "noeviction,0,0" } end, exit = 2 },
}

--- The names of all runbooks that are shipped.
---@return string[]
function M.shipped()
  local list = {}
  for _, dir in ipairs(T.entries "runbooks") do
    for _, file in ipairs(T.entries("runbooks/" .. dir)) do list[#list + 1] = ("%s/%s"):format(dir, (file:gsub("%.lua$", ""))) end
  end
  table.sort(list)
  return list
end

--- What a runbook is asked with, or an error that says what to do.
---@param runbook string
---@return table
function M.of(runbook)
  return M.runbooks[runbook] or error(runbook .. " is shipped, and tests/support/setups/asked.lua does not say what it is asked with", 2)
end

--- A command line: the verb, the runbook, its parameters, more words.
---@param verb string
---@param runbook string
---@param at table a place of setups.open
---@param ... string
---@return string[]
function M.line(verb, runbook, at, ...)
  local asked, line = M.of(runbook), { verb, runbook }
  for _, list in ipairs { asked.words and asked.words(at) or {}, { ... } } do table.move(list, 1, #list, #line + 1, line) end
  return line
end

-- A backup of the catalogue, as small as one can be.
local function backup(at, name, taken_at)
  local dump = "--\n-- PostgreSQL database dump\n--\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
  suite.write(("%s/%s"):format(at.backups, name), dump)
  suite.write(("%s/%s.manifest"):format(at.backups, name), text.json { state = "whole", name = name, database = at.database, server = "pg:1", taken_at = taken_at, format = "plain",
    bytes = #dump, sha256 = text.sha256(dump), counts = {}, shape = {} })
end

-- A database whose history has all migrations of the folder but the last.
local function shop(at)
  local name = at.database .. "_shop"
  at.pg.sql(("create database %s owner owner"):format(name))
  suite.after(function () at.pg.sql(("drop database if exists %s with (force)"):format(name)) end)
  at.pg.sql("set role owner; " .. migrating.prisma_history(at.migrations, tools.superseded, 0), name)
end

--- Something for each of them to find: keys of a cache, two backups, a database with a migration that is pending (dead rows, indexes and sessions are in
--- the schema of the wards).
---@param at table
function M.furnish(at)
  backup(at, "old.sql", "20200101T020000Z")
  backup(at, "new.sql", "20250101T020000Z")
  shop(at)
  for i = 1, 5 do at.redis.cli("set", "catalog:" .. i, "x") end
end

--- A base backup, an archive of the log, and room for a second cluster: where the backups are, on the machine that has PostgreSQL's programs. They are
--- those of another cluster than the set-up's own, which nobody asks.
---@param at table
function M.archive(at)
  local first, on = archives.start(), at.name == "docker" and "iris" or at.name == "plain" and "server" or nil
  local user = on ~= "iris" and T.uid() == 0 and "postgres" or nil
  local dir = on == "iris" and at.hosts.iris.home .. "/pitr" or T.directory(first.dir .. "/o")
  local entries
  entries, at.moment = archives.lend(first, dir, user or on and at.hosts.iris.uid or T.uid(), on and (', on = "%s"'):format(on) or "", user and ', as = "postgres"')
  at.bind { entries = "  " .. entries }
  at.folders[#at.folders + 1] = dir
  suite.after(function () T.remove_tree(dir) end)
end

return M
