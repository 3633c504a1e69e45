-- A bound host: real sshd, the user's own configuration, one way to fail.
local client = require "client.host"
local servers = require "tests.support.servers"
local task = require "native.task"
local text = require "native.text"

local hermes, home

local function bind(spec)
  spec = spec or {}
  spec.ssh, spec.config = spec.ssh or "hermes", home.config
  local object = client.bind("app", spec, { application = "neap:spec:1", environment = "test" })
  return setmetatable({}, {
    __index = function (_, name)
      return function (_, ...) return (object.methods[name] or object.ways[name] or object.guardians[name])(object, ...) end
    end,
    __close = function () client.close(object) end,
  }), object
end

local function fails(code, fn)
  local ok, err
  T.run(function () ok, err = pcall(fn) end)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

describe("a host", function ()
  setup(function ()
    hermes = servers.sshd { name = "hermes", sudo = true }
    home = servers.ssh_home { hermes = hermes }
  end)

  it("is its host key, and says who speaks and who answers", function ()
    T.run(function ()
      local host <close> = bind()
      local card = host:card()
      assert.equal("host:" .. hermes.fingerprint("ed25519"), card.id)
      local said = {}
      for _, line in ipairs(card.lines) do said[line[1]] = line[2] end
      assert.equal(("%s:%d"):format(hermes.address, hermes.port), said.address)
      assert.equal(hermes.user, said.user)
      assert.matches("^libssh2 1%.", said["back end"])
      assert.matches("OpenSSH", said.server)
      assert.is_nil(card.wrong)
    end)
  end)

  it("runs commands whose result is that of every command", function ()
    T.run(function ()
      local host <close> = bind()
      local result = host:read { "sh", "-c", "printf out; echo err >&2" }
      assert.same({ 0, "out", "err\n", false }, { result:status(), result:out(), result:err(), result:truncated() })
      assert.equal(3, host:read({ "sh", "-c", "exit 3" }, { allow = { 3 } }):status())
      assert.equal("a b", host:run({ "cat" }, { stdin = "a b" }):out())
      assert.equal("/\n1\n", host:run({ "sh", "-c", "pwd; echo $A" }, { cwd = "/", env = { A = "1" } }):out())
    end)
  end)

  it("raises a status with the program's last words, and a signal as a signal", function ()
    local err = fails("remote", function ()
      local host <close> = bind()
      host:run { "sh", "-c", "echo the reason >&2; exit 4" }
    end)
    assert.equal(4, err.status)
    assert.matches("on hermes ended with status 4: the reason", err.message)
    err = fails("remote", function ()
      local host <close> = bind()
      host:read { "sh", "-c", "kill -9 $$" }
    end)
    assert.equal(9, err.signal)
  end)

  it("gives streams to what it starts", function ()
    T.run(function ()
      local host <close> = bind()
      local cat <close> = host:start { "cat" }
      assert(cat:stdin():write("through"))
      cat:stdin():shut()
      assert.equal("through", cat:stdout():read())
      assert.same({ status = 0 }, cat:wait())
    end)
  end)

  it("is reached with sudo where the inventory says so", function ()
    if not hermes.uid then pending("the server has no account of its own here: that takes root, and mount namespaces") end
    T.run(function ()
      local host <close> = bind { sudo = true }
      assert.equal("0\n", host:read({ "id", "-u" }):out())
      assert.equal(hermes.user .. "\n", host:read({ "id", "-un" }, { sudo = false }):out())
    end)
  end)

  it("dials from the host for what stands on it", function ()
    T.run(function ()
      local host <close> = bind()
      local stream <close> = assert(require("native.net").connect(host:dial(hermes.address, hermes.port), { role = "app", host = hermes.address }))
      assert.is_userdata(host:dial_unix("/run/x.sock"))
      assert.is_userdata(host:session())
      assert.is_truthy(stream)
    end)
  end)

  it("is opened once by two tasks that need it at the same time", function ()
    T.run(function ()
      local host <close>, object = bind()
      local seen = {}
      local tasks = {}
      for i = 1, 3 do tasks[i] = task.spawn(function () seen[i] = host:session() end) end
      for i = 1, 3 do tasks[i]:join() end
      assert.equal(object.session, seen[1])
      assert.same({ seen[1], seen[1] }, { seen[2], seen[3] })
    end)
  end)

  it("says what mends an entry that names no host, and a name nobody knows", function ()
    local err = fails("config", function () client.bind("app", {}, {}) end)
    assert.matches("ssh = \"hermes\"", err.hint)
    err = fails("unreachable", function ()
      local host <close> = bind { ssh = "no-such-host.invalid" }
      host:card()
    end)
    assert.matches("no%-such%-host", err.message)
  end)

  it("refuses options and command lines that are none", function ()
    local err = fails("usage", function ()
      local host <close> = bind()
      host:run "rm -rf /"
    end)
    assert.matches("list of words", err.message)
    fails("usage", function ()
      local host <close> = bind()
      host:read({ "true" }, { witin = "1s" })
    end)
  end)
end)

