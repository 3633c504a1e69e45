-- The hostile SSH server: each mode as OpenSSH's client sees it, so that what neap does with it can be compared.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

-- Run a command through ssh; the result, or nil when it had not ended in time.
local function ssh(mode, command, options)
  options = options or {}
  local far <close> = servers.hostile_ssh { mode = mode, size = options.size }
  local home = servers.ssh_home { far = far, known = options.known and options.known(far) }
  local running = child.start { argv = { "ssh", "-F", home.config, "-o", "LogLevel=VERBOSE", "far", command } }
  if options.input then running:write(options.input) end
  running:shut()
  local ok, r = pcall(running.finish, running, options.ms or 60000)
  return ok and r or nil, r
end

describe("T.hostile_ssh", function()
  it("is an SSH server like any other where nothing is asked of it", function()
    local r = assert(ssh("plain", "cat; echo no >&2; exit 7", { input = "a\0b\255" }))
    assert.equal("a\0b\255", r.out)
    assert.matches("\nno\n", "\n" .. r.err:gsub("\r", ""), 1, true)
    assert.equal(7, r.code)
    local much = ("0123456789"):rep(200000)
    assert.equal(much, assert(ssh("plain", "cat", { input = much })).out)
    assert.equal(("x"):rep(300000), assert(ssh("plain", "head -c 300000 /dev/zero | tr '\\0' x")).out)
  end)

  it("lets nobody in but the suite's key", function()
    local far <close> = servers.hostile_ssh { mode = "plain" }
    local stranger = suite.temp() .. "/stranger"
    child.must { argv = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger } }
    local home = servers.ssh_home { far = setmetatable({ key = function () return stranger end }, { __index = far }) }
    local r = child.run { argv = { "ssh", "-F", home.config, "far", "echo in" } }
    assert.equal(255, r.code)
    assert.matches("Permission denied", r.err, 1, true)
  end)

  it("says no more from where it was told", function()
    for _, mode in ipairs { "silent", "hangs_in_kex", "hangs_in_auth", "hangs_in_channel", "hangs_in_exec" } do
      assert.is_nil(ssh(mode, "true", { ms = 300 }), mode)
    end
  end)

  it("refuses", function()
    for mode, words in pairs { refuses_auth = "Permission denied", refuses_channel = "open failed", refuses_exec = "exec request failed" } do
      local r = assert(ssh(mode, "true"))
      assert.are_not.equal(0, r.code)
      assert.matches(words, r.err, 1, true)
    end
  end)

  it("sends greetings without end", function()
    for _, mode in ipairs { "endless_line", "endless_banner" } do
      local r = ssh(mode, "true", { ms = 3000 })
      assert.is_true(r == nil or r.code == 255)
    end
  end)

  it("shows a host key of another kind than was agreed", function()
    local r = assert(ssh("other_host_key", "true"))
    assert.equal(255, r.code)
  end)

  it("ends a command in every wrong way", function()
    local r = assert(ssh("no_exit_status", "echo out"))
    assert.same({ "out\n", 255 }, { r.out, r.code })
    r = assert(ssh("exit_signal", "echo out"))
    assert.same({ "out\n", 255 }, { r.out, r.code })
    r = assert(ssh("close_without_eof", "echo out; exit 3"))
    assert.same({ "out\n", 3 }, { r.out, r.code })
    r = assert(ssh("exit_status_then_cut", "echo out"))
    assert.equal("out\n", r.out)
    r = assert(ssh("cut_in_output", "echo out; sleep 9"))
    assert.equal(255, r.code)
    assert.is_nil(ssh("no_close", "echo out", { ms = 300 }))
  end)

  it("never opens the window for input", function()
    assert.is_nil(ssh("no_window", "cat", { input = "x", ms = 300 }))
  end)

  it("sends much before it lets the command speak", function()
    local r = assert(ssh("huge_stderr", "echo out", { size = 3000000 }))
    assert.equal("out\n", r.out)
    assert.is_true(#r.err > 3000000)
    r = assert(ssh("long_line", "echo out", { size = 3000000 }))
    assert.same({ 3000004, 0 }, { #r.out, r.code })
    assert.is_nil(ssh("endless_output", "echo out", { ms = 200 }))
    assert.matches("\27]0;owned\7", assert(ssh("escapes", "echo out")).out, 1, true)
  end)

  it("changes keys in the middle of output, and lives; or begins to and does not", function()
    local r = assert(ssh("late_rekey", "for i in 1 2 3; do echo $i; sleep 0.05; done", { input = ("x"):rep(5000) }))
    assert.same({ "1\n2\n3\n", 0 }, { r.out, r.code })
    assert.is_nil(ssh("rekey_never_ends", "echo out", { ms = 300 }))
  end)

  it("sends what is no packet", function()
    for _, mode in ipairs { "garbage", "oversize" } do
      local r = ssh(mode, "echo out", { ms = 3000 })
      assert.is_true(r == nil or r.code == 255, mode)
    end
  end)

  it("leaves no process when it is closed", function()
    local far = servers.hostile_ssh { mode = "plain" }
    local home = servers.ssh_home { far = far }
    local running = child.start { argv = { "ssh", "-F", home.config, "far", "echo up; sleep 62" } }
    running:expect("up")
    far.close()
    assert.equal(255, running:finish().code)
    local until_ms = T.now_ms() + 60000
    local left
    repeat
      left = child.run { argv = { "sh", "-c", "ps -e -o args= | grep -x 'sleep 62'" } }.out
    until left == "" or T.now_ms() > until_ms
    assert.equal("", left)
  end)
end)
