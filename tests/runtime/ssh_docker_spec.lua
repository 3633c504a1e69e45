-- The Engine of another host: through its socket, and through its docker program where the socket is not for everybody.
local docker = require "native.docker"
local servers = require "tests.support.servers"
local ssh = require "native.ssh"

describe("an Engine on a host", function()
  local engine, hermes, home, why

  setup(function()
    engine, why = servers.docker()
    if not engine then return end
    hermes = servers.sshd { name = "dockerhost", address = "127.0.0.7", config = { "SetEnv DOCKER_HOST=" .. engine.url }, own = true }
    home = servers.ssh_home { dockerhost = hermes }
  end)

  teardown(function() if hermes then hermes.remove() end end)

  local function try(name, fn)
    it(name, function()
      if not engine then return pending(why) end
      T.run(function()
        local host <close> = assert(ssh.open { name = "dockerhost", role = "hermes", config = home.config })
        fn(host)
      end)
    end)
  end

  try("answers through its docker program, binary safe both ways", function(host)
    local there = assert(docker.open(host:dial_docker(), { role = "box" }))
    local box = engine.busybox { name = "stdio" }
    assert.equal(box.id, there:inspect("stdio").Id)
    local bytes = ("\0\xff\r\n"):rep(50000)
    local result = assert(there:read { container = box.id, argv = { "cat" }, stdin = bytes })
    assert.equal(0, result.status)
    assert.is_true(result.out == bytes)
    assert.equal(3, assert(there:read { container = box.id, argv = { "sh", "-c", "exit 3" }, allow = { 3 } }).status)
    box.remove()
  end)

  try("answers through its socket", function(host)
    local there = assert(docker.open(host:dial_unix(engine.socket), { role = "box" }))
    assert.equal(engine.cli("info", "--format", "{{.ID}}"):match("%S+"), there:id())
  end)

  it("says what the docker program said when it cannot reach the Engine", function()
    if not engine then return pending(why) end
    local lost = servers.sshd { name = "nodocker", address = "127.0.0.8", config = { "SetEnv DOCKER_HOST=unix:///nowhere.sock" }, own = true }
    T.run(function()
      local host <close> = assert(ssh.open { name = "nodocker", config = servers.ssh_home { nodocker = lost }.config })
      local there, err = docker.open(host:dial_docker(), { role = "box" })
      assert.is_nil(there)
      assert.matches("nowhere.sock", err.message, 1, true)
    end)
    lost.remove()
  end)
end)
