-- native.watch: lines from a run to those who look on.

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local system = require "native.system"
local task = require "native.task"
local watch = require "native.watch"

local INTERPRETER = assert(system.realpath("/proc/self/exe"))

local function readers(server, n)
  while server:count() < n do task.sleep(2) end
end

describe("watch", function()
  it("tells one who joins what it missed, then what comes", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server <close> = assert(watch.serve(path))
      server:on_join(function(client)
        client:send([[{"seq":1}]])
        client:send([[{"seq":2}]])
      end)
      local client <close> = assert(watch.connect(path))
      assert.equal([[{"seq":1}]], client:line())
      server:send([[{"seq":3}]])
      assert.equal([[{"seq":2}]], client:line())
      assert.equal([[{"seq":3}]], client:line())
      server:close()
      assert.is_nil(client:line())
      assert.is_nil(client:line())
    end)
  end)

  it("delivers what was sent just before it closed", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server = assert(watch.serve(path))
      local client <close> = assert(watch.connect(path))
      readers(server, 1)
      for i = 1, 200 do server:send("line " .. i) end
      server:close()
      for i = 1, 200 do assert.equal("line " .. i, client:line()) end
      assert.is_nil(client:line())
    end)
  end)

  it("goes on without a reader that left", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server <close> = assert(watch.serve(path))
      local client, stays <close> = assert(watch.connect(path)), assert(watch.connect(path))
      readers(server, 2)
      client:close()
      for i = 1, 100 do server:send("line " .. i) end
      while server:count() > 1 do task.sleep(2) end
      for i = 1, 100 do assert.equal("line " .. i, stays:line()) end
    end)
  end)

  it("drops a reader that does not keep up, and only that one", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server <close> = assert(watch.serve(path))
      local slow <close> = assert(watch.connect(path))
      readers(server, 1)
      local line, before = ("x"):rep(100000), T.now_ms()
      for _ = 1, 100 do server:send(line) end
      assert.equal(0, server:count())
      assert.is_true(T.now_ms() - before < 60000)
      local got = 0
      while slow:line() do got = got + 1 end
      assert.is_true(got < 100)
    end)
  end)

  it("does not count the join as lag", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server <close> = assert(watch.serve(path))
      local line = ("x"):rep(100000)
      server:on_join(function(client)
        for _ = 1, 100 do client:send(line) end
      end)
      local client <close> = assert(watch.connect(path))
      readers(server, 1)
      server:send("after")
      for _ = 1, 100 do assert.equal(#line, #client:line()) end
      assert.equal("after", client:line())
    end)
  end)

  it("can be closed inside on_join", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server = assert(watch.serve(path))
      server:on_join(function() server:close() end)
      local client <close> = assert(watch.connect(path))
      assert.is_nil(client:line())
    end)
  end)

  it("serves in a private directory only, under any length of path", function()
    local dir = suite.temp()
    local long = dir .. "/" .. ("d"):rep(100) .. "/" .. ("e"):rep(100)
    assert(system.mkdir(long))
    T.run(function()
      local server <close> = assert(watch.serve(long .. "/watch.sock"))
      assert.equal(0, server:count())
      assert.equal("600\n", child.run { argv = { "stat", "-c", "%a", long .. "/watch.sock" } }.out)
      local client <close> = assert(watch.connect(long .. "/watch.sock"))
      readers(server, 1)
      server:send("far down")
      assert.equal("far down", client:line())
    end)
    assert.same({}, system.list(long))
    T.mode(long, tonumber("755", 8))
    local server, err = watch.serve(long .. "/watch.sock")
    assert.is_nil(server)
    assert.equal("refused", err.code)
    assert.is_string(err.hint)
  end)

  it("takes the place of a server that was killed, not of one that lives", function()
    local path = suite.temp() .. "/watch.sock"
    local c = child.start { argv = { INTERPRETER, "-e", ([[
      server = assert(require "native.watch".serve(%q)) print("serving") io.stdout:flush() io.read("l")]]):format(path) } }
    c:expect("serving")
    local server, err = watch.serve(path)
    assert.is_nil(server)
    assert.equal("busy", err.code)
    c:kill(9)
    c:finish()
    T.run(function() assert(watch.serve(path)):close() end)
  end)

  it("says when nobody serves", function()
    local client, err = watch.connect(suite.temp() .. "/watch.sock")
    assert.is_nil(client)
    assert.equal("unreachable", err.code)
  end)

  it("keeps a line whose wait was stopped", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server <close> = assert(watch.serve(path))
      local client <close> = assert(watch.connect(path))
      readers(server, 1)
      local mark = task.deadline(30)
      local ok, err = pcall(client.line, client)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
      task.restore(mark)
      server:send("later")
      assert.equal("later", client:line())
    end)
  end)

  it("refuses a line break inside a line, and use after close", function()
    local path = suite.temp() .. "/watch.sock"
    T.run(function()
      local server = assert(watch.serve(path))
      assert.has_error(function() server:send("a\nb") end)
      server:close()
      server:close()
      assert.is_false(pcall(server.send, server, "x"))
    end)
  end)

  if T.uid() == 0 then
    it("lets no other user look on", function()
      local dir = suite.temp()
      local path = dir .. "/watch.sock"
      T.run(function()
        local server <close> = assert(watch.serve(path))
        T.mode(dir, tonumber("755", 8))
        T.mode(path, tonumber("666", 8))
        server:on_join(function(client) client:send("not for you") end)
        local c = child.start { user = "nobody", argv = { "python3", "-c", ([[
import socket
s = socket.socket(socket.AF_UNIX)
s.connect(%q)
print("got", s.recv(100))]]):format(path) } }
        while T.alive(c:pid()) and #c.out == 0 do
          task.sleep(20)
          if c.handle:wait(0) then break end
        end
        assert.equal("got b''\n", c:finish().out)
      end)
    end)
  end
end)
