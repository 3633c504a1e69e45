-- tools.lua: the real migration tools in build/tools and their fixture projects.
--
-- Both projects hold the same nine migrations of a small shop. Eight are superseded (the third needs a table that a fresh
-- database does not have); the ninth is the full baseline, which drops and makes their tables anew.
--
--   prisma: `migrate resolve --applied NAME` for the eight, then `migrate deploy`.
--   drizzle: there is no such command. Rows of the eight go into drizzle.__drizzle_migrations (hash = SHA-256 of the
--   file, created_at = `when` of the journal); `migrate` then runs what is newer than the newest row.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

local ROOT = (os.getenv("PWD") or ".") .. "/build/tools/"

M.migrations = { prisma = ROOT .. "prisma/prisma/migrations", drizzle = ROOT .. "drizzle/drizzle" }
M.fixtures = { prisma = "tests/support/tools/prisma/prisma/migrations", drizzle = "tests/support/tools/drizzle/drizzle" } -- the same, without the tools
M.schema = ROOT .. "prisma/prisma/schema.prisma"
M.superseded = {
  "20231001000000_init", "20231015000000_products", "20231102000000_import_customers", "20231120000000_orders",
  "20231204000000_order_items", "20240108000000_prices_in_cents", "20240212000000_sessions", "20240318000000_order_status",
}
M.baseline = "20240601000000_full_baseline"

--- argv that starts a tool ("prisma" or "drizzle"), for the inventory's command role; nil and why when it is not installed.
---@param name string
---@return string[]? argv
---@return string? reason
function M.command(name)
  local path = ROOT .. name .. ".sh"
  local file = io.open(path)
  if not file then return nil, name .. " is not installed in build/tools (no npm, or no registry answered)" end
  file:close()
  return { path }
end

--- A program that is the tool with another folder of migrations than its project's; nil and why when it is not installed.
---@param name string
---@param path string where the program is written
---@param migrations string
---@return string? path
---@return string? reason
function M.with_folder(name, path, migrations)
  local argv, why = M.command(name)
  if not argv then return nil, why end
  T.mode(suite.write(path, ("#!/bin/sh\nMIGRATIONS='%s' exec '%s' \"$@\"\n"):format(migrations, argv[1])), tonumber("755", 8))
  return path
end

--- Run a program that is a tool against a database of a server as `owner`.
---@param program string
---@param server table of servers.postgres
---@param database string
---@param arguments string[]
---@return { code: integer?, out: string, err: string }
function M.run_program(program, server, database, arguments)
  local argv = table.move(arguments, 1, #arguments, 2, { program })
  local env = { PATH = os.getenv("PATH"), HOME = server.dir, DATABASE_URL = server.url("owner", database) }
  return child.run { argv = argv, env = env, timeout = 60000 }
end

--- The same with a tool in its fixture project.
---@param name string
function M.run(name, server, database, arguments) return M.run_program(assert(M.command(name))[1], server, database, arguments) end

--- SQL that enters the eight superseded migrations as drizzle would have.
---@return string
function M.drizzle_baseline()
  local text = io.open(M.migrations.drizzle .. "/meta/_journal.json"):read("a")
  local lines = {
    "create schema if not exists drizzle",
    "create table if not exists drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)",
  }
  for when, tag in text:gmatch('"when": (%d+),%s*"tag": "([%w_]+)"') do
    if not tag:find("full_baseline") then
      local path = ("%s/%s.sql"):format(M.migrations.drizzle, tag)
      local hash = child.must({ argv = { "sha256sum", path } }):match("%x+")
      lines[#lines + 1] = ("insert into drizzle.__drizzle_migrations (hash, created_at) values ('%s', %s)"):format(hash, when)
    end
  end
  return table.concat(lines, ";\n")
end

return M
