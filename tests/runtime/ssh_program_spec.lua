-- drive/ssh_program*.c: the user's own ssh program as a connection, against real servers.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local system = require "native.system"

describe("the ssh program as a back end", function()
  local hermes, home

  setup(function()
    hermes = servers.sshd { name = "program", address = "127.0.0.2", config = { "Banner /etc/debian_version" } }
  end)

  before_each(function()
    home = servers.ssh_home { hermes = hermes, lines = { "KexAlgorithms curve25519-sha256" } }
  end)

  local function open(name) return T.ssh_session { name = name or "hermes", file = home.config, backend = "program" } end

  local function with(fn)
    local session = assert(open())
    local ok, why = pcall(fn, session)
    assert.equal(0, session:close())
    assert(ok, why)
  end

  local function private_directories(place)
    local found = {}
    for _, name in ipairs(T.entries(place) or {}) do
      local socket = ("%s/%s/c"):format(place, name)
      if name:match("^neap%.%w%w%w%w%w%w$") and os.rename(socket, socket) then found[#found + 1] = socket end
    end
    return found
  end

  it("knows who it talks to, and how it was let in", function()
    with(function(session)
      local card = session:card()
      assert.matches("^ssh program %(OpenSSH_", card.backend)
      assert.matches("^SSH%-2%.0%-OpenSSH_", card.banner)
      assert.equal("ssh-ed25519", card.key_type)
      assert.equal(hermes.fingerprint "ed25519", card.fingerprint)
      assert.equal(hermes.user, card.user)
      assert.equal(("127.0.0.2:%d"):format(hermes.port), card.address)
      assert.equal("publickey (" .. hermes.key() .. ")", card.authenticated)
    end)
  end)

  it("runs commands with their own output, errors and status, 255 among them", function()
    with(function(session)
      local r = session:exec "printf 'a\\000b'; echo no >&2; exit 7"
      assert.same({ "exited", 7, "a\0b", "no\n" }, { r.how, r.status, r.out, r.err })
      for _, status in ipairs { 0, 1, 255 } do
        r = session:exec("exit " .. status)
        assert.same({ "exited", status, "", "" }, { r.how, r.status, r.out, r.err })
      end
    end)
  end)

  it("carries input both ways without a terminal", function()
    with(function(session)
      local bytes = {}
      for i = 1, 300000 do bytes[i] = string.char(i * 7 % 256) end
      local text = table.concat(bytes)
      local r = session:exec("tty >/dev/null; echo $? >&2; cat", text)
      assert.same({ "exited", 0, "1\n" }, { r.how, r.status, r.err })
      assert.is_true(r.out == text)
    end)
  end)

  it("calls an end without a status untold, with a reason", function()
    with(function(session)
      local r = session:exec "kill -9 $$"
      assert.equal("untold", r.how)
      assert.matches("without an exit status", r.why)
      assert.same({ "exited", 0 }, { session:exec("true").how, session:exec("true").status })
    end)
  end)

  it("runs twenty commands side by side in one connection", function()
    with(function(session)
      local commands = {}
      for i = 1, 20 do commands[i] = ("echo %d; exit %d"):format(i, i) end
      assert.equal(0, session:exec("true").status)       -- by then the server has logged that it let us in
      local _, before = hermes.log():gsub("Accepted publickey", "")
      for i, r in ipairs(session:many(commands)) do assert.same({ i .. "\n", i }, { r.out, r.status }) end
      assert.equal(before, select(2, hermes.log():gsub("Accepted publickey", "")))
    end)
  end)

  it("closes a channel that is given up, and goes on", function()
    with(function(session)
      assert.equal("running", session:exec("sleep 100", "", 200).how)
      assert.equal("hi\n", session:exec("echo hi").out)
    end)
    hermes.kill_all()
  end)

  it("reaches ports and sockets behind the host, and says why when it does not", function()
    with(function(session)
      assert.matches("^SSH%-2%.0%-OpenSSH", (session:dial("127.0.0.2", hermes.port, "hello\n")))
      local bytes, err = session:dial("127.0.0.1", 1, "x")
      assert.is_nil(bytes)
      assert.equal("unreachable", err.code)
      assert.matches("Connection refused", err.message)
      for _, name in ipairs { "plain", "s:o%c\\k" } do
        local path = hermes.dir .. "/" .. name
        local peer = T.peer { kind = "echo", unix = path }
        T.mode(path, tonumber("666", 8))
        local heard = session:dial(path, nil, "echo")
        peer:close()
        assert.equal("echo", heard, name)
      end
      assert.equal("", session:dial("/no/such/socket", nil, "x"))
    end)
  end)

  it("tells the loss of the connection once, and every command that it is not known", function()
    local session = assert(open())
    local cut = T.start { argv = { "sleep", "0.3" } }
    cut:wait(30000)
    cut:close()
    hermes.kill_sessions()
    local r = session:exec "true"
    assert.equal("untold", r.how)
    assert.matches("lost", session:lost())
    assert.is_nil(session:card())
    assert.equal("the connection to \"hermes\" is not open", session:exec("true").why)
    local bytes, err = session:dial("127.0.0.1", 1, "x")
    assert.is_nil(bytes)
    assert.equal("closed", err.code)
    assert.equal(0, session:close())
  end)

  it("is in a private directory that is gone afterwards, with every process", function()
    local place, before = suite.temp(), os.getenv "XDG_RUNTIME_DIR"
    T.setenv("XDG_RUNTIME_DIR", place)                     -- the first choice, and here nobody else's
    local session, err = open()
    T.setenv("XDG_RUNTIME_DIR", before)
    assert(session, err and err.message)
    assert.equal(1, #private_directories(place))
    session:exec "true"
    assert.equal(0, session:close())
    assert.same({}, T.entries(place))
  end)

  it("ends with us, when nobody had the time to end it", function()
    local mark = "NEAP_SPEC_LEASH=" .. suite.temp()
    local script = suite.write(suite.temp() .. "/leash.lua", ([[
      local session = assert(T.ssh_session { name = "hermes", file = %q, backend = "program" })
      print("open")
      io.stdout:flush()
      session:exec("sleep 100")
    ]]):format(home.config))
    local env = { mark, "PATH=" .. os.getenv "PATH", "HOME=" .. (os.getenv "HOME" or "/"), "TMPDIR=" .. suite.temp() }
    local ours = child.start { argv = { system.realpath "/proc/self/exe", script }, env = env }
    ours:expect "open"
    ours:kill(9)
    ours:finish()
    local until_ms = T.now_ms() + 60000
    local function left()
      for _, p in pairs(T.processes(mark)) do if p.marked and p.state ~= "Z" then return p.name end end
    end
    while left() and T.now_ms() < until_ms do T.pause(10) end
    assert.is_nil(left())
  end)

  it("turns away a host whose key changed, with both fingerprints, file and line", function()
    local other = suite.temp() .. "/key"
    child.must { argv = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other } }
    local key = suite.read(other .. ".pub"):match("^(%S+ %S+)")
    suite.write(home.known_hosts, ("# x\n[127.0.0.2]:%d %s\n"):format(hermes.port, key))
    local session, err = open()
    assert.is_nil(session)
    assert.equal("refused", err.code)
    assert.matches(hermes.fingerprint "ed25519", err.message, 1, true)
    assert.matches(T.fingerprint(key:match(" (%S+)$")), err.message, 1, true)
    assert.matches("line 2 of " .. home.known_hosts, err.message, 1, true)
  end)

  it("turns away an unknown host with its fingerprint, and a revoked key", function()
    suite.write(home.known_hosts, "")
    local session, err = open()
    assert.is_nil(session)
    assert.equal("refused", err.code)
    assert.matches("is not known: ssh%-ed25519 " .. hermes.fingerprint("ed25519"):gsub("%p", "%%%0"), err.message)
    suite.write(home.known_hosts, "@revoked * " .. hermes.host_line({ "ed25519" }):match(" (.*)$") .. "\n" .. hermes.host_line { "ed25519" } .. "\n")
    session, err = open()
    assert.is_nil(session)
    assert.equal("refused", err.code)
    assert.matches("revoked", err.message)
  end)

  it("tells a refused login, a closed port and a name nobody has apart", function()
    for lines, code in pairs {
      ["Host *\n  User no-such-user"] = "auth", ["Host *\n  Port 1"] = "unreachable", ["Host *\n  HostName no-such-host.invalid"] = "unreachable",
    } do
      local config = suite.write(suite.temp() .. "/config", lines .. "\n" .. suite.read(home.config))
      local session, err = T.ssh_session { name = "hermes", file = config, backend = "program" }
      assert.is_nil(session)
      assert.equal(code, err.code, err.message)
    end
  end)
end)
