-- guide.lua: the guides' own commands, run as they are written, against a place of setups.lua with a PostgreSQL of the machine.
--
--   guide.sh(at, "pg_dump nosuch | gzip > f; echo $?")      { code, out, err }: with the programs of the server on PATH, as its superuser
--   guide.tools(at, "pg_dump", "head -c 2000")              a directory in which that program is another one; REAL is the real one

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local M = {}

--- Run a script of a guide in a directory of its own.
---@param at table
---@param script string
---@return { code: integer, out: string, err: string }
function M.sh(at, script)
  local pg = at.pg
  at.guide = at.guide or suite.temp()
  return child.run { argv = { "bash", "-c", script }, cwd = at.guide, timeout = 60000, env = { PATH = pg.bin .. ":" .. os.getenv("PATH"), PGHOST = pg.dir,
    PGPORT = tostring(pg.port), PGUSER = "admin", PGPASSWORD = servers.passwords.admin, LC_ALL = "C", DB = at.database, BACKUPS = at.backups } }
end

--- The programs of the server, one of them replaced by a script: for `tools_path`.
---@param at table
---@param program string
---@param script string in which REAL stands for the real one
---@return string directory
function M.tools(at, program, script)
  local dir = suite.temp()
  T.mode(dir, tonumber("755", 8))
  for _, name in ipairs { "pg_dump", "pg_dumpall", "pg_restore", "psql" } do
    if name ~= program then assert(os.execute(("ln -s '%s/%s' '%s/%s'"):format(at.pg.bin, name, dir, name))) end
  end
  T.mode(suite.write(dir .. "/" .. program, "#!/bin/sh\n" .. script:gsub("REAL", at.pg.bin .. "/" .. program) .. "\n"), tonumber("755", 8))
  return dir
end

--- The names in the folder of backups, sorted.
function M.names(at)
  local list = T.entries(at.backups) or {}
  table.sort(list)
  return list
end

--- A run of neap with nobody there.
function M.run(at, ...) return at.neap { "run", "--no-input", ... } end

-- What our verb does, in a runbook of one step.
local BOOK <const> = [[
runbook "Restore" { why = "A test.", on_failure = "abort" }
local db, backups = target.postgres "db", target.folder "backups"
local p = params { dump = { "file of the folder", kind = "path" }, into = { "database", kind = "name" } }
step "Restore {dump}" {
  act    = function () note("of " .. db:restore({ from = { backups, p.dump }, into = p.into, no_owner = true }).format) end,
  verify = function () check(not db:on(p.into):is_empty(), "something is there") end,
}]]

--- Run db:restore of a file of the folder of backups.
---@param at table
---@param dump string
---@param into string
function M.restore(at, dump, into)
  suite.write(at.dir .. "/restore.lua", BOOK)
  return M.run(at, at.dir .. "/restore.lua", "--dump", dump, "--into", into)
end

return M
