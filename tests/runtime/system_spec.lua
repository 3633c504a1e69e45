-- native.system: this machine, this process, signals, locks.

local child = require "tests.support.child"
local secret = require "native.secret"
local suite = require "tests.support.suite"
local system = require "native.system"

local INTERPRETER = assert(system.realpath("/proc/self/exe"))

local PRELUDE = 'local system, task = require "native.system", require "native.task"\n'

local function start(code) return child.start { argv = { INTERPRETER, "-e", PRELUDE .. code } } end

describe("system", function()
  it("knows who and where we are", function()
    assert.equal(T.pid(), system.pid())
    assert.equal(T.uid(), system.uid())
    assert.is_true(#system.user() > 0)
    assert.is_true(#system.host() > 0)
    assert.matches("^%d+%.%d+%.%d+$", system.version())
    assert.matches("^Lua 5%.4", system.libraries().lua)
    assert.equal(system.realpath("."), system.cwd())
  end)

  it("makes run ids that differ", function()
    local seen = {}
    for _ = 1, 1000 do
      local id = system.random_id()
      assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x$", id)
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("tells wall time", function()
    local before, wall, after = os.time(), system.wall_ms(), os.time()
    assert.is_true(wall >= before * 1000 and wall < (after + 2) * 1000)        -- os.time's clock is a coarse one
    assert.equal("1970-01-01T00:00:00.000Z", system.iso(0))
  end)

  it("names a process for ever by its start", function()
    local c = child.start { argv = { "sh", "-c", "echo up; exec sleep 60" } }
    c:expect("up")
    local started = system.started(c:pid())
    assert.is_true(started > 0)
    assert.is_false(system.kill_group(c:pid(), started + 1, "TERM"))
    assert.is_true(T.alive(c:pid()))
    assert.is_true(system.kill_group(c:pid(), started, "TERM"))
    assert.equal(15, c:finish().signal)
    assert.is_false(system.kill_group(c:pid(), started, "TERM"))
    assert.is_false(system.kill_group(1, system.started(1), "TERM"))
  end)
end)

describe("a hardened process", function()
  it("leaves no core, private files, and lives on when a pipe breaks", function()
    local dir = suite.temp()
    local c = child.start { cwd = dir, argv = { INTERPRETER, "-e", [[
      T.harden()
      io.open("made", "w"):close()
      for line in io.lines("/proc/self/limits") do if line:find("core file") then print((line:gsub("%s+", " "))) end end
      for line in io.lines("/proc/self/status") do if line:find("^SigIgn") then print(tonumber(line:match("%x+$"), 16) >> 12 & 1) end end
      print("ready") io.stdout:flush() io.read("l")]] } }
    c:expect("Max core file size 0 0 bytes")
    c:expect("1\nready")
    assert.equal("600\n", child.run { argv = { "stat", "-c", "%a", dir .. "/made" } }.out)
    assert.equal("0\n", child.run { argv = { "stat", "-c", "%u", ("/proc/%d/mem"):format(c:pid()) } }.out)
    c:kill(11)
    c:finish()
    assert.same({ "made" }, system.list(dir))
  end)

  it("keeps secrets in pages that are neither dumped nor, where the limit allows it, swapped", function()
    local s = assert(secret.of("pages-canary-5", "a.b"))
    local flags = {}
    for line in io.lines("/proc/self/smaps") do
      if line:find("^VmFlags") and line:find(" dd ") then flags[#flags + 1] = line end
    end
    assert.is_true(#flags > 0)
    assert.is_truthy(secret.is(s))
  end)
end)

describe("system.signal", function()
  it("brings signals to the loop with their count", function()
    local c = start [[
      T.run(function()
        local last
        system.signal(function(name, count) last = name print(name, count) io.stdout:flush() end)
        print("ready") io.stdout:flush()
        while last ~= "terminate" do task.sleep(5) end
        system.signal(nil)
      end)]]
    c:expect("ready")
    c:kill(1)
    c:expect("hangup\t1")
    c:kill(1)
    c:expect("hangup\t2")
    c:kill(2)
    c:expect("interrupt\t1")
    c:kill(15)
    c:expect("terminate\t2")
    assert.equal(0, c:finish().code)
  end)

  it("ends the process at the third, by that signal", function()
    local c = start [[
      T.run(function()
        system.signal(function(name, count) print(name, count) io.stdout:flush() end)
        print("ready") io.stdout:flush()
        task.sleep(60000)
      end)]]
    c:expect("ready")
    for i = 1, 2 do
      c:kill(2)
      c:expect("interrupt\t" .. i)
    end
    c:kill(2)
    assert.equal(2, c:finish().signal)
  end)

  it("ends it at the third even when the loop is stuck", function()
    local c = start [[system.signal(function() end) print("ready") io.stdout:flush() while true do end]]
    c:expect("ready")
    local status, signal                                    -- what comes while it is not running is one signal: until it has got three
    for _ = 1, 500 do
      c:kill(15)
      local code, _, by = c.handle:wait(20)
      status, signal = code, by
      if status or signal then break end
    end
    c:close()
    assert.equal(15, signal)
  end)

  it("ends it at the second when the loop has been stuck for five seconds #long", function()
    local c = start [[system.signal(function() end) print("ready") io.stdout:flush() while true do end]]
    c:expect("ready")
    c:kill(2)
    T.pause(5200)
    c:kill(2)
    assert.equal(2, c:finish().signal)
  end)

  it("leaves ignored what was ignored when we started", function()
    local c = child.start { argv = { "sh", "-c", 'trap "" HUP; exec "$0" -e "$1"', INTERPRETER, [[
      local system, task = require "native.system", require "native.task"
      T.run(function()
        local over
        system.signal(function(name) print(name) io.stdout:flush() over = true end)
        print("ready") io.stdout:flush()
        while not over do task.sleep(5) end
        system.signal(nil)
      end)]] } }
    c:expect("ready")
    c:kill(1)
    c:kill(15)
    local r = c:finish()
    assert.equal("ready\nterminate\n", r.out)
  end)

  it("tells what a callback raises and goes on", function()
    local c = start [[
      T.run(function()
        local over
        system.signal(function() over = true error("a \27 mistake") end)
        print("ready") io.stdout:flush()
        while not over do task.sleep(5) end
        system.signal(nil)
        print("went on")
      end)]]
    c:expect("ready")
    c:kill(2)
    local r = c:finish()
    assert.matches("went on", r.out)
    assert.matches([[callback: .*a \x1b mistake]], r.err)
  end)

  it("lets exit_now end by a signal where the code says so", function()
    assert.equal(2, start("system.exit_now(130)"):finish().signal)
    assert.equal(75, start("system.exit_now(75)"):finish().code)
  end)
end)

describe("system.lock", function()
  it("is held by one, who is named to the other", function()
    local path = suite.temp() .. "/lock"
    local lock = assert(system.lock(path, "run 7f3a by iris"))
    local other, err = system.lock(path, "run 2")
    assert.is_nil(other)
    assert.equal("busy", err.code)
    assert.matches("run 7f3a by iris", err.message, 1, true)
    lock:close()
    lock:close()
    local again <close> = assert(system.lock(path))
    assert.is_truthy(again)
  end)

  it("is gone with a process that was killed", function()
    local path = suite.temp() .. "/lock"
    local c = start(([[held = system.lock(%q) print("held") io.stdout:flush() io.read("l")]]):format(path))
    c:expect("held")
    assert.is_nil((system.lock(path)))
    c:kill(9)
    c:finish()
    assert(system.lock(path)):close()
  end)

  it("does not follow a symbolic link", function()
    local dir = suite.temp()
    child.must { argv = { "ln", "-s", dir .. "/elsewhere", dir .. "/lock" } }
    local lock, err = system.lock(dir .. "/lock")
    assert.is_nil(lock)
    assert.equal("config", err.code)
    assert.same({ "lock" }, system.list(dir))
  end)
end)

describe("system directories", function()
  it("are made private, with their parents", function()
    local path = suite.temp() .. "/a/b/c"
    assert.is_true(system.mkdir(path))
    assert.is_true(system.mkdir(path))
    assert.equal("700\n", child.run { argv = { "stat", "-c", "%a", path } }.out)
    suite.write(path .. "/file", "x")
    local ok, err = system.mkdir(path .. "/file")
    assert.is_nil(ok)
    assert.is_string(err.message)
  end)

  it("are listed in order", function()
    local dir = suite.temp()
    for _, name in ipairs { "b", "a", ".hidden", "new\nline" } do suite.write(dir .. "/" .. name, "") end
    assert.same({ ".hidden", "a", "b", "new\nline" }, system.list(dir))
    local names, err = system.list(dir .. "/missing")
    assert.is_nil(names)
    assert.equal("config", err.code)
  end)

  it("are removed without following links out of them", function()
    local dir, outside = suite.temp(), suite.temp()
    suite.write(outside .. "/precious", "x")
    assert(system.mkdir(dir .. "/tree/deep/er"))
    suite.write(dir .. "/tree/deep/file", "x")
    child.must { argv = { "ln", "-s", outside, dir .. "/tree/deep/link" } }
    assert.is_true(system.remove_tree(dir .. "/tree"))
    assert.is_true(system.remove_tree(dir .. "/tree"))
    assert.same({}, system.list(dir))
    assert.same({ "precious" }, system.list(outside))
    assert.has_error(function() system.remove_tree("relative") end)
    assert.has_error(function() system.remove_tree("/") end)
  end)
end)
