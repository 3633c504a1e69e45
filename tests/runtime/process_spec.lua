-- native.process on real programs: what they print, how they end, what they may see, what stays behind.
local guard = require "native.guard"
local process = require "native.process"
local records = require "tests.support.recorded"
local secret = require "native.secret"
local suite = require "tests.support.suite"
local task = require "native.task"

local function sh(script, more)
  local call = { argv = { "sh", "-c", script } }
  for key, value in pairs(more or {}) do call[key] = value end
  return call
end

local function run(script, more)
  return T.run(function() return process.run(sh(script, more)) end)
end

describe("native.process", function()
  describe("run", function()
    it("returns status and both outputs, NUL and all", function()
      local result = run("printf 'a\\000b'; echo no >&2; exit 3")
      assert.same({ status = 3, out = "a\0b", err = "no\n", truncated = false }, result)
    end)

    it("passes odd arguments untouched", function()
      local odd = { "-rf", "a b", "$(id)", "`id`", "'\"", "new\nline", "\27[31m", "\xff", "", "*" }
      local argv = { "printf", "[%s]", table.unpack(odd) }
      local result = T.run(function() return process.run { argv = argv } end)
      assert.equal("[" .. table.concat(odd, "][") .. "]", result.out)
    end)

    it("gives the child exactly PATH HOME LANG TZ and what is given", function()
      T.setenv("NEAP_SPEC_LEAK", "x")
      local result = T.run(function() return process.run { argv = { "env" }, env = { MINE = "a=b", LANG = "C" } } end)
      T.setenv("NEAP_SPEC_LEAK", nil)
      for line in result.out:gmatch("[^\n]+") do
        assert.is_not_nil(({ PATH = 1, HOME = 1, LANG = 1, TZ = 1, MINE = 1 })[line:match("^[^=]+")], line)
      end
      assert.matches("MINE=a=b\n", result.out, 1, true)
      assert.matches("LANG=C\n", result.out, 1, true)
    end)

    it("finds programs by the PATH that is given", function()
      local _, err = T.run(function() return process.run { argv = { "env" }, env = { PATH = "/nowhere" } } end)
      assert.matches('no program "env"', err.message)
      assert.matches("/nowhere", err.hint)
    end)

    it("says what is missing: program, directory, permission", function()
      local dir = suite.temp()
      T.run(function()
        local value, err = process.run { argv = { "no-such-program-9" } }
        assert.is_nil(value)
        assert.equal("remote", err.code)
        assert.matches("no%-such%-program", err.message)
        assert.equal("failed", records("outcome")[1].status)
        value, err = process.run { argv = { "true" }, cwd = dir .. "/none" }
        assert.is_nil(value)
        assert.matches("no directory", err.message)
        value, err = process.run { argv = { dir } }
        assert.is_nil(value)
        assert.is_string(err.message)
      end)
    end)

    it("runs in the directory that is given", function()
      assert.equal("/\n", run("pwd", { cwd = "/" }).out)
    end)

    it("keeps the last mebibyte of ten megabytes and counts the rest #bulk", function()
      local result = run("head -c 10000000 /dev/zero; printf end")
      assert.equal(1 << 20, #result.out)
      assert.equal("end", result.out:sub(-3))
      assert.equal(10000003 - (1 << 20), result.truncated)
    end)

    it("feeds stdin from a string, and is not disturbed when nobody reads it", function()
      local big = ("x"):rep(300000)
      assert.equal(300000, #run("cat", { stdin = big }).out)
      assert.equal(0, run("exec true", { stdin = big }).status)
      assert.equal("", run("cat", { stdin = "" }).out)
    end)

    it("has no stdin when none is given", function() assert.equal(0, run("read x; test -z \"$x\"").status) end)

    it("feeds stdin from a stream", function()
      local result = T.run(function()
        local source <close> = process.start { argv = { "sh", "-c", "head -c 200000 /dev/zero" } }
        return process.run { argv = { "wc", "-c" }, stdin = source:stdout() }
      end)
      assert.equal(200000, tonumber(result.out))
    end)

    it("hands secrets through env and stdin, keeps them out of Lua, refuses them in argv", function()
      local key = assert(secret.of("violet-raven-77", "key"))
      local result = run('test "$KEY" = violet-raven-77 && echo "$KEY"', { env = { KEY = key } })
      assert.equal(0, result.status)
      assert.not_matches("violet", result.out)
      assert.equal(0, run('read x; test "$x" = violet-raven-77', { stdin = key }).status)
      local ok, err = pcall(T.run, function() process.run { argv = { "echo", key } } end)
      assert.is_false(ok)
      assert.equal("usage", err.code)
      assert.matches("stdin", err.hint)
    end)

    it("makes pid and start time durable before the end", function()
      T.run(function()
        process.run { argv = { "sleep", "0.05" } }
        local started = records("started")[1]
        assert.is_true(started.pid > 0 and started.started > 0)
        assert.equal("process.run", records("intent")[1].primitive)
        assert.equal("ok", records("outcome")[1].status)
        assert.equal(0, records("outcome")[1].exit)
        assert.is_nil(process.probe(started))
      end)
    end)

    it("records a status as failed unless it is allowed", function()
      T.run(function()
        process.run(sh("exit 2"))
        process.run(sh("exit 2", { allow = { 2 } }))
        process.run(sh("exit 7", { allow = "any" }))
        assert.equal("failed", records("outcome")[1].status)
        assert.equal("ok", records("outcome")[2].status)
        assert.equal("ok", records("outcome")[3].status)
      end)
    end)

    it("tells death by signal from a status", function()
      local result = run("kill -9 $$")
      assert.equal(9, result.signal)
      assert.is_nil(result.status)
    end)

    it("is a declared read without a record", function()
      T.run(function()
        guard.reads()
        assert.equal("x\n", process.run(sh("echo x", { read = true })).out)
        assert.same({}, T.records())
        assert.equal("declared", guard.reads()[1].label)
      end)
    end)

    it("is shown, not run, in a preview", function()
      local marker = suite.temp()
      T.run(function()
        guard.mode("plan")
        guard.predictions()
        local result = process.run { argv = { "touch", marker .. "/a b" }, role = "tool" }
        assert.is_false(pcall(function() return result.status end))
        local found = guard.predictions()[1]
        assert.equal("process:tool", found.subject)
        assert.matches("touch", found.text)
      end)
      assert.same({}, T.entries(marker))
    end)

    it("refuses what is no command", function()
      for _, call in ipairs { {}, { argv = {} }, { argv = "ls" }, { argv = { "a\0b" } }, { argv = { "env" }, env = { ["a=b"] = "c" } } } do
        assert.is_false(pcall(T.run, function() process.run(call) end))
      end
    end)
  end)

  describe("ends", function()
    it("a command that is late, and says so", function()
      local began = T.now_ms()
      T.run(function()
        local value, err = process.run { argv = { "sleep", "600" }, within_ms = 50 }
        assert.is_nil(value)
        assert.equal("timeout", err.code)
        assert.equal("unknown", records("outcome")[1].status)
      end)
      assert.is_true(T.now_ms() - began < 60000)
    end)

    it("a child that ignores TERM, with everything it started", function()
      T.run(function()
        local child = process.start(sh("trap '' TERM; sleep 61 & echo ready; wait; sleep 62"))
        assert.equal("ready\n", child:stdout():read())
        local result = child:stop(100)
        assert.equal(9, result.signal)
        assert.is_nil(child:stdout():read())
        child:close()
      end)
    end)

    it("with the task: the deadline stops the group and the outcome is unknown", function()
      T.run(function()
        local mark = task.deadline(50)
        local ok, err = pcall(process.run, sh("sleep 63 | sleep 64"))
        task.restore(mark)
        assert.is_false(ok)
        assert.equal("timeout", err.code)
        assert.equal("unknown", records("outcome")[1].status)
        assert.equal(15, records("outcome")[1].signal)
      end)
    end)

    it("waiting for a grandchild that keeps the pipe, after a second", function()
      local result = run("sleep 3 & echo here")
      assert.equal("here\n", result.out)
      assert.equal(0, result.status)
    end)

    it("the command when its source of stdin fails, instead of feeding it half", function()
      T.run(function()
        local out = process.start { argv = { "sleep", "60" } }
        local source = out:stdin()
        local value, err = process.run { argv = { "cat" }, stdin = source }
        assert.is_nil(value)
        assert.matches("input of", err.message)
        out:close()
      end)
    end)
  end)

  describe("start", function()
    it("gives streams in both directions", function()
      T.run(function()
        local child <close> = process.start { argv = { "cat" } }
        assert(child:stdin():write("hello"))
        assert.equal("hello", child:stdout():read())
        assert(child:stdin():shut())
        assert.is_nil(child:stdout():read())
        assert.same({ status = 0 }, child:wait())
        assert.equal("ok", records("outcome")[1].status)
      end)
    end)

    it("stops the child when the scope ends, and settles its intent", function()
      local pid
      T.run(function()
        do
          local child <close> = process.start { argv = { "sleep", "65" } }
          pid = child:pid()
          assert.equal("running", process.probe(records("started")[1]))
        end
        assert.equal(0, T.open_intents())
      end)
      assert.is_false(T.alive(pid))
    end)

    it("pipes one child into another", function()
      T.run(function()
        local from <close> = process.start { argv = { "head", "-c", "1000000", "/dev/zero" } }
        local to <close> = process.start { argv = { "sha256sum" } }
        local moved = from:stdout():pipe(to:stdin())
        assert(to:stdin():shut())
        assert.equal(1000000, moved.bytes)
        assert.matches(moved.sha256, to:stdout():read())
        assert.same({ status = 0 }, from:wait())
        assert.same({ status = 0 }, to:wait())
      end)
    end)

    it("tells a copy that was not done in time", function()
      T.run(function()
        local from <close> = process.start { argv = { "sleep", "66" } }
        local to <close> = process.start { argv = { "cat" } }
        local value, err = from:stdout():pipe(to:stdin(), { within_ms = 30 })
        assert.is_nil(value)
        assert.equal("timeout", err.code)
      end)
    end)

    it("writes to a child that has gone, and hears of it", function()
      T.run(function()
        local child <close> = process.start { argv = { "true" } }
        child:wait()
        local value, err = child:stdin():write("x")
        assert.is_nil(value)
        assert.equal("closed", err.code)
      end)
    end)

    it("leaves no child behind when the handle is forgotten", function()
      local pid
      T.run(function()
        pid = process.start({ argv = { "sleep", "67" } }):pid()
      end)
      collectgarbage()
      T.forget_records()
      assert.is_false(T.alive(pid))
    end)
  end)
end)
