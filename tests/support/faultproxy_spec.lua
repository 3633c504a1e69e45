-- The fault proxy: each fault does what it says, and nothing when it is off.

local TEXT <const> = "0123456789abcdefghij"

-- All that comes within the time; and how it ended: "end", "timeout" or the system's word.
local function read_all(c, ms)
  local all = ""
  while true do
    local bytes, why = c:read(65536, ms or 60000)
    if not bytes then return all, why end
    if bytes == "" then return all, "end" end
    all = all .. bytes
  end
end

-- Wait until a count of the proxy has become this: what it lets pass unseen nobody else hears of.
local function await(proxy, name, wanted)
  local until_ms = T.now_ms() + 60000
  while proxy:count()[name] ~= wanted and T.now_ms() < until_ms do T.pause(2) end
  assert.equal(wanted, proxy:count()[name])
end

describe("T.proxy", function()
  local echo
  setup(function() echo = T.echo() end)
  teardown(function() echo:close() end)

  local function open(faults)
    faults.port = faults.port or echo:port()
    local proxy = T.proxy(faults)
    return proxy, assert(T.dial(proxy:port()))
  end

  it("passes everything on, and each end by itself, when no fault is set", function()
    local proxy <close>, c = open {}
    local big = TEXT:rep(50000)
    c:write(TEXT)
    assert.equal(TEXT, c:read(100))
    for _ = 1, 3 do
      c:write(TEXT:rep(2000))
      local got = ""
      while #got < 40000 do got = got .. c:read(65536) end
      assert.equal(big:sub(1, 40000), got)
    end
    c:shut()
    assert.same({ "", "end" }, { read_all(c) })
    assert.same({ connections = 1, open = 0, to = 120020, from = 120020, lost = 0 }, proxy:count())
  end)

  it("refuses, and then no more", function()
    local proxy <close> = T.proxy { port = echo:port(), refuse = true }
    assert.same({ nil, "Connection refused" }, { T.dial(proxy:port()) })
    proxy:set { refuse = false }
    local c <close> = assert(T.dial(proxy:port()))
    c:write("x")
    assert.equal("x", c:read(1))
  end)

  it("resets at the byte it was told, from either side", function()
    for _, way in ipairs { "from", "to" } do
      local _ <close>, c = open { reset_at = 7, way = way }
      c:write(TEXT)
      local got, how = read_all(c)
      assert.equal("Connection reset by peer", how)
      if way == "from" then assert.equal("0123456", got) else assert.is_true(#got <= 7) end
    end
  end)

  it("closes in good order at the byte it was told", function()
    local _ <close>, c = open { close_at = 7 }
    c:write(TEXT:sub(1, 7))
    assert.same({ "0123456", "end" }, { read_all(c) })
  end)

  it("stalls behind a byte and goes on when told", function()
    local proxy <close>, c = open { stall_at = 5 }
    c:write(TEXT)
    local got = ""
    while #got < 5 do got = got .. assert(c:read(100)) end
    assert.same({ "01234", "", "timeout" }, { got, read_all(c, 100) })
    proxy:set { stall_at = false }
    assert.equal("56789abcdefghij", c:read(100))
  end)

  it("swallows either direction, and its end", function()
    for _, way in ipairs { "to", "from", "both" } do
      local proxy <close>, c = open { blackhole = way }
      c:write(TEXT)
      await(proxy, "to", #TEXT)
      await(proxy, "from", way == "from" and #TEXT or 0)
      assert.same({ "", "timeout" }, { read_all(c, 50) })
      proxy:set { blackhole = false }
      c:write("x")
      assert.equal("x", c:read(100))
    end
    local _ <close>, c = open { blackhole = "from" }
    c:shut()
    assert.same({ "", "timeout" }, { read_all(c, 50) })
  end)

  it("writes a byte at a time, and only so many a second", function()
    local proxy <close>, c = open { bytes = 1 }
    c:write(TEXT)
    local got = ""
    while #got < #TEXT do got = got .. c:read(1) end
    assert.equal(TEXT, got)
    proxy:set { bytes = false, rate = 200 }
    local at = T.now_ms()
    c:write(TEXT)
    got = ""
    while #got < #TEXT do got = got .. c:read(100) end
    assert.equal(TEXT, got)
    assert.is_true(T.now_ms() - at >= 60, "took " .. T.now_ms() - at)
  end)

  it("turns the bits of one byte", function()
    local _ <close>, c = open { corrupt_at = 3 }
    c:write(TEXT)
    local got = c:read(100)
    assert.equal("012" .. string.char(("3"):byte() ~ 255) .. TEXT:sub(5), got)
  end)

  it("lets everything arrive later, in order", function()
    local _ <close>, c = open { delay = 60 }
    local at = T.now_ms()
    c:write("a")
    c:write("b")
    local got = c:read(1) .. c:read(1)
    assert.equal("ab", got)
    assert.is_true(T.now_ms() - at >= 120) -- there and back
  end)

  it("loses what holds a text, once, though the text comes in two pieces", function()
    local proxy <close>, c = open { when = "COMMIT", lose = "request" }
    c:write("x COM")
    assert.equal("x COM", c:read(100))
    c:write("MIT")
    assert.same({ "", "end" }, { read_all(c) })
    assert.equal(1, proxy:count().lost)
    local again <close> = assert(T.dial(proxy:port()))
    again:write("COMMIT")
    assert.equal("COMMIT", again:read(100))
  end)

  it("loses the answer with the connection, or the answer alone", function()
    local proxy <close>, c = open { when = "COMMIT", lose = "answer" }
    c:write("COMMIT")
    assert.same({ "", "end" }, { read_all(c) })
    proxy:set { when = "COMMIT", lose = "silence" }
    local again <close> = assert(T.dial(proxy:port()))
    again:write("COMMIT")
    await(proxy, "from", 12)
    await(proxy, "open", 1)
    assert.same({ "", "timeout" }, { read_all(again, 50) })
  end)

  it("swaps the back end under later connections, and cuts those that are open", function()
    local other <close> = T.echo()
    local proxy <close>, c = open {}
    proxy:set { swap = other:port() }
    echo:close()
    echo = T.echo()
    local again <close> = assert(T.dial(proxy:port()))
    again:write("x")
    assert.equal("x", again:read(1))
    proxy:cut()
    assert.same({ "", "Connection reset by peer" }, { read_all(again) })
    assert.is_not_nil(c)
  end)

  it("stands on another loopback address or a unix socket, and reaches one", function()
    local path = require("tests.support.suite").temp() .. "/s"
    local behind <close> = T.proxy { port = echo:port(), listen = path }
    local front <close> = T.proxy { socket = path, address = "127.0.0.2" }
    local c <close> = assert(T.dial(front:port(), "127.0.0.2"))
    c:write("through two")
    assert.equal("through two", c:read(100))
    assert.equal(1, behind:count().connections)
    assert.error_matches(function() T.proxy { port = 1, host = "192.0.2.1" } end, "not on loopback")
    assert.error_matches(function() T.proxy { port = 1, address = "0.0.0.0" } end, "not on loopback")
  end)
end)
