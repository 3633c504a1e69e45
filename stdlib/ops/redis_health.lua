--- How a Redis server is doing: each word is one question and answers with a table, as ops/health.lua does for PostgreSQL.
--
-- INFO counts since the server was started, which says nothing about now: `rates` compares two samples.

local families = require "ops.redis_families"
local raise = require "core.raise"
local saves = require "ops.redis_saves"

local M = {}

local function pairs_of(info, names)
  local rows = {}
  for _, name in ipairs(names) do
    if info[name] ~= nil then rows[#rows + 1] = { name, info[name] } end
  end
  return rows
end

local function facts(title, section, names, remark)
  return function (cache)
    return { title = title, columns = { "fact", "value" }, rows = pairs_of(cache:info(section), names), remark = remark }
  end
end

M.server = facts("Server", "server", { "redis_version", "redis_mode", "uptime_in_seconds", "executable", "config_file" },
  "Without a config_file nothing that is set outlives a restart.")
M.memory = facts("Memory", "memory", { "used_memory", "used_memory_rss", "used_memory_peak", "maxmemory", "maxmemory_policy", "mem_fragmentation_ratio" })
M.persistence = facts("Persistence", "persistence", { "rdb_changes_since_last_save", "rdb_last_save_time", "rdb_last_bgsave_status", "aof_enabled",
  "aof_last_bgrewrite_status", "aof_last_write_status", "aof_current_size", "aof_base_size" })
M.clients = facts("Clients", "clients", { "connected_clients", "maxclients", "blocked_clients" })
M.replication = facts("Replication", "replication", { "role", "connected_slaves", "master_link_status", "master_last_io_seconds_ago" })

--- The databases of the server.
---@param cache table
---@return table grid
---@effect read
function M.keyspace(cache)
  local rows = {}
  for name, line in pairs(cache:info "keyspace") do
    local keys, expires = tostring(line):match("keys=(%d+),expires=(%d+)")
    if keys then rows[#rows + 1] = { name, math.tointeger(tonumber(keys)), math.tointeger(tonumber(expires)) } end
  end
  table.sort(rows, function (a, b) return a[1] < b[1] end)
  return { title = "Databases", columns = { "database", "keys", "with_expiry" }, rows = rows }
end

--- The slowest commands that the server remembers. Their arguments are data and are left out.
---@param cache table
---@param rows? integer
---@return table grid
---@effect read
function M.slow(cache, rows)
  local list = {}
  for i, entry in ipairs(cache:read("SLOWLOG", "GET", rows or 10)) do
    list[i] = { entry[2], entry[3], tostring(entry[4][1]), #entry[4] - 1 }
  end
  return { title = "Slow commands", columns = { "at", "microseconds", "command", "arguments" }, rows = list }
end

--- The families of keys, by a sample of them.
---@param cache table
---@param rows? integer
---@return table grid
---@effect read
function M.families(cache, rows) return families.grid(families.census(cache, { sample = 10000 }), rows) end

-- Rates ---------------------------------------------------------------------------------------------------

local COUNTED <const> = { "total_commands_processed", "keyspace_hits", "keyspace_misses", "expired_keys", "evicted_keys", "rejected_connections",
  "total_error_replies" }

--- The counters now, and when by the server's clock.
---@param cache table
---@return table sample
---@effect read
function M.sample(cache)
  local stats, time = cache:info "stats", cache:read "TIME"
  local sample = { at = tonumber(time[1]) + tonumber(time[2]) / 1e6 }
  for _, name in ipairs(COUNTED) do sample[name] = stats[name] or 0 end
  return sample
end

--- What was counted between two samples, a second.
---@param first table
---@param second table
---@return table grid
---@effect pure
function M.rates(first, second)
  local seconds, rows = second.at - first.at, {}
  if seconds <= 0 then raise("usage", "the second sample is not later than the first") end
  for i, name in ipairs(COUNTED) do rows[i] = { name, second[name], math.floor((second[name] - first[name]) / seconds * 10 + 0.5) / 10 } end
  return { title = "Rates", columns = { "counter", "total", "per_second" }, rows = rows, remark = ("Over %.1f s."):format(seconds) }
end

-- Judgement -----------------------------------------------------------------------------------------------

--- How much of the memory it may use it uses, in percent; nil where there is no limit.
---@param cache table
---@return integer|nil
---@effect read
function M.fullness(cache)
  local memory = cache:info "memory"
  if (memory.maxmemory or 0) == 0 then return nil end
  return memory.used_memory * 100 // memory.maxmemory
end

M.faults = saves.faults

--- What can be asked, in the order of a page: the word, and the title of its step.
M.questions = {
  { "server", "What server this is" }, { "memory", "What it holds in memory" }, { "keyspace", "What its databases hold" },
  { "families", "What families of keys there are" }, { "persistence", "What it has on its disk" }, { "clients", "Who is connected" },
  { "replication", "Whom it replicates" }, { "slow", "What was slow" },
}

--- Ask one of the questions.
---@param cache table
---@param word string
---@param rows? integer
---@return table grid
---@effect read
function M.ask(cache, word, rows)
  local question = M[word]
  if not question then raise("usage", ("there is no question \"%s\""):format(tostring(word))) end
  return question(cache, rows)
end

return M
