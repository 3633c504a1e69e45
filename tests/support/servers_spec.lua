-- The servers that other specs lean on: sshd, Redis; and that nothing of them stays after a kill -9 of the suite.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local OWN_ACCOUNT <const> = "not root, or no mount namespace can be made: the account is the caller's own"

local function ssh(home, alias, command, input)
  return child.run { argv = { "ssh", "-F", home.config, alias, command }, input = input, timeout = 120000 }
end

local function wait_until(fn, what)
  local until_ms = T.now_ms() + 60000
  while not fn() do
    if T.now_ms() > until_ms then error("never came: " .. what, 2) end
    T.pause(10)
  end
end

local function is_there(server, wanted)
  for _, name in pairs(server.processes()) do
    if name == wanted then return true end
  end
  return false
end

describe("servers.sshd", function()
  local hermes, atlas, iris
  setup(function()
    hermes = servers.sshd { name = "hermes" }
    atlas = servers.sshd { name = "atlas" }
    iris = servers.sshd { name = "iris" }
  end)

  it("lets three hosts be reached at once by their names", function()
    local home = servers.ssh_home { hermes = hermes, atlas = atlas, iris = iris }
    for alias, server in pairs { hermes = hermes, atlas = atlas, iris = iris } do
      local r = ssh(home, alias, "id -un; pwd; echo $NEAP_TEST_SSHD")
      assert.equal(0, r.code, r.err)
      assert.equal(("%s\n%s\n%s\n"):format(server.user, server.home, server.dir), r.out)
    end
  end)

  it("gives root's suites an account that the machine does not have", function()
    if not hermes.uid then return pending(OWN_ACCOUNT) end
    local home = servers.ssh_home { hermes = hermes }
    assert.equal("/bin/sh\n", ssh(home, "hermes", "getent passwd $(id -un) | cut -d: -f7").out)
    assert.equal("", ssh(home, "hermes", "ls -A").out)
    assert.are_not.equal(0, child.run { argv = { "id", hermes.user } }.code)
  end)

  it("carries bytes and exit codes", function()
    local home = servers.ssh_home { hermes = hermes, more = { hermes = { "IdentityFile " .. hermes.key("ecdsa") } } }
    local r = ssh(home, "hermes", "cat; printf no >&2; exit 7", "a\0b\255")
    assert.same({ code = 7, out = "a\0b\255", err = "no" }, r)
  end)

  it("knows its own keys", function()
    local lines = hermes.host_line { "ecdsa" }
    assert.matches("^%[127%.0%.0%.2%]:%d+ ecdsa%-sha2%-nistp256 %S+$", lines)
    assert.matches("^SHA256:", hermes.fingerprint())
    assert.are_not.equal(hermes.fingerprint(), iris.fingerprint())
  end)

  it("sees what a session left behind, and ends it", function()
    local home = servers.ssh_home { atlas = atlas }
    assert.equal(0, ssh(home, "atlas", "setsid sleep 60 >/dev/null 2>&1 </dev/null & echo").code)
    wait_until(function () return is_there(atlas, "sleep") end, "the job")
    atlas.kill_all()
    assert.same({}, atlas.processes())
  end)

  it("cuts the connections and leaves the jobs", function()
    local home = servers.ssh_home { atlas = atlas }
    local running = child.start { argv = { "ssh", "-F", home.config, "atlas", "setsid sleep 60 & echo up; wait" } }
    running:expect("up")
    wait_until(function () return is_there(atlas, "sleep") end, "the job")
    atlas.kill_sessions()
    assert.equal(255, running:finish().code)
    assert.is_true(is_there(atlas, "sleep"))
    assert.is_false(is_there(atlas, "sshd"))
    atlas.kill_all()
  end)

  it("keeps its connections when it is stopped, and its keys when it is started again", function()
    local home = servers.ssh_home { iris = iris }
    local running = child.start { argv = { "ssh", "-F", home.config, "iris", "echo up; cat" } }
    running:expect("up")
    iris.stop()
    assert.equal(255, ssh(home, "iris", "true").code)
    running:write("still\n")
    running:expect("still")
    iris.start()
    assert.equal(0, ssh(home, "iris", "true").code)
    running:shut()
    assert.equal(0, running:finish().code)
    assert.matches("Accepted publickey", iris.log(), 1, true)
  end)

  it("lets the account become root where that was asked for", function()
    if not hermes.uid then return pending(OWN_ACCOUNT) end
    local server = servers.sshd { name = "sudoer", sudo = true }
    local home = servers.ssh_home { sudoer = server, hermes = hermes }
    assert.equal("root\n", ssh(home, "sudoer", "sudo -n id -un").out)
    assert.equal(1, ssh(home, "hermes", "sudo -n id -un").code)
    server.remove()
  end)
end)

