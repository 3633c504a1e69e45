-- archive.lua: a real cluster that archives its log, its base backups, and an accident: what the specs of point-in-time recovery share.
--
--   local first = require("tests.support.archive").start()
--   first.pg  first.dir  first.wal  first.bases          the cluster; its archive and its base backups ("monday" plain, "tuesday" tar)
--   first.at.early  .before  .between  .last              moments, exact: the good row's commit is before `between`, the bad one's behind it
--   local at = first.open { }                             a place of its own: copies of both, an inventory, a second cluster that is not there yet
--   at.wants("run", moment, more)  at.neap(words)  at.ends(0, words)  at.plan(words)  at.sql "…" (of the second cluster)
--
-- Segments are of one mebibyte. The second cluster is stopped and removed with the test.

local child = require "tests.support.child"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"

local M = {}

local BOOK <const> = "postgres/restore-to-time"

local function user() return T.uid() == 0 and "postgres" or nil end

local function as_server(pg, argv)
  return child.must { argv = argv, user = user(), cwd = "/", env = { PGPASSWORD = servers.passwords.admin, PATH = os.getenv("PATH"), LANG = "C.UTF-8", TZ = "UTC", HOME = pg.dir } }
end

local function until_it(what, holds)
  local ends = T.now_ms() + 60000
  while not holds() do
    if T.now_ms() > ends then error("did not come: " .. what, 2) end
    T.pause(20)
  end
end

-- Everything written so far is in the archive when this returns.
local function switch(pg)
  local name = pg.sql "select pg_walfile_name(pg_switch_wal())"
  until_it("segment " .. name, function () return pg.sql("select last_archived_wal >= '" .. name .. "' from pg_stat_archiver") == "t" end)
  return name
end