describe("files of a host", function ()
  setup(function ()
    hermes = servers.sshd { name = "hermes", sudo = true }
    home = servers.ssh_home { hermes = hermes }
  end)

  it("are written, read, moved and removed", function ()
    T.run(function ()
      local host <close> = bind()
      local dir = hermes.home .. "/files"
      assert.is_true(host:mkdir(dir):made())
      assert.is_false(host:mkdir(dir):made())
      assert.equal(text.sha256 "content", host:write_file(dir .. "/a", "content").sha256)
      assert.same({ "content", 7, text.sha256 "content", true, false },
        { host:read_file(dir .. "/a"), host:size(dir .. "/a"), host:hash(dir .. "/a"), host:has(dir .. "/a"), host:has(dir .. "/b") })
      host:rename(dir .. "/a", dir .. "/b")
      assert.same({ "b" }, host:list(dir))
      assert.equal("file", host:stat(dir .. "/b").kind)
      local here = require("tests.support.suite").temp() .. "/back"
      assert.equal(7, host:copy_out(dir .. "/b", here).bytes)
      assert.equal(7, host:copy_in(here, dir .. "/c").bytes)
      assert.equal("content", host:read_file(dir .. "/c"))
      for _, name in ipairs { "/b", "/c", "" } do host:remove(dir .. name) end
      assert.is_false(host:stat(dir))
    end)
  end)

  it("belong to the user behind sudo", function ()
    if not hermes.uid then pending("the server has no account of its own here: that takes root, and mount namespaces") end
    T.run(function ()
      local host <close> = bind { sudo = true }
      local path = hermes.home .. "/root-owned"
      host:write_file(path, "x")
      assert.equal(0, host:stat(path).uid)
      host:remove(path)
      local plain <close> = bind()
      local ok, err = pcall(plain.write_file, plain, "/etc/neap-spec", "x")
      assert.same({ false, "remote" }, { ok, err.code })
      assert.matches("Permission denied", err.message)
      assert.matches("sudo = ", err.hint)
    end)
  end)
end)

describe("a host that a run keeps", function ()
  setup(function ()
    hermes = servers.sshd { name = "hermes" }
    home = servers.ssh_home { hermes = hermes }
  end)

  it("is locked as long as the connection lives, and names who has it", function ()
    T.run(function ()
      local one <close> = bind()
      assert.is_true(one:lock())
      assert.is_true(one:prove())
      local two <close> = bind()
      local ok, err = two:lock()
      assert.same({ nil, "busy" }, { ok, err.code })
      assert.matches("neap:spec:1 by ", err.message)
      assert.is_nil(two:held())
      one:hold("run 7f3a of book by anna on iris since now")
      assert.equal("run 7f3a of book by anna on iris since now", two:held())
      one:release()
      assert.is_nil(two:held())
      hermes.kill_sessions()
      local ends = task.now_ms() + 60000
      while one:prove() and task.now_ms() < ends do task.sleep(20) end
      assert.is_false(one:prove())
    end)
  end)
end)

describe("hosts", function ()
  local group = require "client.hosts"
  local list = {}

  setup(function ()
    for _, name in ipairs { "hermes", "atlas", "iris" } do list[name] = servers.sshd { name = name } end
    home = servers.ssh_home(list)
  end)

  local function bind_group(names)
    return group.bind("web", { names = names, config = home.config }, { application = "neap:spec:1" })
  end

  it("are named in order, and each is a host of its own", function ()
    T.run(function ()
      local web = bind_group { "iris", "hermes", "atlas" }
      assert.same({ "iris", "hermes", "atlas" }, web.methods.all(web))
      local seen, tasks = {}, {}
      for _, name in ipairs(web.methods.all(web)) do
        tasks[#tasks + 1] = task.spawn(function ()
          local host = web.methods.on(web, name)
          seen[name] = host.methods.read(host, { "sh", "-c", "echo $SSH_CONNECTION" }):out():match(" (%S+) %d+\n$")
        end)
      end
      for _, one in ipairs(tasks) do one:join() end
      for name, server in pairs(list) do assert.equal(server.address, seen[name]) end
      assert.equal("hosts", web.methods.card(web).kind)
      group.close(web)
    end)
  end)

  it("refuse names that they do not have, and lists that are none", function ()
    local web = bind_group { "hermes", "iris" }
    local ok, err = pcall(web.methods.on, web, "hermse")
    assert.same({ false, "usage" }, { ok, err.code })
    assert.matches("hermes", err.hint)
    assert.same({ false, false }, { (pcall(bind_group, {})), (pcall(bind_group, { "a", "a" })) })
  end)

  it("ask the host a write was made on what became of it", function ()
    T.run(function ()
      local web = bind_group { "hermes", "iris" }
      local host = web.methods.on(web, "iris")
      host.methods.write_file(host, list.iris.home .. "/x", "1")
      local evidence = { primitive = "host.put", ssh = "iris", path = list.iris.home .. "/x", sha256 = text.sha256 "1" }
      assert.equal("done", web.guardians.probe(web, evidence, { within_ms = 0 }))
      evidence.ssh = "elsewhere"
      assert.is_nil(web.guardians.probe(web, evidence, { within_ms = 0 }))
      host.methods.remove(host, list.iris.home .. "/x")
      group.close(web)
    end)
  end)
end)
