-- native.ssh against a real sshd, by both back ends: three ends that differ, connections killed at random moments, nothing left running.
local file = require "native.file"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local ssh = require "native.ssh"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local hermes

local function sh(script, more)
  local call = { argv = { "sh", "-c", script } }
  for key, value in pairs(more or {}) do call[key] = value end
  return call
end

local function open(more)
  local home = servers.ssh_home { hermes = hermes }
  local given = { name = "hermes", role = "hermes", config = home.config }
  for key, value in pairs(more or {}) do given[key] = value end
  return assert(ssh.open(given))
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

-- A directory the account on the host can write into.
local function shared()
  local dir = suite.temp()
  os.execute("chmod 711 " .. suite.directory() .. " && chmod 1777 " .. dir)
  return dir
end

local function outcome(n)
  local found = {}
  for _, record in ipairs(T.records()) do
    if record.kind == "outcome" then found[#found + 1] = text.parse(record.body).status end
  end
  return found[n or #found]
end

for _, backend in ipairs { "libssh2", "program" } do
  describe("a host by " .. backend, function ()
    setup(function () hermes = servers.sshd { name = "hermes", sudo = true } end)

    it("says who it is", function ()
      T.run(function ()
        local h <close> = open { backend = backend }
        local card = h:card()
        assert.equal(hermes.fingerprint "ed25519", card.fingerprint)
        assert.equal("host:" .. card.fingerprint, card.id)
        assert.equal(hermes.user, card.user)
        assert.is_false(h:lost())
      end)
    end)

    for _, verb in ipairs { "read", "run" } do
      it("tells a status, a signal and zero apart by " .. verb, function ()
        T.run(function ()
          local h <close> = open { backend = backend }
          assert.same({ status = 3, out = "a\0b", err = "no\n", truncated = false }, h[verb](h, sh("printf 'a\\000b'; echo no >&2; exit 3")))
          assert.equal(9, h[verb](h, sh "kill -9 $$").signal)
          assert.equal(2, h[verb](h, { argv = { "perl", "-e", '$SIG{INT} = "DEFAULT"; kill 2, $$; sleep 9' } }).signal)
          assert.same({ 130, 137 }, { h[verb](h, sh "exit 130").status, h[verb](h, sh "exit 137").status })
          assert.same({ status = 0, out = "", err = "", truncated = false }, h[verb](h, sh "true"))
        end)
      end)

      it("brings stdin, environment and secrets by " .. verb, function ()
        T.run(function ()
          local h <close> = open { backend = backend }
          local result = assert(h[verb](h, sh("pwd; printf '%s|%s|' \"$A\" \"$S\"; cat", { cwd = "/", env = { A = "a\n'b'", S = secret.of("violet-raven-78", "s") },
            stdin = ("x"):rep(200000) })))
          assert.equal("/\na\n'b'|‹secret s›|" .. ("x"):rep(200000), result.out)
        end)
      end)
    end

    it("finds an attached command untold when its connection is killed, and its process by the evidence", function ()
      local dir = shared()
      T.run(function ()
        local h <close> = open { backend = backend }
        local killer = task.spawn(function ()
          content(dir .. "/pid")
          hermes.kill_sessions()
          suite.write(dir .. "/go", "")
        end)
        local value, err = h:read(sh(("echo $$ >%s/pid; while [ ! -e %s/go ]; do sleep 0.02; done; echo end >%s/end"):format(dir, dir, dir)))
        killer:join()
        assert.is_nil(value)
        assert.same({ "closed", true }, { err.code, err.retry })
        assert.equal("end\n", content(dir .. "/end"))
      end)
    end)

    it("follows a job over connections that are killed, and begins it once", function ()
      local dir = shared()
      T.run(function ()
        local h <close> = open { backend = backend }
        local killer = task.spawn(function ()
          content(dir .. "/log")
          hermes.kill_sessions()
          suite.write(dir .. "/go", "")
        end)
        local result, err = h:run(sh(("echo begun >>%s/log; echo one; while [ ! -e %s/go ]; do sleep 0.02; done; echo two; exit 5"):format(dir, dir)))
        killer:join()
        assert.is_not_nil(result, err and err.message)
        assert.same({ status = 5, out = "one\ntwo\n", err = "", truncated = false }, result)
        assert.equal("begun\n", suite.read(dir .. "/log"))
      end)
    end)

    it("leaves no process of a cancelled job or command", function ()
      local dir = shared()
      T.run(function ()
        local h <close> = open { backend = backend }
        for _, verb in ipairs { "run", "read" } do
          local path = ("%s/%s"):format(dir, verb)
          local runner = task.spawn(function () return h[verb](h, sh(("sleep 300 & echo $! $$ >%s; wait"):format(path))) end)
          local first, second = content(path):match("(%d+) (%d+)")
          runner:cancel "enough"
          assert.is_false((runner:join()))
          assert.is_true(wait_gone(first) and wait_gone(second))
        end
      end)
    end)

    it("keeps the last mebibyte of an endless stream and of a line without end", function ()
      T.run(function ()
        local h <close> = open { backend = backend }
        local value, err = h:read(sh("yes", { within_ms = 500 }))
        assert.is_nil(value)
        assert.equal("timeout", err.code)
        local result = assert(h:read(sh "head -c 20000000 /dev/zero; printf '\\033]0;x\\007'"))
        assert.equal(1 << 20, #result.out)
        assert.equal(20000006 - (1 << 20), result.truncated)
      end)
    end)

    it("has streams beside the task", function ()
      T.run(function ()
        local h <close> = open { backend = backend }
        local c <close> = assert(h:start(sh "cat; exit 4"))
        assert(c:stdin():write "forth")
        assert.equal("forth", c:stdout():read(100))
        assert(c:stdin():shut())
        assert.is_nil((c:stdout():read(100)))
        assert.same({ status = 4 }, c:wait())
        assert.equal("failed", outcome())
      end)
    end)

    it("works as root where sudo lets it", function ()
      T.run(function ()
        local h <close> = open { backend = backend, sudo = true }
        local result, err = h:read(sh "id -u")
        if not result then pending("sudo is not here: " .. err.message) end
        assert.equal("0\n", result.out)
        result = assert(h:run(sh("id -u; cat", { stdin = "in" })))
        assert.equal("0\nin", result.out)
      end)
    end)
  end)
end

-- MaxSessions 1: many who harden a server set it.
for _, backend in ipairs { "libssh2", "program" } do
  describe("a host that runs one command at a time, by " .. backend, function ()
    local narrow

    setup(function () narrow = servers.sshd { name = "narrow", config = { "MaxSessions 1" } } end)

    local function open_narrow()
      local home = servers.ssh_home { narrow = narrow }
      return assert(ssh.open { name = "narrow", role = "narrow", config = home.config, backend = backend })
    end

    it("has no process of a cancelled job or command left", function ()
      local dir = shared()
      T.run(function ()
        for _, verb in ipairs { "run", "read" } do
          local h <close> = open_narrow()
          local path = ("%s/%s"):format(dir, verb)
          local runner = task.spawn(function () return h[verb](h, sh(("sleep 300 & echo $! $$ >%s; wait"):format(path))) end)
          local first, second = content(path):match("(%d+) (%d+)")
          runner:cancel "enough"
          assert.is_false((runner:join()))
          assert.is_true(wait_gone(first) and wait_gone(second))
        end
      end)
    end)

    it("tells of a command it does not start that it was not begun", function ()
      T.run(function ()
        local h <close> = open_narrow()
        do
          local other <close> = assert(h:start { argv = { "cat" }, read = true })
          assert(other:stdin():write "x")
          assert.equal("x", other:stdout():read(1))
          local value, err = h:run(sh "true")
          assert.is_nil(value)
          assert.same({ "unreachable", true }, { err.code, err.retry })
          assert.equal("failed", outcome())
          assert(other:stdin():shut())
          other:wait()
        end
        local result, err                            -- the program does not wait for room by itself
        repeat result, err = h:run(sh "true") until result or backend == "libssh2" or not err.retry
        assert.same({ status = 0, out = "", err = "", truncated = false }, result)
      end)
    end)
  end)
end

-- A file that the login shell reads may print: what it prints belongs to no command.
for _, backend in ipairs { "libssh2", "program" } do
  describe("a host whose login shell prints, by " .. backend, function ()
    local noisy

    setup(function ()
      noisy = servers.sshd { name = "noisy", sudo = true, config = { [[ForceCommand echo welcome; echo 'no locale' >&2; exec sh -c "$SSH_ORIGINAL_COMMAND"]] } }
    end)

    local function open_noisy()
      local home = servers.ssh_home { noisy = noisy }
      return assert(ssh.open { name = "noisy", role = "noisy", config = home.config, backend = backend })
    end

    it("gives the outputs of its commands and nothing else", function ()
      local plain <const> = { status = 0, out = "out\n", err = "err\n", truncated = false }
      T.run(function ()
        local h <close> = open_noisy()
        for _ = 1, 2 do assert.same({ plain }, { h:read(sh "echo out; echo err >&2") }) end
        assert.same({ plain }, { h:read(sh("cat; echo err >&2", { stdin = "out\n" })) })
        assert.same({ plain }, { h:run(sh "echo out; echo err >&2") })
        assert.same({ plain }, { h:run(sh("cat; echo err >&2", { stdin = "out\n" })) })
        local c <close> = assert(h:start(sh "cat"))
        assert(c:stdin():write "forth")
        assert.equal("forth", c:stdout():read(100))
      end)
    end)

    it("loses no byte of a job that is followed over a second connection", function ()
      local dir = shared()
      T.run(function ()
        local h <close> = open_noisy()
        local killer = task.spawn(function ()
          content(dir .. "/log")
          noisy.kill_sessions()
          suite.write(dir .. "/go", "")
        end)
        local result, err = h:run(sh(("echo one; echo first >&2; echo begun >%s/log; while [ ! -e %s/go ]; do sleep 0.02; done; echo two; echo second >&2"):format(dir, dir)))
        killer:join()
        assert.is_not_nil(result, err and err.message)
        assert.same({ status = 0, out = "one\ntwo\n", err = "first\nsecond\n", truncated = false }, result)
      end)
    end)
  end)
end

describe("a job on a host that refuses logins meanwhile", function ()
  -- As nologin does it while a machine goes down: the login succeeds, and the shell says good-bye.
  it("is followed, not taken for one that was never begun", function ()
    local dir = shared()
    local shut = servers.sshd { name = "shut", config = {
      ([[ForceCommand [ ! -e %s/shut ] || { echo "going down" | tee -a %s/refused >&2; exit 1; }; exec sh -c "$SSH_ORIGINAL_COMMAND"]]):format(dir, dir) } }
    T.run(function ()
      local home = servers.ssh_home { shut = shut }
      local h <close> = assert(ssh.open { name = "shut", role = "shut", config = home.config, backend = "libssh2" })
      local killer = task.spawn(function ()
        content(dir .. "/log")
        suite.write(dir .. "/shut", "")
        shut.kill_sessions()
        while select(2, content(dir .. "/refused"):gsub("\n", "")) < 5 do task.sleep(10) end       -- for longer than one would ask by mistake
        os.remove(dir .. "/shut")
        suite.write(dir .. "/go", "")
      end)
      local result, err = h:run(sh(("echo begun >>%s/log; while [ ! -e %s/go ]; do sleep 0.02; done; echo end; exit 5"):format(dir, dir)))
      killer:join()
      assert.is_not_nil(result, err and err.message)
      assert.same({ status = 5, out = "end\n", err = "", truncated = false }, result)
      assert.equal("begun\n", suite.read(dir .. "/log"))
    end)
    shut.remove()
  end)
end)

describe("jobs on a host whose connections are killed", function ()
  -- So many jobs of three seconds, twenty at a time, each with a connection of its own; meanwhile every session is killed again and again, each
  -- time when somebody has come back.
  local function survive(count)
    local dir = shared()
    T.run(function ()
      local results, running, over, why = {}, {}, false, nil
      local killer = task.spawn(function ()
        content(dir .. "/log")
        while not over do
          task.sleep(math.random(50, 900))
          local commands = hermes.commands()
          hermes.kill_sessions()
          while not over and hermes.commands() == commands do task.sleep(20) end
        end
      end)
      local function one(n)
        local ok, h
        repeat ok, h = pcall(open, {}) until ok        -- may be killed while it is opened
        local result, err = h:run(sh(("echo %d >>%s/log; sleep 3; echo end %d"):format(n, dir, n)))
        results[n] = result and (result.out == ("end %d\n"):format(n) and result.status == 0 and "ok" or "wrong") or err.code
        why = err and err.message or why
        h:close()
      end
      for first = 1, count, 20 do
        for n = first, math.min(first + 19, count) do running[n] = task.spawn(function () one(n) end) end
        for n = first, math.min(first + 19, count) do assert(running[n]:join()) end
      end
      over = true
      killer:join()
      local began, tally = {}, {}
      for line in suite.read(dir .. "/log"):gmatch("%d+") do began[tonumber(line)] = (began[tonumber(line)] or 0) + 1 end
      for n = 1, count do
        local is_error = results[n] ~= "ok" and results[n] ~= "unknown"
        local end_of = is_error and not began[n] and "never begun" or results[n]       -- a busy machine: killed as often as it is tried
        tally[end_of] = (tally[end_of] or 0) + 1
        assert.is_true((began[n] or 0) <= 1, ("job %d was begun %s times"):format(n, began[n]))
        if results[n] == "ok" then assert.equal(1, began[n]) end
      end
      local told = ("%s, one of them: %s"):format(text.json(tally), why)
      assert.equal(count, (tally.ok or 0) + (tally.unknown or 0) + (tally["never begun"] or 0), told)
      assert.is_true((tally.ok or 0) > (tally["never begun"] or 0), told)
    end)
  end

  setup(function () hermes = servers.sshd { name = "hermes", sudo = true, config = { "MaxStartups 200" } } end)

  it("are followed to their ends or unknown, and none is begun twice: 20 at once", function () survive(20) end)
  it("are followed to their ends or unknown, and none is begun twice: 100, 20 at a time #long", function () survive(100) end)

  it("are found by whoever resumes: running, then ended", function ()
    local dir = shared()
    T.run(function ()
      local h <close> = open {}
      local runner = task.spawn(function () return h:run(sh(("echo $$ >%s/pid; sleep 300"):format(dir))) end)
      local pid = content(dir .. "/pid")
      local evidence
      for _, record in ipairs(T.records()) do
        if record.kind == "intent" then evidence = text.parse(record.body) end
      end
      local other <close> = open {}
      assert.equal("running", (other:probe(evidence, { within_ms = 200 })))
      assert.not_equal("running", (other:probe(evidence, { within_ms = 60000, end_it = true })))
      assert.is_true(wait_gone(pid))
      runner:join()
    end)
  end)

  it("take a stream as stdin, attached", function ()
    local dir = suite.temp()
    suite.write(dir .. "/in", ("0123456789"):rep(100000))
    T.run(function ()
      local h <close> = open {}
      local from <close> = file.open(dir .. "/in", "r")
      assert.matches("^ *1000000\n", h:run(sh("wc -c", { stdin = from })).out)
      assert.equal("ok", outcome())
    end)
  end)
end)
