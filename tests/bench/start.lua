-- start.lua: what it costs to start, and to end, with a journal of one step.

local bench = require "tests.bench.bench"
local suite = require "tests.support.suite"

local PEERS = {
  { "bash -c true", "bash -c true", { "bash", "-c", "true" } },
  { "make", "command -v make", { "make", "--version" } },
  { "python3 -c pass", "python3 -c pass", { "python3", "-c", "pass" } },
  { "node -e 0", "node -e 0", { "node", "-e", "0" } },
  { "zx", "command -v zx", { "zx", "--eval", "0" }, 25 },
  { "ansible-playbook", "command -v ansible-playbook", { "ansible-playbook", "play.yml" }, 80 },
}

local PLAY = '- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n    - debug: { msg: "hello" }\n'

local M = {}

function M.start()
  bench.section("Start-up: a runbook of one step, from the start of the process to its end, with its journal")
  local place = bench.folder_place()
  place.book("one", bench.ONE)
  place.neap("one")
  local records = place.dir .. "/records"
  bench.write_records(records, bench.records(place.dir .. "/state"), bench.promised)
  suite.write(place.dir .. "/play.yml", PLAY)
  local programs = { { "limit", function () return bench.limit_journal(place.dir .. "/limit", records) end }, { "neap", function () return place.neap("one") end } }
  for _, peer in ipairs(PEERS) do
    if bench.works(peer[2]) then programs[#programs + 1] = { peer[1], function () return bench.measure(peer[3], { cwd = place.dir }) end } end
  end
  local samples = bench.turns(bench.rounds * 4, programs)
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), { most = 1.5 }, ("%.1f ms"):format(bench.middle(samples, "neap") * 1e3))
  bench.line("neap / limit, processor", bench.ratio(samples, "neap", "limit", "cpu"), {}, ("%.1f ms"):format(bench.middle(samples, "neap", "cpu") * 1e3))
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 10, unit = "MB" }, ("limit %.1f MB"):format(bench.middle(samples, "limit", "peak")))
  for _, peer in ipairs(PEERS) do
    if samples[peer[1]] then bench.line(peer[1] .. " / neap", bench.ratio(samples, peer[1], "neap"), { least = peer[4] })
    else bench.skip(peer[1] .. " / neap", "not installed") end
  end
end

return M
