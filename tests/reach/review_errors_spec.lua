--- What is said when something cannot be reached or refuses: the role, one sentence, and a hint that can be followed.

local servers = require("tests.support.servers")
local suite = require("tests.support.suite")

describe("a target that cannot be reached", function()
  local dir
  before_each(function() dir = suite.temp() end)

  local ASK <const> = { redis = "t:size() >= 0", url = 't:get("/auth"):status() == 200', host = 't:read({ "true" }):status() == 0', container = "t:running()", postgres = 't:value "select 1" == 1' }

  local function said(entry, more)
    local kind = entry:match("^%w+")
    suite.write(dir .. "/book.lua", ([[runbook "Ask" { why = "x" } local t = target.%s "t" step "Ask" { verify = function () check(%s, "it answers") end }]]):format(kind, ASK[kind]))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" { t = %s %s }]]):format(entry, more and ", " .. more or ""))
    local r = servers.neap({ "plan", dir .. "/book.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "400" }, {})
    assert.are_not.equal(0, r.code)
    return r.out .. r.err
  end

  it("is named, with what to try", function()
    local cache, web, hermes = servers.redis(), servers.http(), servers.sshd { name = "review" }
    local home = servers.ssh_home { hermes = hermes }
    local strange = suite.write(dir .. "/config", ("Host hermes\n HostName %s\n Port %d\n User %s\n IdentityFile %s\n UserKnownHostsFile /dev/null\n GlobalKnownHostsFile /dev/null\n")
      :format(hermes.address, hermes.port, hermes.user, servers.sshd and require("tests.support.servers.sshd").user_key("ed25519")))
    local cases = {
      { 'redis { url = "redis://nobody.invalid:6379/0" }', '"t": cannot find the host "nobody.invalid"', "getent hosts nobody.invalid" },
      { 'redis { url = "redis://127.0.0.1:1/0" }', '"t": cannot connect to "127.0.0.1" port 1: connection refused', "ss -ltn" },
      { 'redis { url = "unix:///nowhere.sock" }', 'cannot connect to "/nowhere.sock"', "ls -l /nowhere.sock" },
      { ('redis { url = "redis://127.0.0.1:%d/0" }'):format(cache.port), "NOAUTH", "hint:" },
      { ('redis { url = "redis://ro@127.0.0.1:%d/0", password = secret { of = "wrong-1234567" } }'):format(cache.port), "WRONGPASS", "hint:" },
      { 'container { name = "x", docker = "unix:///nowhere.sock" }', 'cannot connect to "/nowhere.sock"', "ls -l /nowhere.sock" },
      { 'host { ssh = "nobody.invalid" }', '"nobody.invalid" cannot be reached', "ssh nobody.invalid true" },
      { ('host { ssh = "hermes", config = %q }'):format(strange), "hermes", "hint:" },
      { 'postgres { url = "postgresql://a@localhost/x", on = "h" }', "cannot be reached", "ssh nobody.invalid true", 'h = host { ssh = "nobody.invalid" }' },
      { 'url { url = "http://nobody.invalid" }', 'cannot find the host "nobody.invalid"', "getent hosts nobody.invalid" },
      { ('url { url = %q }'):format(web.url), "answered 401", "" },
      { ('url { url = %q }'):format(web.tls_url), "certificate", "" },
    }
    for _, case in ipairs(cases) do
      local words = said(case[1], case[4])
      assert.matches(case[2], words, 1, true)
      assert.matches(case[3], words, 1, true)
    end
    assert.truthy(home)
  end)
end)
