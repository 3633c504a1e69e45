-- ssh.lua: many hosts at once, many commands on open connections, and bulk, against libssh2 in C and what starts ssh.
-- NEAP_BENCH_HOSTS=100, NEAP_BENCH_SSH_MIB=1024 and NEAP_BENCH_MANY=1000 (hosts, of one connection each) set the sizes.
--
-- One sshd answers on all of 127.0.0.0/8, which is ours alone in the network namespace run.sh makes; elsewhere it answers on
-- 127.0.0.1 only and every host is that one. Its account has /bin/sh and an empty home (tests/support/servers/sshd.lua).
--
-- A goal is a ratio to the limit that does all that is promised: a command that can be ended from here and whose success is told; a transfer with
-- a hash on the way into a file that takes the place of the old one when it is whole, and then survives a power loss. That the old one stays until
-- then costs more than one would think: the new one's pages are fresh. What the bare limit costs is printed beside it: it is the price of the
-- promises (measured: a command 1.7 times, 128 MiB into a file 1.5 times).
--
-- Our writes are the pool's, so that a slow disk holds nobody else, and the limit's are not: of the instructions we need fewer than it does (callgrind,
-- 32 MiB: 0.98), of the processor's time more, as two threads of one transfer and the server share two processors; of the clock's less (0.75 to 0.95).
-- Over twenty turns at a time the processor's figure was 1.06 to 1.10, and single runs of the bench gave 1.04 to 1.2; when all was written where it was
-- read it was 1.0 to 1.04. So 1.15 is the goal for what comes down, and 1.05 everywhere else.
--
-- OpenSSH's own key exchange costs its client a quarter of a second of processor time on some machines: so the programs that start
-- ssh are measured with it, and with the one libssh2 takes. How much dearer they are than we depends on what the servers, which share the processors,
-- take of the time: where the bare limit itself was 5.2 and 3.1 times as fast as they are, 4 and 2 times are our goals.

local bench = require "tests.bench.bench"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local M = {}

local MIB = bench.size("NEAP_BENCH_SSH_MIB", 128)
local HOSTS = bench.size("NEAP_BENCH_HOSTS", 100)
local WARM <const>, COMMANDS <const> = 10, 100
local LIMIT = bench.root .. "/build/bench/ssh"
local ALONE = os.getenv("NEAP_BENCH_ALONE") ~= nil
local FAST <const> = "curve25519-sha256"

local server, config, fast_config

