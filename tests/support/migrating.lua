-- migrating.lua: a place on one of the set-ups whose database has a history, for the specs of migrations: customers (two rows) and their first
-- migration, recorded as the tool itself would have, and what is pending beside it.
--
--   local at, why = require("tests.support.migrating").open("direct", "prisma", { ["2_orders"] = "CREATE TABLE …" })
--   at.pend("3_more", sql)   at.shadows()   at.recorded()   at.kill_at(1)   and all that a place has
--
-- The tool is the real one, with the place's own folder; `program` stands in for it.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local setups = require "tests.support.setups"
local shops = require "tests.support.shop"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local wards = require "tests.support.ward"

local M = {}

local INIT <const> = 'CREATE TABLE "Customer" (id serial PRIMARY KEY, name text NOT NULL, email varchar(40));\nCREATE TYPE "Role" AS ENUM (\'USER\', \'ADMIN\');\n'
local ROWS <const> = [[INSERT INTO "Customer" (name, email) VALUES ('Ada', 'a@example.org'), ('Bob', 'b@example.org')]]
local FIRST <const> = 1700000000000

local PRISMA <const> = [[
  CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL, finished_at timestamptz, migration_name varchar(255) NOT NULL,
    logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0);
  INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count) VALUES ]]
local DRIZZLE <const> = [[
  CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint);
  INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('%s', %d)]]
local RECORDED <const> = {
  prisma = "select string_agg(migration_name, ',' order by migration_name) from _prisma_migrations where finished_at is not null and rolled_back_at is null",
  drizzle = "select count(*) from drizzle.__drizzle_migrations",
}

local function sha256(path) return child.must({ argv = { "sha256sum", path } }):match("%x+") end

--- SQL that makes Prisma's history, with these migrations of a folder as applied by it (steps 1) or recorded only (steps 0).
---@param folder string
---@param names string[]
---@param steps integer
---@return string
function M.prisma_history(folder, names, steps)
  local rows = {}
  for i, name in ipairs(names) do rows[i] = ("('%d', '%s', now(), '%s', %d)"):format(i, sha256(("%s/%s/migration.sql"):format(folder, name)), name, steps) end
  return PRISMA .. table.concat(rows, ", ")
end

local function write_prisma(at, name, sql)
  os.execute(("mkdir -p '%s/%s'"):format(at.migrations, name))
  return suite.write(("%s/%s/migration.sql"):format(at.migrations, name), sql)
end

local function write_drizzle(at, name, sql, when)
  local entries = {}
  at.entries[#at.entries + 1] = { tag = name, when = when or FIRST + #at.entries * 1000 }
  for i, entry in ipairs(at.entries) do entries[i] = ('{"idx":%d,"version":"7","when":%d,"tag":"%s","breakpoints":true}'):format(i - 1, entry.when, entry.tag) end
  os.execute(("mkdir -p '%s/meta'"):format(at.migrations))
  suite.write(at.migrations .. "/meta/_journal.json", ('{"version":"7","dialect":"postgresql","entries":[%s]}'):format(table.concat(entries, ",")))
  return suite.write(("%s/%s.sql"):format(at.migrations, name), sql)
end

--- A place with a history. options: those of setups.open, and rows = false for empty tables.
---@param set_up string
---@param tool string "prisma" or "drizzle"
---@param pending table[] { name, sql } of each, in their order
---@param options? table
---@return table? place
---@return string? why there is none
function M.open(set_up, tool, pending, options)
  options = options or {}
  local empty = suite.temp()
  options.tool, options.schema, options.migrations = tool, "", empty
  local at, why = setups.open(set_up, options)
  if not at then return nil, why end
  if not options.program then
    local program, missing = tools.with_folder(tool, at.dir .. "/program", at.migrations)
    if not program then return nil, missing end
    shops.write_tool(at.dir, program)
  end
  at.entries = {}
  local write = tool == "prisma" and write_prisma or write_drizzle
  if tool == "prisma" then suite.write(at.migrations .. "/migration_lock.toml", 'provider = "postgresql"\n') end

  if at.pg.dir then wards.sessions(at, at.pg) end

  --- One more that is pending.
  function at.pend(name, sql, when) return write(at, name, sql, when) end

  local path = at.pend(tool == "prisma" and "1_init" or "0000_init", INIT)
  local history = tool == "prisma" and M.prisma_history(at.migrations, { "1_init" }, 1) or DRIZZLE:format(sha256(path), FIRST)
  at.pg.sql(("set role owner; %s; %s; %s"):format(INIT, options.rows == false and "select 1" or ROWS, history), at.database)
  for _, one in ipairs(pending) do at.pend(one[1], one[2]) end

  --- The databases of the server that only a rehearsal would have made.
  function at.shadows() return at.pg.sql("select count(*) from pg_database where datname like 'rehearsal\\_\\_%'") end

  --- What the history has: prisma's names, or how many rows of drizzle's.
  function at.recorded() return at.pg.sql(RECORDED[tool], at.database) end

  --- Kill neap before the nth call of the tool.
  function at.kill_at(n) suite.write(at.dir .. "/kill-at", tostring(n)) end

  --- Run neap so that the tool knows whom to kill.
  function at.begin(words, more)
    os.remove(at.dir .. "/pid")                    -- the tool that kills waits for the new one
    local process = at.start(words, more)
    suite.write(at.dir .. "/pid", tostring(process:pid()))
    process:shut()
    local r = process:finish(120000)
    r.all = r.out .. r.err
    return r
  end

  return at
end

--- The notes of a place's newest run.
---@param at table
---@return string[]
function M.notes(at)
  local list = {}
  for _, record in ipairs(at.records()) do
    if record.kind == "note" then list[#list + 1] = record.body.text end
  end
  return list
end

--- What every gate that a person ticks was told.
M.gates = { "--gates", "staging=run 4f2c,rollback=the backup,backup=shop.dump,notified=in the chat" }

--- The password of a role.
M.passwords = servers.passwords

return M
