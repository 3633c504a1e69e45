-- native.net.tunnel: a private socket whose connections are dialed and pumped both ways.
local net = require "native.net"
local suite = require "tests.support.suite"
local system = require "native.system"
local task = require "native.task"
local text = require "native.text"

local function all(stream)
  local parts = {}
  while true do
    local piece, err = stream:read()
    if err then return nil, err end
    if not piece then return table.concat(parts) end
    parts[#parts + 1] = piece
  end
end

local function connect(tunnel) return assert(net.connect(net.unix(tunnel:path()))) end

local function settle(tunnel, count)
  while tunnel:count() ~= count do task.sleep(1) end
end

describe("tunnel", function()
  it("carries bytes both ways, with the end of each way kept apart", function()
    local peer <close> = T.peer { kind = "sink" }
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", peer:port()), { name = ".s.PGSQL.5432" }))
      assert.matches("/neap%.[^/]+/%.s%.PGSQL%.5432$", tunnel:path())
      assert.equal(tunnel:dir() .. "/.s.PGSQL.5432", tunnel:path())
      local conn <close> = connect(tunnel)
      for _ = 1, 20 do assert(conn:write(("x"):rep(100000))) end
      assert(conn:shut())
      assert.equal("2000000", all(conn))
      settle(tunnel, 0)
      assert.is_nil(tunnel:failure())
    end)
  end)

  it("keeps many connections apart, and lets idle ones live", function()
    local dir = suite.temp()
    local _ <close> = T.peer { kind = "echo", unix = dir .. "/e" }
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.unix(dir .. "/e")))
      local idle <close> = connect(tunnel)
      local tasks = {}
      for i = 1, 20 do
        tasks[i] = task.spawn(function()
          local conn <close> = connect(tunnel)
          local bytes = (tostring(i) .. " "):rep(20000)
          local writer = task.spawn(function() assert(conn:write(bytes)); assert(conn:shut()) end)
          local back = assert(all(conn))
          writer:join()
          return text.sha256(back) == text.sha256(bytes)
        end)
      end
      for i = 1, 20 do
        local ok, same = tasks[i]:join()
        assert.is_true(ok and same)
      end
      settle(tunnel, 1)
      assert(idle:write("still here"))
      assert.equal("still here", idle:read())
    end)
  end)

  it("closes who connects when the far end cannot be reached, and keeps the reason", function()
    local port = T.free_port()
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", port)))
      local conn <close> = connect(tunnel)
      assert.is_nil((conn:read()))
      local err = tunnel:failure()
      assert.equal("unreachable", err.code)
      assert.equal(('cannot connect to "127.0.0.1" port %d: connection refused'):format(port), err.message)
      assert.is_true(err.retry)
    end)
  end)

  it("closes both sides when one breaks", function()
    local peer <close> = T.peer { kind = "reset", text = "hello" }
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", peer:port())))
      local conn <close> = connect(tunnel)
      assert.equal("hello", conn:read())
      assert.is_nil((conn:read()))
      settle(tunnel, 0)
    end)
  end)

  it("takes everything with it when it closes: connections, socket, directory", function()
    local peer <close> = T.peer { kind = "silent" }
    local full <close> = T.peer { kind = "full" }       -- answers nobody; a network might answer for an address that is nobody's
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", peer:port())))
      local dialing <close> = assert(net.tunnel(net.tcp("127.0.0.1", full:port())))
      local path = tunnel:dir()
      local conn <close> = connect(tunnel)
      local waits <close> = connect(dialing)
      assert(system.realpath(path))
      settle(tunnel, 1)
      settle(dialing, 1)
      tunnel:close()
      tunnel:close()
      dialing:close()
      assert.is_nil((conn:read()))
      assert.is_nil((waits:read()))
      assert.is_nil((system.realpath(path)))
      assert.is_false((pcall(tunnel.path, tunnel)))
    end)
  end)

  it("lets nobody else in", function()
    local peer <close> = T.peer { kind = "echo" }
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", peer:port())))
      local listing = io.popen(("stat -c '%%a' '%s' '%s'"):format(tunnel:dir(), tunnel:path()))
      assert.equal("700\n600\n", listing:read("a"))
      listing:close()
    end)
  end)

  it("falls back to a shorter directory, and refuses names that are none", function()
    local dir = suite.temp()
    local deep = dir .. "/" .. ("d"):rep(90)
    assert(os.execute("mkdir " .. deep))
    local before = os.getenv("TMPDIR")
    T.setenv("TMPDIR", deep)
    T.setenv("XDG_RUNTIME_DIR", dir)
    T.run(function()
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", 1)))
      assert.equal(dir, tunnel:path():sub(1, #dir))
      assert.is_nil(tunnel:path():find(deep, 1, true))
    end)
    T.setenv("TMPDIR", before)
    T.setenv("XDG_RUNTIME_DIR", nil)
    T.run(function()
      for _, name in ipairs { "", "a/b", ".", ".." } do assert.is_false((pcall(net.tunnel, net.tcp("127.0.0.1", 1), { name = name }))) end
    end)
  end)
end)
