-- What is said to a remote shell, proved without a server: the far end of these sessions is `SHELL -c` on this machine
-- (tests/support/local_ssh.c), in every shell there is.
local file = require "native.file"
local records = require "tests.support.recorded"
local secret = require "native.secret"
local suite = require "tests.support.suite"
local task = require "native.task"

local SHELLS = { "sh", "dash", "busybox", "bash" }

local function has(program)
  return os.execute("command -v " .. program .. " >/dev/null 2>&1")
end

local home

-- A session in this shell, with an empty home.
local function host(options)
  home = suite.temp()
  local given = { home = home, shell = "sh" }
  for key, value in pairs(options or {}) do given[key] = value end
  return T.local_host(given)
end

local function jobs() return home .. "/.local/state/neap/jobs" end

local function sh(script, more)
  local call = { argv = { "sh", "-c", script } }
  for key, value in pairs(more or {}) do call[key] = value end
  return call
end

-- Wait until the file is there with something in it, and return that.
local function content(path)
  for _ = 1, 6000 do
    local f = io.open(path, "rb")
    local all = f and f:read("a") or ""
    if f then f:close() end
    if #all > 0 then return all end
    task.sleep(10)
  end
  error("nothing came into " .. path)
end

-- A zombie is gone: it does nothing any more.
local function is_gone(pid)
  local f = io.open(("/proc/%d/stat"):format(tonumber(pid)))
  local line = f and f:read("a")
  if f then f:close() end
  return not line or line:match(".*%) (%a)") == "Z"
end

local function wait_gone(pid)
  for _ = 1, 6000 do
    if is_gone(pid) then return true end
    task.sleep(10)
  end
  return false
end

-- Death by each signal, and the status that looks like it: at once, and after a while. A program of its own, for a shell between would
-- say the status; and SIGINT is ignored in what a shell begins beside itself.
local function alike(h, verb)
  for _, number in ipairs { 2, 9, 13, 15 } do
    local dies = ("$SIG{INT} = $SIG{PIPE} = 'DEFAULT'; select undef, undef, undef, 0.%d; kill %d, $$; sleep 9"):format(number % 3, number)
    assert.same({ signal = number, out = "", err = "", truncated = false }, h[verb](h, { argv = { "perl", "-e", dies } }))
    assert.same({ status = number + 128, out = "", err = "no\n", truncated = false }, h[verb](h, sh(("echo no >&2; sleep 0.%d; exit %d"):format(number % 3, number + 128))))
  end
end

