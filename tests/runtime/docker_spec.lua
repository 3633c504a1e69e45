-- native.docker against a real Engine: what commands in containers are given, say and leave, and what the Engine knows of containers.

local child = require "tests.support.child"
local docker = require "native.docker"
local net = require "native.net"
local process = require "native.process"
local records = require "tests.support.recorded"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local task = require "native.task"

describe("native.docker on an Engine", function()
  local server, why, box

  setup(function()
    server, why = servers.docker()
    if server then box = server.busybox { name = "dockerspec", project = "dockerspec", service = "here", cmd = { "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done" } } end
  end)

  local function open() return assert(docker.open(net.unix(server.socket), { role = "box" })) end

  -- An `it` that has an Engine, in a task.
  local function with(name, fn)
    it(name, function()
      if not server then return pending(why) end
      T.run(function() fn(open()) end)
    end)
  end

  local function sh(script, more)
    local call = { container = box.id, argv = { "sh", "-c", script } }
    for key, value in pairs(more or {}) do call[key] = value end
    return call
  end

  describe("a command", function()
    with("returns its status and both outputs apart, NUL and all", function(engine)
      local r = assert(engine:run(sh("printf 'a\\000b\\377'; printf 'e\\r\\n' >&2; exit 3", { allow = { 3 } })))
      assert.same({ status = 3, out = "a\0b\255", err = "e\r\n", truncated = false }, r)
      assert.equal("ok", records("outcome")[1].status)
    end)

    with("that ends at once has its own exit code, 200 of 200 times", function(engine)
      for i = 1, 200 do
        local r = assert(engine:read(sh("exit " .. i)))
        assert.equal(i, r.status)
      end
    end)

    with("that ends at once has its own exit code, 1,000 of 1,000 times #long", function(engine)
      for i = 1, 1000 do assert.equal(i % 126, assert(engine:read(sh("exit " .. i % 126))).status) end
    end)

    with("sees the environment, user and directory that are given, and nothing of ours", function(engine)
      T.setenv("NEAP_SPEC_LEAK", "x")
      local r = assert(engine:read(sh("id -u; pwd; env", { env = { MINE = "a=b c" }, user = "65534", workdir = "/tmp" })))
      T.setenv("NEAP_SPEC_LEAK", nil)
      assert.matches("^65534\n/tmp\n", r.out)
      assert.matches("\nMINE=a=b c\n", r.out, 1, true)
      assert.is_nil(r.out:find("NEAP_SPEC_LEAK", 1, true))
      assert.is_nil(r.out:find("neap_", 1, true), "the wrapper leaves variables behind")
    end)

    with("gets odd arguments untouched", function(engine)
      local odd = { "-rf", "a b", "$(id)", "`id`", "'\"", "new\nline", "\27[31m", "", "*", "ü" }
      local r = assert(engine:read { container = box.id, argv = { "printf", "[%s]", table.unpack(odd) } })
      assert.equal("[" .. table.concat(odd, "][") .. "]", r.out)
      local _, err = engine:read { container = box.id, argv = { "echo", "\255" } }
      assert.equal("usage", err.code)
    end)

    with("that is missing ends with 127, one that is no program with 126", function(engine)
      assert.equal(127, assert(engine:read { container = box.id, argv = { "no-such-program" } }).status)
      assert.equal(126, assert(engine:read { container = box.id, argv = { "/etc" } }).status)
    end)

    with("does not begin in a directory that is missing, or as a user nobody knows", function(engine)
      local r, err = engine:run(sh("true", { workdir = "/none" }))
      assert.is_nil(r)
      assert.equal("remote", err.code)
      assert.equal("failed", records("outcome")[1].status)
      r, err = engine:run(sh("true", { user = "nobody-knows" }))
      assert.is_nil(r)
      assert.matches("nobody%-knows", err.message)
    end)

    with("reads a string, and nothing when none is given", function(engine)
      assert.equal("one\0two", assert(engine:read(sh("cat", { stdin = "one\0two" }))).out)
      assert.equal("", assert(engine:read(sh("cat"))).out)
      assert.equal("", assert(engine:read(sh("cat", { stdin = "" }))).out)
    end)

    with("has its container, exec and pid in the journal before it begins", function(engine)
      assert(engine:run(sh("true")))
      local intent, started = records("intent")[1], records("started")[1]
      assert.equal(box.id, intent.container)
      assert.equal(box.inspect("{{.State.StartedAt}}"), intent.started)
      assert.matches("^%x+$", intent.exec)
      assert.equal(intent.exec, started.exec)
      assert.is_true(started.pid > 1 and started.ticks > 0)
      assert.equal("docker:" .. engine:id() .. "/" .. box.id, intent.subject)
    end)

    with("is stopped with all it started when its time is over", function(engine)
      for _, within_ms in ipairs { 300, 10000 } do              -- a busy machine may not have begun it by then
        T.forget_records()
        local r, err = engine:run(sh("sleep 7654 & sleep 7655", { within_ms = within_ms }))
        assert.is_nil(r)
        assert.equal("timeout", err.code)
        local known = records("outcome")[1]
        if known and known.status == "unknown" then break end
      end
      assert.equal("unknown", records("outcome")[1].status)
      assert.is_nil(assert(engine:read { container = box.id, argv = { "ps" } }).out:find("sleep 765", 1, true))
    end)

    with("that ignores TERM is killed, also when the operator cancels", function(engine)
      local victim = task.spawn(pcall, function() return engine:run(sh("trap '' TERM; while :; do sleep 0.1; done # 8642", { within_ms = 60000 })) end)
      repeat task.sleep(20) until assert(engine:read { container = box.id, argv = { "ps" } }).out:find("8642", 1, true)      -- noted is not begun
      victim:cancel("the spec had enough")
      local _, ok, err = victim:join()
      assert.is_false(ok)
      assert.equal("cancelled", err.code)
      assert.equal("unknown", records("outcome")[1].status)
      assert.is_nil(assert(engine:read { container = box.id, argv = { "ps" } }).out:find("8642", 1, true))
    end)

    with("keeps the last mebibyte of what it says", function(engine)
      local r = assert(engine:read(sh("head -c 3000000 /dev/zero; printf end")))
      assert.equal(1048576, #r.out)
      assert.equal("end", r.out:sub(-3))
      assert.equal(3000003 - 1048576, r.truncated)
    end)

    with("is refused while its container is paused, with the Engine's words", function(engine)
      server.cli("pause", box.id)
      local r, err = engine:run(sh("true"))
      server.cli("unpause", box.id)
      assert.is_nil(r)
      assert.same({ "remote", 409 }, { err.code, err.status })
      assert.matches("is paused", err.message)
    end)

    with("is refused in a part of an id", function(engine)
      local ok, err = pcall(function() return engine:run { container = box.id:sub(1, 12), argv = { "true" } } end)
      assert.is_false(ok)
      assert.equal("usage", err.code)
    end)
  end)

  describe("a command beside the task", function()
    with("takes 64 MiB of random bytes and gives them back", function(engine)
      local dir = suite.temp()
      child.must { argv = { "sh", "-c", "head -c 67108864 /dev/urandom >" .. dir .. "/in" } }
      local file = require("native.file")
      local from <close> = assert(file.open(dir .. "/in"))
      local to <close> = assert(file.open(dir .. "/out", "w"))
      local cat <close> = assert(engine:start { container = box.id, argv = { "cat" } })
      local feeding = task.spawn(function()
        local sent = assert(from:pipe(cat:stdin()))
        assert(cat:stdin():shut())
        return sent
      end)
      local got = assert(cat:stdout():pipe(to))
      local _, sent = feeding:join()
      assert.same({ 67108864, sent.sha256 }, { got.bytes, got.sha256 })
      assert.same({ status = 0 }, cat:wait())
      assert(to:close())
    end)

    with("takes 1 GiB of random bytes and gives them back #bulk #long", function(engine)
      local source <close> = assert(process.start { argv = { "head", "-c", "1073741824", "/dev/urandom" }, read = true })
      local sink <close> = assert(process.start { argv = { "sh", "-c", "cat >/dev/null" }, read = true })
      local cat <close> = assert(engine:start { container = box.id, argv = { "cat" } })
      local feeding = task.spawn(function()
        local sent = assert(source:stdout():pipe(cat:stdin()))
        assert(cat:stdin():shut())
        return sent
      end)
      local got = assert(cat:stdout():pipe(sink:stdin()))
      local _, sent = feeding:join()
      assert.same({ 1073741824, sent.sha256 }, { got.bytes, got.sha256 })
      assert.same({ status = 0 }, cat:wait())
    end)

    with("gives its outputs apart, and its status, also when it is asked twice", function(engine)
      local c <close> = assert(engine:start { container = box.id, argv = { "sh", "-c", "echo out; echo err >&2; exit 9" }, read = true })
      assert.equal("out\n", c:stdout():read())
      assert.equal("err\n", c:stderr():read())
      assert.is_nil(c:stdout():read())
      assert.same({ status = 9 }, c:wait())
      assert.same({ status = 9 }, c:wait())
    end)

    with("is stopped on request, and at the end of its scope", function(engine)
      local c = assert(engine:start { container = box.id, argv = { "sleep", "9753" } })
      assert.is_true(c:pid() > 1)
      assert.same({ status = 143 }, c:stop(5000))
      c:close()
      do local _ <close> = assert(engine:start { container = box.id, argv = { "sleep", "9753" } }) end
      assert.is_nil(assert(engine:read { container = box.id, argv = { "ps" } }).out:find("sleep 9753", 1, true))
      assert.same({ "ok", "failed" }, { records("outcome")[1].status, records("outcome")[2].status })
    end)

    with("says unknown when its container is started again meanwhile, and its output does not end well", function(engine)
      local other = server.busybox { name = "restarted" }
      local c <close> = assert(engine:start { container = other.id, argv = { "sh", "-c", "echo half; sleep 60" } })
      assert.equal("half\n", c:stdout():read())
      server.cli("restart", "-t", "0", other.id)
      local bytes, broken = c:stdout():read()
      assert.is_nil(bytes)
      assert.equal("unknown", broken.code)
      local r, err = c:wait()
      assert.is_nil(r)
      assert.equal("unknown", err.code)
      assert.equal("unknown", records("outcome")[1].status)
      other.remove()
    end)

    with("says unknown when its container is removed meanwhile", function(engine)
      local other = server.busybox { name = "removed" }
      local c <close> = assert(engine:start { container = other.id, argv = { "sleep", "60" } })
      other.remove()
      local r, err = c:wait()
      assert.is_nil(r)
      assert.equal("unknown", err.code)
    end)

    with("that only reads has failed when nobody knows how it ended, and may be asked again", function(engine)
      local other = server.busybox { name = "removed-read" }
      local c <close> = assert(engine:start { container = other.id, argv = { "sleep", "60" }, read = true })
      other.remove()
      local r, err = c:wait()
      assert.is_nil(r)
      assert.same({ "remote", true }, { err.code, err.retry })
    end)

    with("can be asked about by its evidence, and ended", function(engine)
      local c = assert(engine:start { container = box.id, argv = { "sleep", "8531" } })
      local intent, started = records("intent")[1], records("started")[1]
      local evidence = { container = intent.container, started = intent.started, pid = started.pid, ticks = started.ticks }
      assert.equal("running", (engine:probe(evidence)))
      assert.equal("running", (engine:probe(evidence, { within_ms = 300 })))
      assert.equal("not begun", (engine:probe { container = intent.container, started = intent.started }))
      assert.is_nil((engine:probe(evidence, { end_it = true })))
      assert.same({ status = 143 }, c:wait())
      assert.is_nil((engine:probe(evidence)))
      evidence.ticks = evidence.ticks + 1
      assert.is_nil((engine:probe(evidence)))
      c:close()
    end)
  end)

  describe("a connection", function()
    local function through(options, fn)
      if not server then return pending(why) end
      options.socket = server.socket
      local proxy <close> = T.proxy(options)
      T.run(function() fn(assert(docker.open(net.tcp("127.0.0.1", proxy:port()), { role = "box" })), proxy) end)
    end

    it("over TCP, byte by byte, carries stdin, its end, and both outputs", function()
      through({ bytes = 1 }, function(engine)
        local r = assert(engine:read(sh("cat; echo err >&2; exit 5", { stdin = "in" })))
        assert.same({ 5, "in", "err\n" }, { r.status, r.out, r.err })
      end)
    end)

    it("that breaks while a command runs leaves it unknown, and its output does not end well", function()
      through({}, function(engine, proxy)
        local c <close> = assert(engine:start { container = box.id, argv = { "sh", "-c", "echo half; sleep 3" } })
        assert.equal("half\n", c:stdout():read())
        proxy:cut()
        local bytes, broken = c:stdout():read()
        assert.is_nil(bytes)
        assert.equal("unknown", broken.code)
        local r, err = c:wait()
        assert.is_nil(r)
        assert.equal("unknown", err.code)
      end)
    end)
  end)

  describe("cancelled at every moment", function()
    with("a command leaves an outcome, no process and nothing open", function(engine)
      local function try(wait)
        local victim = task.spawn(pcall, function() return engine:run(sh("sleep 7531", { within_ms = 20000 })) end)
        wait()
        victim:cancel("the spec had enough")
        local _, ok, err = victim:join()
        assert.is_false(ok)
        assert.equal("cancelled", err.code)
        assert.equal(0, T.open_intents())
      end
      for turns = 0, 8 do try(function() for _ = 1, turns do task.sleep(0) end end) end
      for _, pause in ipairs { 1, 3, 9, 27, 81, 120 } do try(function() task.sleep(pause) end) end
      assert.is_nil(assert(engine:read { container = box.id, argv = { "ps" } }).out:find("sleep 7531", 1, true))
    end)
  end)

  describe("an image without a shell", function()
    with("runs commands too, without a pid", function(engine)
      local dir = suite.temp()
      child.must { argv = { "sh", "-c", "mkdir -p " .. dir .. "/r/bin && cp /bin/busybox " .. dir .. "/r/bin/cat && cp /bin/busybox " .. dir
        .. "/r/bin/sleep && tar -C " .. dir .. "/r -cf " .. dir .. "/r.tar ." } }
      server.cli("import", "--change", "ENV PATH=/bin", dir .. "/r.tar", "test/bare:1")
      local id = server.cli("run", "-d", "--pull", "never", "--network", "none", "test/bare:1", "sleep", "600")
      local r = assert(engine:run { container = id, argv = { "cat" }, stdin = "through" })
      assert.same({ 0, "through" }, { r.status, r.out })
      assert.equal(0, records("started")[1].pid)
      local missing = assert(engine:read { container = id, argv = { "no-such-program" } }).status -- runc's word: 126 or 127, by its version
      assert.is_true(missing == 126 or missing == 127)
      local c <close> = assert(engine:start { container = id, argv = { "sleep", "1" }, read = true })
      assert.is_nil(c:pid())
      assert.same({ status = 0 }, c:wait())
      server.cli("rm", "-f", "-v", id)
      server.cli("rmi", "test/bare:1")
    end)
  end)

  describe("containers", function()
    with("are found when exactly one fits, and otherwise it is said what there is", function(engine)
      assert.equal(box.id, assert(engine:find { project = "dockerspec", service = "here" }).Id)
      assert.equal(box.id, assert(engine:find { name = "dockerspec" }).Id)
      local found, err = engine:find { name = "dockersp" }
      assert.is_nil(found)
      assert.equal("config", err.code)
      local second = server.busybox { name = "second", project = "dockerspec", service = "here" }
      found, err = engine:find { project = "dockerspec", service = "here" }
      assert.is_nil(found)
      assert.matches("^2 containers are project \"dockerspec\", service \"here\": ", err.message)
      server.cli("stop", "-t", "0", second.id)
      assert.equal(box.id, assert(engine:find { project = "dockerspec", service = "here" }).Id)
      found, err = engine:find { name = "second" }
      assert.is_nil(found)
      assert.matches("There is second %(Exited", err.hint)
      assert.equal(second.id, assert(engine:find { name = "second", stopped = true }).Id)
      second.remove()
    end)

    with("are listed by labels", function(engine)
      local list = assert(engine:list { labels = { ["com.docker.compose.service"] = "here" } })
      assert.same({ 1, box.id }, { #list, list[1].Id })
      assert.equal(0, #assert(engine:list { labels = { ["com.docker.compose.service"] = "her" } }))
    end)

    with("are created of an image that is there, started, stopped, started again and removed", function(engine)
      local id = assert(engine:create_container { image = "test/busybox:1", name = "made", argv = { "sh", "-c", "echo $WORD; sleep 600" },
        env = { WORD = "hello" }, labels = { a = "b" }, network = "none" })
      assert.is_true(engine:start_container(id))
      assert.is_true(engine:start_container(id))
      local state = assert(engine:inspect("made"))
      assert.same({ id, true, "b" }, { state.Id, state.State.Running, state.Config.Labels.a })
      assert.is_true(engine:restart_container(id, { grace_ms = 0 }))
      assert.is_true(engine:stop_container(id, { grace_ms = 0 }))
      assert.is_false(assert(engine:inspect(id)).State.Running)
      assert.is_true(engine:remove_container(id, { force = true, volumes = true }))
      local gone, err = engine:remove_container(id)
      assert.is_nil(gone)
      assert.same({ "remote", 404 }, { err.code, err.status })
      gone, err = engine:create_container { image = "test/never-there:1" }
      assert.is_nil(gone)
      assert.matches("No such image", err.message)
    end)

    with("tell their log, since a time, and a line since they were started", function(engine)
      local other = server.busybox { name = "talks", cmd = { "sh", "-c", "echo first; echo wrong >&2; sleep 0.5; echo it is ready now; sleep 600" } }
      assert.equal("it is ready now", assert(engine:wait_log { container = other.id, text = "is ready" }))
      local log = assert(engine:logs { container = other.id })
      assert.same({ out = "first\nit is ready now\n", err = "wrong\n", truncated = false }, log)
      assert.equal("it is ready now\n", assert(engine:logs { container = other.id, tail = 1 }).out)
      assert.equal("", assert(engine:logs { container = other.id, since_ms = require("native.system").wall_ms() + 60000 }).out)
      local ending = server.busybox { name = "ends", cmd = { "sh", "-c", "echo only; exit 4" } }
      local line, err = engine:wait_log { container = ending.id, text = "never" }
      assert.is_nil(line)
      assert.matches("ended before it wrote \"never\"", err.message)
      other.remove()
      ending.remove()
    end)

    with("are waited for until they are healthy", function(engine)
      local other = server.busybox { name = "heals", health = "test -e /tmp/well", args = { "--health-retries", "60" } }
      local waiting = task.spawn(function() return engine:wait_healthy(other.id, { every_ms = 50 }) end)
      assert(engine:run { container = other.id, argv = { "touch", "/tmp/well" } })
      local _, healthy = waiting:join()
      assert.is_true(healthy)
      local no, err = engine:wait_healthy(box.id)
      assert.is_nil(no)
      assert.matches("no health check", err.message)
      server.cli("stop", "-t", "0", other.id)
      no, err = engine:wait_healthy(other.id)
      assert.is_nil(no)
      assert.matches("exited", err.message)
      other.remove()
    end)

    with("give and take files as tar", function(engine)
      local dir = suite.temp()
      child.must { argv = { "sh", "-c", "mkdir " .. dir .. "/t && head -c 3000000 /dev/urandom >" .. dir .. "/t/file && tar -C " .. dir .. "/t -cf " .. dir .. "/t.tar file" } }
      local file = require("native.file")
      local from <close> = assert(file.open(dir .. "/t.tar"))
      local put <close> = assert(engine:archive_put { container = box.id, path = "/tmp" })
      assert(from:pipe(put))
      assert(put:close())
      local get <close> = assert(engine:archive_get { container = box.id, path = "/tmp/file" })
      local to <close> = assert(file.open(dir .. "/back.tar", "w"))
      assert(get:pipe(to))
      assert(to:close())
      child.must { argv = { "sh", "-c", "mkdir " .. dir .. "/b && tar -C " .. dir .. "/b -xf " .. dir .. "/back.tar && cmp " .. dir .. "/t/file " .. dir .. "/b/file" } }
      local none, err = engine:archive_get { container = box.id, path = "/none" }
      assert.is_nil(none)
      assert.same({ "remote", 404 }, { err.code, err.status })
      local lost = assert(engine:archive_put { container = box.id, path = "/none" })
      none, err = lost:close()
      assert.is_nil(none)
      assert.same({ "remote", 404 }, { err.code, err.status })
    end)
  end)
end)