describe("servers.redis", function()
  local redis
  setup(function() redis = servers.redis() end)

  it("knows three users and what each may do", function()
    assert.equal("OK", redis.cli("set", "app:1", "a"))
    assert.equal("a", redis.cli { "get", "app:1", user = "ro" })
    assert.matches("NOPERM", redis.cli { "set", "app:1", "b", user = "ro" })
    assert.equal("OK", redis.cli { "set", "app:2", "b", user = "app" })
    assert.matches("NOPERM", redis.cli { "get", "other", user = "app" })
    assert.matches("NOPERM", redis.cli { "flushall", user = "app" })
    assert.equal("OK", redis.cli("flushall"))
  end)

  it("answers over TLS to those who know its authority", function()
    local function over_tls(ca)
      return child.run { argv = { "redis-cli", "-p", tostring(redis.tls_port), "--tls", "--cacert", ca, "--user", "ro", "--pass",
        redis.passwords.ro, "--no-auth-warning", "ping" } }
    end
    assert.equal("PONG\n", over_tls(redis.ca).out)
    assert.are_not.equal(0, over_tls(redis.other_ca).code)
  end)

  it("comes without users and without a password where that was asked for", function()
    local one = servers.redis { name = "one", acl = false }
    local none = servers.redis { name = "none", open = true }
    assert.equal("PONG", one.cli("ping"))
    assert.equal("PONG", none.cli("ping"))
    one.stop("kill")
    one.start()
    assert.equal("PONG", one.cli("ping"))
    one.remove()
    none.remove()
  end)
end)

describe("a suite that is killed", function()
  it("leaves no server, no session and no directory", function()
    local code = [[
      package.path = "./?.lua;" .. package.path
      local servers, suite = require "tests.support.servers", require "tests.support.suite"
      local hermes, redis = servers.sshd(), servers.redis()
      local home = servers.ssh_home { hermes = hermes }
      require("tests.support.child").must { argv = { "ssh", "-F", home.config, "hermes", "setsid sleep 61 >/dev/null 2>&1 </dev/null & echo" } }
      print(suite.directory(), hermes.process:pid(), redis.process:pid())
      io.stdout:flush()
      T.signal(T.pid(), 9)]]
    local file = suite.write(suite.temp() .. "/killed.lua", code)
    local r = child.run { argv = { ("/proc/%d/exe"):format(T.pid()), file }, timeout = 120000 }
    assert.equal(9, r.signal, r.out .. r.err)
    local dir, sshd, redis = r.out:match("(%S+)\t(%d+)\t(%d+)")
    local function is_gone()
      for _, p in pairs(T.processes("NEAP_TEST_SSHD=" .. dir)) do
        if p.marked then return false end
      end
      return not T.alive(tonumber(sshd)) and not T.alive(tonumber(redis)) and not T.entries(dir)
    end
    wait_until(is_gone, "the end of " .. r.out)
  end)

  it("or that just ends without a word leaves nothing either", function()
    local code = [[
      package.path = "./?.lua;" .. package.path
      print(require("tests.support.suite").directory(), require("tests.support.servers").redis().process:pid())]]
    local file = suite.write(suite.temp() .. "/ended.lua", code)
    local r = child.run { argv = { ("/proc/%d/exe"):format(T.pid()), file }, timeout = 120000 }
    local dir, redis = r.out:match("(%S+)\t(%d+)")
    wait_until(function () return not T.alive(tonumber(redis)) and not T.entries(dir) end, "the end of " .. r.out)
  end)
end)