local function address(i) return ALONE and ("127.1.%d.%d"):format(i // 250, i % 250 + 1) or "127.0.0.1" end

local function addresses(count)
  local list = {}
  for i = 1, count do list[i] = address(i) end
  return list
end

local function write_config(path, more)
  local known = suite.write(path .. ".known", "[127.*]:" .. server.port .. " " .. server.host_line({ "ed25519" }):match("%S+ (.*)") .. "\n")
  return suite.write(path, table.concat({ "Host *", "Port " .. server.port, "User " .. server.user, "IdentityFile " .. server.key(), "IdentitiesOnly yes",
    "UserKnownHostsFile " .. known, "GlobalKnownHostsFile /dev/null", "StrictHostKeyChecking yes", "BatchMode yes", more }, "\n  ") .. "\n")
end

local function start()
  if server then return end
  server = servers.sshd { name = "bench", address = ALONE and "0.0.0.0" or "127.0.0.1" }
  local dir = suite.temp()
  config, fast_config = write_config(dir .. "/config", ""), write_config(dir .. "/fast", "KexAlgorithms " .. FAST)
end

local function limit(...) return bench.measure { LIMIT, ... } end

local function limit_run(in_flight, times, command, hosts)
  return limit("run", tostring(server.port), server.user, server.key(), tostring(in_flight), tostring(times), command, table.unpack(hosts))
end

-- What a command needs on the host that can be ended from here, and whose success is told and not guessed: a shell that waits for it, and a
-- session of its own.
local KEPT <const> = "exec sh -c 'setsid true & wait $!; echo e $?'"

-- ---- new connections ----

-- A preview asks what a runbook wants to know, once; so it is what is measured, from the start of the process to its end.
local FAN <const> = [[
runbook "Fan out" { why = "to be measured" }
local all = target.hosts "all"
step "Fan out" {
  each = function () return all:all() end, limit = 64, within = "10m",
  verify = function (name) check(all:on(name):read({ "true" }) ~= nil, "{item} answers") end,
}
]]

local function hosts_place(hosts)
  return bench.folder_place(('all = hosts { names = { "%s" }, config = "%s" },'):format(table.concat(hosts, '", "'), config))
end

local function xargs(dir, which) return bench.measure { "sh", "-c", ("xargs -P50 -I@ ssh -F %s @ true <%s/hosts"):format(which, dir) } end

local function pdsh(dir, which)
  return bench.measure({ "pdsh", "-R", "ssh", "-f", "50", "-w", "^" .. dir .. "/hosts", "true" }, { env = { PDSH_SSH_ARGS = "-F " .. which .. " %h" } })
end

-- Many times as many hosts cost as much each.
local function many(few)
  local count = bench.size("NEAP_BENCH_MANY", 4 * HOSTS)
  local place = hosts_place(addresses(count))
  place.book("fan", FAN)
  local measured = place.neap("fan", { plan = true })
  bench.line(("a host of %d / a host of %d, processor"):format(count, HOSTS),
    measured.cpu / count / (bench.middle(few, "neap", "cpu") / HOSTS), { most = 1.2 }, ("%.1f s, peak %.1f MB"):format(measured.seconds, measured.peak))
end

-- What ssh takes to say which host a name means: seconds of the processor.
local function asking()
  return bench.measure { "sh", "-c", ("for i in $(seq 20); do ssh -G -F %s 127.0.0.1 >/dev/null; done"):format(config) }.cpu / 20
end

function M.cold()
  bench.section(("SSH: one command on each of %d hosts that nobody is connected to"):format(HOSTS))
  start()
  local hosts = addresses(HOSTS)
  local place = hosts_place(hosts)
  place.book("fan", FAN)
  suite.write(place.dir .. "/hosts", table.concat(hosts, "\n") .. "\n")
  local programs = {
    { "limit", function () return limit_run(20, 1, "true", hosts) end },
    { "kept", function () return limit_run(20, 1, KEPT, hosts) end },
    { "neap", function () return place.neap("fan", { plan = true }) end },
    { "xargs, fast", function () return xargs(place.dir, fast_config) end },
    { "xargs", function () return xargs(place.dir, config) end },
  }
  local has_pdsh = bench.works("command -v pdsh")
  if has_pdsh then
    programs[6] = { "pdsh, fast", function () return pdsh(place.dir, fast_config) end }
    programs[7] = { "pdsh", function () return pdsh(place.dir, config) end }
  end
  local samples = bench.turns(math.min(bench.rounds, 3), programs)
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), {}, ("%.2f s"):format(bench.middle(samples, "neap")))
  bench.line("neap / limit whose commands can be ended, time", bench.ratio(samples, "neap", "kept"), { most = 1.15 })
  bench.line("neap, processor for a host", bench.middle(samples, "neap", "cpu") / HOSTS * 1e3, { most = 2.5, unit = "ms" },
    ("%.1f ms of it ssh -G; limit %.2f ms, ssh %.1f ms"):format(asking() * 1e3, bench.middle(samples, "limit", "cpu") / HOSTS * 1e3,
      bench.middle(samples, "xargs, fast", "cpu") / HOSTS * 1e3))
  bench.line("xargs -P50 ssh, " .. FAST .. " / neap", bench.ratio(samples, "xargs, fast", "neap"), { least = 1.25 })
  bench.line("xargs -P50 ssh / neap", bench.ratio(samples, "xargs", "neap"), { least = 4 })
  if has_pdsh then
    bench.line("pdsh -f 50, " .. FAST .. " / neap", bench.ratio(samples, "pdsh, fast", "neap"), { least = 1.25 })
    bench.line("pdsh -f 50 / neap", bench.ratio(samples, "pdsh", "neap"), { least = 4 })
  else
    bench.skip("pdsh / neap", "not installed")
  end
  if not bench.works("command -v ansible") then bench.skip("ansible / neap", "not installed") end
  many(samples)