for _, shell in ipairs(SHELLS) do
  describe("a remote shell: " .. shell, function ()
    local function session()
      if not has(shell) then pending("there is no " .. shell .. " here") end
      return host { shell = shell }
    end

    for _, verb in ipairs { "read", "run" } do
      it("tells status, both outputs and NUL by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          local result = assert(h[verb](h, sh("printf 'a\\000b'; echo no >&2; exit 3")))
          assert.same({ status = 3, out = "a\0b", err = "no\n", truncated = false }, result)
        end)
      end)

      it("passes odd arguments, environment, directory and stdin by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          local odd = { "-rf", "a b", "$(id)", "`id`", "'\"", "new\nline", "\27[31m", "\xff\x81", "", "*", "\\", "!!" }
          local argv = { "printf", "[%s]", table.unpack(odd) }
          assert.equal("[" .. table.concat(odd, "][") .. "]", h[verb](h, { argv = argv }).out)
          local result = assert(h[verb](h, sh("pwd; printf '%s|' \"$A\" \"$B\"; cat; umask", {
            cwd = "/", env = { A = "it's\n$x", B = secret.of("s3cret'\n$(y)", "b") }, stdin = "line\n\0rest" })))
          assert.equal("/\nit's\n$x|‹secret b›|line\n\0rest" .. io.popen("umask"):read("a"), result.out)
        end)
      end)

      it("tells a signal from a status by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          assert.same({ signal = 9, out = "x", err = "", truncated = false }, h[verb](h, sh "printf x; kill -9 $$"))
          assert.same({ status = 255, out = "", err = "", truncated = false }, h[verb](h, sh "exit 255"))
        end)
      end)

      it("tells a status that looks like a signal from one by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          alike(h, verb)
        end)
      end)

      it("says what is missing by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          local value, err = h[verb](h, { argv = { "no-such-program-9" } })
          assert.is_nil(value)
          assert.equal("remote", err.code)
          assert.matches('there is no program "no%-such%-program%-9" on here', err.message)
          value, err = h[verb](h, { argv = { "true" }, cwd = "/no/where" })
          assert.is_nil(value)
          assert.matches('cannot enter the directory "/no/where"', err.message)
        end)
      end)

      it("carries an argv of a megabyte by " .. verb, function ()
        T.run(function ()
          local h <close> = session()
          local argv = { "sh", "-c", "echo $#; printf %s \"$1\" | wc -c" , "sh" }
          for i = 1, 20 do argv[#argv + 1] = ("x"):rep(5000) .. i end
          assert.matches("^20\n%s*5001\n$", h[verb](h, { argv = argv }).out)
        end)
      end)
    end

    it("leaves nothing of a job behind", function ()
      T.run(function ()
        local h <close> = session()
        assert(h:run(sh "echo done"))
        h:close()
        assert.same({}, T.entries(jobs()))
      end)
    end)

    it("follows a job over a lost connection and begins it once", function ()
      T.run(function ()
        local h <close> = session()
        local log = home .. "/log"
        local loser = task.spawn(function ()
          content(log)
          assert.equal(1, T.local_lose())
          suite.write(home .. "/go", "")
        end)
        local result = assert(h:run(sh(("echo begun | tee -a %s; while [ ! -e %s/go ]; do sleep 0.02; done; echo more; sleep 0.3; echo end >&2; exit 7")
          :format(log, home))))
        loser:join()
        assert.same({ status = 7, out = "begun\nmore\n", err = "end\n", truncated = false }, result)
        assert.equal("begun\n", suite.read(log))
        assert.equal(2, T.local_opened())
      end)
    end)

    it("ends everything of a job that is cancelled", function ()
      T.run(function ()
        local h <close> = session()
        local pids = home .. "/pids"
        local runner = task.spawn(function () h:run(sh(("%s sleep 300 & echo $! $$ >%s; wait; sleep 300"):format(shell == "sh" and "trap '' TERM;" or "", pids))) end)
        local first, second = content(pids):match("(%d+) (%d+)")
        runner:cancel("enough")
        local ok, err = runner:join()
        assert.is_false(ok)
        assert.equal("cancelled", err.code)
        assert.is_true(wait_gone(first) and wait_gone(second))
        assert.equal("unknown", records("outcome")[1].status)
      end)
    end)

    it("ends everything of an attached command that is cancelled", function ()
      T.run(function ()
        local h <close> = session()
        local pids = home .. "/pids"
        local runner = task.spawn(function () h:read(sh(("sleep 300 & echo $! $$ >%s; wait"):format(pids))) end)
        local first, second = content(pids):match("(%d+) (%d+)")
        runner:cancel("enough")
        assert.is_false((runner:join()))
        assert.is_true(wait_gone(first) and wait_gone(second))
      end)
    end)

    it("is told done, running, not begun and half when asked", function ()
      T.run(function ()
        local h <close> = session()
        local function ask(job, more) return h:probe({ job = job, host = "SHA256:local", allow = { 3 } }, more or { within_ms = 0 }) end
        assert.equal("not begun", ask "never")
        assert.equal("not begun", ask "never")
        os.execute(("cd %s && mkdir done bad half dead && echo e 3 >done/rc && echo e 4 >bad/rc && echo 1 >done/pid && echo 1 >bad/pid && echo 999999 77 >dead/pid"):format(jobs()))
        assert.same({ "done", 3 }, { ask "done" })
        assert.same({ "half", 4 }, { ask "bad" })
        assert.is_nil((ask "dead"))
        if shell == "sh" then assert.equal("half", ask "half") end     -- takes three seconds
        local log = home .. "/log"
        local runner = task.spawn(function () return h:run(sh(("echo x >%s; exec sleep 300"):format(log))) end)
        content(log)
        local name = records("intent")[1].job
        assert.equal("running", ask(name))
        assert.not_equal("running", (ask(name, { within_ms = 60000, end_it = true })))
        local _, result = runner:join()
        assert.same(15, result.signal)
      end)
    end)
  end)
end

-- From the second command of a connection on, one without stdin and secrets is run with fewer processes; where the login shell is a
-- plain sh, by that shell itself.
local WAYS <const> = { ["beside a shell of ours"] = false, ["by the login shell"] = "/bin/sh" }

