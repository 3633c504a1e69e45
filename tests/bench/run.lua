-- run.lua: what neap costs, as ratios to programs that do only the work, and to other tools, all taken in one run.
--
--   make bench            NEAP_BENCH="ask copy" chooses among the names below, NEAP_BENCH_ROUNDS=5 is the number of turns
--
-- One file per kind of work, each of which says what sizes it takes from the environment. The limit programs are
-- tests/bench/limit/*.c. Ends with 1 when a goal is missed.

package.path = "./?.lua;" .. package.path

local bench = require "tests.bench.bench"
local suite = require "tests.support.suite"

local PARTS <const> = {
  { "start", "start" }, { "journal", "journal" }, { "ask", "postgres" }, { "rows", "postgres" }, { "copy", "postgres" }, { "growth", "journal" },
  { "redis", "redis" }, { "docker", "docker" }, { "cold", "ssh" }, { "warm", "ssh" }, { "bulk", "ssh" },
}

local function wanted(name)
  local chosen = os.getenv("NEAP_BENCH")
  return not chosen or (" " .. chosen .. " "):find(" " .. name .. " ", 1, true) ~= nil
end

local ok, why = xpcall(function ()
  for _, part in ipairs(PARTS) do
    if wanted(part[1]) then require("tests.bench." .. part[2])[part[1]]() end
  end
end, debug.traceback)
suite.finish()
if not ok then
  io.stderr:write("bench: ", tostring(why), "\n")
  os.exit(2, true)
end
os.exit(bench.total() == 0 and 0 or 1, true)
