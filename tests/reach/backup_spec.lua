-- A backup in one pass: pg_dump of a database in a container of host hermes, through neap, into a folder on host iris. The built binary
-- stands outside of both: the Engine's network is seen by hermes' sessions only, and what neap says to either host goes through a proxy
-- that counts bytes and cuts at one of them.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"

local INVENTORY <const> = [[
environment "far" {
  hermes = host { ssh = "hermes", config = "%s" },
  iris = host { ssh = "iris", config = "%s" },
  dbc = container { name = "%s", on = "hermes", docker = "unix://%s" },
  backups = folder { path = "%s", on = "iris" },
  peak = command { argv = { "sh", "-c", "grep VmHWM /proc/$PPID/status" } },
}
]]

local BOOK <const> = [[
runbook "Back up the shop" { why = "so that there is a copy elsewhere" }
local dbc, backups, peak = target.container "dbc", target.folder "backups", target.command "peak"
step "The dump is on iris" {
  within = "10m",
  done = function () return backups:has "shop.dump" end,
  act = function ()
    local dump <close> = dbc:start({ %s }, { read = true })
    local moved = backups:copy_in(dump, "shop.dump", { %s })
    note("moved " .. moved.bytes .. " bytes " .. moved.sha256)
  end,
  verify = function ()
    check(backups:has "shop.dump", "it is there")
    note("there " .. backups:size "shop.dump" .. " bytes " .. backups:hash "shop.dump")
  end,
}
step "Tell the peak" { verify = function () check(true, "VmHWM was asked") note(peak:read({}):out()) end }
]]

local DUMP <const> = [["pg_dump", "-Fc", "-Z0", "shop"]]
-- The same bytes, counted and hashed before they leave the container.
local HASHED <const> = [["bash", "-c", "set -o pipefail; pg_dump -Fc -Z0 shop | tee >(sha256sum >/tmp/sent)"]]
local MIB <const> = 1024 * 1024