local function base(first, name, words)
  local argv = { first.pg.bin .. "/pg_basebackup", "-h", first.pg.dir, "-p", tostring(first.pg.port), "-U", "admin", "-D", first.bases .. "/" .. name, "--checkpoint=fast" }
  as_server(first.pg, table.move(words, 1, #words, #argv + 1, argv))
end

-- Rows of a kilobyte: so much that the log goes on in another segment.
local function fill(pg, from) pg.sql(("insert into orders select i, repeat('x', 1000) from generate_series(%d, %d) i"):format(from, from + 2500)) end

local function accident(first)
  local pg = first.pg
  pg.sql "create table orders (id int primary key, a text); insert into orders select i, 'old' from generate_series(1, 50) i"
  base(first, "monday", { "-X", "none" })
  base(first, "tuesday", { "-X", "stream", "-F", "t", "-z" })
  until_it("the second after the base backup", function ()        -- its end is told in whole seconds
    return pg.sql "select clock_timestamp() > max(modification) + interval '1200 ms' from pg_ls_archive_statusdir()" == "t"
  end)
  local function now() return pg.sql "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'" end
  local at = { early = now() }
  fill(pg, 1000)
  switch(pg)
  at.before = now()
  pg.sql "insert into orders values (101, 'good')"
  at.between = now()
  first.middle = pg.sql "select pg_walfile_name(pg_current_wal_insert_lsn())"      -- the good row's segment
  switch(pg)
  fill(pg, 5000)
  pg.sql "insert into orders values (666, 'bad'); update orders set a = 'spoilt' where id < 50"
  switch(pg)
  at.last = now()
  first.at = at
end

-- ---- a place of its own ----

local INVENTORY <const> = [[
environment "demo" {
  %s
  bases = folder { path = "%s/bases"%s },
  archive = folder { path = "%s/wal"%s },
  second = cluster { directory = "%s", bin = "%s", port = %d, user = "admin"%s },
}
]]

-- What is asked for in the second cluster. rows: { good, bad }, the values asked for instead.
local function rows_of(rows)
  return { "--database", "postgres", "--good", "SELECT 1 FROM orders WHERE id = $1 AND a = $2", "--good-values", rows and rows[1] or "101,good",
    "--bad", "SELECT 1 FROM orders WHERE id = $1", "--bad-values", rows and rows[2] or "666" }
end

local function add_words(at)
  function at.words(words)
    local all = table.move(words, 1, #words, 1, {})
    table.move({ "--state", at.state, "--width", "1000" }, 1, 4, #all + 1, all)
    if words[1] == "run" or words[1] == "plan" then table.move({ "--env", "demo" }, 1, 2, #all + 1, all) end
    if words[1] ~= "show" and words[1] ~= "history" then table.move({ "--inventory", at.inventory }, 1, 2, #all + 1, all) end
    return all
  end

  function at.start(words, as) return servers.neap.start(at.words(words), { cwd = as and at.dir or at.home, user = as, env = { ADMIN_PASSWORD = servers.passwords.admin } }) end

  --- Run neap to its end; `all` is everything it said.
  function at.neap(words, as)
    local process = at.start(words, as)
    process:shut()
    local r = process:finish(120000)
    r.all = r.out .. r.err
    return r
  end

  --- It must end with this code; what it said.
  function at.ends(code, words)
    local r = at.neap(words)
    if r.code ~= code then error(("exit %s instead of %d: %s"):format(r.code, code, r.all), 2) end
    return r.all
  end

  --- The words for a restore to a moment. rows: { good, bad }, the values asked for instead.
  function at.wants(verb, time, more, rows)
    local words = { verb, BOOK, "--time", time }
    for _, list in ipairs { rows_of(rows), more or {} } do table.move(list, 1, #list, #words + 1, words) end
    return words
  end

  function at.latest() return journal.index.list(at.state)[1].run end
  function at.records(run) return journal.read(at.state, run or at.latest(), 0) end

  function at.plan(words)
    local r = at.neap(table.move({ "--json" }, 1, 1, #words + 1, table.move(words, 1, #words, 1, {})))
    local ok, plan = pcall(text.parse, r.out)
    assert(ok and plan.steps, r.all)
    return plan
  end
end

local function add_second(at, first)
  local function pid()
    local file = io.open(at.second .. "/data/postmaster.pid")
    local found = file and file:read("n")
    if file then file:close() end
    return found
  end

  --- What the second cluster answers.
  function at.sql(statement)
    local argv = { first.pg.bin .. "/psql", "-X", "-q", "-A", "-t", "-h", at.second .. "/run", "-p", tostring(at.port), "-U", "admin", "-d", "postgres", "-c", statement }
    return (child.must({ argv = argv, env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8" } }):gsub("\n$", ""))
  end

  --- Is its server there?
  function at.is_running()
    local found = pid()
    return found ~= nil and T.alive(found)
  end

  -- As a crash of the machine would.
  function at.stop()
    local found = pid()
    if not found or not T.alive(found) then return end
    os.execute(("kill -QUIT %d"):format(found))
    until_it("the end of the second cluster", function () return not T.alive(found) end)
  end
end

--- A place of its own. options: bin (where the programs are), port, directory (of the second cluster), on (the role it stands on), kept
--- (the host that base backups and archive lie on: on, its role; server, the sshd), password (it is asked over its port), more (entries of the inventory).
local function open(first, options)
  options = options or {}
  local dir, far = T.directory(first.dir .. "/o"), options.kept
  local from = far and far.server.home or dir
  local at = { dir = dir, second = options.directory or dir .. "/second", wal = from .. "/wal", bases = from .. "/bases", home = suite.temp(), port = options.port or T.free_port() }
  at.state, at.inventory = suite.memory() .. "/state", dir .. "/inventory.lua"
  if user() then T.owner(dir, user()) end
  if far then
    child.must { argv = { "cp", "-r", first.wal, first.bases, from } }
    if user() then child.must { argv = { "chown", "-R", tostring(far.server.uid), at.wal, at.bases } } end
  else as_server(first.pg, { "cp", "-al", first.wal, first.bases, dir }) end      -- links: whoever spoils a file replaces it
  os.execute(("ln -s '%s/runbooks' '%s/runbooks'"):format(os.getenv("PWD"), at.home))
  os.execute(("cp -R '%s/runbooks' '%s/runbooks' && chmod -R a+rX '%s/runbooks'"):format(os.getenv("PWD"), dir, dir))      -- for whoever may not look here
  local more = options.on and (', on = "%s"'):format(options.on) or user() and ', as = "postgres"' or ""
  if options.password then more = more .. ', password = secret { env = "ADMIN_PASSWORD" }' end
  local on = far and (', on = "%s"'):format(far.on) or ""
  suite.write(at.inventory, INVENTORY:format(options.more or "", from, on, from, on, at.second, options.bin or first.pg.bin, at.port, more))
  add_words(at)
  add_second(at, first)
  suite.after(function ()
    at.stop()
    T.remove_tree(dir)
  end)
  return at
end

--- What a place of somebody else's needs to be asked for a moment: copies of the base backup "tuesday" and of the archive in a directory, and the
--- entries of the inventory; what restore-to-time is asked with there.
---@param first table
---@param dir string it is made; its owner is the user of the second cluster
---@param owner integer|string
---@param more string of each entry: ', on = "iris"'
---@param as? string of the cluster: ', as = "postgres"'
---@return string entries
---@return string[] words
function M.lend(first, dir, owner, more, as)
  child.must { argv = { "sh", "-c", 'mkdir -p "$1/bases" && cp -R "$2/tuesday" "$1/bases" && cp -R "$3" "$1/wal" && chown -R "$4" "$1"', "sh", dir, first.bases, first.wal, tostring(owner) } }
  local entries = ([[bases = folder { path = "%s/bases"%s }, archive = folder { path = "%s/wal"%s },
  second = cluster { directory = "%s/second", bin = "%s", port = %d, user = "admin"%s%s },]]):format(dir, more, dir, more, dir, first.pg.bin, T.free_port(), more, as or "")
  return entries, table.move(rows_of(), 1, 8, 3, { "--time", first.at.between })
end

--- A page without what differs from place to place.
function M.plain(page, at, first)
  page = page:gsub("%f[%w]runuser %-u postgres %-%- ", "")
  return kept.plain(page:gsub(at.dir:gsub("%p", "%%%0"), "DIR"):gsub(first.pg.bin:gsub("%p", "%%%0"), "BIN"):gsub("%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d%.?%d*Z", "MOMENT")
    :gsub("%-p " .. at.port, "-p PORT"):gsub("│ +%d+ │", "│ N │"), {})
end

--- The cluster with its archive and its accident, the same for every caller.
---@return table first
function M.start()
  local pg = servers.postgres { name = "archived", initdb = { "--wal-segsize=1" }, settings = { "archive_mode = on", "wal_level = replica",
    "archive_command = 'test ! -e ../wal/%f && cp %p ../wal/%f.part && mv ../wal/%f.part ../wal/%f'", "shared_preload_libraries = ''", "max_wal_size = 32MB" } }
  if pg.first then return pg.first end
  local first = { pg = pg, dir = pg.dir, wal = pg.dir .. "/wal", bases = pg.dir .. "/bases" }
  pg.first = first
  as_server(pg, { "mkdir", first.wal, first.bases })
  accident(first)
  function first.open(options) return open(first, options) end

  --- The segments of the archive, in order.
  function first.segments()
    local list = {}
    for _, name in ipairs(T.entries(first.wal)) do
      if #name == 24 then list[#list + 1] = name end
    end
    table.sort(list)
    return list
  end

  --- Every commit of these segments as pg_waldump tells it: "0/C0ECA0 2026-04-25 02:00:05.123456Z", in the order of the log.
  function first.dumped(names)
    local list = {}
    local said = child.run { argv = { pg.bin .. "/pg_waldump", "-r", "Transaction", "-p", first.wal, names[1], names[#names] }, user = user(), cwd = "/",
      env = { TZ = "UTC", PATH = os.getenv("PATH"), LANG = "C.UTF-8" } }
    for place, time in said.out:gmatch("lsn: (%x+/%x+)[^\n]- desc: COMMIT (%d%S+ [%d:.]+) UTC") do list[#list + 1] = place:gsub("/0*(%x)", "/%1") .. " " .. time .. "Z" end
    return list
  end
  return first
end

return M
