--- What a restore has to know of a dump and of the database it goes into, beside the catalogue (backups.lua).

local M = {}

local catalogue = require("ops.backups")
local raise = require("core.raise")

local ENDINGS <const> = { { "%.dump$", "custom" }, { "%.sql$", "plain" }, { "%.sql%.gz$", "plain" }, { "%.sql%.zst$", "plain" }, { "%.tar$", "directory" }, { "%.tar%.gz$", "directory" },
  { "%.tar%.zst$", "directory" } }

--- What a file says by its name that it is; nil when it says nothing.
---@param name string
---@return "custom"|"plain"|"directory"|nil
---@effect pure
function M.named_format(name)
  for _, ending in ipairs(ENDINGS) do
    if name:find(ending[1]) then return ending[2] end
  end
  return nil
end

--- The newest backup of a database that a drill brought back. Raises {check} where there is none: to restore what nobody ever restored is a
--- choice that is made by name.
---@param folder table
---@param database string
---@return string name
---@effect read
function M.newest_proven(folder, database)
  return catalogue.newest(folder, { proven = true, of = database })
    or raise("check", ("no backup of \"%s\" was ever restored"):format(database), "Prove one with postgres/verify-backup, or name the one that is meant: --dump NAME.")
end

--- Has every table statistics? A database that was just restored has none, and its first queries are planned by guessing.
---@param db table
---@return boolean
---@effect read
function M.has_statistics(db)
  return not db:has "SELECT 1 FROM pg_catalog.pg_stat_user_tables WHERE last_analyze IS NULL AND last_autoanalyze IS NULL LIMIT 1"
end

--- Give every table statistics. A role that is no superuser is told of each table of the whole server that it skips, thirty lines that concern
--- nobody: the server keeps these to itself, and says what fails.
---@param db table
---@effect write
function M.analyze(db)
  db:transaction(function (tx)
    tx:exec "SET LOCAL client_min_messages TO error"
    tx:exec "ANALYZE"
  end)
end

return M
