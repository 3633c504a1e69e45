-- A bound command: fixed arguments, declared reads, statuses that are errors.
local commands = require "client.command"
local guard = require "native.guard"

local function bind(spec)
  spec.argv = spec.argv or { "sh", "-c" }
  return commands.bind("tool", spec)
end

local function fails(code, fn)
  local ok, err = pcall(T.run, fn)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

describe("a command", function()
  it("puts the arguments behind its own, and returns a result", function()
    T.run(function()
      local result = bind({}):run { "echo $0; echo two >&2", "one" }
      assert.equal(0, result:status())
      assert.equal("one\n", result:out())
      assert.equal("two\n", result:err())
      assert.is_false(result:truncated())
    end)
  end)

  it("runs in its directory with its environment and the call's", function()
    T.run(function()
      local result = bind({ cwd = "/", env = { A = "1", B = "2" } }):read({ "pwd; echo $A$B$C" }, { env = { B = "3", C = "4" } })
      assert.equal("/\n134\n", result:out())
    end)
  end)

  it("raises a status with the program's last words, unless it is allowed", function()
    local err = fails("remote", function() bind({}):run { "echo first >&2; echo 'the reason' >&2; echo >&2; exit 3" } end)
    assert.equal(3, err.status)
    assert.matches("ended with status 3: the reason", err.message)
    T.run(function()
      assert.equal(3, bind({}):run({ "exit 3" }, { allow = { 1, 3 } }):status())
      assert.equal(9, bind({}):run({ "exit 9" }, { allow = "any" }):status())
    end)
    assert.matches("signal 15", fails("remote", function() bind({}):run { "kill $$" } end).message)
  end)

  it("keeps a deadline of its own", function()
    fails("timeout", function() bind({}):read({ "sleep 60" }, { within = "40ms" }) end)
    fails("usage", function() bind({}):read({ "true" }, { within = 5 }) end)
  end)

  it("reads stdin from the call", function()
    T.run(function() assert.equal("abc", bind({}):read({ "cat" }, { stdin = "abc" }):out()) end)
  end)

  it("runs a declared read in a preview, and shows a write without ending the clause", function()
    T.run(function()
      guard.mode("plan")
      guard.predictions()
      assert.equal("x\n", bind({}):read({ "echo x" }):out())
      local result = bind({}):run { "exit 1" }
      assert.is_false(pcall(function() return result:status() end))
      assert.equal("process:tool", guard.predictions()[1].subject)
    end)
  end)

  it("withholds a declared read after a write that was only shown", function()
    T.run(function()
      guard.mode("plan")
      bind({}):run { "true" }
      local ok, err = pcall(function() return bind({}):read { "true" } end)
      assert.is_false(ok)
      assert.equal("withheld", err.code)
      guard.predictions()
    end)
  end)

  it("refuses what is no list, no option, no program", function()
    fails("usage", function() bind({}):run("ls -l") end)
    fails("usage", function() bind({}):run({}, { timeout = "5s" }) end)
    fails("config", function() commands.bind("tool", {}) end)
    fails("config", function() commands.bind("tool", { argv = { 1 } }) end)
    fails("remote", function() commands.bind("tool", { argv = { "no-such-program-9" } }):run() end)
  end)

  it("ends what a dead run left working, with all it started, and does not guess what it did", function()
    local child = T.start { argv = { "sh", "-c", "echo up; sleep 60 & wait" } }
    child:read(60000)
    local pid = child:pid()
    local write = { pid = pid, started = require("native.system").started(pid) }
    T.run(function() assert.is_nil(commands.bind("tool", { argv = { "sh" } }).guardians.probe(nil, write, { within_ms = 60000, end_it = true })) end)
    assert.same({ nil, "signal", 15, n = 3 }, table.pack(child:wait(60000)))
    child:close()
  end)

  it("has a card that asks nobody", function()
    local card = bind({ cwd = "/" }):card()
    assert.equal("process:tool", card.id)
    assert.same({ "program", "sh -c" }, card.lines[1])
    assert.same({ "directory", "/" }, card.lines[2])
  end)
end)