describe("a dump that flows from a container of one host to another host", function ()
  local engine, why, hermes, iris, db, to_hermes, to_iris, home, root, dir

  -- A proxy before a server, and what stands for it in ssh_config and known_hosts.
  local function behind(server)
    local proxy = T.proxy { host = server.address, port = server.port }
    local line = server.host_line():gsub("%[[%d.]+%]:%d+", ("[127.0.0.1]:%d"):format(proxy:port()))
    return proxy, { "HostName 127.0.0.1", ("Port %d"):format(proxy:port()) }, line
  end

  local function fill(database, mebibytes)
    db.sql("CREATE DATABASE " .. database)
    db.sql(("CREATE TABLE page (id int, body text); ALTER TABLE page ALTER body SET STORAGE EXTERNAL;"
      .. "INSERT INTO page SELECT g, repeat(md5(g::text), 32768) FROM generate_series(1, %d) AS g"):format(mebibytes), database)
  end

  setup(function ()
    engine, why = servers.docker { netns = true }
    if not engine then return end
    hermes = servers.sshd { name = "gate", address = "127.0.0.7", netns = engine.netns }
    iris = servers.sshd { name = "vault", address = "127.0.0.8" }
    db = engine.postgres { name = "backed-db-" .. T.pid() }
    fill("shop", 16)
  end)

  -- PostgreSQL is the container's first process, and starts anew when an orphan that was left to it dies badly.
  local function await_database()
    local until_ms = T.now_ms() + 60000
    while not pcall(db.sql, "SELECT 1") and T.now_ms() < until_ms do T.pause(50) end
  end

  before_each(function ()
    if not engine then return end
    await_database()
    dir, root = suite.temp(), suite.temp()
    if iris.uid then T.owner(root, iris.uid) end
    local more, known = {}, {}
    to_hermes, more.hermes, known[1] = behind(hermes)
    to_iris, more.iris, known[2] = behind(iris)
    home = servers.ssh_home { hermes = hermes, iris = iris, more = more, known = table.concat(known, "\n") .. "\n" }
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, home.config, db.name, engine.socket, root))
    suite.write(dir .. "/backup.lua", BOOK:format(DUMP, 'stall = "60s"'))
  end)

  after_each(function ()
    if not engine then return end
    to_hermes:close()
    to_iris:close()
  end)

  local function start(options, ...)
    local argv = { neap.binary(), ... }
    table.move({ "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "400" }, 1, 6, #argv + 1, argv)
    return child.start { argv = argv, cwd = "/", tty = options.tty, columns = options.tty and 100, env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8", HOME = dir,
      TERM = options.tty and "xterm-256color" or "dumb", TMPDIR = suite.directory() .. "/tmp", ASAN_OPTIONS = os.getenv("ASAN_OPTIONS") } }
  end

  local function finish(running, ms)
    local r = running:finish(ms or 60000)
    r.said = r.out .. r.err
    return r
  end

  local function begin(options, ...) return start(options or {}, "run", dir .. "/backup.lua", "--env", "far", "--no-input", ...) end

  local function run(...)
    local running = begin({}, ...)
    running:shut()
    return finish(running)
  end

  local function listed()
    local names = T.entries(root)
    table.sort(names)
    return names
  end

  -- What was begun is taken away; where nobody could, the error says that it may be there.
  local function is_removed_or_named(r)
    local names = table.concat(listed(), " ")
    return names == "" or (names == "shop.dump.part" and r.said:find("shop.dump.part may be left on iris", 1, true) ~= nil)
  end

  -- Wait until so many bytes went through a proxy that stops there.
  local function await(proxy, way, bytes)
    local until_ms = T.now_ms() + 60000
    while proxy:count()[way] < bytes do
      assert.is_true(T.now_ms() < until_ms, "the bytes do not come")
      T.pause(10)
    end
  end

  local function pg_dumps() return db.exec({ "pgrep", "-xc", "pg_dump" }).out:match("%d+") end

  -- Kill it from outside its container. This Engine tells the ends of a container's commands one after another, each once its output was read: a
  -- pkill in there ends for its caller before the dump it killed does, or never while nobody reads on.
  local function kill_dump()
    local pid = engine.try({ "top", db.id, "-eo", "pid,comm" }).out:match("(%d+) +pg_dump\n")
    assert(os.execute("kill -KILL " .. pid))
  end

  -- Whoever stopped reading is noticed by the next write: the dump of a run that failed does not stay.
  local function await_no_dump()
    local until_ms = T.now_ms() + 60000
    while pg_dumps() ~= "0" do
      assert.is_true(T.now_ms() < until_ms, "pg_dump runs on")
      T.pause(30)
    end
  end

  local function is_whole()
    child.must { argv = { "pg_restore", "-f", "/dev/null", root .. "/shop.dump" }, timeout = 60000 }
    return true
  end

  -- What was counted in the container, which bash does not wait for.
  local function sent()
    return stages.await(function () return db.exec({ "cat", "/tmp/sent" }).out:match("^%x+") end, "the hash of what was sent")
  end

  local function sha256(path) return child.must({ argv = { "sha256sum", path } }):match("^%x+") end

  local function with(name, fn)
    it(name, function ()
      if not engine then return pending(why) end
      fn()
    end)
  end

  with("has the same hash at both ends, and is a dump that pg_restore reads", function ()
    db.exec { "rm", "-f", "/tmp/sent" }
    suite.write(dir .. "/backup.lua", BOOK:format(HASHED, 'stall = "60s"'))
    local r = run("--json")
    assert.equal(0, r.code, r.said)
    local bytes, moved = r.said:match("moved (%d+) bytes (%x+)")
    assert.equal(("there %d bytes %s"):format(bytes, moved), r.said:match("there %d+ bytes %x+"))
    assert.is_true(math.tointeger(bytes) > 16 * MIB)
    assert.equal(moved, sha256(root .. "/shop.dump"))
    assert.equal(moved, sent())
    assert.is_true(is_whole())
    assert.same({ "shop.dump" }, listed())
    if not os.getenv("ASAN_OPTIONS") then assert.is_true(tonumber(r.said:match("VmHWM:[^%d]*(%d+) kB")) < 32 * 1024) end
    local kept = sha256(root .. "/shop.dump")
    r = run()
    assert.equal(0, r.code, r.said)
    assert.matches("already", r.said)
    assert.equal(kept, sha256(root .. "/shop.dump"))
  end)

  with("carries a gibibyte in less than 32 MiB of memory, equal at both ends #bulk #long", function ()
    fill("big", 1024)
    db.exec { "rm", "-f", "/tmp/sent" }
    await_database()
    suite.write(dir .. "/backup.lua", BOOK:format(HASHED:gsub("shop", "big"), 'stall = "60s"'))
    local running = start({}, "run", dir .. "/backup.lua", "--env", "far", "--no-input", "--json")
    running:shut()
    local r = finish(running, 400000)
    assert.equal(0, r.code, r.said)
    local bytes, moved = r.said:match("moved (%d+) bytes (%x+)")
    assert.is_true(math.tointeger(bytes) > 1024 * MIB)
    assert.equal(("there %d bytes %s"):format(bytes, moved), r.said:match("there %d+ bytes %x+"))
    assert.equal(moved, child.must({ argv = { "sha256sum", root .. "/shop.dump" }, timeout = 60000 }):match("^%x+"))
    assert.equal(moved, sent())
    local peak = tonumber(r.said:match("VmHWM:[^%d]*(%d+) kB"))
    assert.is_true(peak < 32 * 1024)
    if os.getenv("NEAP_SHOW") then io.write(("%d bytes %s, peak %d kB\n"):format(bytes, moved, peak)) end
    db.sql("DROP DATABASE big")
  end)

  -- One run whose connection to one host is cut behind so many of the bytes that flow there.
  local function cut(proxy, host, way, at)
    proxy:set { way = way, reset_at = at }
    local r = run()
    proxy:set { reset_at = false }
    local names = table.concat(listed(), " ")
    if r.code == 0 then -- behind the last byte that counts
      assert.equal("shop.dump", names)
      assert.is_true(is_whole())
      os.remove(root .. "/shop.dump")
      return "done"
    end
    local said = ("%s cut at %d: exit %s\n%s"):format(host, at, r.code, r.said)
    assert.matches("error:", r.said, 1, true, said)
    local error_line = r.said:match("error:([^\n]+)")
    local role = host == "iris" and "\"backups\"" or "\"dbc\""
    assert.is_true((error_line:find(host, 1, true) or error_line:find(role, 1, true)) ~= nil, said)
    assert.is_true(is_removed_or_named(r), names .. "\n" .. said)
    return r.code, r.said
  end

  with("leaves no file and says which host was lost, cut at twenty random bytes #long", function ()
    local r, seed = run(), 20260117
    assert.equal(0, r.code, r.said)
    os.remove(root .. "/shop.dump")
    local sizes = { hermes = to_hermes:count().from, iris = to_iris:count().to }
    local ends, other = {}, {}
    for i = 1, 20 do
      local host = i % 2 == 0 and "iris" or "hermes"
      seed = (seed * 1103515245 + 12345) % 2147483648
      local code, said = cut(host == "iris" and to_iris or to_hermes, host, host == "iris" and "to" or "from", seed % sizes[host])
      ends[code] = (ends[code] or 0) + 1
      if code ~= 69 then other[#other + 1] = ("%s: %s"):format(code, said or "") end
    end
    assert.is_true((ends[69] or 0) >= 15, "most cuts are a lost connection, and not " .. table.concat(other, "\n"))
    await_no_dump()
    r = run()
    assert.equal(0, r.code, r.said)
    assert.is_true(is_whole())
  end)

  with("names the .part where the backup host does not come back", function ()
    to_iris:set { way = "to", stall_at = 4 * MIB }
    local running = begin()
    running:shut()
    await(to_iris, "to", 4 * MIB)
    to_iris:set { refuse = true }
    to_iris:cut()
    local r = finish(running)
    assert.are_not.equal(0, r.code)
    assert.matches("shop.dump.part may be left on iris", r.said, 1, true)
    to_iris:set { refuse = false, stall_at = false }
    r = run()
    assert.equal(0, r.code, r.said)
    assert.same({ "shop.dump" }, listed())
    assert.is_true(is_whole())
  end)

  with("keeps no half of a dump whose process is killed in the container", function ()
    to_iris:set { way = "to", stall_at = 2 * MIB }              -- most of it is still pg_dump's
    local running = begin()
    running:shut()
    await(to_iris, "to", 2 * MIB)
    kill_dump()
    to_iris:set { stall_at = false }
    local r = finish(running)
    assert.are_not.equal(0, r.code)
    assert.matches("what was copied is not whole: pg_dump in dbc ended with status 137", r.said, 1, true)
    assert.same({}, listed())
  end)

  with("tells the last words of a dump that fails", function ()
    suite.write(dir .. "/backup.lua", BOOK:format([["pg_dump", "-Fc", "-Z0", "no such database"]], 'stall = "60s"'))
    local r = run()
    assert.are_not.equal(0, r.code)
    assert.matches("pg_dump in dbc ended with status 1: .*database \"no such database\" does not exist", r.said)
    assert.same({}, listed())
  end)

  with("leaves no file when the session of the backup host is killed", function ()
    to_iris:set { way = "to", stall_at = 4 * MIB }
    local running = begin()
    running:shut()
    await(to_iris, "to", 4 * MIB)
    iris.kill_sessions()
    to_iris:set { stall_at = false }
    local r = finish(running)
    assert.are_not.equal(0, r.code)
    assert.matches("the writing end, " .. root .. "/shop.dump on iris, failed", r.said, 1, true)
    assert.is_true(is_removed_or_named(r), r.said)
  end)

  with("leaves no file when the disk of the backup host is full", function ()
    if not iris.uid then return pending "not root: no tmpfs can be mounted" end
    local function there(argv) return child.must { argv = table.move(argv, 1, #argv, 5, { "nsenter", "-t", tostring(iris.process:pid()), "-m" }) } end
    there { "mount", "-t", "tmpfs", "-o", ("size=8m,uid=%d"):format(iris.uid), "neap-test", root }
    local r = run()
    local names = there { "ls", "-A", root }
    there { "umount", "-l", root }
    assert.are_not.equal(0, r.code)
    assert.matches("shop.dump on iris", r.said, 1, true)
    assert.matches("No space left on device", r.said, 1, true)
    assert.equal("", names)
  end)

  with("is taken up by resume after neap was killed", function ()
    to_iris:set { way = "to", stall_at = 4 * MIB }
    local running = begin()
    running:shut()
    await(to_iris, "to", 4 * MIB)
    running:kill(9)
    assert.equal(9, running:finish().signal)
    to_iris:cut()
    to_iris:set { stall_at = false }
    for _, name in ipairs(listed()) do assert.equal("shop.dump.part", name) end
    await_no_dump()
    stages.await(function () return not next(hermes.processes()) and not next(iris.processes()) end, "the end of the sessions of the one that was killed")
    local refused = run()
    assert.equal(75, refused.code, refused.said)
    running = start({}, "resume", refused.said:match("neap resume (%x+)"), "--no-input")
    running:shut()
    local r = finish(running)
    assert.equal(0, r.code, r.said)
    assert.same({ "shop.dump" }, listed())
    assert.is_true(is_whole())
  end)

  with("is followed on a terminal: bytes, rate and the time that is left", function ()
    to_iris:set { rate = 8 * MIB }
    suite.write(dir .. "/backup.lua", BOOK:format(DUMP, ("total = %d"):format(16 * MIB)))
    local running = begin { tty = true }
    running:expect("/16.0 MiB")
    running:expect("/s  ETA ")
    local r = finish(running)
    assert.equal(0, r.code, r.said)
  end)
end)
