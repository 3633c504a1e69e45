--- What a predicted change reaches: whatever stands on what would be changed is unknown, never answered from the world before.

local guard = require("native.guard")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local text = require("native.text")

describe("what stands on something", function()
  after_each(function() guard.clear() end)

  it("is withheld by a change of all of it, however far below, and not by one of a part or beside it", function()
    guard.stands("pg:7", "docker:e/c")
    guard.stands("docker:e/c", "host:fp")
    guard.stands("redis:r", "host:fp")
    guard.mark("host:fp", "restart")
    for _, subject in ipairs { "pg:7/app", "pg:7", "docker:e/c", "redis:r/0", "host:fp//srv/x", "docker:e" } do
      assert.equal("restart", guard.withheld(subject), subject)
    end
    assert.is_nil(guard.withheld("redis:other/0"))
    guard.clear()
    guard.mark("host:fp//srv/x", "write")
    assert.is_nil(guard.withheld("redis:r/0"))
    guard.mark("docker:e/c", "stop")
    assert.equal("stop", guard.withheld("pg:7/app"))
    assert.is_nil(guard.withheld("redis:r/0"))
    guard.clear()
    guard.mark("pg:7/app", "fix")
    assert.is_nil(guard.withheld("docker:e/c"))
    assert.is_nil(guard.withheld("host:fp"))
  end)
end)

describe("a root", function()
  after_each(function() guard.clear() end)

  it("is withheld by a change below it, and withholds what is below it", function()
    guard.mark("file:/srv/x", "write")
    assert.equal("write", guard.withheld("file:/"))
    guard.clear()
    guard.mark("host:fp/", "rename")
    assert.equal("rename", guard.withheld("host:fp/etc/x"))
    assert.equal("rename", guard.withheld("host:fp"))
    assert.is_nil(guard.withheld("host:fp2/etc/x"))
  end)
end)

describe("a preview of a change of a host", function()
  local hermes, home, cache, web, dir

  setup(function()
    hermes, cache, web = servers.sshd { name = "review" }, servers.redis { name = "plain", open = true }, servers.http()
    home = servers.ssh_home { hermes = hermes }
  end)

  before_each(function() dir = suite.temp() end)

  local function plan(steps)
    suite.write(dir .. "/book.lua", ([[
      runbook "Restart" { why = "x" }
      local hermes, cache, site, other = target.host "hermes", target.redis "cache", target.url "site", target.url "other"
      local app, page, web = target.service "app", target.url "page", target.hosts "web"
      local function yes() return true end
      %s]]):format(steps))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" {
      hermes = host { ssh = "hermes", config = %q }, cache = redis { url = "redis://localhost:%d/0", on = "hermes" },
      site = url { url = %q, behind = "hermes" }, other = url { url = %q }, web = hosts { names = { "hermes" }, config = %q },
      app = service { start = { "touch", %q }, stop = { "touch", %q }, status = { "true" } }, page = url { url = %q, behind = "app" } }]]):format(
      home.config, cache.port, web.url, web.other_url, home.config, dir .. "/started", dir .. "/stopped", web.tls_url:gsub("^https", "http"):gsub(":%d+", ":" .. web.url:match(":(%d+)"))))
    local r = servers.neap({ "plan", dir .. "/book.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--json" }, {})
    local ok, data = pcall(text.parse, r.out)
    assert.is_true(ok, r.out .. r.err)
    local said = {}
    for i, step in ipairs(data.steps) do said[i] = step.label end
    return said, r
  end

  it("answers nothing from what stands on it or behind it, and the rest as it is", function()
    local asks = [[
      step "Ask the cache %d" { verify = function() check(cache:size() >= 0, "it has keys") end }
      step "Ask the page %d" { verify = function() check(site:healthy { path = "/ok" }, "it is well") end }
      step "Ask elsewhere %d" { verify = function() check(other:get("/ok"):status() == 200, "it is well") end }]]
    local said, r = plan(asks:format(1, 1, 1) .. [[
      step "Restart all" { act = function() hermes:run { "touch", "/nowhere/made" } end, verify = yes }]] .. asks:format(2, 2, 2))
    assert.same({ "declared", "declared", "declared", "predicted", "unknown", "unknown", "declared" }, said, r.out)
    said = plan([[step "Set" { act = function() cache:write("SET", "a", "1") end, verify = yes }]] .. asks:format(3, 3, 3)
      .. [[step "Ask the host" { verify = function() check(hermes:read({ "true" }):status() == 0, "it answers") end }]])
    assert.same({ "predicted", "unknown", "declared", "declared", "declared" }, said)
  end)

  it("does not ask for a file under the name it would have, nor behind a service that would be stopped", function()
    local said, r = plan([[
      step "Rename" { act = function() hermes:rename("/etc/hostname", "/etc/other") end, verify = yes }
      step "Look" { verify = function() check(not hermes:has "/etc/other", "it is not there") end }
      step "Look elsewhere" { verify = function() check(hermes:has "/usr", "it is there") end }
      step "Ask" { verify = function() check(page:healthy { path = "/ok" }, "it is well") end }
      step "Stop" { act = function() app:stop() end, verify = yes }
      step "Ask the service" { verify = function() check(app:running(), "it runs") end }
      step "Ask again" { verify = function() check(page:healthy { path = "/ok" }, "it is well") end }]])
    assert.same({ "predicted", "unknown", "enforced", "declared", "predicted", "unknown", "unknown" }, said, r.out)
    assert.is_nil(io.open(dir .. "/stopped"))
  end)

  it("asks no host of a group after an act that could not be shown to its end", function()
    local said, r = plan([[
      step "Ask" { verify = function() check(web:on("hermes"):read({ "true" }):status() == 0, "it answers") end }
      step "Act" { act = function() if #cache:transaction { { "SET", "a", "1" } } == 1 then web:on("hermes"):run { "true" } end end, verify = yes }
      step "Ask again" { verify = function() check(web:on("hermes"):read({ "true" }):status() == 0, "it answers") end }]])
    assert.equal("unknown", said[3], r.out)
    assert.equal("declared", said[1], r.out)
  end)

  it("asks no database of a Redis for what would be set for all of them", function()
    local said, r = plan([[
      step "Set" { act = function() cache:write("CONFIG", "SET", "maxmemory", "0") end, verify = yes }
      step "Ask" { verify = function() check(cache:read("CONFIG", "GET", "maxmemory")[2] == "0", "it is set") end }]])
    assert.same({ "predicted", "unknown" }, said)
    assert.matches('"subject":"redis:%x+"', r.out)
  end)

  it("takes no other role for whose write it is", function()
    local _, r = plan([[step "Write" { act = function() hermes:write_file("/nowhere/x", "x", { role = "cache", sudo = true }) end, verify = yes }]])
    assert.matches('"target":"hermes"', r.out, 1, true)
    assert.matches("write /nowhere/x by sudo on hermes", r.out, 1, true)
  end)

  it("shows who would run it, and reaches nobody in act", function()
    local mark = ("/tmp/neap-review-%d"):format(T.now_ms())
    local _, r = plan(([[step "Touch" { act = function() hermes:run({ "touch", %q }, { sudo = true }) end, verify = yes }]]):format(mark))
    assert.equal(2, r.code, r.out .. r.err)
    assert.is_nil(io.open(mark))
    assert.matches("sudo touch " .. mark, r.out, 1, true)
  end)
end)
