-- native.net: reaching a TCP port and a unix socket.
local guard = require "native.guard"
local net = require "native.net"
local suite = require "tests.support.suite"
local task = require "native.task"

local function all(stream)
  local parts = {}
  while true do
    local piece, err = stream:read()
    if err then return nil, err, table.concat(parts) end
    if not piece then return table.concat(parts) end
    parts[#parts + 1] = piece
  end
end

local function outcome()
  local last
  for _, r in ipairs(T.records()) do if r.kind == "outcome" then last = r.body end end
  return last
end

describe("net", function()
  it("reaches a TCP port by number and by name, and says something both ways", function()
    local peer <close> = T.peer { kind = "echo" }
    for _, host in ipairs { "127.0.0.1", "localhost" } do
      T.run(function()
        local conn <close> = assert(net.connect(net.tcp(host, peer:port())))
        assert(conn:write("hello"))
        assert(conn:shut())
        assert.equal("hello", all(conn))
      end)
    end
  end)

  it("goes on reading after its own side has ended", function()
    local peer <close> = T.peer { kind = "sink" }
    T.run(function()
      local conn <close> = assert(net.connect(net.tcp("127.0.0.1", peer:port())))
      for _ = 1, 40 do assert(conn:write(("x"):rep(100000))) end
      assert(conn:shut())
      assert.equal("4000000", all(conn))
    end)
  end)

  it("reaches a unix socket, also one whose path is longer than an address", function()
    local dir = suite.temp()
    local deep = dir .. "/" .. ("d"):rep(100)
    assert(os.execute("mkdir " .. deep))
    local _ <close> = T.peer { kind = "echo", unix = dir .. "/s" }
    assert(os.rename(dir .. "/s", deep .. "/s"))
    T.run(function()
      local conn <close> = assert(net.connect(net.unix(deep .. "/s")))
      assert(conn:write("hello"))
      assert(conn:shut())
      assert.equal("hello", all(conn))
    end)
  end)

  it("says which address refused, and that it may be asked again", function()
    local port = T.free_port()
    T.run(function()
      local conn, err = net.connect(net.tcp("127.0.0.1", port))
      assert.is_nil(conn)
      assert.equal("unreachable", err.code)
      assert.equal(('cannot connect to "127.0.0.1" port %d: connection refused'):format(port), err.message)
      assert.is_true(err.retry)
      conn, err = net.connect(net.tcp("localhost", port))
      assert.is_nil(conn)
      assert.matches('cannot connect to "localhost" port %d+: .*127%.0%.0%.1: connection refused', err.message)
    end)
    assert.matches('"status":"failed"', outcome())
  end)

  it("says that a name is nobody's", function()
    T.run(function()
      local conn, err = net.connect(net.tcp("nobody.invalid", 1))
      assert.is_nil(conn)
      assert.equal("unreachable", err.code)
      assert.matches('^cannot find the host "nobody.invalid": ', err.message)
    end)
  end)

  it("says what is wrong with a socket's path", function()
    local dir = suite.temp()
    T.run(function()
      for path, text in pairs { [dir .. "/none"] = "no such file or directory", [dir .. "/none/s"] = "cannot open the directory" } do
        local conn, err = net.connect(net.unix(path))
        assert.is_nil(conn)
        assert.equal("unreachable", err.code)
        assert.matches(text, err.message)
      end
    end)
  end)

  it("tells a connection that broke from one that ended", function()
    local broken <close> = T.peer { kind = "reset", text = "hello" }
    local ended <close> = T.peer { kind = "say", text = "hello" }
    T.run(function()
      local conn <close> = assert(net.connect(net.tcp("127.0.0.1", broken:port())))
      local text, err, sofar = all(conn)
      assert.is_nil(text)
      assert.equal("closed", err.code)
      assert.equal("hello", sofar)
      local other <close> = assert(net.connect(net.tcp("127.0.0.1", ended:port())))
      assert.equal("hello", all(other))
    end)
  end)

  it("gives up a dial at its deadline, whoever does not answer", function()
    T.run(function()
      -- A listener whose queue is full answers nobody.
      local full <close> = T.peer { kind = "full" }
      local mark = task.deadline(50)
      local ok, err = pcall(net.connect, net.tcp("127.0.0.1", full:port()))
      task.restore(mark)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
    end)
    assert.matches('"status":"failed".*stopped before it was connected', outcome())
  end)

  it("gives up while a name is looked up", function()
    T.run(function()
      local mark = task.deadline(0)
      local ok, err = pcall(net.connect, net.tcp("nobody.invalid", 1))
      task.restore(mark)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
    end)
  end)

  it("is a write: a check may not do it, a preview only shows it", function()
    local peer <close> = T.peer { kind = "silent" }
    local way = net.tcp("127.0.0.1", peer:port())
    T.run(function()
      task.phase("read")
      local ok, err = pcall(net.connect, way)
      assert.is_false(ok)
      assert.equal("refused", err.code)
    end)
    T.run(function()
      guard.mode("plan")
      net.connect(way, { role = "cache" })
      local prediction = guard.predictions()[1]
      assert.equal("net.send", prediction.primitive)
      assert.equal("cache", prediction.target)
      assert.equal(("connect to 127.0.0.1:%d"):format(peer:port()), prediction.text)
    end)
  end)

  it("lets a dialer be passed and shown, and nothing else", function()
    local way = net.tcp("::1", 6379)
    assert.equal("[::1]:6379", tostring(way))
    assert.equal("cache:6379", tostring(net.tcp("cache", 6379)))
    assert.equal("/run/s", tostring(net.unix("/run/s")))
    assert.has_error(function() return way.read end)
    assert.is_false(getmetatable(way))
  end)

  it("refuses what is no address", function()
    for _, call in ipairs {
      function() net.tcp("", 1) end, function() net.tcp("a\0b", 1) end, function() net.tcp("a", 0) end, function() net.tcp("a", 65536) end,
      function() net.unix("") end, function() net.connect("127.0.0.1:1") end } do
      assert.is_false((pcall(call)))
    end
  end)
end)
