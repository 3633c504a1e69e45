--- kill -9 in the middle of a write that is done elsewhere: what resume makes of it, and that nothing is done twice.

local neap = require("tests.support.neap")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local text = require("native.text")

describe("a run that is killed in the middle of a write elsewhere", function()
  local hermes, home, cache, web, engine, box, dir

  setup(function()
    hermes, cache, web = servers.sshd { name = "review" }, servers.redis { name = "plain", open = true }, servers.http()
    home = servers.ssh_home { hermes = hermes }
    engine = servers.docker()
    box = engine and engine.busybox { name = ("killed-%d"):format(T.now_ms()), cmd = { "sleep", "600" } }
  end)

  before_each(function()
    dir = suite.memory()
    T.mode(dir, tonumber("777", 8))
  end)

  local function await(fn, what, running)
    local ends = T.now_ms() + 60000
    while not fn() do
      if T.now_ms() > ends then
        running:kill(9)
        local r = running:finish()
        error("did not come: " .. what .. "\n" .. r.out .. r.err)
      end
      T.pause(15)
    end
  end

  local function words(verb, what)
    return { verb, what, "--no-input", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", verb == "run" and "--env" or nil, verb == "run" and "demo" or nil }
  end

  -- Only the one that is written to: a hold that stays must stand in nobody's way.
  local function with(role, act, done)
    local kinds = { cache = "redis", site = "url", hermes = "host", box = "container" }
    suite.write(dir .. "/book.lua", ([[
      runbook "Change" { why = "x" }
      local %s = target.%s "%s"
      step "Change it" { done = function() return %s end, act = function() %s end }]]):format(role, kinds[role], role, done, act))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" { cache = redis { url = "redis://127.0.0.1:%d/0" }, site = url { url = %q, within = "60s" },
      hermes = host { ssh = "hermes", config = %q }, %s }]]):format(cache.port, web.url, home.config,
      box and ("box = container { name = %q, docker = %q }"):format(box.name, engine.url) or ""))
  end

  -- Start, kill once `busy` says so, resume: how that ends, and the id of the run. `go` lets go of what works on, once the resumed run waits for it.
  local function killed(busy, go)
    local running = neap.start(words("run", dir .. "/book.lua"), {})
    await(busy, "the write", running)
    running:kill(9)
    running:finish()
    local run = T.entries(dir .. "/state/runs")[1]:gsub("%.db$", "")
    local resumed = neap.start(words("resume", run), {})
    resumed:shut()
    if go then
      while not resumed.err:find("waiting", 1, true) do
        local name, bytes = resumed.handle:read(60000)
        if not name then error(bytes .. ": " .. resumed.out .. resumed.err) end
        resumed[name] = resumed[name] .. bytes
      end
      go()
    end
    return resumed:finish(), run
  end

  local function records(run)
    local kinds = {}
    for line in neap({ "show", run, "--json", "--state", dir .. "/state" }, {}).out:gmatch("[^\n]+") do
      local ok, event = pcall(text.parse, line)
      if ok and type(event) == "table" and (event.kind == "intent" or event.kind == "outcome") then kinds[#kinds + 1] = event end
    end
    return kinds
  end

  local function lines_of(path) return select(2, (suite.read(path)):gsub("\n", "")) end

  it("waits for a command on a host, and finds it done once #kill", function()
    local script = ("touch %s/busy; while [ ! -e %s/go ]; do sleep 0.02; done; echo x >>%s/made"):format(dir, dir, dir)
    with("hermes", ('hermes:run { "sh", "-c", %q }'):format(script), ('hermes:has %q'):format(dir .. "/made"))
    local r, run = killed(function() return io.open(dir .. "/busy") end, function() suite.write(dir .. "/go", "") end)
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal(1, lines_of(dir .. "/made"))
    local events = records(run)
    assert.truthy(text.json(events):find("host.run", 1, true), text.json(events))
  end)

  it("waits for a command in a container, and finds it done once #kill", function()
    if not box then return pending("no Engine") end
    with("box", 'box:run { "sh", "-c", "touch /busy; while [ ! -e /go ]; do sleep 0.1; done; echo x >>/made" }', 'box:has "/made"')
    local r = killed(function() return box.exec({ "ls", "/" }).out:find("busy", 1, true) end, function() box.exec { "touch", "/go" } end)
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("x\n", box.exec({ "cat", "/made" }).out)
  end)

  it("asks a human about a request, and does not send it again #kill", function()
    with("site", 'site:post "/never"', "false")
    local before = web.counts()["POST /never"] or 0
    local r = killed(function() return (web.counts()["POST /never"] or 0) > before end)
    assert.equal(75, r.code, r.out .. r.err)
    assert.matches("nobody can say whether it was", r.out .. r.err, 1, true)
    assert.equal(before + 1, web.counts()["POST /never"])
    assert.is_nil((r.out .. r.err):find("has not begun", 1, true))
  end)

  it("asks a human about a command of Redis #kill", function()
    cache.cli("del", "list")
    with("cache", 'cache:write("BLPOP", "list", "120")', "false")
    local r = killed(function() return cache.cli("client", "list"):find("cmd=blpop", 1, true) end)
    cache.cli("flushall")                                        -- and with it the hold
    assert.equal(75, r.code, r.out .. r.err)
  end)

  it("writes every intent before any outcome of what runs side by side, and settles each #kill", function()
    local function touch(n)
      return ('hermes:run { "sh", "-c", "touch %s/busy%d; while [ ! -e %s/go ]; do sleep 0.02; done; echo x >>%s/made%d" }'):format(dir, n, dir, dir, n)
    end
    local steps = {}
    for n = 1, 4 do steps[n] = ('step "Change %d" { done = function() return hermes:has "%s/made%d" end, act = function() %s end }'):format(n, dir, n, touch(n)) end
    with("hermes", "", "true")
    suite.write(dir .. "/book.lua", 'runbook "Many" { why = "x" } local hermes = target.host "hermes" parallel { limit = 4, ' .. table.concat(steps, ", ") .. " }")
    local r, run = killed(function()
      for n = 1, 4 do
        if not io.open(dir .. "/busy" .. n) then return false end
      end
      return true
    end, function() suite.write(dir .. "/go", "") end)
    assert.equal(0, r.code, r.out .. r.err)
    for n = 1, 4 do assert.equal(1, lines_of(dir .. "/made" .. n)) end
    local open = 0
    for _, event in ipairs(records(run)) do open = open + (event.kind == "intent" and 1 or -1) end
    assert.equal(0, open)
  end)
end)
