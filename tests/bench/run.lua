-- run.lua: what neap costs, as ratios to programs that do only the work, and to other tools, all taken in one run.
--
--   make bench            NEAP_BENCH="start journal ask rows copy growth" chooses, NEAP_BENCH_MIB=1024 sets the size of the COPY,
--                         NEAP_BENCH_ROUNDS=5 the number of turns
--
-- The limit programs are tests/bench/limit/*.c. Ends with 1 when a goal is missed.

package.path = "./?.lua;" .. package.path

local bench = require "tests.bench.bench"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local ROUNDS = tonumber(os.getenv("NEAP_BENCH_ROUNDS")) or 5
local MIB = tonumber(os.getenv("NEAP_BENCH_MIB")) or 256

local JOURNAL = bench.root .. "/build/bench/journal"
local PG = bench.root .. "/build/bench/pg"

local ONE = [[
runbook "One step" { why = "to be measured" }
local f = target.folder "f"
step "The step" { act = function () return 1 end, verify = function () check(true, "it is so") end }
]]

local MANY = [[
runbook "Many steps" { why = "to be measured" }
local f = target.folder "f"
for i = 1, %d do
  step("Step " .. i) { act = function () return i end, verify = function () check(true, "it is so") end }
end
]]

local function folder_place()
  local dir = suite.temp()
  return bench.place(('environment "here" { f = folder { path = "%s" } }'):format(dir))
end

-- A run of the limit program, each under a name of its own.
local runs = 0
local function limit(state, records)
  runs = runs + 1
  return bench.measure({ JOURNAL, state, "limit" .. runs, records })
end

-- Where the promise asks for durability in a run whose steps write nothing: the run itself, and each intent.
local function promised(r) return r.kind == "run" or r.kind == "step" and r.body:find('"state":"intent"', 1, true) ~= nil end
-- As a simple journal would: one commit for the intent of a step and one for its result.
local function twice(r) return promised(r) or r.kind == "step" and r.body:find('"state":"end"', 1, true) ~= nil end

-- ---- start-up ----

local PEERS = {
  { "bash -c true", "bash -c true", { "bash", "-c", "true" } },
  { "make", "command -v make", { "make", "--version" } },
  { "python3 -c pass", "python3 -c pass", { "python3", "-c", "pass" } },
  { "node -e 0", "node -e 0", { "node", "-e", "0" } },
  { "zx", "command -v zx", { "zx", "--eval", "0" }, 25 },
  { "ansible-playbook", "command -v ansible-playbook", { "ansible-playbook", "play.yml" }, 80 },
}

local PLAY = '- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n    - debug: { msg: "hello" }\n'

local function start()
  bench.section("Start-up: a runbook of one step, from the start of the process to its end, with its journal")
  local place = folder_place()
  place.book("one", ONE)
  place.neap("one")
  local records = place.dir .. "/records"
  bench.write_records(records, bench.records(place.dir .. "/state"), promised)
  suite.write(place.dir .. "/play.yml", PLAY)
  local programs = { { "limit", function () return limit(place.dir .. "/limit", records) end }, { "neap", function () return place.neap("one") end } }
  for _, peer in ipairs(PEERS) do
    if bench.works(peer[2]) then programs[#programs + 1] = { peer[1], function () return bench.measure(peer[3], { cwd = place.dir }) end } end
  end
  local samples = bench.turns(ROUNDS * 4, programs)
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), { most = 1.5 }, ("%.1f ms"):format(bench.middle(samples, "neap") * 1e3))
  bench.line("neap / limit, processor", bench.ratio(samples, "neap", "limit", "cpu"), {}, ("%.1f ms"):format(bench.middle(samples, "neap", "cpu") * 1e3))
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 10, unit = "MB" }, ("limit %.1f MB"):format(bench.middle(samples, "limit", "peak")))
  for _, peer in ipairs(PEERS) do
    if samples[peer[1]] then bench.line(peer[1] .. " / neap", bench.ratio(samples, peer[1], "neap"), { least = peer[4] })
    else bench.skip(peer[1] .. " / neap", "not installed") end
  end
end

-- ---- the durable step, and growth ----

local PYTHON = [[
import sqlite3, sys
d = sqlite3.connect(sys.argv[1], isolation_level=None)
d.execute("pragma journal_mode=wal"); d.execute("pragma synchronous=full")
d.execute("create table if not exists step(seq integer primary key, body text)")
for i in range(%d):
    d.execute("insert into step(body) values (?)", ("intent",)); d.execute("insert into step(body) values (?)", ("result",))
]]

local function journal()
  bench.section("Durable steps: 1,000 steps in one run")
  local place = folder_place()
  place.book("many", MANY:format(1000))
  place.neap("many")
  local list = bench.records(place.dir .. "/state")
  bench.write_records(place.dir .. "/two", list, twice)
  bench.write_records(place.dir .. "/promised", list, promised)
  local programs = {
    { "two", function () return limit(place.dir .. "/limit", place.dir .. "/two") end }, { "neap", function () return place.neap("many") end },
    { "promised", function () return limit(place.dir .. "/limit", place.dir .. "/promised") end },
  }
  if bench.works("python3 -c 'import sqlite3'") then
    programs[4] = { "python", function () return bench.measure({ "python3", "-c", PYTHON:format(1000), place.dir .. "/python.db" }) end }
  end
  local samples = bench.turns(ROUNDS, programs)
  bench.line("neap / limit with two commits a step", bench.ratio(samples, "neap", "two"), { most = 1.3 }, ("%.3f ms a step"):format(bench.middle(samples, "neap")))
  bench.line("neap / limit with the commits that are promised", bench.ratio(samples, "neap", "promised"), {})
  if samples.python then bench.line("python3 with sqlite3, two commits / neap", bench.ratio(samples, "python", "neap"), {})
  else bench.skip("python3 with sqlite3 / neap", "not installed") end
  if not bench.works("command -v ansible-playbook") then bench.skip("ansible-playbook / neap", "not installed") end
end

-- A state directory with n runs that ended long ago: their entries in the index, and their directories.
local function aged(place, n)
  local state = ("%s/aged%d"):format(place.dir, n)
  place.neap("one", { state = state })
  if n == 0 then return state end
  T.fill_index(state .. "/index.db", n)
  assert(os.execute(("cd %s/runs && seq -f 'old%%08.0f' %d | xargs mkdir -m 700"):format(state, n)))
  return state
end

local function growth()
  bench.section("Growth: with steps in a run, and with runs in the state directory")
  local place = folder_place()
  place.book("one", ONE)
  local counts = { 100, 1000, 10000 }
  local programs = { { "one", function () return place.neap("one") end } }
  for _, n in ipairs(counts) do
    place.book("many" .. n, MANY:format(n))
    programs[#programs + 1] = { n, function () return place.neap("many" .. n) end }
  end
  local samples = bench.turns(3, programs)
  local each = {}
  for _, n in ipairs(counts) do each[n] = (bench.middle(samples, n) - bench.middle(samples, "one")) / n * 1e3 end
  bench.line("a step of 1,000 / a step of 100", each[1000] / each[100], {}, ("%.3f ms, %.1f MB"):format(each[1000], bench.middle(samples, 1000, "peak")))
  bench.line("a step of 10,000 / a step of 1,000", each[10000] / each[1000], { most = 1.2 }, ("%.3f ms, %.1f MB"):format(each[10000], bench.middle(samples, 10000, "peak")))
  local old = {}
  for i, n in ipairs { 0, 1000, 10000 } do
    local state = aged(place, n)
    old[i] = { n, function () return place.neap("one", { state = state }) end }
  end
  samples = bench.turns(ROUNDS * 2, old)
  bench.line("start-up with 1,000 old runs / with none", bench.ratio(samples, 1000, 0), { most = 1.2 })
  bench.line("start-up with 10,000 old runs / with none", bench.ratio(samples, 10000, 0), { most = 1.2 })
end

-- ---- PostgreSQL ----

local server

local function pg_place()
  server = server or servers.postgres { name = "bench", settings = { "log_statement = none", "max_wal_size = 4GB", "shared_buffers = 128MB" } }
  return bench.place(([[
environment "here" { db = postgres { url = "postgresql://admin@127.0.0.1:%d/postgres", password = secret { env = "BENCH_PASSWORD" }, read_within = "10m" } }
]]):format(server.port))
end

local function pg_env()
  return { PGHOST = "127.0.0.1", PGPORT = tostring(server.port), PGUSER = "admin", PGDATABASE = "postgres", PGPASSWORD = servers.passwords.admin }
end

local function pg_limit(...) return bench.measure({ PG, ... }, { env = pg_env() }) end

local function psql(...)
  local argv = { server.bin .. "/psql", "-X", "-q", "-o", "/dev/null", ... }
  return bench.measure(argv, { env = pg_env() })
end

local ASK = [[
runbook "Ask" { why = "to be measured" }
local db = target.postgres "db"
step "Ask" {
  within = "5m",
  act = function () db:transaction(function (tx) for _ = 1, %d do tx:value "SELECT 1" end end) end,
  verify = function () check(true, "asked") end,
}
]]

local AHEAD = [[
runbook "Ask ahead" { why = "to be measured" }
local db = target.postgres "db"
local list = {}
for i = 1, %d do list[i] = {} end
step "Ask" {
  within = "5m",
  act = function () db:exec_many("SELECT 1", list) end,
  verify = function () check(true, "asked") end,
}
]]

local PSYCOPG = [[
import psycopg2, time
c = psycopg2.connect(""); k = c.cursor(); t = time.time()
for i in range(%d): k.execute("SELECT 1"); k.fetchone()
print("seconds:", time.time() - t)
]]

local LUASQL = [[
local env = require("luasql.postgres").postgres()
local c = env:connect("") for i = 1, %d do local k = c:execute("SELECT 1") k:fetch() k:close() end
]]

local function ask()
  bench.section("PostgreSQL: 10,000 round trips on the connection that acts")
  local place, n = pg_place(), 10000
  place.book("ask", ASK:format(n))
  place.book("ahead", AHEAD:format(n))
  suite.write(place.dir .. "/ask.sql", ("SELECT 1;\n"):rep(n))
  local programs = {
    { "limit", function () return pg_limit("ask", tostring(n)) end }, { "neap", function () return place.neap("ask", { steps = true }) end },
    { "ahead", function () return place.neap("ahead", { steps = true }) end },
    { "pipeline", function () return pg_limit("pipeline", tostring(n)) end }, { "psql", function () return psql("-f", place.dir .. "/ask.sql") end },
  }
  local psycopg, luasql = bench.works("python3 -c 'import psycopg2'"), bench.works("lua5.4 -e 'require \"luasql.postgres\"'")
  if psycopg then programs[#programs + 1] = { "psycopg2", function () return bench.measure({ "python3", "-c", PSYCOPG:format(n) }, { env = pg_env() }) end } end
  if luasql then programs[#programs + 1] = { "lua-sql", function () return bench.measure({ "lua5.4", "-e", LUASQL:format(n) }, { env = pg_env() }) end } end
  local samples = bench.turns(ROUNDS, programs)
  bench.line("neap / PQexec", bench.ratio(samples, "neap", "limit"), { most = 1.3 }, ("%.1f us each"):format(bench.middle(samples, "neap") / n * 1e6))
  bench.line("neap one at a time / neap sent ahead (exec_many)", bench.ratio(samples, "neap", "ahead"), { least = 4 },
    ("%.1f us each"):format(bench.middle(samples, "ahead") / n * 1e6))
  bench.line("neap sent ahead / libpq in pipeline mode", bench.ratio(samples, "ahead", "pipeline"), {})
  bench.line("psql -f / neap", bench.ratio(samples, "psql", "neap"), {})
  if psycopg then bench.line("psycopg2 / neap", bench.ratio(samples, "psycopg2", "neap"), { least = 1 }) else bench.skip("psycopg2 / neap", "not installed") end
  if luasql then bench.line("lua-sql / neap", bench.ratio(samples, "lua-sql", "neap"), {}) else bench.skip("lua-sql / neap", "not installed") end
end

local ROWS = "SELECT g AS id, 'name ' || g AS name, (g * 1.25)::numeric(12,2) AS amount, '2026-01-01 00:00:00+00'::timestamptz + g * interval '1 s' AS ts, "
  .. "'note ' || md5(g::text) AS note FROM generate_series(1, 1000000) AS g"

local EACH = [[
runbook "Rows" { why = "to be measured" }
local db = target.postgres "db"
step "Rows" {
  within = "5m",
  verify = function ()
    local n, len = 0, 0
    for row in db:each "SELECT id, name, amount, ts, note FROM rows5" do n, len = n + row.id, len + #row.note end
    check(n == 500000500000, "every row was seen")
  end,
}
]]

local PSYCOPG_ROWS = [[
import psycopg2, time
c = psycopg2.connect(""); t = time.time(); k = c.cursor("rows"); k.itersize = 2000; n = 0
k.execute("SELECT id, name, amount, ts, note FROM rows5")
for row in k: n += row[0]
print("seconds:", time.time() - t)
]]

local function make_rows() server.sql("CREATE TABLE IF NOT EXISTS rows5 AS " .. ROWS) end

local function rows()
  bench.section("PostgreSQL: 1,000,000 rows of 5 columns into Lua")
  local place = pg_place()
  make_rows()
  place.book("rows", EACH)
  local programs = {
    { "limit", function () return pg_limit("rows", "SELECT id, name, amount, ts, note FROM rows5") end },
    { "neap", function () return place.neap("rows", { steps = true }) end },
    { "psql", function () return psql("-v", "FETCH_COUNT=2000", "-c", "SELECT id, name, amount, ts, note FROM rows5") end },
  }
  local psycopg = bench.works("python3 -c 'import psycopg2'")
  if psycopg then programs[#programs + 1] = { "psycopg2", function () return bench.measure({ "python3", "-c", PSYCOPG_ROWS }, { env = pg_env() }) end } end
  local samples = bench.turns(math.min(ROUNDS, 5), programs)
  bench.line("neap / limit", bench.ratio(samples, "neap", "limit"), { most = 1.2 }, ("%.2f us a row"):format(bench.middle(samples, "neap")))
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 16, unit = "MB" }, ("limit %.1f MB"):format(bench.middle(samples, "limit", "peak")))
  bench.line("psql with FETCH_COUNT / neap", bench.ratio(samples, "psql", "neap"), {})
  if psycopg then bench.line("psycopg2 with a server's cursor / neap", bench.ratio(samples, "psycopg2", "neap"), { least = 1.8 })
  else bench.skip("psycopg2 with a server's cursor / neap", "not installed") end
end

local COPY = [[
runbook "Copy" { why = "to be measured" }
local db, out = target.postgres "db", target.folder "out"
step "Copy" {
  within = "30m",
  act = function () db:copy_out("%s", out:path "copy.txt") end,
  verify = function () check(out:size "copy.txt" > 0, "it is there") end,
}
]]

local function copy()
  bench.section(("PostgreSQL: COPY of %d MiB into a file"):format(MIB))
  local place = pg_place()
  local sql = ("SELECT g AS id, repeat(md5(g::text), 32) AS filler FROM generate_series(1, %d) AS g"):format(MIB * 1048576 // 1032)
  suite.write(place.dir .. "/inventory.lua", suite.read(place.dir .. "/inventory.lua"):gsub("}%s*$", ('out = folder { path = "%s" } }'):format(place.dir)):gsub("} out", "}, out"))
  place.book("copy", COPY:format(sql))
  local programs = {
    { "psql", function () return bench.measure({ server.bin .. "/psql", "-X", "-q", "-c", ("\\copy (%s) TO '%s/psql.txt'"):format(sql, place.dir) }, { env = pg_env() }) end },
    { "neap", function () return place.neap("copy") end },
    { "limit", function () return pg_limit("copy", sql, place.dir .. "/limit.txt") end },
  }
  local samples = bench.turns(3, programs)
  bench.line("neap / psql \\copy, time", bench.ratio(samples, "neap", "psql"), { most = 1.05 }, ("%.2f s"):format(bench.middle(samples, "neap")))
  bench.line("neap / psql \\copy, processor", bench.ratio(samples, "neap", "psql", "cpu"), { most = 1.2 })
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), {})
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 16, unit = "MB" })
end

-- ---- all of it ----

local PARTS = { start = start, journal = journal, growth = growth, ask = ask, rows = rows, copy = copy }

local ok, why = xpcall(function ()
  for name in (os.getenv("NEAP_BENCH") or "start journal ask rows copy growth"):gmatch("%S+") do PARTS[name]() end
end, debug.traceback)
suite.finish()
if not ok then
  io.stderr:write("bench: ", tostring(why), "\n")
  os.exit(2, true)
end
os.exit(bench.total() == 0 and 0 or 1, true)
