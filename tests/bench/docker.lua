-- docker.lua: commands in a container, and bytes out of one, against the Engine's API in C and the docker program.
-- NEAP_BENCH_EXECS=100 and NEAP_BENCH_DOCKER_MIB=1024 set how many and how much.
--
-- A stream is compared with the program followed by the hash and the fsync that it leaves out; the program alone is printed beside it.

local bench = require "tests.bench.bench"
local servers = require "tests.support.servers"

local M = {}

local EXECS = bench.size("NEAP_BENCH_EXECS", 20)
local MIB = bench.size("NEAP_BENCH_DOCKER_MIB", 128)

local EXEC = [[
runbook "Exec" { why = "to be measured" }
local box = target.container "box"
step "Exec" {
  within = "10m",
  act = function () for _ = 1, %d do box:read { "true" } end end,
  verify = function () check(true, "done") end,
}
]]

local STREAM = [[
runbook "Stream" { why = "to be measured" }
local box, f = target.container "box", target.folder "f"
step "Stream" {
  within = "10m",
  act = function () box:output_to({ "dd", "if=/dev/zero", "bs=1M", "count=%d" }, f:path "neap.bin") end,
  verify = function () check(f:size "neap.bin" == %d * 1048576, "all of it came") end,
}
]]

local engine, box

local function docker(...)
  return bench.measure({ "docker", ... }, { env = { DOCKER_HOST = engine.url, DOCKER_CONFIG = engine.dir .. "/client" } })
end

local function limit(count, ...) return bench.measure { bench.root .. "/build/bench/docker", engine.socket, box.id, tostring(count), ... } end

-- What a command needs in the container that can be ended from here whenever it is: a shell that says which process it is, and waits for a line before
-- it becomes the command.
local KEPT <const> = "echo $$; read -r line && exec true"

-- EXECS calls of the docker program as one measurement.
local function program()
  local all = { wall = 0, cpu = 0, peak = 0, seconds = 0 }
  for _ = 1, EXECS do
    local one = docker("exec", box.id, "true")
    for _, field in ipairs { "wall", "cpu", "seconds" } do all[field] = all[field] + one[field] end
    all.peak = math.max(all.peak, one.peak)
  end
  return all
end

-- A run asks what its acts ask in the preview that goes before it too, so each command was run twice.
local ASKED <const> = 2

local function execs(place)
  bench.section(("Docker: %d commands in a container, one after another"):format(EXECS))
  place.book("exec", EXEC:format(EXECS))
  place.book("none", EXEC:format(0))
  local samples = bench.turns(bench.rounds * 2, {          -- the Engine takes a fifth more now and then, for whoever it is
    { "limit", function () return limit(EXECS, "true") end },
    { "kept", function () return limit(EXECS, "held", "sh", "-c", KEPT) end },
    { "neap", function () return place.neap("exec", { steps = true }) end },
    { "none", function () return place.neap("none", { steps = true }) end },
    { "docker", program },
  })
  local cpu = (bench.middle(samples, "neap", "cpu") - bench.middle(samples, "none", "cpu")) / (ASKED * EXECS) * 1e3
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), {}, ("%.1f ms each"):format(bench.middle(samples, "neap") / EXECS * 1e3))
  bench.line("neap / limit whose commands can be ended, time", bench.ratio(samples, "neap", "kept"), { most = 1.05 })
  bench.line("neap, processor for one", cpu, { most = 1, unit = "ms" }, ("limit %.2f ms, with its start"):format(bench.middle(samples, "limit", "cpu") / EXECS * 1e3))
  bench.line("docker exec / neap", bench.ratio(samples, "docker", "neap"), { least = 1.25 })
end

local function stream(place)
  bench.section(("Docker: %d MiB out of a container into a file"):format(MIB))
  place.book("stream", STREAM:format(MIB, MIB))
  local words = { "dd", "if=/dev/zero", "bs=1M", "count=" .. MIB }
  local samples = bench.turns(math.min(bench.rounds, 3), {
    { "limit", function () return limit(1, table.unpack(words)) end },
    { "neap", function () return place.neap("stream", { steps = true }) end },
    { "proven", function ()
      local line = ("docker exec %s %s >%s/proven.bin && sha256sum %s/proven.bin && sync %s/proven.bin"):format(box.id, table.concat(words, " "), place.files, place.files, place.files)
      return bench.measure({ "sh", "-c", line }, { env = { DOCKER_HOST = engine.url, DOCKER_CONFIG = engine.dir .. "/client" } })
    end },
    { "docker", function ()
      local line = ("docker exec %s %s >%s/docker.bin"):format(box.id, table.concat(words, " "), place.files)
      return bench.measure({ "sh", "-c", line }, { env = { DOCKER_HOST = engine.url, DOCKER_CONFIG = engine.dir .. "/client" } })
    end },
  })
  bench.line("docker exec / neap, time", bench.ratio(samples, "docker", "neap"), {}, ("%.0f MB/s"):format(MIB * 1.048576 / bench.middle(samples, "neap")))
  bench.line("docker exec, then sha256sum and sync / neap, time", bench.ratio(samples, "proven", "neap"), { least = 0.9 })
  bench.line("neap / limit that keeps nothing, time", bench.ratio(samples, "neap", "limit"), {})
  bench.line("neap, peak memory", bench.middle(samples, "neap", "peak"), { most = 16, unit = "MB" })
end

function M.docker()
  local why
  engine, why = servers.docker { name = "bench" }
  if not engine then return bench.skip("Docker", why) end
  box = engine.busybox { name = "bench" }
  local place = bench.folder_place(('box = container { name = "bench", docker = "%s" }'):format(engine.url))
  execs(place)
  stream(place)
end

return M
