-- evidence.lua: has anything been written? A server of its own, and the file trees of a test, looked at before and after.
--
--   local evidence = require "tests.support.evidence"
--   local pg = evidence.server()                       local look = evidence.look(pg, { folder, cwd, home })
--   …                                                  look.same()     raises and says what differs
--
-- What is compared: the next transaction id (so no session of anybody took one), the position of the write-ahead log,
-- rows inserted, updated and deleted in any database, roles' settings, locks, every statement that neap sent, and of
-- every file and directory its name, kind, mode, length, times and bytes. The server writes nothing by itself: no autovacuum,
-- no replica that the log is for, no checkpoint by the clock; and every table is vacuumed first, because a mere SELECT may
-- tidy a page, which is logged. Counters are sent when a session ends, so the look waits until ours are gone.

local child = require "tests.support.child"
local servers = require "tests.support.servers"

local M = {}

local SETTINGS <const> = { "autovacuum = off", "wal_level = minimal", "max_wal_senders = 0", "checkpoint_timeout = 1d", "track_counts = on" }

-- One row; a session that ends sends its counters before it leaves pg_stat_activity.
local FACTS <const> = [[
select concat_ws(E'\n', 'next transaction ' || pg_snapshot_xmax(pg_current_snapshot()), 'log position ' || pg_current_wal_insert_lsn(),
  (select 'rows ' || sum(tup_inserted) || ' ' || sum(tup_updated) || ' ' || sum(tup_deleted) from pg_stat_database),
  (select 'databases ' || string_agg(datname, ',' order by datname) from pg_database),
  'advisory locks ' || (select count(*) from pg_locks where locktype = 'advisory'),
  'prepared ' || (select count(*) from pg_prepared_xacts))]]

local BUSY <const> = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"

--- The server on which every write is seen. Nobody else uses it.
---@return table server
function M.server() return servers.postgres { name = "evidence", settings = SETTINGS } end

--- Everything is tidied, so that what is read afterwards gives the server no reason to write. Call it after the last set-up.
function M.settle(pg)
  for name in pg.sql("select datname from pg_database where datallowconn"):gmatch("[^\n]+") do
    pg.sql("vacuum (freeze)", name)
  end
  pg.sql("checkpoint")
end

--- Wait until nobody but us is connected.
function M.quiet(pg)
  local until_ms = T.now_ms() + 60000
  while pg.sql(BUSY) ~= "0" do
    if T.now_ms() > until_ms then error("a session does not end:\n" .. pg.sql("select pid, application_name, state, query from pg_stat_activity"), 0) end
    T.pause(10)
  end
end

--- Of every file and directory below the paths: name, kind, mode, length, times and bytes.
---@param paths string[]
---@return string
function M.tree(paths)
  local argv = { "find" }
  table.move(paths, 1, #paths, 2, argv)
  table.move({ "-printf", "%p %y %m %s %T@ %C@ %l\\n" }, 1, 2, #argv + 1, argv)
  local lines = child.must { argv = argv, env = { PATH = os.getenv("PATH") } }
  local sums = { "find" }
  table.move(paths, 1, #paths, 2, sums)
  table.move({ "-type", "f", "-exec", "sha256sum", "{}", "+" }, 1, 6, #sums + 1, sums)
  lines = lines .. child.must { argv = sums, env = { PATH = os.getenv("PATH") } }
  local list = {}
  for line in lines:gmatch("[^\n]+") do list[#list + 1] = line end
  table.sort(list)
  return table.concat(list, "\n")
end

local READS <const> = {
  SELECT = true, SHOW = true, BEGIN = true, START = true, COMMIT = true, ROLLBACK = true, SET = true, RESET = true, WITH = true, EXPLAIN = true,
  DECLARE = true, FETCH = true, CLOSE = true, DISCARD = true, VALUES = true, TABLE = true,
}

--- The statements in a part of the server's log that neap sent and that are not one of the words a read is made of.
---@param log string
---@return string[]
function M.writes(log)
  local list = {}
  log = log:gsub("\n\t", " ")                      -- a statement of several lines
  for line in log:gmatch("[^\n]+") do
    local statement = line:match("/neap[^ ]* LOG:  statement: *(.*)") or line:match("/neap[^ ]* LOG:  execute [^:]*: *(.*)")
    if statement then
      local verb, rest = statement:match("^%s*%(?%s*(%a+)%s*(.*)")
      verb = (verb or "?"):upper()
      if verb == "COPY" and rest:upper():find("TO STDOUT", 1, true) then verb = "SELECT" end
      if verb == "LOCK" and rest:upper():find("IN ACCESS SHARE MODE$") then verb = "SELECT" end    -- pg_dump takes first what a SELECT takes
      if not READS[verb] then list[#list + 1] = statement end
    end
  end
  return list
end

---@class Look
---@field same fun() raises when anything was written since
---@field log fun(): string what the server logged since

--- Look now; `same` looks again.
---@param pg table server
---@param paths string[] files and directories that must stay as they are
---@return Look
function M.look(pg, paths)
  M.quiet(pg)
  local from, facts, files = #pg.log() + 1, pg.sql(FACTS), M.tree(paths)
  local look = {}

  function look.log() return pg.log():sub(from) end

  function look.same(what)
    M.quiet(pg)
    local now, files_now = pg.sql(FACTS), M.tree(paths)
    local writes = M.writes(look.log())
    local wrong = {}
    if now ~= facts then wrong[#wrong + 1] = ("the server was written to\n--- before\n%s\n--- after\n%s"):format(facts, now) end
    if files_now ~= files then wrong[#wrong + 1] = ("a file was written\n--- before\n%s\n--- after\n%s"):format(files, files_now) end
    for _, statement in ipairs(writes) do wrong[#wrong + 1] = "sent: " .. statement end
    if #wrong > 0 then error((what and what .. ": " or "") .. table.concat(wrong, "\n"), 2) end
  end

  return look
end

return M