end

-- ---- open connections ----

local COMMAND = [[
runbook "Commands" { why = "to be measured" }
local host, numbers = {}, {}
for i = 1, %d do host[i], numbers[i] = target.host("h" .. i), i end
step "Commands" {
  each = numbers, limit = %d, within = "10m",
  act = function (i) for _ = 1, %d do host[i]:read { "true" } end end,
  verify = function () check(true, "done") end,
}
]]

local function host_place(hosts)
  local lines = {}
  for i, name in ipairs(hosts) do lines[i] = ('h%d = host { ssh = "%s", config = "%s" },'):format(i, name, config) end
  return bench.folder_place(table.concat(lines, " "))
end

-- A master for each host is opened first, as ours are by the look at who they are.
local function muxed(dir, hosts)
  local mux = ("-F %s -o ControlPath=%s/%%h -o ControlMaster=auto -o ControlPersist=60"):format(fast_config, dir)
  suite.write(dir .. "/hosts", table.concat(hosts, "\n") .. "\n")
  assert(os.execute(("xargs -P%d -I@ ssh %s @ true <%s/hosts"):format(WARM, mux, dir)))
  local line = ("xargs -P%d -I@ sh -c 'for i in $(seq %d); do ssh %s @ true || exit 255; done' <%s/hosts"):format(WARM, COMMANDS, mux, dir)
  local measured = bench.measure { "sh", "-c", line }
  assert(os.execute(("xargs -I@ ssh %s -O exit @ <%s/hosts 2>/dev/null"):format(mux, dir)))
  return measured
end

function M.warm()
  bench.section(("SSH: %d open connections, %d commands one after another on each"):format(WARM, COMMANDS))
  start()
  local hosts = addresses(WARM)
  local place = host_place(hosts)
  place.book("warm", COMMAND:format(WARM, WARM, COMMANDS))
  local programs = {
    { "limit", function () return limit_run(WARM, COMMANDS, "true", hosts) end },
    { "kept", function () return limit_run(WARM, COMMANDS, KEPT, hosts) end },
    { "neap", function () return place.neap("warm", { steps = true }) end },
  }
  if ALONE then programs[4] = { "mux", function () return muxed(suite.temp(), hosts) end } end
  local samples = bench.turns(math.min(bench.rounds, 2), programs)
  bench.line("neap / limit, time", bench.ratio(samples, "neap", "limit"), {},
    ("%.2f ms a command"):format(bench.middle(samples, "neap") / (WARM * COMMANDS) * 1e3))
  bench.line("neap / limit whose commands can be ended, time", bench.ratio(samples, "neap", "kept"), { most = 1.2 })
  if samples.mux then bench.line("ssh with ControlMaster / neap", bench.ratio(samples, "mux", "neap"), { least = 2 })
  else bench.skip("ssh with ControlMaster / neap", "every host is 127.0.0.1 here, and would share one master") end
end

-- ---- bulk ----

local GET = [[
runbook "Get" { why = "to be measured" }
local h, f = target.host "h", target.folder "f"
step "Get" {
  within = "10m",
  act = function ()
    local out <close> = f:open("neap.bin", "w")
    local command <close> = h:start({ "head", "-c", "%d", "/dev/zero" }, { read = true, bulk = %s })
    command:stdout():pipe(out)
    command:wait()
    out:close()
  end,
  verify = function () check(f:size "neap.bin" == %d, "all of it came") end,
}
]]

local PUT = [[
runbook "Put" { why = "to be measured" }
local h, f = target.host "h", target.folder "f"
step "Put" {
  within = "10m",
  act = function ()
    local from <close> = f:open "%s"
    local command <close> = h:start({ "sh", "-c", "cat >/dev/null" }, { bulk = %s })
    from:pipe(command:stdin())
    command:stdin():shut()
    command:wait()
  end,
  verify = function () check(true, "all of it went") end,
}
]]

