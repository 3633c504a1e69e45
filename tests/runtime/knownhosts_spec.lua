-- drive/knownhosts.c: is this the host we know? Many files, and the real ssh is asked about each of them too.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local KINDS <const> = { ["ssh-ed25519"] = "ed25519", ["ecdsa-sha2-nistp256"] = "ecdsa", ["rsa-sha2-512"] = "rsa", ["rsa-sha2-256"] = "rsa" }

describe("known_hosts", function()
  local sshd, keys, strange

  setup(function()
    sshd = servers.sshd { name = "known", host_keys = { "ed25519", "ecdsa", "rsa" } }
    keys, strange = {}, {}
    local dir = suite.temp()
    for _, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
      keys[kind] = suite.read(("%s/host_%s.pub"):format(sshd.dir, kind)):match("^(%S+ %S+)")
      child.must { argv = { "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", dir .. "/" .. kind } }
      strange[kind] = suite.read(("%s/%s.pub"):format(dir, kind)):match("^(%S+ %S+)")
    end
  end)

  local function blob(key) return key:match(" (%S+)$") end

  -- A hashed name, by ssh-keygen itself.
  local function hashed(name, key)
    local path = suite.write(suite.temp() .. "/plain", name .. " " .. key .. "\n")
    child.must { argv = { "ssh-keygen", "-H", "-f", path } }
    return suite.read(path):gsub("\n$", "")
  end

  --- Name, lines of the file (a function of the server's "[address]:port" and address), and what is said: "ok", or why not.
  --- alias and strict are settings of both sides.
  local function cases()
    local ed, ec, rsa = keys.ed25519, keys.ecdsa, keys.rsa
    local other = strange.ed25519
    local place, address, port = ("[%s]:%d"):format(sshd.address, sshd.port), sshd.address, sshd.port
    return {
      { "a plain line", { place .. " " .. ed }, "ok" },
      { "an empty file", {}, "unknown" },
      { "another host only", { "[127.9.9.9]:22 " .. ed }, "unknown" },
      { "a changed key", { place .. " " .. other }, "changed" },
      { "only an ecdsa key pinned", { place .. " " .. ec }, "ok" },
      { "only an rsa key pinned", { place .. " " .. rsa }, "ok" },
      { "a wrong ed25519 key before the right ecdsa one", { place .. " " .. other, place .. " " .. ec }, "changed" },
      { "a wrong and the right key of one type", { place .. " " .. other, place .. " " .. ed }, "ok" },
      { "only a wrong rsa key", { place .. " " .. strange.rsa }, "changed" },
      { "a name without the port", { address .. " " .. ed }, "ok" },
      { "a name without the port, another key", { address .. " " .. other }, "unknown" },
      { "another port", { ("[%s]:%d "):format(address, port + 1) .. ed }, "unknown" },
      { "a hashed name", { hashed(place, ed) }, "ok" },
      { "a hashed name of another host", { hashed("[127.9.9.9]:22", ed) }, "unknown" },
      { "a hashed name, changed key", { hashed(place, other) }, "changed" },
      { "a damaged hash before the line", { "|1|AAAA|BBBB " .. ed, place .. " " .. ed }, "ok" },
      { "a star", { "[127.0.*]:* " .. ed }, "ok" },
      { "a question mark", { place:gsub("%.0%.0%.", ".?.?.") .. " " .. ed }, "ok" },
      { "a star that is negated", { ("!*%s*,* "):format(address) .. ed }, "unknown" },
      { "a star that is negated for this port only", { ("!%s,* "):format(place) .. ed }, "ok" },
      { "a negation of another host", { "!nobody,* " .. ed }, "ok" },
      { "only a negation", { "!nobody " .. ed }, "unknown" },
      { "several names", { "hermes,hermes.example," .. place .. " " .. ed }, "ok" },
      { "an alias in other letters", { "HERMES.Example " .. ed }, "ok", alias = "hermes.EXAMPLE" },
      { "an alias, but only the address in the file", { place .. " " .. ed }, "unknown", alias = "hermes" },
      { "a revoked key that is pinned too", { "@revoked * " .. ed, place .. " " .. ed }, "revoked" },
      { "a revoked key behind the line", { place .. " " .. ed, "@revoked " .. place .. " " .. ed }, "revoked" },
      { "another key revoked", { "@revoked * " .. other, place .. " " .. ed }, "ok" },
      { "a certificate authority with the host's own key", { "@cert-authority * " .. ed }, "unknown" },
      { "a marker nobody knows", { "@trusted " .. place .. " " .. ed }, "unknown" },
      { "garbage, a comment, blanks and a long line before it",
        { "garbage", "# x", "   ", ("x"):rep(5000) .. " y", "host ssh-ed25519 !!!!", " \t" .. place .. "\t " .. ed .. " a comment" }, "ok" },
      { "a key under the name of another type", { place .. " ssh-rsa " .. blob(ed) }, "unknown" },
      { "a key without its last bytes", { place .. " ssh-ed25519 " .. blob(ed):sub(1, -9) }, "unknown" },
      { "lines of DOS", { place .. " " .. ed .. "\r", "\r" }, "ok" },
      { "a short name of the type", { place .. " ED25519 " .. blob(ed) }, "unknown" },
      { "nothing, and new hosts are accepted", {}, "unknown", strict = "accept-new" },
      { "a changed key, and new hosts are accepted", { place .. " " .. other }, "changed", strict = "accept-new" },
      { "a changed key, and nothing is checked", { place .. " " .. other }, "changed", strict = "no" },
    }
  end

  -- The key that a handshake would bring: the first algorithm we offer that the server has.
  local function offered(question)
    local list = T.known_algorithms(question)
    for name in list:gmatch("[^,]+") do
      if KINDS[name] then return keys[KINDS[name]] end
    end
  end

  local function write(dir, lines)
    local text = table.concat(lines, "\n")
    return suite.write(dir .. "/known_hosts", text == "" and "" or text .. "\n")
  end

  local function start_ssh(case, path)
    local argv = { "ssh", "-F", "none", "-i", sshd.key(), "-p", tostring(sshd.port), "-l", sshd.user }
    for _, option in ipairs { "BatchMode=yes", "ControlMaster=no", "IdentitiesOnly=yes", "GlobalKnownHostsFile=none", "UpdateHostKeys=no",
      "KexAlgorithms=curve25519-sha256", "UserKnownHostsFile=" .. path, "StrictHostKeyChecking=" .. (case.strict or "yes"),
      case.alias and "HostKeyAlias=" .. case.alias } do
      argv[#argv + 1], argv[#argv + 2] = "-o", option
    end
    for _, word in ipairs { "--", sshd.address, "true" } do argv[#argv + 1] = word end
    return child.start { argv = argv }
  end

  it("of 38 files are judged as ssh judges them", function()
    local all, wrong = cases(), {}
    local function compare(first, last)
      local running = {}
      for i = first, math.min(last, #all) do
        local case = all[i]
        local path = write(suite.temp(), case[2])
        local question = { files = { path }, hostname = sshd.address, port = sshd.port, alias = case.alias, strict = case.strict }
        question.key = blob(offered(question))
        local said = T.known_hosts(question)
        running[#running + 1] = { case = case, said = said, ssh = start_ssh(case, suite.write(path .. ".ssh", suite.read(path))) }
      end
      for _, r in ipairs(running) do
        local result = r.ssh:finish()
        if (result.code == 0) ~= r.said.admitted or r.said.status ~= r.case[3] then
          wrong[#wrong + 1] = ("%s: ssh %s, we %s (%s): %s"):format(r.case[1], tostring(result.code), r.said.status, tostring(r.said.admitted), result.err)
        end
      end
    end
    for first = 1, #all, 4 do compare(first, first + 3) end
    assert.same({}, wrong)
    assert.equal(38, #all)
  end)

  local function ask(lines, more)
    local question = { files = { write(suite.temp(), lines) }, hostname = "Hermes.Example", key = blob(keys.ed25519) }
    for name, value in pairs(more or {}) do question[name] = value end
    return T.known_hosts(question), question
  end

  it("tell a key of another type from a changed one, and name file and line", function()
    local r, question = ask { "# first", "hermes.example " .. keys.ecdsa }
    assert.equal("other type", r.status)
    assert.equal(2, r.line)
    assert.equal(question.files[1], r.file)
    assert.equal("ecdsa-sha2-nistp256", r.type)
    assert.equal(sshd.fingerprint "ecdsa", r.pinned)
    assert.is_false(r.admitted)
    assert.matches("line 2 of " .. question.files[1], r.message, 1, true)
    assert.matches(sshd.fingerprint "ed25519", r.message, 1, true)
    assert.matches(sshd.fingerprint "ecdsa", r.message, 1, true)
  end)

  it("give both fingerprints of a changed key, and no command that removes the line", function()
    local r = ask { "hermes.example " .. strange.ed25519 }
    assert.equal("changed", r.status)
    assert.matches(T.fingerprint(blob(strange.ed25519)), r.message, 1, true)
    assert.matches(sshd.fingerprint(), r.message, 1, true)
    assert.is_nil((r.message .. r.hint):find("ssh-keygen", 1, true))
  end)

  it("give the one command that pins an unknown key, and it does", function()
    local r, question = ask({}, { port = 2222 })
    assert.equal("unknown", r.status)
    assert.matches(sshd.fingerprint(), r.message, 1, true)
    os.execute(r.hint:match(": (echo .*)$"))
    assert.equal("ok", T.known_hosts(question).status)
  end)

  it("learn a key once new hosts are accepted, behind a line that was not ended", function()
    local path = suite.write(suite.temp() .. "/known_hosts", "other " .. keys.rsa)
    local question = { files = { path }, hostname = "Hermes.Example", port = 2222, key = blob(keys.ed25519), strict = "accept-new" }
    assert.is_true(T.known_hosts(question).admitted)
    assert.is_true(T.known_learn(question))
    assert.equal("ok", T.known_hosts(question).status)
    assert.equal(("other %s\n[hermes.example]:2222 %s\n"):format(keys.rsa, keys.ed25519), suite.read(path))
  end)

  it("count the lines that are passed over, and say why", function()
    local path = write(suite.temp(), { "# fine", "garbage", "host ssh-ed25519", "host " .. keys.ed25519, "@nobody host " .. keys.ed25519,
      "@revoked @revoked host " .. keys.ed25519, "|1|x|y " .. keys.ed25519, "host ssh-new " .. blob(keys.ed25519), "host ssh-rsa " .. blob(keys.ed25519),
      "host ssh-ed25519 AAAA", ("x"):rep(70000), "a\0b " .. keys.ed25519 })
    local lines, whys = {}, {}
    for _, bad in ipairs(T.known_bad { files = { path } }) do
      assert.equal(path, bad.file)
      lines[#lines + 1], whys[bad.why] = bad.line, true
    end
    assert.same({ 2, 3, 5, 6, 7, 8, 9, 10, 11, 12 }, lines)
    assert.is_true(whys["it is too long"] and whys["its key is damaged"] and whys["its hashed name is damaged"])
  end)

  it("take a file that is not there for an empty one", function()
    assert.equal("unknown", T.known_hosts { files = { "/no/such/file" }, key = blob(keys.ed25519) }.status)
  end)

  it("put the pinned types first, in the order of HostKeyAlgorithms, and a revoked one not", function()
    local path = write(suite.temp(), { "host.example " .. keys.rsa, "host.* " .. keys.ecdsa, "@revoked * " .. keys.rsa })
    local list, types = T.known_algorithms({ files = { path } }, "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,rsa-sha2-512,ecdsa-sha2-nistp256")
    assert.equal("ecdsa-sha2-nistp256,ssh-ed25519,rsa-sha2-512", list)
    assert.equal("ecdsa-sha2-nistp256", types)
    assert.equal("ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-256",
      T.known_algorithms({ files = { write(suite.temp(), { "host.example " .. keys.ed25519 }) } }, "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-256"), nil)
  end)

  it("are not slowed by a pattern made of stars", function()
    local started = os.clock()
    local r = ask({ ("*a"):rep(400) .. " " .. keys.ed25519 }, { hostname = ("a"):rep(250) .. "b" })
    assert.equal("unknown", r.status)
    assert.is_true(os.clock() - started < 1)
  end)
end)
