-- drive/ssh_config.c: hosts as the user's own ssh knows them. The real ssh is asked about every fixture: who it reaches is reached by neap,
-- who it does not reach is refused.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

describe("ssh_config", function()
  local hermes, iris, dir, agent, strange, ca

  setup(function()
    dir = suite.temp()
    ca = dir .. "/ca"
    child.must { argv = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ca } }
    T.mode(ca .. ".pub", tonumber("644", 8))
    os.execute("chmod 711 " .. dir)
    hermes = servers.sshd { name = "config", address = "127.0.0.2", host_keys = { "ed25519", "ecdsa", "rsa" },
      config = { "TrustedUserCAKeys " .. ca .. ".pub" } }
    iris = servers.sshd { name = "config2", address = "127.0.0.3" }
    hermes.key "rsa"
    iris.key "rsa"
    strange = dir .. "/strange"
    child.must { argv = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", strange } }
    for _, name in ipairs { "locked", "certified" } do child.must { argv = { "ssh-keygen", "-q", "-t", "ed25519", "-N", name == "locked" and "x" or "", "-f", dir .. "/" .. name } } end
    child.must { argv = { "ssh-keygen", "-q", "-s", ca, "-I", "x", "-n", hermes.user, dir .. "/certified.pub" } }
    suite.write(hermes.dir .. "/authorized_keys", suite.read(hermes.dir .. "/authorized_keys") .. suite.read(dir .. "/locked.pub"))
    agent = { socket = dir .. "/agent" }
    agent.process = T.start { argv = { "ssh-agent", "-D", "-a", agent.socket } }
    suite.kept[agent.process:pid()] = true
    local until_ms = T.now_ms() + 60000
    repeat T.pause(5) local there = T.dial(nil, agent.socket) until there or T.now_ms() > until_ms        -- it has a name before anybody listens
    child.must { argv = { "ssh-add", "-q", hermes.key "ed25519", hermes.key "rsa" }, env = { "SSH_AUTH_SOCK=" .. agent.socket, "PATH=" .. os.getenv("PATH") } }
  end)

  teardown(function()
    agent.process:kill(15)
    agent.process:wait(30000)
    agent.process:close()
  end)

  local function known(name, text) return suite.write(dir .. "/" .. name, text .. "\n") end

  -- { title, name, lines of the file, does ssh reach it? }
  local function fixtures()
    local key, rsa = hermes.key "ed25519", hermes.key "rsa"
    local place = ("  HostName %s\n  Port %d\n  User %s\n"):format(hermes.address, hermes.port, hermes.user)
    local far = ("  HostName %s\n  Port %d\n  User %s\n"):format(iris.address, iris.port, iris.user)
    local use = "  IdentityFile " .. key .. "\n  IdentitiesOnly yes\n"
    local only_agent = "  IdentityFile none\n  IdentityAgent " .. agent.socket .. "\n"
    local line = hermes.host_line { "ed25519" }
    local bare = line:match(" (.*)$")
    local other = suite.read(strange .. ".pub"):match("^(%S+ %S+)")
    local included = suite.write(dir .. "/included", "Host within\n" .. place .. use)
    local tokens = ("%s/key_%s_%s_%d"):format(dir, hermes.address, hermes.user, hermes.port)
    suite.write(tokens, suite.read(key))
    T.mode(tokens, tonumber("600", 8))
    known("with space", line)
    return {
      { "an alias", "a", "Host a\n" .. place .. use, true },
      { "a wildcard", "hermes-7", "Host hermes-*\n" .. place .. use, true },
      { "a negated pattern", "bad", "Host * !bad\n" .. place .. use .. "Host bad\n  HostName " .. hermes.address .. "\n  Port 1\n", false },
      { "a name that is a part of HostName", "2", "Host 2\n  HostName 127.0.0.%h\n  Port " .. hermes.port .. "\n  User " .. hermes.user .. "\n" .. use, true },
      { "a user before the name", hermes.user .. "@a", "Host a\n" .. place:gsub("  User %S+\n", "  User no-such-user\n") .. use, true },
      { "a user who may not", "a", "Host a\n" .. place:gsub("  User %S+\n", "  User no-such-user\n") .. use, false },
      { "a port where nobody listens", "a", "Host a\n" .. place:gsub("Port %d+", "Port 1") .. use, false },
      { "a name nobody has", "a", "Host a\n  HostName no-such-host.invalid\n" .. use, false },
      { "one jump", "far", "Host far\n" .. far .. use .. "  ProxyJump a\nHost a\n" .. place .. use, true },
      { "two jumps", "far", "Host far\n" .. far .. use .. "  ProxyJump a,b\nHost a b\n" .. place .. use, true },
      { "a jump behind a jump", "far", "Host far\n" .. far .. use .. "  ProxyJump b\nHost b\n" .. place .. use .. "  ProxyJump a\nHost a\n" .. place .. use, true },
      { "a jump by user, address and port", "far", ("Host far\n%s%s  ProxyJump %s@%s:%d\nHost 127.*\n%s"):format(far, use, hermes.user, hermes.address, hermes.port, use), true },
      { "a jump that is down", "far", "Host far\n" .. far .. use .. "  ProxyJump a\nHost a\n" .. place:gsub("Port %d+", "Port 1") .. use, false },
      { "an RSA key", "a", "Host a\n" .. place .. "  IdentitiesOnly yes\n  IdentityFile " .. rsa .. "\n", true },
      { "an RSA key over a jump", "far", "Host far\n" .. far .. "  ProxyJump a\n  IdentityFile " .. rsa .. "\nHost a\n" .. place .. "  IdentityFile " .. rsa .. "\n", true },
      { "a key in the agent", "a", "Host a\n" .. place .. only_agent, true },
      { "only the RSA key of the agent", "a", "Host a\n" .. place .. "  IdentityAgent " .. agent.socket .. "\n  IdentitiesOnly yes\n  IdentityFile " .. rsa .. ".pub\n", true },
      { "an agent that must not be asked", "a", "Host a\n" .. place .. "  IdentityFile none\n  IdentityAgent none\n", false },
      { "an agent named by a variable", "a", "Host a\n" .. place .. "  IdentityFile none\n  IdentityAgent $NEAP_SPEC_AGENT\n", true },
      { "an included file", "within", "Include " .. included .. "\n", true },
      { "an alias of the host key", "a", "Host a\n" .. place .. use .. "  HostKeyAlias Hermes\n  UserKnownHostsFile " .. known("alias", "hermes " .. bare) .. "\n", true },
      { "IdentitiesOnly and the wrong key", "a", "Host a\n" .. place .. "  IdentitiesOnly yes\n  IdentityFile " .. strange .. "\n  IdentityAgent " .. agent.socket .. "\n", false },
      { "Match host and user", "a", "Host a\n" .. place .. ("Match host %s user %s\n"):format(hermes.address, hermes.user) .. use, true },
      { "Match exec", "a", "Match exec \"test %n = a\"\n" .. place .. use, true },
      { "a ProxyCommand", "far", "Host far\n" .. far .. use .. "  ProxyCommand ssh -F " .. dir .. "/24 -W %h:%p a\nHost a\n" .. place .. use, true },
      { "several keys, the right one last", "a", "Host a\n" .. place .. ("  IdentitiesOnly yes\n  IdentityFile %s\n  IdentityFile %s/none\n  IdentityFile %s\n"):format(strange, dir, key), true },
      { "a key named by tokens", "a", "Host a\n" .. place .. "  IdentitiesOnly yes\n  IdentityFile " .. dir .. "/key_%h_%r_%p\n", true },
      { "a key with a passphrase nobody gives", "a", "Host a\n" .. place .. "  IdentitiesOnly yes\n  IdentityFile " .. dir .. "/locked\n", false },
      { "a user certificate", "a", "Host a\n" .. place .. "  IdentitiesOnly yes\n  IdentityFile " .. dir .. "/certified\n", true },
      { "an unknown host key", "a", "Host a\n" .. place .. use .. "  UserKnownHostsFile none\n", false },
      { "an unknown host key that may be learnt", "a", "Host a\n" .. place .. use .. "  StrictHostKeyChecking accept-new\n  UserKnownHostsFile " .. dir .. "/new\n", true },
      { "a changed host key", "a", "Host a\n" .. place .. use .. "  UserKnownHostsFile " .. known("changed", line:match("^%S+") .. " " .. other) .. "\n", false },
      { "a host known by its RSA key only", "a", "Host a\n" .. place .. use .. "  UserKnownHostsFile " .. known("rsa", hermes.host_line { "rsa" }) .. "\n", true },
      { "known_hosts in a folder with a space", "a", "Host a\n" .. place .. use .. "  UserKnownHostsFile \"" .. dir .. "/with space\" " .. dir .. "/none\n", true },
      { "nothing checked", "a", "Host a\n" .. place .. use .. "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n", true },
      { "settings of a person's terminal", "a", "Host a\n" .. place .. use .. "  RemoteCommand sleep 100\n  RequestTTY force\n  LocalForward 127.0.0.1:1 127.0.0.1:1\n" ..
        "  ExitOnForwardFailure yes\n  CanonicalizeHostname no\n  AddressFamily inet\n  BindAddress 127.0.0.1\n  SendEnv *\n  LogLevel QUIET\n", true, plain = false },
    }
  end

  local function write(i, fixture)
    local common = ("Host *\n  UserKnownHostsFile %s/known\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  KexAlgorithms curve25519-sha256\n  ConnectTimeout 60\n"):format(dir)
    return suite.write(("%s/%d"):format(dir, i), fixture[3] .. common)
  end

  local function start_ssh(fixture, file)
    local argv = { "ssh", "-F", file, "-o", "BatchMode=yes", "-o", "ControlPath=none" }
    if fixture.plain == false then table.move({ "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes" }, 1, 4, #argv + 1, argv) end
    for _, word in ipairs { "--", fixture[2], "true" } do argv[#argv + 1] = word end
    return child.start { argv = argv }
  end

  local function compare(wrong, fixture, file, ssh)
    local code = ssh:finish().code
    local session, err = T.ssh_session { name = fixture[2], file = file, backend = "auto" }
    local result = session and session:exec "true"
    local reached = result and result.how == "exited" and result.status == 0 or false
    local left = session and session:close() or 0
    if reached ~= (code == 0) or reached ~= fixture[4] or left > 0 then
      wrong[#wrong + 1] = ("%s: ssh %s, neap %s, %d handles left: %s"):format(fixture[1], tostring(code), tostring(reached), left, err and err.message or "")
    end
    if not reached then assert(err and err.message and err.code, fixture[1]) end
  end

  it("of 36 fixtures reach with neap whom ssh reaches, and nobody else", function()
    known("known", hermes.host_line() .. "\n" .. iris.host_line())
    T.setenv("NEAP_SPEC_AGENT", agent.socket)
    local all, wrong, running = fixtures(), {}, {}
    all[25], all[24] = all[24], all[25]                 -- the ProxyCommand names its own file, 24
    for i = 1, #all + 3 do
      if all[i] then
        local file = write(i, all[i])
        running[i] = { file = file, ssh = start_ssh(all[i], file) }
      end
      local due = i - 3
      if running[due] then compare(wrong, all[due], running[due].file, running[due].ssh) end
    end
    T.setenv("NEAP_SPEC_AGENT", nil)
    assert.same({}, wrong)
    assert.equal(36, #all)
  end)

  local function ask(text, name, more)
    local question = { name = name or "a", file = suite.write(suite.temp() .. "/config", text) }
    for key, value in pairs(more or {}) do question[key] = value end
    return T.ssh_ask(question)
  end

  it("give every field its meaning", function()
    local host = ask(("Host a\n  HostName h.example\n  Port 2200\n  User app\n  HostKeyAlias Alias\n  IdentityFile %s\n  IdentityFile ~/no-such-key\n  IdentitiesOnly yes\n" ..
      "  ConnectTimeout 7\n  ServerAliveInterval 5\n  ServerAliveCountMax 4\n  AddressFamily inet6\n  BindAddress ::1\n  StrictHostKeyChecking accept-new\n" ..
      "  UserKnownHostsFile /k1 /k2\n  GlobalKnownHostsFile none\n  IdentityAgent none\n"):format(strange))
    assert.same({ "a", "h.example", 2200, "app", 7000, 5000, 4, 2, "::1", 1 }, { host.name, host.hostname, host.port, host.user, host.connect_ms,
      host.alive_ms, host.alive_count, host.family, host.bind_address, host.strict })
    assert.equal("alias", host.alias:lower())
    assert.same({ strange }, host.identities)
    assert.same({ "/k1", "/k2" }, host.known_hosts)
    assert.is_true(host.identities_only)
    assert.is_nil(host.agent)
    assert.is_nil(host.needs_program)
    assert.is_false(host.own_ciphers)
    assert.is_true(ask("Host a\n  Ciphers aes256-ctr\n").own_ciphers)
  end)

  it("say in a sentence what needs the ssh program", function()
    local certified = dir .. "/certified"
    local sk = suite.write(suite.temp() .. "/id_sk", "x")
    suite.write(sk .. ".pub", "sk-ssh-ed25519@openssh.com AAAA x\n")
    for text, why in pairs {
      ["ProxyCommand nc %h %p"] = "ProxyCommand is set", ["PKCS11Provider /x.so"] = "PKCS11Provider is set", ["KnownHostsCommand /bin/true"] = "KnownHostsCommand is set",
      ["PubkeyAuthentication no"] = "PubkeyAuthentication is off", ["PreferredAuthentications hostbased"] = "PreferredAuthentications leaves public keys out",
      ["IdentityFile " .. sk] = "the key " .. sk .. " is on a security token", ["CertificateFile " .. certified .. "-cert.pub"] = "the user certificate " .. certified .. "-cert.pub",
      ["IdentityFile " .. certified] = "the user certificate " .. certified .. "-cert.pub", ["VerifyHostKeyDNS yes"] = "VerifyHostKeyDNS is on",
      ["IdentityFile /keys/%C"] = "IdentityFile holds what only ssh expands: /keys/%C",
      ["UserKnownHostsFile " .. known("authority", "@cert-authority * " .. suite.read(ca .. ".pub"))] = "known_hosts pins a certificate authority for it, and no key",
    } do
      assert.equal(why, ask("Host a\n  " .. text .. "\n").needs_program, text)
    end
    assert.is_nil(ask("Host a\n  ProxyCommand none\n  CertificateFile /no/such\n").needs_program)
    assert.equal("its jump host \"j\" needs it: ProxyCommand is set", ask("Host a\n  ProxyJump j\nHost j\n  ProxyCommand x\n").needs_program)
  end)

  -- ---- one answer for several names ----

  -- What an ssh in front of ours counts.
  local counted
  local function count_asks(work)
    local path = os.getenv "PATH"
    if not counted then
      counted = suite.temp()
      suite.write(counted .. "/ssh", ("#!/bin/sh\necho x >>%s/asked\nPATH='%s' exec ssh \"$@\"\n"):format(counted, path))
      T.mode(counted .. "/ssh", tonumber("755", 8))
    end
    os.remove(counted .. "/asked")
    T.setenv("PATH", counted .. ":" .. path)
    local ok, why = pcall(work)
    T.setenv("PATH", path)
    if not ok then error(why, 0) end
    local file = io.open(counted .. "/asked")
    local _, times = (file and file:read "a" or ""):gsub("x", "")
    if file then file:close() end
    return times
  end

  -- Every name is asked about in the file, which may share, and in a copy of its own, which cannot.
  local function differ(text, names, wrong)
    local there = suite.temp()
    local file = suite.write(there .. "/config", text)
    for i, name in ipairs(names) do
      local alone = suite.write(("%s/%d"):format(there, i), text)
      local shared, said = T.ssh_ask { name = name, file = file }
      local own, own_said = T.ssh_ask { name = name, file = alone }
      if own then own.config_file = file end
      for _, jump in ipairs(own and own.jumps or {}) do jump.config_file = file end
      if not pcall(assert.same, own, shared) or (own_said and own_said.code) ~= (said and said.code) then wrong[#wrong + 1] = name .. " in\n" .. text end
    end
  end

  it("ask once for names that meet the same lines, and hear of each what ssh says of it alone", function()
    local wrong, names = {}, {}
    for i = 1, 40 do names[i] = "web" .. i end
    local fleet = "Host web*\n  HostName %h.example\n  Port 2200\n  ControlPath ~/cm-%r@%h\nHost web7\n  User seven\nHost web* !web9\n  ProxyJump gate\n"
    local file = suite.write(suite.temp() .. "/config", fleet)
    local times = count_asks(function ()
      for _, name in ipairs(names) do assert.equal(name .. ".example", T.ssh_ask { name = name, file = file }.hostname) end
    end)
    assert.equal(4, times)                       -- the others, their gate, 7 and 9
    differ(fleet, { "web1", "web2", "web7", "web9", "app@web3", "app@web4", "gate", "db" }, wrong)
    assert.same({}, wrong)
  end)

  it("take an answer back when a file it came from changes", function()
    local there = suite.temp()
    suite.write(there .. "/more", "Host *\n  Port 1\n")
    local file = suite.write(there .. "/config", "Include " .. there .. "/more*\n")
    assert.same({ 1, 1 }, { T.ssh_ask { name = "a", file = file }.port, T.ssh_ask { name = "b", file = file }.port })
    suite.write(there .. "/more", "Host *\n  Port 22222\n")
    assert.same({ 22222, 22222 }, { T.ssh_ask { name = "b", file = file }.port, T.ssh_ask { name = "a", file = file }.port })
    suite.write(there .. "/more0", "Host b\n  User new\n")
    assert.equal("new", T.ssh_ask { name = "b", file = file }.user)
  end)

  it("leave to ssh, name by name, whatever may tell two names apart", function()
    local wrong = {}
    for _, line in ipairs { "Match host a*\n  User x", "Match exec \"test %n = a1\"\n  User x", "UserKnownHostsFile /k/%h", "IdentityAgent /agent/%n", "HostKeyAlias %h",
      "HostName \"%h.x\"", "CanonicalizeHostname yes", "Host \"a1\" a3\n  User x", "Host a1 # a2\n  User x", "IdentityFile /tmp/%n", "Bogus yes", "Port",
      "Host=a1\n  User = x", "\tHOST  a?\n  USER y", "Host !a1 *\n  User z", "Host *1 !a1\n  User z", "User x # a comment\n", "ProxyJump a2", "ProxyJump x@[a2]:22,a3",
      "ProxyCommand none", "ProxyCommand nc %h %p", "HostName %%h", "HostName 127.1", "HostName FOO", "IgnoreUnknown bo*\nBogus yes", "Include /no/such", "\"Host\" a1\n User x" } do
      differ(line .. "\nHost *\n  ConnectTimeout 3\n", { "a2", "a1", "a3", "u@a1" }, wrong)
    end
    differ("Host *\n  Port 3\n", { "127.0.0.1", "127.0.0.2", "127.1", "127.2", "0::2", "::3", "::4", "1", "A1", "A2", "b_2", "u@127.0.0.3" }, wrong)
    assert.same({}, wrong)
  end)

  -- Files that chance wrote, the same ones each time.
  local function by_chance(seed, count)
    local wrong = {}
    local pieces = { "a", "b", "a*", "?b", "*", "!a", "!b*", "ab", "ba", "a?", "*b*" }
    local lines = { "User u1", "User u2", "Port 1", "Port 2", "HostName %h.x", "HostName y", "ProxyJump ab", "ProxyJump none", "HostKeyAlias k", "IdentitiesOnly yes" }
    local function number(most)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed // 65536 % most + 1
    end
    local function some(list, most, join)
      local out = {}
      for i = 1, number(most) do out[i] = list[number(#list)] end
      return table.concat(out, join)
    end
    local function block() return "Host " .. some(pieces, 3, " ") .. "\n  " .. some(lines, 3, "\n  ") end
    for round = 1, count do
      local text = {}
      for i = 1, number(5) do text[i] = block() end
      if round % 3 == 0 then table.insert(text, number(#text), "Include " .. suite.write(suite.temp() .. "/part", block() .. "\n" .. block() .. "\n")) end
      differ(table.concat(text, "\n") .. "\n", { "a", "b", "ab", "ba", "abb" }, wrong)
    end
    return wrong
  end

  it("agree with ssh on files that chance wrote", function() assert.same({}, by_chance(1, 12)) end)
  it("agree with ssh on 400 files that chance wrote #long", function() assert.same({}, by_chance(2, 400)) end)

  it("follow a chain of jumps in the order they are passed", function()
    local host = ask("Host a\n  ProxyJump u@b:2201,[::1]:2202\nHost b\n  ProxyJump c\nHost c ::1\n  User deploy\nHost ::1\n  ProxyJump never\n  ProxyCommand never\n")
    local seen = {}
    for i, jump in ipairs(host.jumps) do seen[i] = ("%s@%s:%d"):format(jump.user, jump.hostname, jump.port) end
    assert.same({ "deploy@c:22", "u@b:2201", "deploy@::1:2202" }, seen)
    assert.is_nil(host.needs_program)
  end)

  it("end a chain that leads in a circle", function()
    local host, err = ask("Host a\n  ProxyJump b\nHost b\n  ProxyJump c\nHost c\n  ProxyJump b\n")
    assert.is_nil(host)
    assert.equal("config", err.code)
    assert.matches("more than 15 jump hosts", err.message)
  end)

  it("refuse a name that is an option, or that a shell would read", function()
    for _, name in ipairs { "-oProxyCommand=touch /tmp/x", "", "a b", "$(id)", "a;b", "user@-x", "a\nb", "`id`", "ssh://a", "a@" } do
      local host, err = T.ssh_ask { name = name }
      assert.is_nil(host)
      assert.equal("usage", err.code, name)
    end
  end)

  it("repeat what ssh says of a file it cannot read", function()
    local host, err = ask("Host a\n  Bogus yes\n")
    assert.is_nil(host)
    assert.equal("config", err.code)
    assert.matches("terminating, 1 bad configuration options", err.message)
    host, err = T.ssh_ask { name = "a", file = "/no/such/file" }
    assert.is_nil(host)
    assert.matches("/no/such/file", err.message)
  end)

  it("do not wait for ever for a Match exec", function()
    local host, err = ask("Match exec \"sleep 30\"\n  User x\n", "a", { within_ms = 200 })
    assert.is_nil(host)
    assert.equal("timeout", err.code)
    assert.matches("Match exec", err.hint)
  end)

  -- What ssh started may keep its streams open when it is over itself; the deadline then frees them, and they must not end the question again.
  it("are given up once when something of them keeps a stream open", function ()
    local host, err = ask("Match exec \"sleep 20 &\"\n  User x\n", "a", { within_ms = 300 })
    assert.is_nil(host)
    assert.equal("timeout", err.code)
  end)

  it("say that there is no ssh program", function()
    local path = os.getenv "PATH"
    T.setenv("PATH", "/nowhere")
    local host, err = T.ssh_ask { name = "a" }
    T.setenv("PATH", path)
    assert.is_nil(host)
    assert.equal("config", err.code)
    assert.matches("no program \"ssh\"", err.message)
  end)

  it("tell the type of a key without its passphrase", function()
    local copy = suite.temp() .. "/key"
    for kind, type in pairs { ed25519 = "ssh-ed25519", ecdsa = "ecdsa-sha2-nistp256", rsa = "ssh-rsa" } do
      suite.write(copy, suite.read(hermes.key(kind)))
      assert.equal(type, T.identity_type(copy))
      assert.equal(type, T.identity_type(hermes.key(kind)))
    end
    suite.write(copy, suite.read(dir .. "/locked"))
    assert.equal("ssh-ed25519", T.identity_type(copy))
    suite.write(copy, "-----BEGIN RSA PRIVATE KEY-----\nxx\n")
    assert.equal("ssh-rsa", T.identity_type(copy))
    suite.write(copy, "nothing")
    assert.is_nil(T.identity_type(copy))
    assert.equal("ssh-ed25519-cert-v01@openssh.com", T.identity_type(dir .. "/certified-cert.pub"))
  end)
end)
