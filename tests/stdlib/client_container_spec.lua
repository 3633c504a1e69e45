--- client.container on a real Engine: the object that runbooks and the engine hold.

local child = require("tests.support.child")
local client = require("client.container")
local guard = require("native.guard")
local records = require "tests.support.recorded"
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")

describe("client.container", function()
  local server, why, box

  setup(function()
    server, why = servers.docker()
    if server then box = server.busybox { name = "shop-db-1", project = "mine", service = "database", cmd = { "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done" } } end
  end)

  -- An object whose methods are called as a runbook calls them.
  local function bind(spec, context)
    spec = spec or { project = "mine", service = "database" }
    spec.docker = spec.docker or server.url
    local object = client.bind("dbc", spec, setmetatable(context or {}, { __index = { application = "neap:spec:1f", environment = "test" } }))
    return setmetatable({ object = object }, {
      __index = function(_, name) return function(_, ...) return object.methods[name](object, ...) end end,
      __close = function() client.close(object) end,
    })
  end

  -- An `it` that has an Engine, in a task.
  local function with(name, fn)
    it(name, function()
      if not server then return pending(why) end
      T.run(fn)
    end)
  end

  local function fails(code, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.equal(code, err.code, err.message)
    return err
  end

  local function preview(fn)
    guard.mode("plan")
    local ok, err = pcall(fn)
    local predictions = guard.predictions()
    guard.clear()
    guard.mode("run")
    if not ok then error(err, 0) end
    return predictions
  end

  it("refuses an entry that does not say which one", function()
    local function try(spec) return fails("config", client.bind, "dbc", spec, { application = "neap" }) end
    try {}
    try { index = 1 }
    try { name = "a", index = 1.5 }
    try { name = "a", context = "prod", docker = "unix:///x" }
    try { name = "a", on = "hermes", docker = "tcp://x:1" }
  end)

  with("finds exactly one, and else says what there is", function()
    local dbc <close> = bind()
    assert.is_true(dbc:running())
    assert.equal(box.id, dbc:inspect().Id)
    for _, spec in ipairs { { name = "shop-db-1" }, { id = box.id }, { id = box.id:sub(1, 12) }, { service = "database", index = 1 } } do
      local same <close> = bind(spec)
      assert.equal(box.id, same:inspect().Id)
    end
    local none <close> = bind { project = "mine", service = "web" }
    local err = fails("config", none.running)
    assert.equal("\"dbc\": no container of project \"mine\", service \"web\" is there", err.message)
    assert.matches("There is .*shop%-db%-1 %(mine/database%)", err.hint)
    local second = server.busybox { name = "shop-db-2", project = "mine", service = "database" }
    local several <close> = bind()
    err = fails("config", several.running)
    assert.matches("2 containers are project \"mine\", service \"database\": ", err.message, 1, true)
    assert.matches("shop-db-2", err.message, 1, true)
    second.remove()
    local nowhere <close> = bind { name = "x", docker = "unix:///none/docker.sock" }
    fails("unreachable", nowhere.running)
  end)

  with("is known by Engine, container and the time it was started", function()
    local dbc <close> = bind()
    local card = dbc:card()
    assert.matches("^docker:[^/]+/" .. box.id .. "@", card.id)
    assert.equal(card.lasting .. "@" .. box.inspect("{{.State.StartedAt}}"), card.id)
    local lines = {}
    for _, line in ipairs(card.lines) do lines[line[1]] = line[2] end
    assert.equal("shop-db-1 (" .. box.id:sub(1, 12) .. ")", lines.container)
    assert.matches("test/busybox:1 (sha256:", lines.image, 1, true)
    assert.equal("mine/database, number 1", lines.compose)
    assert.matches("^running, since ", lines.state)
    assert.equal("none of its own: network none", lines.address)
    assert.matches(server.url, lines.engine, 1, true)
  end)

  with("runs commands, and reads by them", function()
    local dbc <close> = bind()
    assert.equal("hello\n", dbc:read({ "echo", "hello" }).values.out)
    local result = dbc:run({ "sh", "-c", "cat; echo $WORD; id -u; pwd; exit 3" }, { stdin = "in ", env = { WORD = "w" }, user = "65534", workdir = "/tmp", allow = { 3 } })
    assert.same({ 3, "in w\n65534\n/tmp\n" }, { result.values.status, result.values.out })
    local err = fails("remote", dbc.run, dbc, { "sh", "-c", "echo one >&2; echo 'out of space' >&2; exit 9" })
    assert.matches("in dbc ended with status 9: out of space", err.message, 1, true)
    assert.equal(9, err.status)
    fails("usage", dbc.run, dbc, "echo hello")
    fails("usage", dbc.run, dbc, { "echo" }, { wihtin = "1s" })
    fails("timeout", dbc.run, dbc, { "sleep", "60" }, { within = "200ms" })
  end)

  with("moves what commands print into files, whole or not at all", function()
    local dbc <close> = bind()
    local path = suite.temp() .. "/out"
    local moved = dbc:output_to({ "sh", "-c", "head -c 3000000 /dev/zero" }, path)
    assert.equal(3000000, moved.bytes)
    assert.equal(3000000, #suite.read(path))
    local err = fails("remote", dbc.output_to, dbc, { "sh", "-c", "head -c 3000 /dev/zero; echo 'cannot read' >&2; exit 1" }, path .. "2")
    assert.matches("ended with status 1: cannot read", err.message, 1, true)
    assert.same({ "out" }, T.entries((path:gsub("/out$", ""))))
  end)

  with("gives commands a file or a stream to read, and says how both fared", function()
    local dbc <close> = bind()
    local path = suite.write(suite.temp() .. "/in", ("x"):rep(2000000))
    local moved = dbc:input_from({ "sh", "-c", "[ $(wc -c) -eq 2000000 ]" }, path)
    assert.same({ 2000000, 0 }, { moved.bytes, moved.status })
    local err = fails("remote", dbc.input_from, dbc, { "sh", "-c", "head -c 10 >/dev/null; echo 'no such database' >&2; exit 1" }, path)
    assert.matches("ended with status 1: no such database", err.message, 1, true)
    fails("remote", dbc.input_from, dbc, { "cat" }, "/none/there")
  end)

  with("stops the command when its source fails, and never lets it think it had everything", function()
    local dbc <close> = bind()
    local native = require("native.process")
    local source <close> = assert(native.start { argv = { "sh", "-c", "head -c 100000 /dev/zero; kill -9 $$" }, read = true })
    dbc:run { "rm", "-f", "/tmp/whole" }
    local moved = dbc:input_from({ "sh", "-c", "cat >/dev/null && touch /tmp/whole" }, source:stdout())
    assert.equal(100000, moved.bytes)                    -- a pipe that ends is an end: its child's status is the caller's to ask
    local two = assert(native.start { argv = { "sleep", "60" }, read = true })
    fails("timeout", dbc.input_from, dbc, { "sh", "-c", "cat >/dev/null && touch /tmp/late" }, two:stdout(), { within = "300ms" })
    two:stop(0)
    two:close()
    assert.is_false(dbc:has("/tmp/late"))
  end)

  with("has commands beside the task, and their pid", function()
    local dbc <close> = bind()
    local cat <close> = dbc:start { "cat" }
    assert.is_true(cat:pid() > 1)
    assert(cat:stdin():write("through"))
    assert(cat:stdin():shut())
    assert.equal("through", cat:stdout():read())
    assert.same({ status = 0 }, cat:wait())
    local sleeping <close> = dbc:start({ "sleep", "9753" }, { read = true })
    assert.same({ status = 143 }, sleeping:stop(60000))
  end)

  with("looks at files without starting anything in it", function()
    local dbc <close> = bind()
    dbc:run { "sh", "-c", "mkdir -p /tmp/d; printf 12345 >/tmp/d/file; chmod 640 /tmp/d/file; ln -sf /tmp/d/file /tmp/link" }
    local before = #records("intent")
    local entry = dbc:stat("/tmp/d/file")
    assert.same({ "file", "file", 5, tonumber("640", 8) }, { entry.name, entry.kind, entry.size, entry.mode })
    assert.equal("directory", dbc:stat("/tmp/d").kind)
    assert.same({ "link", "/tmp/d/file" }, { dbc:stat("/tmp/link").kind, dbc:stat("/tmp/link").link })
    assert.is_nil(dbc:stat("/tmp/none"))
    assert.same({ true, false }, { dbc:has("/bin/sh"), dbc:has("/none/at/all") })
    assert.equal("12345", dbc:read_file("/tmp/d/file"))
    fails("remote", dbc.read_file, dbc, "/tmp/d/file", { limit = 4 })
    fails("remote", dbc.read_file, dbc, "/tmp/d")
    fails("usage", dbc.stat, dbc, "tmp")
    assert.equal(before, #records("intent"))
  end)

  with("copies files in and out, whole and proved", function()
    local dbc <close> = bind()
    local dir = suite.temp()
    child.must { argv = { "sh", "-c", "head -c 3000001 /dev/urandom >" .. dir .. "/in; chmod 600 " .. dir .. "/in" } }
    local moved = dbc:copy_in(dir .. "/in", "/tmp/copied")
    assert.same({ 3000001, "hash" }, { moved.bytes, moved.proved })
    assert.is_false(dbc:has("/tmp/copied.part"))
    assert.equal(tonumber("600", 8), dbc:stat("/tmp/copied").mode)
    assert.same({ bytes = 3000001, proved = "hash" }, dbc:copy_out("/tmp/copied", dir .. "/out"))
    assert.equal(suite.read(dir .. "/in"), suite.read(dir .. "/out"))
    local name = ("long"):rep(40)
    dbc:copy_in(dir .. "/in", "/tmp/" .. name, { direct = true, mode = tonumber("644", 8) })
    assert.same({ name, 3000001, tonumber("644", 8) }, { dbc:stat("/tmp/" .. name).name, dbc:stat("/tmp/" .. name).size, dbc:stat("/tmp/" .. name).mode })
    fails("remote", dbc.copy_in, dbc, dir .. "/in", "/none/there")
    fails("remote", dbc.copy_out, dbc, "/none", dir .. "/none")
    local left = T.entries(dir)
    table.sort(left)
    assert.same({ "in", "out" }, left)
  end)

  with("is stopped, started, started again and removed; what it logged is read and waited for", function()
    local made
    do
      local dbc <close> = bind()
      made = dbc:create { name = "scratchbox", image = "test/busybox:1", argv = { "sh", "-c", "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done" }, network = "none" }
    end
    local scratch <close> = bind { name = "scratchbox" }
    assert.equal(made.id, scratch:inspect().Id)
    assert.same({ false, false }, { scratch:running(), (scratch:healthy()) })
    scratch:start()
    assert.equal("begun", scratch:wait_for_log { text = "beg", within = "2m" })
    assert.same({ true, true, nil }, { scratch:running(), scratch:healthy(), scratch:health() })
    assert.equal("begun\n", scratch:logs { tail = 1 }.out)
    assert.equal("begun\n", scratch:logs { since = "10m" }.out)
    local first = scratch:card()
    scratch:restart { grace = "2s" }
    local second = scratch:card()
    assert.equal(first.lasting, second.lasting)
    assert.are_not.equal(first.id, second.id)
    fails("config", scratch.wait_healthy, scratch)
    fails("timeout", scratch.wait_for_log, scratch, { text = "never", within = "300ms" })
    scratch:stop { grace = "0s" }
    assert.is_false(scratch:running())
    scratch:remove()
    assert.matches("is gone", fails("remote", scratch.running, scratch).message, 1, true)
  end)

  with("is waited for until it is healthy", function()
    local other = server.busybox { name = "heals", health = "test -e /tmp/well" }
    local heals <close> = bind { name = "heals" }
    assert.equal("starting", heals:health())
    assert.is_false((heals:healthy()))
    heals:run { "touch", "/tmp/well" }
    assert.is_true(heals:wait_healthy { within = "2m" })
    assert.is_true((heals:healthy()))
    other.remove()
  end)

  with("is changed by nothing in a preview: what would be done is shown, and what depends on it is not known", function()
    local dbc <close> = bind()
    local dir = suite.temp()
    suite.write(dir .. "/in", "x")
    local shown = preview(function()
      assert.is_true(dbc:running())
      dbc:run { "touch", "/tmp/predicted" }
      dbc:stop()
      dbc:restart()
      dbc:remove()
      dbc:copy_in(dir .. "/in", "/tmp/predicted")
      dbc:input_from({ "cat" }, dir .. "/in")
      dbc:output_to({ "cat", "/etc/passwd" }, dir .. "/out")
      dbc:create { name = "never", image = "test/busybox:1" }
      fails("withheld", dbc.running)
    end)
    local lines = {}
    for i, p in ipairs(shown) do lines[i] = p.primitive .. " " .. p.text end
    assert.same({ "docker.exec touch /tmp/predicted", "docker.change stop container " .. box.id:sub(1, 12), "docker.change restart container " .. box.id:sub(1, 12),
      "docker.remove remove container " .. box.id:sub(1, 12), "docker.put put /tmp/predicted.part", "docker.exec mv -f /tmp/predicted.part /tmp/predicted",
      "docker.exec cat", "file.write write " .. dir .. "/out", "docker.change create container of image test/busybox:1" }, lines)
    assert.is_true(dbc:running())
    assert.is_false(dbc:has("/tmp/predicted"))
    assert.same({ "in" }, T.entries(dir))
  end)

  describe("for the engine", function()
    with("is had by one run at a time, and kept by words", function()
      local one <close> = bind()
      local two <close> = bind()
      local g = one.object.guardians
      preview(function() assert.is_true(g.lock(one.object)) end)
      assert.is_true(g.lock(one.object))
      assert.is_true(g.prove(one.object))
      local ok, err = g.lock(two.object)
      assert.same({ nil, "busy" }, { ok, err.code })
      assert.matches("^neap:spec:1f by %S+ on %S+ since ", err.message)
      preview(function()
        ok, err = g.lock(two.object)
        assert.same({ nil, "busy" }, { ok, err.code })
      end)
      assert.is_nil(g.held(two.object))
      g.hold(one.object, "run 1f of x")
      assert.equal("run 1f of x", g.held(two.object))
      client.close(one.object)
      assert.is_false(g.prove(one.object))
      assert.is_true(g.lock(two.object))
      g.release(two.object)
      assert.is_nil(g.held(two.object))
    end)

    with("tells what became of a write whose run died", function()
      local dbc <close> = bind()
      local function probe(evidence, patience) return dbc.object.guardians.probe(dbc.object, evidence, patience or { within_ms = 0 }) end
      local other = server.busybox { name = "probed" }
      local started = other.inspect("{{.State.StartedAt}}")
      local function change(verb, more) return probe { primitive = "docker.change", verb = verb, container = other.id, started = more or started } end
      assert.same({ "done", "not begun", "not begun" }, { change "start", change "stop", change "restart" })
      server.cli("restart", "-t", "0", other.id)
      assert.equal("done", change "restart")
      server.cli("stop", "-t", "0", other.id)
      assert.same({ "not begun", "done", "half" }, { change "start", change "stop", change "restart" })
      assert.equal("not begun", probe { primitive = "docker.remove", container = other.id })
      other.remove()
      assert.equal("done", probe { primitive = "docker.remove", container = other.id })
      assert.same({ "done", "not begun" }, { probe { primitive = "docker.change", verb = "create", name = "shop-db-1" }, probe { primitive = "docker.change", verb = "create", name = "nobody" } })
      dbc:run { "sh", "-c", "printf 12345 >/tmp/put" }
      local function put(path, bytes) return probe { primitive = "docker.put", container = box.id, path = path, bytes = bytes } end
      assert.same({ "done", "half", "not begun" }, { put("/tmp/put", 5), put("/tmp/put", 6), put("/tmp/none", 5) })
    end)

    with("waits for a command of a run that died, or ends it; one that was never let go did not begin", function()
      local dbc <close> = bind()
      local sleeping <close> = dbc:start { "sleep", "8642" }
      local evidence, begun = records("intent")[1], records("started")[1]
      evidence.primitive, evidence.pid, evidence.ticks = "docker.exec", begun.pid, begun.ticks
      local function probe(patience) return dbc.object.guardians.probe(dbc.object, evidence, patience) end
      assert.equal("running", probe { within_ms = 0 })
      local err = fails("unknown", probe, { within_ms = 60000, end_it = true })
      assert.matches("it has ended", err.message, 1, true)
      assert.same({ status = 143 }, sleeping:wait())
      evidence.pid = nil
      assert.equal("not begun", probe { within_ms = 0 })
    end)
  end)
end)
