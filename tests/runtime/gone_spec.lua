-- Owners that let go from within what they are told (tests/support/gone_t.c). Most of it only a sanitizer sees fail.
local file = require "native.file"
local process = require "native.process"
local ssh = require "native.ssh"
local runs = require "tests.support.runs"
local suite = require "tests.support.suite"
local system = require "native.system"
local task = require "native.task"

describe("who is told something", function()
  it("may free a file that is read and written, and hears of both before it is gone", function()
    assert.same({ 1, 1 }, { T.gone_file(suite.temp() .. "/file") })
  end)

  it("may free a stream of a program on a host when it is stopped", function() assert.same({ 0, 1 }, { T.gone_talk() }) end)

  it("hears of the stop of a stream that ended without a word", function() assert.same({ 1, 0 }, { T.gone_mute() }) end)

  it("may free a file of a host when it is stopped", function() assert.same({ 0, 1 }, { T.gone_far() }) end)

  it("may free the errors of a command that has ended while he was slow", function() assert.same({ 2, 0 }, { T.gone_errors() }) end)

  it("hears why a host was not reached, though another one has it opened again", function()
    assert.same({ "it lets nobody in", "it lets nobody in" }, { T.gone_link() })
  end)

  it("hears of what he wrote to a command in a container before it read", function() assert.same({ 0, 1 }, { T.gone_exec_early() }) end)

  it("ends the input of a command in a container that does not read yet", function() assert.equal(1, T.gone_exec_input()) end)

  it("hears that a command did not begin which ended while it was held", function()
    assert.same({ -1, "remote", 1 }, { T.gone_exec_held() })
  end)

  it("may free a stream whose connection was lost when it is stopped", function() assert.equal(1, T.gone_lane()) end)

  it("may seal the journal when it hears that a record is durable", function() assert.equal(1, T.gone_seal(runs.state())) end)

  it("may free a dead connection to a database", function() assert.equal(1, T.gone_copy()) end)
end)

-- A script in place of ssh: a master that is ready at once, clients that carry connections and commands of their own making.
local SSH = [[#!/bin/sh
for last; do :; done
case " $* " in
*" -G "*) exec %s "$@";;
*" -N "*)
  echo "debug1: Entering interactive session." >&2
  while [ ! -e %s/over ]; do sleep 0.05; done
  exit;;
*" -W ended:1 "*) sleep 1 </dev/null >/dev/null & exit;;
*" -W "*) echo "debug1: mux: master session id: 2" >&2; exec sleep 100;;
esac
case $last in
"end the master") : >%s/over; exec sleep 100;;
wait) exec sleep 100;;
esac
said=${last##*"' neap "}
nonce=${said%%%% *}
printf '\036%%s s 1 2\n\036%%s e 3\n' "$nonce" "$nonce" >&2
]]

describe("who is told something of the ssh program", function()
  local path = os.getenv "PATH"

  before_each(function()
    local dir, real = suite.temp(), nil
    for place in path:gmatch "[^:]+" do real = real or (system.realpath(place .. "/ssh") and place .. "/ssh") end
    local script = suite.write(dir .. "/ssh", SSH:format(real, dir, dir))
    assert(os.execute("chmod 0755 " .. script))
    T.setenv("PATH", dir .. ":" .. path)
  end)

  after_each(function()
    T.setenv("PATH", path)
    T.flush_ms(0)
  end)

  it("may free a connection through it when that is stopped", function() assert.equal(1, T.gone_tunnel()) end)
  it("may take back a dial whose client has ended", function() assert.equal(0, T.gone_dial()) end)
  it("hears that a command came too late", function() assert.equal(1, T.gone_master()) end)
  it("may free a command when its output is freed", function() assert.equal(1, T.gone_reader()) end)

  it("hears of a command that ended while it was held, before that was durable", function()
    local code = T.run(function()
      local host <close> = assert(ssh.open { name = "fake", backend = "program" })
      T.flush_ms(100)                         -- the intent takes as long
      local command, err = host:start { argv = { "x" } }
      assert.is_nil(command)
      task.sleep(200)                         -- until the journal has answered
      return err.code
    end)
    assert.equal("remote", code)
  end)

  it("may close a host before a command that has a connection of its own", function()
    local name = T.run(function()
      local host = assert(ssh.open { name = "fake", backend = "program" })
      local command <close> = assert(host:start { argv = { "x" }, read = true, bulk = true })
      host:close()
      return tostring(command)
    end)
    assert.matches("^x on fake", name)
  end)
end)

describe("a stream that another task uses", function()
  -- Its reader has taken what it could, and moves no more.
  local function await_full(stream)
    local moved = -1
    while moved ~= stream:moved() or moved == 0 do
      moved = stream:moved()
      task.sleep(20)
    end
  end

  it("may be closed while it is copied to", function()
    local dir = suite.temp()
    T.run(function()
      local source <close> = assert(process.start { argv = { "sh", "-c", "read x; echo $x" } })
      local copying
      do
        local sink <close> = assert(file.open(dir .. "/copy", "w"))
        copying = task.spawn(function() return source:stdout():pipe(sink) end)
        task.sleep(1)
      end
      source:stdin():write "hello\n"
      local ok, moved, err = copying:join()
      assert.is_true(ok)
      assert.is_nil(moved)
      assert.equal("closed", err.code)
    end)
    assert.is_nil(T.entries(dir)[1])
  end)

  it("may be closed while it is copied from", function()
    local dir = suite.temp()
    suite.write(dir .. "/big", ("x"):rep(1 << 20))
    T.run(function()
      local sink <close> = assert(process.start { argv = { "sh", "-c", "read x </dev/null; exec sleep 100" } })
      local copying, source
      do
        local scope <close> = assert(file.open(dir .. "/big", "r"))
        source = scope
        copying = task.spawn(function() return source:pipe(sink:stdin()) end)
        await_full(source)
      end
      local ok, moved, err = copying:join()
      assert.is_true(ok)
      assert.is_nil(moved)
      assert.equal("closed", err.code)
    end)
  end)

  it("may be closed while it is the input of a command", function()
    local dir = suite.temp()
    suite.write(dir .. "/big", ("x"):rep(1 << 20))
    T.run(function()
      local running
      do
        local source <close> = assert(file.open(dir .. "/big", "r"))
        running = task.spawn(function()
          return process.run { argv = { "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exec cat" }, cwd = dir, stdin = source }
        end)
        await_full(source)
      end
      suite.write(dir .. "/go", "")
      local ok, result, err = running:join()
      assert.is_true(ok)
      assert.is_nil(result)
      assert.equal("closed", err.code)
    end)
  end)
end)
