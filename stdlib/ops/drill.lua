--- A drill: a backup restored into a scratch database and compared with what its manifest says was in it.
--
-- Equal means equal: every table is there with its rows, and every definition hashes to the same; a count that is only more than nothing would
-- pass for a restore that lost half. What the application itself knows to be true is asked as queries that answer yes or no.

local catalogue = require "ops.backups"
local duration = require "core.duration"
local instant = require "core.instant"
local raise = require "core.raise"

local M = {}

--- The newest backup of a database.
---@param folder table
---@param database string
---@return string
---@effect read
function M.newest(folder, database)
  return catalogue.newest(folder, { of = database })
    or raise("invalid", ("there is no backup of \"%s\" in the catalogue"):format(database), "Make one (postgres/backup), or name it by --dump.")
end

local function age_ms(taken_at, now) return instant.of_compact(now) - instant.of_compact(taken_at) end

--- Was it restored not longer ago than that, and is it the same dump?
---@param folder table
---@param name string
---@param again string "20h"
---@param now string what stamp() says
---@return boolean
---@effect read
function M.is_proven(folder, name, again, now)
  local proof = catalogue.proof(folder, name)
  return proof ~= nil and age_ms(proof.proven_at, now) < duration.parse(again)
end

--- Is the newest backup of a database younger than that?
---@param folder table
---@param database string
---@param fresh string "26h"
---@param now string
---@return boolean
---@return string shown
---@effect read
function M.is_fresh(folder, database, fresh, now)
  local newest = catalogue.list(folder, database)[1]
  if not newest then return false, "there is none" end
  return age_ms(newest.taken_at, now) < duration.parse(fresh), ("the newest is %s, taken %s"):format(newest.name, newest.taken_at)
end

--- Has the server archived WAL that recently, and did the last attempt work?
---@param db table
---@param within string "20m"
---@return boolean
---@return string shown
---@effect read
function M.is_archiving(db, within)
  local row = db:row([[SELECT coalesce(last_archived_time > now() - $1::bigint * interval '1 millisecond' AND coalesce(last_failed_time < last_archived_time, true), false) AS fine,
    coalesce(last_archived_wal, 'none') AS last, last_archived_time::text AS at, last_failed_wal AS failed FROM pg_stat_archiver]], duration.parse(within))
  return row.fine, ("the last is %s%s%s"):format(row.last, row.at and " of " .. row.at or "", row.failed and ("; %s failed"):format(row.failed) or "")
end

-- What is left out says nothing: a dump of some tables is compared with those.
local function only(all, wanted)
  local some = {}
  for name in pairs(wanted) do some[name] = all[name] end
  return some
end

--- What the restored database has of what the manifest names: rows and shape.
---@param there table the restored database
---@param manifest table
---@return table counts
---@return table shape
---@effect read
function M.found(there, manifest)
  local counts, shape = there:counts(), there:shape()
  if not manifest.tables then return counts, shape end
  return only(counts, manifest.counts), only(shape, manifest.shape)
end

--- The SQL of a question: what stands in a file of the folder, when it ends in .sql, else itself.
---@param folder table
---@param query string
---@return string
---@effect read
function M.sql_of(folder, query)
  return query:find("%.sql$") and (folder:read(query):gsub(";%s*$", "")) or query
end

--- How many rows there are in all.
---@param manifest table
---@return integer
---@effect pure
function M.rows(manifest)
  local rows = 0
  for _, count in pairs(manifest.counts) do rows = rows + count end
  return rows
end

return M
