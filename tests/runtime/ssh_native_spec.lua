-- The libssh2 back end against real sshd: what the library does badly (reliability.md's L-list) must not reach a caller.
local servers = require "tests.support.servers"
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
end)