for _, shell in ipairs { "dash", "busybox", "bash" } do
  for way, login in pairs(WAYS) do
    if not (login and shell == "bash") then
      describe(("a brief command %s, %s"):format(way, shell), function ()
        local function session()
          if not has(shell) then pending("there is no " .. shell .. " here") end
          local h = host { shell = shell, login = login or nil }
          assert(h:read { argv = { "true" } })
          local parent = assert(h:read(sh "tr '\\0' '\\n' </proc/$PPID/cmdline")).out
          assert.matches("trap neap_t=1 TERM", parent)
          assert.equal(login and shell == "busybox", parent:find("busybox", 1, true) ~= nil)
          return h
        end

        it("tells status, signal, both outputs and NUL", function ()
          T.run(function ()
            local h <close> = session()
            assert.same({ status = 3, out = "a\0b", err = "no\n", truncated = false }, h:read(sh "printf 'a\\000b'; echo no >&2; exit 3"))
            assert.same({ signal = 9, out = "x", err = "", truncated = false }, h:read(sh "printf x; kill -9 $$"))
            assert.same({ status = 255, out = "", err = "", truncated = false }, h:read(sh "exit 255"))
            alike(h, "read")
          end)
        end)

        it("passes odd arguments, environment and directory, and an empty stdin", function ()
          T.run(function ()
            local h <close> = session()
            local odd = { "-rf", "a b", "$(id)", "`id`", "'\"", "new\nline", "\27[31m", "\xff\x81", "", "*", "\\", "!!", ("'"):rep(9000) }
            assert.equal("[" .. table.concat(odd, "][") .. "]", h:read({ argv = { "printf", "[%s]", table.unpack(odd) } }).out)
            assert.equal("/\nit's\n$x|", h:read(sh("pwd; printf '%s|' \"$A\"; cat", { cwd = "/", env = { A = "it's\n$x" } })).out)
            assert.equal("a\\tb\n", h:read({ argv = { "/bin/echo", "a\\tb" } }).out)
            assert.equal("a\\tb\n", h:read({ argv = { "echo", "a\\tb" } }).out)         -- the program, and not a shell's own echo
          end)
        end)

        it("says what is missing", function ()
          T.run(function ()
            local h <close> = session()
            local value, err = h:read { argv = { "no-such-program-9" } }
            assert.is_nil(value)
            assert.matches('there is no program "no%-such%-program%-9" on here', err.message)
            value, err = h:read { argv = { "true" }, cwd = "/no/where" }
            assert.is_nil(value)
            assert.matches('cannot enter the directory "/no/where"', err.message)
          end)
        end)

        it("is ended with everything it started, and then the session goes on", function ()
          T.run(function ()
            local h <close> = session()
            local pids = home .. "/pids"
            local runner = task.spawn(function () h:read(sh(("%s sleep 300 & echo $! $$ $PPID >%s; wait; sleep 300"):format(shell == "dash" and login and "trap '' TERM;" or "", pids))) end)
            local first, second, third = content(pids):match("(%d+) (%d+) (%d+)")
            runner:cancel("enough")
            assert.is_false((runner:join()))
            assert.is_true(wait_gone(first) and wait_gone(second) and wait_gone(third))
            assert.equal("on\n", h:read(sh "echo on").out)
            local value, err = h:read(sh("exec sleep 300", { within_ms = 200 }))
            assert.is_nil(value)
            assert.equal("timeout", err.code)
          end)
        end)

        it("is untold when the shell beside it is killed, or the connection is lost", function ()
          T.run(function ()
            local h <close> = session()
            local value, err = h:read(sh "kill -9 $PPID")
            assert.is_nil(value)
            assert.same({ "closed", 'the shell beside "sh" on here was ended by signal KILL' }, { err.code, err.message })
            local log = home .. "/log"
            local loser = task.spawn(function () content(log) T.local_lose() suite.write(log, "") end)
            value, err = h:read(sh(("echo $$ >%s; while [ -s %s ]; do sleep 0.02; done"):format(log, log)))
            loser:join()
            assert.is_nil(value)
            assert.same({ "closed", true }, { err.code, err.retry })
          end)
        end)
      end)
    end
  end
end