local function bulk_place(fields)
  local place = bench.folder_place(('h = host { ssh = "127.0.0.1", config = "%s", %s }'):format(config, fields))
  local bulk = fields == "" and "true" or "false"
  place.book("get", GET:format(MIB << 20, bulk, MIB << 20))
  place.book("get-nothing", GET:format(0, bulk, 0))
  place.book("put", PUT:format("zero.bin", bulk))
  place.book("put-nothing", PUT:format("empty.bin", bulk))
  assert(os.execute(("head -c %d /dev/zero >%s/zero.bin"):format(MIB << 20, place.files)))
  return place
end

local function rate(samples, name) return ("%.0f MB/s"):format(MIB * 1.048576 / bench.middle(samples, name)) end

local function compare(what, processor, samples)
  bench.line(what .. ": neap / limit, time", bench.ratio(samples, "neap", "limit"), {}, rate(samples, "neap"))
  bench.line(what .. ": neap / limit, processor", bench.ratio(samples, "neap", "limit", "cpu"), {})
  bench.line(what .. ": neap / limit that does the same, time", bench.ratio(samples, "neap", "proven"), { most = 1.05 })
  bench.alone(samples, "neap", "neap, nothing", "cpu")
  bench.alone(samples, "proven", "proven, nothing", "cpu")
  bench.line(what .. ": neap / limit that does the same, processor", bench.ratio(samples, "neap alone", "proven alone", "cpu"), { most = processor },
    ("%.2fx with the start of both"):format(bench.ratio(samples, "neap", "proven", "cpu")))
  bench.line(what .. ": ssh / neap in bulk, time", bench.ratio(samples, "ssh", "bulk"), { least = 0.9 }, rate(samples, "bulk"))
  bench.line(what .. ", in bulk: peak memory", bench.middle(samples, "bulk", "peak"), { most = 16, unit = "MB" }, ("else %.1f MB"):format(bench.middle(samples, "neap", "peak")))
end

function M.bulk()
  bench.section(("SSH: %d MiB from a host into a file, and from a file to a host"):format(MIB))
  start()
  local ours, program = bulk_place('backend = "libssh2"'), bulk_place("")
  local ssh = ("ssh -F %s 127.0.0.1 "):format(config)
  local login = { tostring(server.port), server.user, server.key(), "127.0.0.1" }
  local function one(way, command, file, proven)
    local words = table.move(login, 1, #login, 2, { way })
    words[#words + 1], words[#words + 2], words[#words + 3] = command, file, proven
    return limit(table.unpack(words))
  end
  local get, none = ("head -c %d /dev/zero"):format(MIB << 20), suite.write(ours.files .. "/empty.bin", "")
  compare("down", 1.15, bench.turns(bench.rounds, {
    { "limit", function () return one("get", get, ours.files .. "/limit.bin") end },
    { "proven", function () return one("get", get, ours.files .. "/limit.bin", "proven") end },
    { "proven, nothing", function () return one("get", "true", ours.files .. "/limit.bin", "proven") end },
    { "neap, nothing", function () return ours.neap("get-nothing", { steps = true }) end },
    { "neap", function () return ours.neap("get", { steps = true }) end },
    { "bulk", function () return program.neap("get", { steps = true }) end },
    { "ssh", function () return bench.measure { "sh", "-c", ("%s %s >%s/ssh.bin"):format(ssh, get, ours.files) } end },
  }))
  compare("up", 1.05, bench.turns(bench.rounds, {
    { "limit", function () return one("put", "cat >/dev/null", ours.files .. "/zero.bin") end },
    { "proven", function () return one("put", "cat >/dev/null", ours.files .. "/zero.bin", "proven") end },
    { "proven, nothing", function () return one("put", "cat >/dev/null", none, "proven") end },
    { "neap, nothing", function () return ours.neap("put-nothing", { steps = true }) end },
    { "neap", function () return ours.neap("put", { steps = true }) end },
    { "bulk", function () return program.neap("put", { steps = true }) end },
    { "ssh", function () return bench.measure { "sh", "-c", ("%s 'cat >/dev/null' <%s/zero.bin"):format(ssh, ours.files) } end },
  }))
end

return M
