-- The harness fails what should fail: a test is only worth what its runner notices.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

-- Run the body as a spec file in an interpreter of its own.
local function run_spec(body)
  local dir = suite.temp()
  T.mode(dir, tonumber("711", 8)) -- user postgres passes through
  local path = suite.write(dir .. "/x_spec.lua", "local suite = require 'tests.support.suite'\ndescribe('x', function()\n" .. body .. "\nend)\n")
  local r = child.run {
    argv = { arg[-1], "tests/support/busted.lua", path },
    env = { PATH = os.getenv("PATH"), NEAP_TEST_TMP = dir, NEAP_TEST_COUNTS = dir .. "/counts" }, timeout = 180000,
  }
  r.counts = suite.read(dir .. "/counts")
  r.dir = dir
  return r
end

local function fails_with(pattern, body)
  local r = run_spec(body)
  assert.equal(1, r.code, r.out .. r.err)
  assert.matches(pattern, r.out)
  return r
end

describe("support.report", function()
  it("counts what passes and says nothing about it", function()
    local r = run_spec("it('a', function() end) it('b', function() T.run(function() return 1 end) end)")
    assert.same({ 0, "", "2 0 0 done\n" }, { r.code, r.out, r.counts })
  end)

  it("shows a failure inside a task with its place", function()
    fails_with("x_spec.lua:3.-Expected objects to be equal", "it('a', function() T.run(function() assert.equal(1, 2) end) end)")
  end)

  it("fails a skip that is not pinned, and shows its reason", function()
    local r = fails_with("not here.-not listed in tests/support/skips.txt", "it('a', function() pending('not here') end)")
    assert.equal("0 1 1 done\n", r.counts)
  end)

  it("fails a file that does not compile", function()
    assert.equal("0 1 0 done\n", fails_with("x_spec.lua", "it('a'").counts)
  end)

  it("fails a test that leaves a task", function()
    fails_with("tasks are left", "it('a', function() T.run(function() local t = require 'native.task' t.spawn(function() t.sleep(60000) end) end) end)")
  end)

  it("fails a test that leaves a child process", function()
    fails_with("a child process is there", "it('a', function() leaked = T.start { argv = { 'sleep', '60' } } end)")
  end)

  it("fails a test that leaves a temporary file", function()
    fails_with("a temporary file is there: left", "it('a', function() suite.write(suite.directory() .. '/tmp/left', '') end)")
  end)

  it("lets a before_each make what its after_each removes, and fails what is there at the end", function()
    local body = "local path before_each(function() path = suite.write(suite.directory() .. '/tmp/each', '') end)\n"
    assert.equal("1 0 0 done\n", run_spec(body .. "after_each(function() os.remove(path) end) it('a', function() end)").counts)
    assert.equal("1 1 0 done\n", fails_with("at the end:%s+each", body .. "it('a', function() end)").counts)
  end)

  it("names the test that killed the interpreter", function()
    local r = run_spec("it('goes out', function() T.signal(T.pid(), 9) end)")
    assert.equal(9, r.signal)
    assert.equal("0 0 0 running x goes out\n", r.counts)
  end)

  it("leaves no directory and no server even after kill -9", function()
    local r = run_spec("it('a', function() print('in ' .. suite.directory()) io.stdout:flush() "
      .. "print(require('tests.support.servers').postgres().process:pid()) io.stdout:flush() T.signal(T.pid(), 9) end)")
    local pid = math.tointeger(tonumber(r.out:match("\n(%d+)")))
    local until_ms = T.now_ms() + 60000
    while (T.alive(pid) or #T.entries(r.dir) > 2) and T.now_ms() < until_ms do T.pause(20) end
    assert.is_false(T.alive(pid))
    assert.equal(2, #T.entries(r.dir))
  end)
end)