describe("a job on a host", function ()
  it("is journaled with its name, the host's key, its pid and its end", function ()
    T.run(function ()
      local h <close> = host()
      assert(h:read { argv = { "true" } })           -- opens it: from now on the key is known
      assert(h:run(sh("exit 2", { allow = { 2 }, role = "hermes" })))
      local intent, started, outcome = records("intent")[1], records("started")[1], records("outcome")[1]
      assert.equal("host.run", intent.primitive)
      assert.equal("hermes", intent.target)
      assert.equal("host:SHA256:local", intent.subject)
      assert.equal("SHA256:local", intent.host)
      assert.same({ 2 }, intent.allow)
      assert.matches("^%x+$", intent.job)
      assert.is_true(started.pid > 1 and started.started > 0)
      assert.same({ "ok", 2 }, { outcome.status, outcome.exit })
    end)
  end)

  it("is told live", function ()
    T.run(function ()
      local h <close> = host()
      local log = home .. "/log"
      local runner = task.spawn(function () return h:run(sh(("echo early; while [ ! -e %s ]; do sleep 0.05; done"):format(log))) end)
      task.sleep(1200)                               -- two rounds of the teller; what is proved is that nothing is waited for below
      T.local_lose()
      suite.write(log, "x")
      local ok, result = runner:join()
      assert.is_true(ok)
      assert.equal("early\n", result.out)
    end)
  end)

  it("keeps the last mebibyte of what it prints, skips the rest at the far end and counts it", function ()
    T.run(function ()
      local h <close> = host()
      local result = assert(h:run(sh "head -c 5000000 /dev/zero; printf end"))
      assert.equal(1 << 20, #result.out)
      assert.matches("\0end$", result.out)
      assert.equal(5000003 - (1 << 20), result.truncated)
    end)
  end)

  it("is unknown when the host stays away, and goes on there", function ()
    T.run(function ()
      local h <close> = host()
      local log = home .. "/log"
      local value, err
      for _, within_ms in ipairs { 3000, 15000 } do                  -- a busy machine may need longer than that until the host is away
        os.remove(log)
        T.forget_records()
        local loser = task.spawn(function ()
          content(log)
          T.local_away(1000)
          T.local_lose()
        end)
        value, err = h:run(sh(("echo $$ >%s; sleep 1; echo end >>%s"):format(log, log), { within_ms = within_ms }))
        loser:join()
        if not err or err.code ~= "timeout" then break end
        T.local_away(0)
      end
      assert.is_nil(value)
      assert.equal("unknown", err.code)
      assert.equal("unknown", records("outcome")[1].status)
      for _ = 1, 6000 do                               -- it may be slower than we
        if suite.read(log):find("end\n$") then break end
        task.sleep(10)
      end
      assert.matches("end\n$", suite.read(log))
    end)
  end)

  it("is not begun when the host is away from the start", function ()
    T.run(function ()
      local h <close> = host()
      T.local_away(1)
      local value, err = h:run(sh "echo never")
      assert.is_nil(value)
      assert.equal("unreachable", err.code)
      assert.equal("failed", records("outcome")[1].status)
    end)
  end)

  -- A command in the only place there is, cancelled; `before` it is. Its pid.
  local function cancel_in_full_host(before)
    local h <close> = host()
    local log = home .. "/log"
    T.local_room(1)
    local runner = task.spawn(function () return h:read(sh(("echo $$ >%s; sleep 300"):format(log))) end)
    local pid = content(log)
    if before then before() end
    runner:cancel "enough"
    assert.is_false((runner:join()))
    assert.equal(2, T.local_opened())
    return pid
  end

  -- The machine that answers may be another one of that name: what is not there has not ended for that.
  it("is not ended on a machine that shows another key, where the first has no room to end it", function ()
    T.run(function ()
      local pid = cancel_in_full_host(function () T.local_key("SHA256:other") end)
      assert.is_false(is_gone(pid))
      os.execute("kill -9 -" .. pid)
      assert.is_true(wait_gone(pid))
    end)
  end)

  it("is ended over a second connection where the first has no room to end it", function ()
    T.run(function ()
      assert.is_true(wait_gone(cancel_in_full_host()))
    end)
  end)

  it("is not asked about on a machine that shows another key", function ()
    T.run(function ()
      local h <close> = host()
      local log = home .. "/log"
      local loser = task.spawn(function ()
        content(log)
        T.local_key("SHA256:other")
        T.local_lose()
      end)
      local value, err = h:run(sh(("echo $$ >%s; sleep 0.3"):format(log)))
      loser:join()
      assert.is_nil(value)
      assert.equal("unknown", err.code)
      assert.matches("another host key", err.message)
      assert.is_true(wait_gone(content(log)))
    end)
  end)

  it("is stopped at its deadline with everything it started", function ()
    T.run(function ()
      local h <close> = host()
      local pids = home .. "/pids"
      for _, within_ms in ipairs { 700, 10000 } do                   -- a busy machine may not have begun it by then
        local value, err = h:run(sh(("sleep 300 & echo $! >%s; wait"):format(pids), { within_ms = within_ms }))
        assert.is_nil(value)
        assert.equal("timeout", err.code)
        if io.open(pids) then break end
      end
      assert.is_true(wait_gone(content(pids)))
    end)
  end)

  it("cannot begin after somebody was told that it did not", function ()
    T.run(function ()
      local h <close> = host()
      assert.equal("not begun", h:probe({ job = "late", host = "SHA256:local" }, { within_ms = 0 }))
      assert.is_not_nil(io.open(jobs() .. "/late/void")):close()
    end)
  end)

  it("needs setsid, and says so", function ()
    local bin = suite.temp()
    for _, name in ipairs { "sh", "mkdir", "dd", "cat", "ls" } do os.execute(("ln -s $(command -v %s) %s/"):format(name, bin)) end
    T.run(function ()
      local h <close> = host { path = bin }
      local value, err = h:run(sh "echo never")
      assert.is_nil(value)
      assert.equal("unsupported", err.code)
      assert.matches("setsid", err.message)
      assert.equal("here\n", h:read(sh "echo here").out)
    end)
  end)

  it("sweeps what is older than seven days and not alive", function ()
    T.run(function ()
      local h <close> = host()
      assert(h:run(sh "true"))
      h:close()
      os.execute(("cd %s && mkdir old alive young && echo e 0 >old/rc && echo $PPID $(cut -d' ' -f22 /proc/$PPID/stat) >alive/pid && touch -d '8 days ago' old alive"):format(jobs()))
      local h2 <close> = T.local_host { home = home }
      assert(h2:run(sh "true"))
      h2:close()
      local left = T.entries(jobs())
      table.sort(left)
      assert.same({ "alive", "young" }, left)
    end)
  end)

  it("never shows a secret in an argument of any process", function ()
    T.run(function ()
      local h <close> = host()
      local word = ("hunter-%08d"):format(T.pid())      -- of this interpreter alone: every process of the machine is looked at
      local look = sh(("cat /proc/[0-9]*/cmdline 2>/dev/null | grep -ac 'hunte[r]-%08d'; printf %%s \"$S\" | wc -c"):format(T.pid()), { env = { S = secret.of(word, "s") } })
      for _, verb in ipairs { "run", "read" } do assert.matches("^0\n%s*15\n$", assert(h[verb](h, look)).out) end
    end)
  end)
end)

describe("an attached command on a host", function ()
  it("is untold when the connection is lost: a read may be asked again, a write is unknown", function ()
    T.run(function ()
      local h <close> = host()
      local log = home .. "/log"
      local pid
      local function lose() pid = content(log) T.local_lose() os.remove(log) end
      local command = sh(("echo $$ >%s; while [ -e %s ]; do sleep 0.02; done"):format(log, log))
      local loser = task.spawn(lose)
      local value, err = h:read(command)
      loser:join()
      assert.is_nil(value)
      assert.same({ "closed", true }, { err.code, err.retry })
      local from <close> = file.open("/dev/null", "r")
      loser = task.spawn(lose)
      command.stdin = from
      value, err = h:run(command)
      loser:join()
      assert.is_nil(value)
      assert.equal("unknown", err.code)
      assert.equal("unknown", records("outcome")[1].status)
      assert.is_true(wait_gone(pid))
    end)
  end)

  it("takes its stdin from a stream", function ()
    local dir = suite.temp()
    suite.write(dir .. "/in", ("0123456789"):rep(100000))
    T.run(function ()
      local h <close> = host()
      local from <close> = file.open(dir .. "/in", "r")
      assert.equal("1000000\n", h:run(sh("wc -c", { stdin = from })).out:gsub(" ", ""))
    end)
  end)

  it("has streams of its own beside the task", function ()
    T.run(function ()
      local h <close> = host()
      local c <close> = assert(h:start(sh "cat; echo said >&2; exit 4"))
      assert(c:stdin():write("forth"))
      assert.equal("forth", c:stdout():read(100))
      c:stdin():close()
      assert.is_nil(c:stdout():read(100))
      assert.equal("said\n", c:stderr():read(100))
      assert.is_nil(c:stderr():read(100))
      assert.same({ status = 4 }, c:wait())
      assert.equal(records("started")[1].pid, c:pid())
      assert.equal("failed", records("outcome")[1].status)
    end)
  end)

  it("ends with its scope, on the host too", function ()
    T.run(function ()
      local h <close> = host()
      local pid
      do
        local c <close> = assert(h:start(sh "sleep 300 & echo $!; wait"))
        pid = c:stdout():read(100)
      end
      assert.is_true(wait_gone(pid))
    end)
  end)

  it("tells what sudo says, with the line that would allow it", function ()
    local bin = suite.temp()
    suite.write(bin .. "/sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    os.execute("chmod 755 " .. bin .. "/sudo")
    T.run(function ()
      local h <close> = host { path = bin .. ":" .. os.getenv("PATH") }
      for _, verb in ipairs { "read", "run" } do
        local value, err = h[verb](h, sh("echo never", { sudo = "postgres" }))
        assert.is_nil(value)
        assert.equal("auth", err.code)
        assert.matches("sudo on here refuses: sudo: a password is required", err.message)
        assert.matches("me ALL=%(postgres%) NOPASSWD: ALL", err.hint)
      end
    end)
  end)

  it("keeps the last mebibyte of an endless stream, until its deadline", function ()
    T.run(function ()
      local h <close> = host()
      local value, err = h:read(sh("yes", { within_ms = 300 }))
      assert.is_nil(value)
      assert.equal("timeout", err.code)
      local result = assert(h:read(sh "head -c 3000000 /dev/zero"))
      assert.equal(3000000 - (1 << 20), result.truncated)
    end)
  end)

  it("has no word of ours in what it printed, however it is cut", function ()
    T.run(function ()
      local h <close> = host()
      local result = assert(h:read(sh "printf '\\036no word' >&2; printf '\\036%s\\036\\036' >&2"))
      assert.equal("\30no word\30\30\30", result.err)
      result = assert(h:read(sh "printf '\\036no word'; printf '\\036%s\\036\\036'"))
      assert.equal("\30no word\30\30\30", result.out)
    end)
  end)

  -- stderr, and with it the word that the command has ended, overtakes stdout by more than a second.
  it("has all that it printed, however much later than its end that comes", function ()
    T.run(function ()
      local late = suite.temp() .. "/late"
      suite.write(late, "#!/bin/sh\n{ sh \"$@\"; } | { sleep 1.5; cat; }\n")
      assert(os.execute("chmod 755 " .. late))
      local h <close> = host { shell = late }
      assert.equal("late", assert(h:read { argv = { "printf", "late" } }).out)
    end)
  end)

  -- As a client of ssh whose connection broke ends its stdout: like one that is whole.
  it("has not all that it printed without the last word, and then is no success", function ()
    T.run(function ()
      local cut = suite.temp() .. "/cut"
      suite.write(cut, "#!/bin/sh\n{ sh \"$@\"; } | { IFS= read -r first; printf '%s\\n' \"$first\"; head -c 3; }\n")
      assert(os.execute("chmod 755 " .. cut))
      local h <close> = host { shell = cut }
      local value, err = h:read { argv = { "printf", "whole" } }
      assert.is_nil(value)
      assert.matches("was lost before all that the command printed had come", err.message, 1, true)
      local c <close> = assert(h:start { argv = { "printf", "whole" }, read = true })
      local out = c:stdout()
      assert.equal("who", out:read(100))
      value, err = out:read(100)
      assert.is_nil(value)
      assert.equal("closed", err.code)
    end)
  end)

  -- Waiting for the ends of its outputs would take as long as the one it left behind lives.
  for _, shell in ipairs(SHELLS) do
    it("has all that it printed and nothing of what it left behind, in " .. shell, function ()
      if not has(shell) then return pending(shell .. " is not installed") end
      T.run(function ()
        local h <close> = host { shell = shell }
        for _ = 1, 2 do                                              -- briefly the second time, where that can be
          local result = assert(h:read(sh "(trap 'kill $!; exit' TERM; sleep 7643 & wait; echo late) & echo $!; printf two; echo three >&2"))
          local pid = result.out:match "^(%d+)\n"
          assert(h:read { argv = { "kill", pid } })
          assert.same({ pid .. "\ntwo", "three\n", 0 }, { result.out, result.err, result.status })
        end
      end)
    end)
  end
end)
