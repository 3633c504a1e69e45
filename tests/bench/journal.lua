-- journal.lua: the durable step, and what grows with steps and with old runs.

local bench = require "tests.bench.bench"

local MANY = [[
runbook "Many steps" { why = "to be measured" }
local f = target.folder "f"
for i = 1, %d do
  step("Step " .. i) { act = function () return i end, verify = function () check(true, "it is so") end }
end
]]

-- As a simple journal would: one commit for the intent of a step and one for its result.
local function twice(r) return bench.promised(r) or r.kind == "step" and r.body:find('"state":"end"', 1, true) ~= nil end

local PYTHON = [[
import sqlite3, sys
d = sqlite3.connect(sys.argv[1], isolation_level=None)
d.execute("pragma journal_mode=wal"); d.execute("pragma synchronous=full")
d.execute("create table if not exists step(seq integer primary key, body text)")
for i in range(%d):
    d.execute("insert into step(body) values (?)", ("intent",)); d.execute("insert into step(body) values (?)", ("result",))
]]

local M = {}

function M.journal()
  bench.section("Durable steps: 1,000 steps in one run")
  local place = bench.folder_place()
  place.book("many", MANY:format(1000))
  place.neap("many")
  local list = bench.records(place.dir .. "/state")
  bench.write_records(place.dir .. "/two", list, twice)
  bench.write_records(place.dir .. "/promised", list, bench.promised)
  local programs = {
    { "two", function () return bench.limit_journal(place.dir .. "/limit", place.dir .. "/two") end }, { "neap", function () return place.neap("many") end },
    { "promised", function () return bench.limit_journal(place.dir .. "/limit", place.dir .. "/promised") end },
  }
  if bench.works("python3 -c 'import sqlite3'") then
    programs[4] = { "python", function () return bench.measure({ "python3", "-c", PYTHON:format(1000), place.dir .. "/python.db" }) end }
  end
  local samples = bench.turns(bench.rounds * 3, programs)      -- of a third of a second each: single ones differ by a fifth
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

function M.growth()
  bench.section("Growth: with steps in a run, and with runs in the state directory")
  local place = bench.folder_place()
  place.book("one", bench.ONE)
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
  samples = bench.turns(bench.rounds * 2, old)
  bench.line("start-up with 1,000 old runs / with none", bench.ratio(samples, 1000, 0), { most = 1.2 })
  bench.line("start-up with 10,000 old runs / with none", bench.ratio(samples, 10000, 0), { most = 1.2 })
end

return M
