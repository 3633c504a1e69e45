-- redis.lua: keys deleted by their prefix, out of twice as many, against hiredis in C and the ways of the shell.
-- NEAP_BENCH_KEYS=1000000 sets how many match.

local bench = require "tests.bench.bench"
local servers = require "tests.support.servers"

local M = {}

local KEYS = bench.size("NEAP_BENCH_KEYS", 200000)
local SINGLE <const> = 1000      -- deleted one by one; the time of all of them is reckoned from these
local SLOW_US <const> = 200

local server

local BOOK = [[
runbook "Sweep" { why = "to be measured" }
local cache = target.redis "cache"
step "Sweep" {
  within = "30m", destroys = "keys of old",
  act = function () cache:remove_matching { match = "old:*" } end,
  verify = function () check(true, "swept") end,
}
]]

-- As many keys that match as do not, and a clean log of slow commands.
local function fill()
  server.cli("flushall")
  server.cli("debug", "populate", KEYS, "old", 3)
  server.cli("debug", "populate", KEYS, "new", 3)
  server.cli("slowlog", "reset")
end

-- Nothing but `old` may be gone, and all of it.
local function swept(measured)
  local left = tonumber(server.cli("dbsize"))
  if left ~= KEYS then error(("%d keys are left, not %d"):format(left, KEYS)) end
  local longest = 0
  for us in server.cli("slowlog", "get", 10):gmatch("\n(%d+)\n[US]%u+\n") do longest = math.max(longest, tonumber(us)) end
  measured.longest = longest / 1000
  return measured
end

-- neap: its step, and in it the deletion alone, from the durable intent to the outcome; then it counts what came meanwhile.
local function neap(place)
  local measured = place.neap("sweep", { steps = true, more = { "--confirm", "destroys=sweep" } })
  local function at(kind) return tonumber(measured.out:match('"at":(%d+),"kind":"' .. kind .. '"')) end
  measured.deletion = (at "outcome" - at "intent") / 1000
  return measured
end

local function limit(...)
  local measured = bench.measure { bench.root .. "/build/bench/redis", tostring(server.port), "old:*", "1000", ... }
  measured.deletion = measured.seconds
  return measured
end

local function shell(line) return bench.measure { "sh", "-c", line } end

local function filled(fn) return function ()
  fill()
  return swept(fn())
end end

-- One redis-cli a key: over a database of their own, so that finding them costs nothing.
local function one_by_one()
  local cli = ("redis-cli -s %s -n 1"):format(server.socket)
  shell(("seq -f 'set old:%%.0f xxx' %d | %s >/dev/null"):format(SINGLE, cli))
  return shell(("%s --scan --pattern 'old:*' | xargs -L 1 %s del >/dev/null"):format(cli, cli)).wall / SINGLE * KEYS
end

function M.redis()
  if not bench.works("command -v redis-server") then return bench.skip("Redis", "not installed") end
  bench.section(("Redis: %d keys of %d deleted by their prefix"):format(KEYS, 2 * KEYS))
  server = servers.redis { name = "bench", open = true, settings = { "slowlog-log-slower-than " .. SLOW_US, "slowlog-max-len 1024" } }
  local place = bench.place(('environment "here" { cache = redis { url = "redis://127.0.0.1:%d/0", tls = "off" } }'):format(server.port))
  place.book("sweep", BOOK)
  local piped = "redis-cli -p %d --scan --pattern 'old:*' | xargs -n 1000 redis-cli -p %d unlink >/dev/null"
  local samples = bench.turns(math.min(bench.rounds, 3), {
    { "limit", filled(limit) },
    { "neap", filled(function () return neap(place) end) },
    { "again", filled(function () return limit "again" end) },
    { "xargs", filled(function () return shell(piped:format(server.port, server.port)) end) },
  })
  bench.line("neap / limit, deletion", bench.ratio(samples, "neap", "limit", "deletion"), { most = 1.15 },
    ("%.2f us a key"):format(bench.middle(samples, "neap", "deletion") / KEYS * 1e6))
  bench.line("neap / limit, both counting what came meanwhile", bench.ratio(samples, "neap", "again"), {},
    ("neap %.2f s, limit %.2f s, without that %.2f s"):format(bench.middle(samples, "neap"), bench.middle(samples, "again"), bench.middle(samples, "limit")))
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 16, unit = "MB" }, ("limit %.1f MB"):format(bench.middle(samples, "limit", "peak")))
  bench.line("the longest command of neap on the server", bench.middle(samples, "neap", "longest"), { most = 5, unit = "ms" },
    ("of the limit %.1f ms"):format(bench.middle(samples, "limit", "longest")))
  bench.line("redis-cli --scan, xargs -n 1000 unlink / neap", bench.ratio(samples, "xargs", "neap"), { least = 2 })
  bench.line("redis-cli --scan, xargs -L 1 del / neap", one_by_one() / bench.middle(samples, "neap"), { least = 1000 },
    ("reckoned from %d keys"):format(SINGLE))
end

return M
