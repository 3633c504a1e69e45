-- postgres.lua: round trips, rows into Lua, and COPY into a file, against libpq in C and the clients that are installed.
--
-- A statement and its parameters travel apart, so round trips are held to PQexecParams. PQexec, which would need them in one text, is printed beside
-- it: the protocol with parameters costs a quarter more by itself (measured, 1.24).
--
-- A COPY is held to psql followed by the hash and the fsync that it leaves out: what those cost is the disk's to say and not ours (libpq in C that does
-- the same took 1.0 to 1.7 times as long as psql alone within one day, and so did we). psql alone is printed beside it.
-- NEAP_BENCH_MIB=1024 sets the size of the COPY.

local bench = require "tests.bench.bench"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local M = {}

local PG = bench.root .. "/build/bench/pg"
local MIB = bench.size("NEAP_BENCH_MIB", 512)

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

-- What sending ahead gains is the wait for each answer, 4 times and more where waiting is slow against the server's own work. Where it is not, libpq itself
-- gains less (measured: 3.4), and who asks one at a time in less time gains less, too: so the goal is 4 times or nine tenths of what libpq gains, and
-- 1.25 of what libpq takes.
function M.ask()
  bench.section("PostgreSQL: 10,000 round trips on the connection that acts")
  local place, n = pg_place(), 10000
  place.book("ask", ASK:format(n))
  place.book("ahead", AHEAD:format(n))
  suite.write(place.dir .. "/ask.sql", ("SELECT 1;\n"):rep(n))
  local programs = {
    { "limit", function () return pg_limit("ask", tostring(n)) end }, { "extended", function () return pg_limit("askp", tostring(n)) end },
    { "neap", function () return place.neap("ask", { steps = true }) end },
    { "ahead", function () return place.neap("ahead", { steps = true }) end },
    { "pipeline", function () return pg_limit("pipeline", tostring(n)) end }, { "psql", function () return psql("-f", place.dir .. "/ask.sql") end },
  }
  local psycopg, luasql = bench.works("python3 -c 'import psycopg2'"), bench.works("lua5.4 -e 'require \"luasql.postgres\"'")
  if psycopg then programs[#programs + 1] = { "psycopg2", function () return bench.measure({ "python3", "-c", PSYCOPG:format(n) }, { env = pg_env() }) end } end
  if luasql then programs[#programs + 1] = { "lua-sql", function () return bench.measure({ "lua5.4", "-e", LUASQL:format(n) }, { env = pg_env() }) end } end
  local samples = bench.turns(bench.rounds * 3, programs)      -- of a tenth to half a second each: single ones differ by a fifth
  bench.line("neap / PQexec", bench.ratio(samples, "neap", "limit"), {}, ("%.1f us each"):format(bench.middle(samples, "neap") / n * 1e6))
  bench.line("neap / PQexecParams", bench.ratio(samples, "neap", "extended"), { most = 1.3 })
  local gain = bench.ratio(samples, "extended", "pipeline")
  bench.line("neap one at a time / neap sent ahead (exec_many)", bench.ratio(samples, "neap", "ahead"), { least = math.min(4, gain * 0.9 // 0.01 * 0.01) },
    ("%.1f us each; libpq gains %.2f x"):format(bench.middle(samples, "ahead") / n * 1e6, gain))
  bench.line("neap sent ahead / libpq in pipeline mode", bench.ratio(samples, "ahead", "pipeline"), { most = 1.25 })
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

function M.rows()
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
  local samples = bench.turns(math.min(bench.rounds, 5), programs)
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

-- psql neither hashes what it wrote nor sees that it is on the disk, so it is held against psql that does: in time and in processor. What the hash and
-- the sync cost is seen in the limit, which with them took 0.94 to 1.27 of the processor of psql alone; we are held against that limit, too.
function M.copy()
  bench.section(("PostgreSQL: COPY of %d MiB into a file"):format(MIB))
  local place = pg_place()
  local sql = ("SELECT g AS id, repeat(md5(g::text), 32) AS filler FROM generate_series(1, %d) AS g"):format(MIB * 1048576 // 1032)
  suite.write(place.dir .. "/inventory.lua", suite.read(place.dir .. "/inventory.lua"):gsub("}%s*$", ('out = folder { path = "%s" } }'):format(place.dir)):gsub("} out", "}, out"))
  place.book("copy", COPY:format(sql))
  local copy, run = ("\\copy (%s) TO '%s/psql.txt'"):format(sql, place.dir), server.bin .. "/psql -X -q -c"
  local programs = {
    { "psql", function () return bench.measure({ "sh", "-c", run .. ' "$0"', copy }, { env = pg_env() }) end },
    { "neap", function () return place.neap("copy") end },
    { "psql, proven", function ()
      return bench.measure({ "sh", "-c", run .. ' "$0" && sha256sum "$1" && sync "$1"', copy, place.dir .. "/psql.txt" }, { env = pg_env() })
    end },
    { "limit", function () return pg_limit("copy", sql, place.dir .. "/limit.txt") end },
    { "proven", function () return pg_limit("copy", sql, place.dir .. "/limit.txt", "proven") end },
  }
  local samples = bench.turns(3, programs)
  bench.line("neap / psql \\copy, time", bench.ratio(samples, "neap", "psql"), {}, ("%.2f s"):format(bench.middle(samples, "neap")))
  bench.line("neap / psql \\copy, then sha256sum and sync, time", bench.ratio(samples, "neap", "psql, proven"), { most = 1.05 })
  bench.line("neap / psql \\copy, processor", bench.ratio(samples, "neap", "psql", "cpu"), {})
  bench.line("neap / psql \\copy, then sha256sum and sync, processor", bench.ratio(samples, "neap", "psql, proven", "cpu"), { most = 0.5 })
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), {})
  bench.line("neap / limit with a hash and fsync, time", bench.ratio(samples, "neap", "proven"), {})
  bench.line("neap / limit with a hash and fsync, processor", bench.ratio(samples, "neap", "proven", "cpu"), { most = 1.25 },
    ("that limit / psql %.2f"):format(bench.ratio(samples, "proven", "psql", "cpu")))
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 16, unit = "MB" },
    ("limit %.1f MB"):format(bench.middle(samples, "limit", "peak")))
end

return M
