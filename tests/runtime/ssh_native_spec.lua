-- The libssh2 back end against real sshd: what the library does badly must not reach a caller.
local servers = require "tests.support.servers"
local ssh = require "native.ssh"
local suite = require "tests.support.suite"

describe("an SSH session of libssh2", function()
  local hermes, known

  setup(function()
    hermes = servers.sshd { name = "hermes" }
    known = suite.write(suite.directory() .. "/native_known", hermes.host_line() .. "\n")
  end)

  local function options(more)
    local o = { name = "hermes", host = hermes.address, port = hermes.port, user = hermes.user, identities = { hermes.key() }, known_hosts = { known } }
    for k, v in pairs(more or {}) do o[k] = v end
    return o
  end

  local function rss()
    return tonumber(suite.read("/proc/self/status"):match("VmRSS:%s+(%d+)")) * 1024
  end

  local function all(stream)
    local pieces = {}
    while true do
      local piece, err = stream:read(65536)
      if not piece then return table.concat(pieces), err end
      pieces[#pieces + 1] = piece
    end
  end

  local function run(s, command)
    local e = s:exec(command)
    local out, err = e:stream(1), e:stream(2)
    local o, r = all(out), all(err)
    local how, why = e:wait()
    out:close()
    err:close()
    e:free()
    return how, o, r, why
  end

  local function with(more, body)
    T.run(function()
      local s, err = T.ssh_open(options(more))
      assert(s, err and err.message)
      local ok, why = pcall(body, s)
      s:close()
      if not ok then error(why, 0) end
    end)
  end

  it("says who it is talking to", function()
    with({}, function(s)
      local card = s:card()
      assert.matches("^libssh2 1%.", card.backend)
      assert.matches("^SSH%-2.0%-OpenSSH", card.banner)
      assert.equal("ssh-ed25519", card.key_type)
      assert.equal(hermes.fingerprint("ed25519"), card.fingerprint)
      assert.equal(("%s:%d"):format(hermes.address, hermes.port), card.address)
      assert.matches("^publickey %(", card.authenticated)
    end)
  end)

  it("runs a command and tells its status, its output and its errors apart", function()
    with({}, function(s)
      local how, out, err = run(s, "printf 'a\\000b'; printf oops >&2; exit 7")
      assert.same({ how = "exited", status = 7, signal = "" }, how)
      assert.equal("a\0b", out)
      assert.equal("oops", err)
    end)
  end)

  it("tells a signal from a status, and status 255 from a lost connection", function()
    with({}, function(s)
      local how = run(s, "kill -9 $$")
      assert.same({ "signalled", "KILL" }, { how.how, how.signal })
      how = run(s, "exit 255")
      assert.same({ "exited", 255 }, { how.how, how.status })
    end)
  end)

  it("closes the input when it is shut, and keeps reading", function()
    with({}, function(s)
      local e <const> = s:exec("cat; echo end")
      local input, out = e:stream(0), e:stream(1)
      assert(input:write("one\n"))
      assert.equal("one\n", out:read(100))
      assert(input:shut())
      assert.equal("end\n", all(out))
      assert.equal("exited", e:wait().how)
      e:free()
    end)
  end)

  it("runs fifty commands at once on one connection", function()
    with({}, function(s)
      local task, tasks = require "native.task", {}
      for n = 1, 50 do
        tasks[n] = task.spawn(function()
          local how, out = run(s, "echo " .. n .. "; exit " .. n)
          return how.status .. ":" .. out
        end)
      end
      for n = 1, 50 do
        local ok, text = tasks[n]:join()
        assert(ok, text)
        assert.equal(("%d:%d\n"):format(n, n), text)
      end
    end)
  end)

  it("reaches a port and a unix socket on the host, and says when nobody is there", function()
    local redis = servers.redis { name = "main" }
    local echo = suite.temp() .. "/echo"
    with({}, function(s)
      local stream = assert(s:dial("127.0.0.1", redis.port))
      assert(stream:write("PING\r\n"))
      assert.matches("^[-+]", stream:read(100))
      stream:close()
      local none, err = s:dial("127.0.0.1", 1)
      assert.is_nil(none)
      assert.equal("unreachable", err.code)
      none, err = s:dial(echo)
      assert.is_nil(none)
      assert.equal("unreachable", err.code)
    end)
  end)

  it("ends one direction of a tunnel while the other goes on", function()
    local listener = T.start { argv = { "python3", "-c", [[
import os, socket
s = socket.socket(socket.AF_UNIX); path = os.sys.argv[1]; s.bind(path); os.chmod(path, 0o777); s.listen(1); print("ready", flush=True)
c, _ = s.accept(); got = b""
while True:
    piece = c.recv(65536)
    if not piece: break
    got += piece
c.sendall(got.upper()); c.close()
]], suite.directory() .. "/half" } }
    assert.matches("ready", (select(2, listener:read(60000))))
    with({}, function(s)
      local stream, err = s:dial(suite.directory() .. "/half")
      assert(stream, err and err.message)
      assert(stream:write("quiet"))
      assert(stream:shut())
      assert.equal("QUIET", all(stream))
      stream:close()
    end)
    listener:wait(30000)
    os.remove(suite.directory() .. "/half")
  end)

  it("says what is wrong with a host key: changed, unknown, revoked, known under another type", function()
    T.run(function()
      local other = suite.temp()
      local function attempt(text, strict)
        local name = suite.write(other .. "/known", text)
        local s, err = T.ssh_open(options { known_hosts = { name }, strict = strict })
        if s then s:close() end
        return s, err
      end
      local at = ("[%s]:%d "):format(hermes.address, hermes.port)
      local foreign = suite.read(hermes.key() .. ".pub"):match("^(%S+ %S+)")
      local s, err = attempt(at .. foreign .. "\n")
      assert.is_nil(s)
      assert.equal("refused", err.code)
      s, err = attempt("")
      assert.is_nil(s)
      assert.equal("refused", err.code)
      s, err = attempt("@revoked " .. hermes.host_line { "ed25519" } .. "\n" .. hermes.host_line { "ed25519" } .. "\n", "no")
      assert.is_nil(s)
      assert.equal("refused", err.code)
      assert(attempt(hermes.host_line { "ed25519" } .. "\n"))
      assert(attempt(hermes.host_line { "ecdsa" } .. "\n"))
      s = attempt("", "accept-new")
      assert(s)
      assert.matches("ssh%-ed25519", suite.read(other .. "/known"))
    end)
  end)

  it("says which keys were tried when it is not let in", function()
    T.run(function()
      local dir = suite.temp()
      os.execute(("ssh-keygen -q -t ed25519 -N '' -f %s/other; ssh-keygen -q -t ed25519 -N secret -f %s/locked"):format(dir, dir))
      local s, err = T.ssh_open(options { identities = { dir .. "/other" } })
      assert.is_nil(s)
      assert.equal("auth", err.code)
      assert.matches("tried: .*/other; it takes publickey", err.message)
      s, err = T.ssh_open(options { identities = { dir .. "/locked" } })
      assert.is_nil(s)
      assert.matches("locked by a passphrase", err.hint)
      s, err = T.ssh_open(options { identities = {} })
      assert.is_nil(s)
      assert.matches("no key", err.message)
    end)
  end)

  it("leaves an RSA key to the ssh program where the library cannot use it", function()
    T.run(function()
      local s, err = T.ssh_open(options { identities = { hermes.key("rsa") } })
      if s then
        assert.matches("libssh2 1%.1[1-9]", s:card().backend)
        s:close()
      else
        assert.equal("unsupported", err.code)
        assert.matches("RSA keys", err.message)
      end
    end)
  end)

  it("leaves a host that has only an RSA key to the ssh program", function()
    local server = servers.sshd { name = "rsa_only", host_keys = { "rsa" } }
    T.run(function()
      for _, text in ipairs { server.host_line() .. "\n", "" } do
        local name = suite.write(suite.temp() .. "/known", text)
        local s, err = T.ssh_open(options { host = server.address, port = server.port, known_hosts = { name }, strict = "no" })
        if s then s:close() else assert.equal("unsupported", err.code) end
      end
    end)
    server.remove()
  end)

  it("lets an agent sign", function()
    local dir = suite.temp()
    local agent = T.start { argv = { "ssh-agent", "-D", "-a", dir .. "/agent" } }
    repeat until T.dial(nil, dir .. "/agent") or agent:wait(5)        -- its socket has a name before anybody listens
    assert(os.execute(("SSH_AUTH_SOCK=%s/agent ssh-add -q %s"):format(dir, hermes.key("ecdsa"))))
    with({ identities = {}, agent = dir .. "/agent" }, function(s)
      assert.equal("publickey (agent)", s:card().authenticated)
    end)
    with({ identities = { hermes.key("ecdsa") }, agent = dir .. "/agent", identities_only = true }, function(s)
      assert.equal("publickey (agent)", s:card().authenticated)
    end)
    T.run(function()
      assert.is_nil((T.ssh_open(options { identities = {}, agent = dir .. "/agent", identities_only = true })))
    end)
    agent:kill(15)
    agent:wait(30000)
    agent:close()
    with({ agent = dir .. "/agent" }, function(s) assert.matches("user_ed25519", s:card().authenticated) end)
  end)

  it("goes through other hosts", function()
    local atlas, iris = servers.sshd { name = "atlas" }, servers.sshd { name = "iris" }
    local function hop(server)
      return options { name = server.name, host = server.address, port = server.port, user = server.user,
        known_hosts = { suite.write(suite.temp() .. "/known", server.host_line() .. "\n") } }
    end
    with({ jumps = { hop(atlas), hop(iris) } }, function(s)
      local how, out = run(s, "echo far")
      assert.same({ 0, "far\n" }, { how.status, out })
    end)
    local bad = hop(atlas)
    bad.identities = {}
    T.run(function()
      local s, err = T.ssh_open(options { jumps = { bad } })
      assert.is_nil(s)
      assert.equal("auth", err.code)
      assert.matches("through \"atlas\"", err.message)
    end)
  end)

  it("loses a host that was reached through another one when that one is lost", function()
    local atlas, iris = servers.sshd { name = "lost_way" }, servers.sshd { name = "iris" }
    local function place(server)
      return options { name = server.name, host = server.address, port = server.port, user = server.user,
        known_hosts = { suite.write(suite.temp() .. "/known", server.host_line() .. "\n") } }
    end
    local far = place(iris)
    far.jumps = { place(atlas) }
    with(far, function(s)
      local e <const> = s:exec("sleep 20")
      assert.equal(0, run(s, "true").status)
      atlas.kill_sessions()
      assert.matches("lost", s:lost(true))
      assert.equal("untold", e:wait().how)
      e:free()
    end)
    atlas.remove()
    iris.kill_all()
  end)

  it("shows a certificate where the library can", function()
    local dir = suite.temp()
    os.execute(("cd %s && ssh-keygen -q -t ed25519 -N '' -f ca && ssh-keygen -q -t ecdsa -N '' -f id && ssh-keygen -q -t ed25519 -N '' -f other"):format(dir))
    local server = servers.sshd { name = "certain", config = { "TrustedUserCAKeys /etc/ssh/none" } }
    os.execute(("cd %s && ssh-keygen -q -s ca -I test -n %s id.pub && ssh-keygen -q -s ca -I test -n %s other.pub"):format(dir, server.user, server.user))
    server.stop()
    suite.write(server.dir .. "/ca.pub", suite.read(dir .. "/ca.pub"))
    T.mode(server.dir .. "/ca.pub", tonumber("644", 8))
    suite.write(server.dir .. "/sshd_config", (suite.read(server.dir .. "/sshd_config"):gsub("/etc/ssh/none", server.dir .. "/ca.pub")))
    server.start()
    local name = suite.write(dir .. "/known", server.host_line() .. "\n")
    local at = { host = server.address, port = server.port, user = server.user, known_hosts = { name }, identities = { dir .. "/id" } }
    with(at, function(s) assert.matches("id%-cert%.pub", s:card().authenticated) end)
    at.identities, at.certificates = { dir .. "/other" }, { dir .. "/other-cert.pub" }
    T.run(function()
      local s, err = T.ssh_open(options(at))
      if s then return s:close() end
      assert.equal("unsupported", err.code)
      assert.matches("certificates", err.message)
    end)
    server.remove()
  end)

  it("tells a writer that its reader is gone, instead of waiting for room", function()
    with({}, function(s)
      local e <const> = s:exec("head -c 10; exit 3")
      local input, out = e:stream(0), e:stream(1)
      local block, err = ("x"):rep(1 << 20), nil
      for _ = 1, 16 do
        local _, why = input:write(block)
        err = err or why
      end
      assert.equal("closed", err.code)
      assert.equal("xxxxxxxxxx", all(out))
      assert.equal(3, e:wait().status)
      e:free()
      input:close()
      out:close()
    end)
  end)

  it("calls a command untold when its connection is killed, gives what had come, and tells of the loss once", function()
    local server = servers.sshd { name = "killed" }
    local name = suite.write(suite.directory() .. "/killed_known", server.host_line() .. "\n")
    with({ host = server.address, port = server.port, user = server.user, known_hosts = { name } }, function(s)
      local e <const> = s:exec("echo before; sleep 20")
      local idle <const> = s:exec("sleep 20")
      local out = e:stream(1)
      assert.equal("before\n", out:read(100))
      server.kill_sessions()
      assert.matches("lost", s:lost(true))
      local how, why = e:wait()
      assert.equal("untold", how.how)
      assert.matches("lost", why)
      assert.equal("untold", idle:wait().how)
      local late <const> = s:exec("true")
      assert.equal("untold", late:wait().how)
      assert.is_nil((s:dial("127.0.0.1", 1)))
      e:free()
      idle:free()
      late:free()
      out:close()
    end)
    server.remove()
  end)

  it("is told when a connection has no room for another command, and goes on", function()
    local server = servers.sshd { name = "narrow", config = { "MaxSessions 2" } }
    local name = suite.write(suite.directory() .. "/narrow_known", server.host_line() .. "\n")
    with({ host = server.address, port = server.port, user = server.user, known_hosts = { name } }, function(s)
      local one, two, three = s:exec("cat"), s:exec("cat"), s:exec("cat")
      local how, why = three:wait()
      assert.equal("refused", how.how)
      assert.matches("does not start a command", why)
      one:stream(0):shut()
      assert.equal("exited", one:wait().how)
      assert.equal(0, run(s, "true").status)
      one:free()
      two:free()
      three:free()
    end)
    server.remove()
  end)

  -- sshd counts a command until its process is reaped, which is after its last word; one of three was refused.
  it("runs one command after another where only one may run at a time", function()
    local server = servers.sshd { name = "single", config = { "MaxSessions 1" } }
    local home = servers.ssh_home { single = server }
    T.run(function()
      local h <close> = assert(ssh.open { name = "single", role = "single", config = home.config, backend = "libssh2" })
      for n = 1, 100 do
        assert.same({ { status = 0, out = n .. "\n", err = "", truncated = false } }, { h:read { argv = { "echo", tostring(n) } } })
      end
    end)
    server.remove()
  end)

  it("does not wait for room that a command which was given up does not give back", function()
    local server = servers.sshd { name = "single", config = { "MaxSessions 1" } }
    local name = suite.write(suite.directory() .. "/single_known", server.host_line() .. "\n")
    with({ host = server.address, port = server.port, user = server.user, known_hosts = { name } }, function(s)
      local stays <const> = s:exec("echo $$; exec sleep 600")
      local out = stays:stream(1)
      local pid = assert(out:read(100)):match("%d+")
      out:close()
      stays:free()
      local task = require "native.task"
      local began, refused <const> = task.now_ms(), s:exec("true")
      local how, why = refused:wait()
      assert.is_true(task.now_ms() - began >= 1500)
      assert.equal("refused", how.how)
      assert.matches("does not start a command", why)
      refused:free()
      os.execute("kill " .. pid)
      while io.open("/proc/" .. pid .. "/stat") do task.sleep(5) end
      assert.equal(0, run(s, "true").status)
    end)
    server.remove()
  end)

  it("moves 16 MiB both ways at once while keys are exchanged every MiB", function()
    local server = servers.sshd { name = "rekey", config = { "RekeyLimit 1M" } }
    local name = suite.write(suite.directory() .. "/rekey_known", server.host_line() .. "\n")
    with({ host = server.address, port = server.port, user = server.user, known_hosts = { name } }, function(s)
      local e <const> = s:exec("cat")
      local input, out = e:stream(0), e:stream(1)
      local task, piece = require "native.task", {}
      for n = 1, 256 do piece[n] = string.pack(">I4", n * 2654435761 & 0xffffffff):rep(64) end
      local block = table.concat(piece) -- 64 KiB
      local writer = task.spawn(function()
        for n = 1, 256 do assert(input:write(string.pack(">I4", n) .. block:sub(5))) end
        assert(input:shut())
      end)
      local got, wrong, rest = 0, 0, ""
      while true do
        local bytes, err = out:read(262144)
        assert(not err, err and err.message)
        if not bytes then break end
        rest = rest .. bytes
        while #rest >= 65536 do
          got = got + 1
          if string.unpack(">I4", rest) ~= got or rest:sub(5, 65536) ~= block:sub(5) then wrong = wrong + 1 end
          rest = rest:sub(65537)
        end
      end
      assert(writer:join())
      assert.same({ 256, 0, "" }, { got, wrong, rest })
      assert.equal("exited", e:wait().how)
      e:free()
      input:close()
      out:close()
    end)
    server.remove()
  end)

  it("stops the far end while nobody reads, and holds no more than a window", function()
    with({}, function(s)
      local e <const> = s:exec("head -c 64000000 /dev/zero; echo done >&2")
      local out, err = e:stream(1), e:stream(2)
      assert(out:read(1000))
      local before = rss()
      local task = require "native.task"
      for _ = 1, 20 do
        assert(out:read(1000))
        task.sleep(20)
      end
      assert.is_true(rss() - before < 6 * 1024 * 1024)
      local count, rest = 21000 -- read above, in pieces of 1000
      repeat
        rest = out:read(262144)
        count = count + #(rest or "")
      until not rest
      assert.is_true(count > 63000000 and count <= 64000000)
      assert.equal("done\n", all(err))
      e:free()
      out:close()
      err:close()
    end)
  end)

  it("lets go of commands that ignore the end of their streams", function()
    local began
    with({}, function(s)
      local e <const> = s:exec("trap '' HUP PIPE; echo on; sleep 300")
      assert.equal("on\n", e:stream(1):read(10))
      for _ = 1, 5 do s:exec("trap '' HUP; sleep 300") end
      began = T.now_ms()
    end)
    assert.is_true(T.now_ms() - began < 60000)
    hermes.kill_all()
  end)

  it("can be given up at every moment of its opening", function()
    local task = require "native.task"
    for ms = 0, 24, 3 do
      T.run(function()
        local t = task.spawn(function()
          local s = T.ssh_open(options())
          if s then s:close() end
        end)
        task.sleep(ms)
        t:cancel("enough")
        t:join()
      end)
    end
  end)

  it("refuses to wait longer than it was told for a host that says nothing", function()
    local silent = T.proxy { port = hermes.port, host = hermes.address, blackhole = "from" }
    T.run(function()
      local began = T.now_ms()
      local s, err = T.ssh_open(options { host = "127.0.0.1", port = silent:port(), connect_ms = 300, alias = "x", strict = "no" })
      assert.is_nil(s)
      assert.equal("timeout", err.code)
      assert.is_true(T.now_ms() - began < 9000)                -- unless it is told, it waits for ten seconds
    end)
    silent:close()
  end)

  it("notices a peer that has gone silent, and not one that merely has nothing to say", function()
    local proxy = T.proxy { port = hermes.port, host = hermes.address }
    with({ host = "127.0.0.1", port = proxy:port(), strict = "no", known_hosts = {}, alive_ms = 600 }, function(s)
      local e <const> = s:exec("sleep 30")
      require("native.task").sleep(2400)                     -- longer than a silence that is asked in vain
      assert.is_nil(s:lost())
      proxy:set { blackhole = "from" }
      assert.matches("silent", s:lost(true))
      assert.equal("untold", e:wait().how)
      e:free()
    end)
    proxy:close()
    hermes.kill_all()
  end)

  it("does not take its own absence for the silence of the peer: a process that stood still asks, and hears what came meanwhile", function()
    with({ alive_ms = 500 }, function(s)                       -- 1.25 s of silence are too much
      for _, before_ms in ipairs { 0, 550 } do                 -- not asked yet; asked, and the answer is unread
        require("native.task").sleep(before_ms)
        T.pause(1600)
        require("native.task").sleep(20)
        assert.is_nil(s:lost())
        local e <const> = s:exec("echo here")
        assert.equal("here\n", e:stream(1):read(10))
        e:free()
      end
    end)
  end)

  it("answers a server that asks whether it lives, without any channel", function()
    local server = servers.sshd { name = "asking", config = { "ClientAliveInterval 1", "ClientAliveCountMax 2" } }
    local name = suite.write(suite.directory() .. "/asking_known", server.host_line() .. "\n")
    with({ host = server.address, port = server.port, user = server.user, known_hosts = { name } }, function(s)
      require("native.task").sleep(4000)
      assert.is_nil(s:lost())
      assert.equal(0, run(s, "true").status)
    end)
    server.remove()
  end)

  it("opens thirty connections at once, and a hundred with at most 64 shaking hands", function()
    local task = require "native.task"
    for _, count in ipairs { 30, 100 } do
      T.run(function()
        local tasks, open = {}, {}
        for n = 1, count do
          tasks[n] = task.spawn(function()
            local s, err = T.ssh_open(options { connect_ms = 120000 })        -- a busy machine needs more than ten seconds for so many
            assert(s, err and err.message)
            open[#open + 1] = s
            assert(run(s, "true").status == 0)
          end)
        end
        for n = 1, count do assert(tasks[n]:join()) end
        for _, s in ipairs(open) do s:close() end
      end)
    end
  end)

  it("tries again when the server has too many strangers at its door", function()
    local server = servers.sshd { name = "full" }
    server.stop() -- the last MaxStartups of a file counts, and ours is last
    suite.write(server.dir .. "/sshd_config", (suite.read(server.dir .. "/sshd_config"):gsub("MaxStartups 1000", "MaxStartups 1:100:1")))
    server.start()
    local name = suite.write(suite.directory() .. "/full_known", server.host_line() .. "\n")
    local stranger = T.start { argv = { "bash", "-c", ("exec 3<>/dev/tcp/%s/%d; head -c 7 <&3; read"):format(server.address, server.port) } }
    assert.equal("out", (stranger:read(60000)))
    T.run(function()
      local task, until_ms = require "native.task", T.now_ms() + 60000
      local porter = task.spawn(function()             -- the stranger goes once we were turned away
        while not server.log():find("MaxStartups", 1, true) and T.now_ms() < until_ms do task.sleep(5) end
        stranger:shut()
      end)
      local s, err = T.ssh_open(options { host = server.address, port = server.port, user = server.user, known_hosts = { name } })
      porter:join()
      assert(s, err and err.message):close()
    end)
    stranger:wait(30000)
    stranger:close()
    assert.matches("MaxStartups", server.log())
    server.remove()
  end)
end)
