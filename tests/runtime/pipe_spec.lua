-- stream:pipe: every kind of end, filters, and what is said when an end fails, stalls or is late.
local certificates = require "tests.support.certificates"
local file = require "native.file"
local net = require "native.net"
local process = require "native.process"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local dir, big

local function path(name) return dir .. "/" .. name end

local function put(name, bytes)
  local handle <close> = assert(io.open(path(name), "wb"))
  handle:write(bytes)
end

local function start(...) return assert(process.start { argv = { ... } }) end

local function run(fn) return T.run(fn) end

-- From a file through a filter into another file.
local function through(from, to, options)
  return run(function()
    local source <close> = assert(file.open(path(from), "r"))
    local sink <close> = assert(file.open(path(to), "w"))
    local moved, err = source:pipe(sink, options)
    if moved then assert(sink:close()) end
    return moved, err
  end)
end

describe("pipe", function()
  setup(function()
    local lines = {}
    for i = 1, 200000 do lines[i] = ("%d %d\n"):format(i, i * 7919 % 10007) end
    big = table.concat(lines)
  end)

  before_each(function() dir = suite.temp(); put("big", big) end)

  it("moves every byte between files, children and sockets", function()
    local _ <close> = T.peer { kind = "sink", unix = path("sink") }
    local echo_peer <close> = T.peer { kind = "echo" }
    local hash = text.sha256(big)
    run(function()
      local sources = {
        file = function() return assert(file.open(path("big"), "r")) end,
        child = function() local c = start("cat", path("big")); return c:stdout(), c end,
      }
      local sinks = {
        file = function() return assert(file.open(path("copy"), "w")) end,
        child = function() local c = start("sh", "-c", "cat >'" .. path("catted") .. "'"); return c:stdin(), c end,
        unix = function() return assert(net.connect(net.unix(path("sink")))) end,
        tcp = function() return assert(net.connect(net.tcp("127.0.0.1", echo_peer:port()))) end,
      }
      for from, open_source in pairs(sources) do
        for to, open_sink in pairs(sinks) do
          local source <close>, producer = open_source()
          local _ <close> = producer
          local sink, consumer = open_sink()
          local _ <close> = consumer
          local back = to == "tcp" and assert(file.open(path("back"), "w"))
          local echo = back and task.spawn(function() return assert(sink:pipe(back)) end)
          local moved = assert(source:pipe(sink), from .. to)
          assert.equal(#big, moved.bytes)
          assert.equal(#big, moved.written)
          assert.equal(hash, moved.sha256)
          assert.equal(hash, moved.written_sha256)
          assert.equal("ended", moved.from_status)
          assert.equal("ended", moved.to_status)
          assert(sink:shut())
          if to == "unix" then assert.equal(tostring(#big), sink:read()) end
          if echo then
            local ok, there = echo:join()
            assert.is_true(ok)
            assert.equal(hash, there.sha256)
            assert(back:close())
          end
          assert(sink:close())
          if producer then producer:wait() end
          if consumer then consumer:wait() end
        end
      end
      assert.equal(hash, file.hash(path("copy")))
      assert.equal(hash, file.hash(path("catted")))
    end)
  end)

  it("moves every byte out of and into TLS", function()
    local ca = certificates.authority(dir, "ca")
    local leaf = ca:issue("leaf", { "IP:127.0.0.1" })
    local pages <close> = certificates.serve(dir, leaf, "-WWW")
    local sink <close> = certificates.serve(dir, leaf)
    local function connect(server)
      return assert(net.connect(assert(net.tls(net.tcp("127.0.0.1", server.port), { ca = ca.cert }))))
    end
    run(function()
      local source <close> = connect(pages)
      assert(source:write("GET /big HTTP/1.0\r\n\r\n"))
      local head = ""
      while not head:find("\r\n\r\n", 1, true) do head = head .. assert(source:read(1)) end
      local copy <close> = assert(file.open(path("copy"), "w"))
      local moved = assert(source:pipe(copy))
      assert.equal(text.sha256(big), moved.sha256)
      assert(copy:close())
      put("lines", big:sub(1, 40000) .. "\nthe end\n")
      local from <close> = assert(file.open(path("lines"), "r"))
      local to <close> = connect(sink)
      assert.equal(40009, assert(from:pipe(to)).written)
      assert(to:shut())
      assert.is_nil((to:read()))                        -- its end says that it has everything
    end)
    sink.process:expect("\nthe end\n")
  end)

  for _, format in ipairs { "zstd", "gzip" } do
    it("compresses and expands: " .. format, function()
      local packed = assert(through("big", "packed", { compress = format }))
      assert.equal(#big, packed.bytes)
      assert.equal(text.sha256(big), packed.sha256)
      assert.is_true(packed.written < #big / 2)
      assert.equal(packed.written_sha256, run(function() return file.hash(path("packed")) end))
      local back = assert(through("packed", "back", { expand = format }))
      assert.equal(packed.written, back.bytes)
      assert.equal(#big, back.written)
      assert.equal(text.sha256(big), back.written_sha256)
      assert.equal(packed.written_sha256, back.sha256)
      put("empty", "")
      assert.equal(0, assert(through("empty", "packed0", { compress = format })).bytes)
      assert.equal(0, assert(through("packed0", "back0", { expand = format })).written)
      local two = suite.read(path("packed"))
      put("two", two .. two)                                           -- as the programs do
      assert.equal(2 * #big, assert(through("two", "twice", { expand = format })).written)
    end)

    it("refuses what is corrupt, cut short, or followed by something else: " .. format, function()
      assert(through("big", "packed", { compress = format }))
      local packed = suite.read(path("packed"))
      local middle = #packed // 2
      for why, bytes in pairs {
        corrupt = packed:sub(1, middle) .. string.char(packed:byte(middle + 1) ~ 255) .. packed:sub(middle + 2),
        cut = packed:sub(1, -2), half = packed:sub(1, middle), head = packed:sub(1, 3), more = packed .. "and more", none = "", other = "not packed",
      } do
        put("bad", bytes)
        local moved, err = through("bad", "out", { expand = format })
        assert.is_nil(moved, why)
        assert.equal("invalid", err.code)
        assert.matches("^the reading end failed: it cannot be expanded: ", err.message)
        assert.equal("failed", err.from_status)
        assert.is_nil(io.open(path("out")), why)
      end
    end)
  end

  it("makes what the programs can read, and reads what they make", function()
    assert(through("big", "packed.gz", { compress = "gzip" }))
    assert(os.execute(("gzip -dc '%s' | cmp -s - '%s'"):format(path("packed.gz"), path("big"))))
    assert(os.execute(("gzip -c '%s' >'%s'"):format(path("big"), path("made.gz"))))
    assert.equal(#big, assert(through("made.gz", "back", { expand = "gzip" })).written)
  end)

  it("names the writing end when it fails", function()
    run(function()
      local source <close> = assert(file.open(path("big"), "r"))
      local child <close> = start("true")
      local moved, err = source:pipe(child:stdin())
      assert.is_nil(moved)
      assert.equal("closed", err.code)
      assert.matches("^the writing end failed: cannot write to the pipe: broken pipe", err.message)
      assert.equal("failed", err.to_status)
      assert.is_true(err.bytes > 0)
      child:wait()
    end)
  end)

  it("names the reading end when it fails, and the file gets no name", function()
    local peer <close> = T.peer { kind = "reset", text = "hello" }
    run(function()
      local source <close> = assert(net.connect(net.tcp("127.0.0.1", peer:port())))
      local sink <close> = assert(file.open(path("out"), "w"))
      local moved, err = source:pipe(sink)
      assert.is_nil(moved)
      assert.matches("^the reading end failed: cannot read from the socket: connection reset by peer", err.message)
      assert.equal("failed", err.from_status)
      assert.equal(5, err.bytes)
      assert.is_nil((sink:close()))
    end)
    assert.is_nil(io.open(path("out")))
  end)

  it("notices that an end does not move, and says which", function()
    local peer <close> = T.peer { kind = "silent" }
    run(function()
      local silent <close> = assert(net.connect(net.tcp("127.0.0.1", peer:port())))
      local sink <close> = assert(file.open(path("out"), "w"))
      local moved, err = silent:pipe(sink, { stall_ms = 40 })
      assert.is_nil(moved)
      assert.equal("timeout", err.code)
      assert.matches("the reading end gives nothing; 0 bytes were moved", err.message)
      assert.equal("failed", err.from_status)
      local child <close> = start("cat", "/dev/zero")
      assert(child:stdout():read(1))                     -- it gives as much as anybody takes from now on
      moved, err = child:stdout():pipe(silent, { stall_ms = 1000 })
      assert.is_nil(moved)
      assert.equal("timeout", err.code)
      assert.matches("the writing end takes nothing; %d+ bytes were moved", err.message)
      assert.equal("failed", err.to_status)
    end)
  end)

  it("is patient with an end that is slow, and ends at its deadline", function()
    run(function()
      local child <close> = start("cat")
      local sink <close> = assert(file.open(path("out"), "w"))
      local slow = task.spawn(function()
        for _ = 1, 22 do
          assert(child:stdin():write("x\n"))
          task.sleep(100)
        end
        assert(child:stdin():shut())
      end)
      assert.equal(44, assert(child:stdout():pipe(sink, { stall_ms = 2000 })).bytes)        -- longer altogether, never between two pieces
      assert(slow:join())
      assert(sink:close())
      child:wait()
      local endless <close> = start("cat", "/dev/zero")
      local null <close> = start("sh", "-c", "cat >/dev/null")
      local moved, err = endless:stdout():pipe(null:stdin(), { within_ms = 50, stall_ms = 1000 })
      assert.is_nil(moved)
      assert.equal("timeout", err.code)
      assert.matches("^the copy was not done in time; %d+ bytes were moved", err.message)
      assert.equal("open", err.from_status)
    end)
  end)

  -- A file's pieces are gathered, as long as more is coming.
  it("does not keep from a file what came while nothing more comes", function()
    run(function()
      local child <close> = start("cat")
      local sink <close> = assert(file.open(path("out"), "w"))
      local piping = task.spawn(function() return assert(child:stdout():pipe(sink)) end)
      for _, so_far in ipairs { "a word", "a word and another" } do
        assert(child:stdin():write(so_far == "a word" and so_far or " and another"))
        local mark = task.deadline(10000)
        while suite.read(path("out.part")) ~= so_far do task.sleep(5) end
        task.restore(mark)
      end
      assert(child:stdin():shut())
      local ok, moved = piping:join()
      assert.is_true(ok)
      assert.equal(18, moved.written)
      assert(sink:close())
      child:wait()
    end)
    assert.equal("a word and another", suite.read(path("out")))
  end)

  it("gathers pieces of every size for a file, and loses none", function()
    local peer <close> = T.peer { kind = "echo" }
    run(function()
      local conn <close> = assert(net.connect(net.tcp("127.0.0.1", peer:port())))
      local sink <close> = assert(file.open(path("out"), "w"))
      local piping = task.spawn(function() return assert(conn:pipe(sink)) end)
      local at, size = 1, 1
      while at <= #big do
        assert(conn:write(big:sub(at, at + size - 1)))
        at, size = at + size, size * 3 % 300007 + 1
      end
      assert(conn:shut())
      local ok, moved = piping:join()
      assert.is_true(ok)
      assert.equal(text.sha256(big), moved.sha256)
      assert.equal(text.sha256(big), moved.written_sha256)
      assert(sink:close())
    end)
    assert.equal(text.sha256(big), text.sha256(suite.read(path("out"))))
  end)

  it("says how far it is, not more than five times a second", function()
    run(function()
      local endless <close> = start("cat", "/dev/zero")
      local null <close> = start("sh", "-c", "cat >/dev/null")
      local told, began = {}, T.now_ms()
      local piping = task.spawn(function()
        endless:stdout():pipe(null:stdin(), { on_progress = function(bytes, rate) told[#told + 1] = { bytes, rate, T.now_ms() } end })
      end)
      repeat task.sleep(10) until #told == 4
      piping:cancel("enough")
      piping:join()
      for i, one in ipairs(told) do
        assert.is_true(one[1] > 0 and one[2] > 0)
        assert.is_true(one[3] - began >= i * 200, "sooner than it may be")       -- from the beginning: who is told late may be told soon again
      end
    end)
  end)

  it("can be given up, and refuses wrong words", function()
    run(function()
      local endless <close> = start("cat", "/dev/zero")
      local sink <close> = assert(file.open(path("out"), "w"))
      local mark = task.deadline(30)
      local ok, err = pcall(sink.pipe, endless:stdout(), sink)
      task.restore(mark)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
      for _, options in ipairs { { compress = "lz4" }, { compress = "zstd", expand = "gzip" }, { stall_ms = -1 }, { on_progress = 1 } } do
        assert.is_false((pcall(sink.pipe, endless:stdout(), sink, options)))
      end
    end)
  end)

  -- The end of one direction of a tunnel stopped the other one's shut; the tunnel freed the connection, and the pipe told it of its end.
  it("tells nobody of its end when that made its owner give it up", function () assert.equal(0, T.pipe_given_up()) end)
end)
