--- Runbooks that try to write beyond this machine where they may only ask: Redis, HTTP, hosts, containers. What arrives there is counted
--- by those who are asked.

local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local text = require("native.text")

-- Every verb that writes.
local WRITES <const> = {
  'cache:write("SET", "made", "1")', 'cache:remove("DEL", "kept")', 'cache:set("made", "1")', 'cache:transaction { { "SET", "made", "1" } }',
  'cache:remove_matching { match = "*" }',
  'site:post("/echo", { body = "x" })', 'site:put("/echo", { json = { a = 1 } })', 'site:patch "/echo"', 'site:delete "/echo"',
  'site:send("/echo", { method = "get" })', 'site:send("/echo", { method = "PURGE" })', 'chat:send("made")',
  'hermes:run { "touch", mark }', 'hermes:start { "touch", mark }', 'hermes:run({ "touch", mark }, { stdin = "x" })',
}

local BOXED <const> = {
  'box:run { "touch", "/made" }', 'box:start { "touch", "/made" }', 'box:stop()', 'box:start()', 'box:restart()', 'box:remove { force = true }',
  'box:create { name = "made", image = "busybox" }', 'box:copy_in("/etc/hostname", "/made")', 'box:input_from({ "sh", "-c", "cat >/made" }, "/etc/hostname")',
}

-- Those that answer nothing, in a run either.
local SILENT <const> = { ['box:stop()'] = true, ['box:start()'] = true, ['box:restart()'] = true, ['box:remove { force = true }'] = true }

-- What looks like a read.
local DISGUISED <const> = {
  'cache:read("SET", "made", "1")', 'cache:read("set", "made", "1")', 'cache:read("GETDEL", "kept")', 'cache:read("GETEX", "kept", "EX", "1")',
  'cache:read("EVAL", "return redis.call(\'set\', \'made\', \'1\')", "0")', 'cache:read("EVAL_RO", "return redis.call(\'slowlog\', \'reset\')", "0")',
  'cache:read("CONFIG", "SET", "maxmemory", "1mb")', 'cache:read("CONFIG", "RESETSTAT")', 'cache:read("CLIENT", "NO-EVICT", "on")',
  'cache:read("CLIENT", "KILL", "TYPE", "normal")', 'cache:read("SCRIPT", "FLUSH")', 'cache:read("OBJECT", "FREEZE", "kept")', 'cache:read("DEBUG", "SLEEP", "0")',
  'cache:read("SORT", "kept", "STORE", "made")', 'cache:read("MULTI")', 'cache:read("EXEC")', 'cache:read("PUBLISH", "a", "b")', 'cache:read("SHUTDOWN")',
  'cache:read("BGSAVE")', 'cache:read("LATENCY", "RESET")', 'cache:read("ACL", "LOG", "RESET")', 'cache:read("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")',
  'cache:read("SWAPDB", "0", "1")', 'cache:read("SELECT", "1")', 'cache:read("TOUCH", "kept")', 'cache:read("PFCOUNT", "kept")', 'cache:read("SET\\r\\nmade", "1")',
  'cache:pipeline { { "GET", "kept" }, { "SET", "made", "1" }, { "GET", "kept" } }', 'cache:pipeline { { "PING" }, { "FLUSHALL" } }',
  'cache:info "all\\r\\nSET made 1" error("asked for a section that is not there")', 'for _ in cache:scan { match = "*", type = "string\\r\\nSET made 1" } do break end error("scanned")',
  'site:get("/echo", { body = "delete" })', 'site:json("/echo", { json = { delete = true } })', 'site:head("/echo", { body = "x" })',
  'site:get("/echo", { headers = { ["X-HTTP-Method-Override"] = "DELETE" } })', 'site:open("/echo", { body = "x" })', 'site:get("/echo", { method = "POST", body = "x" })',
  'site:get "/echo HTTP/1.1\\r\\n\\r\\nPOST /echo"', 'site:get("/echo", { headers = { ["X-A"] = "b\\r\\n\\r\\nPOST /echo HTTP/1.1" } })',
}

local PLACES <const> = {
  needs = "needs = function () %s end", done = "done = function () %s return true end, act = nothing", verify = "verify = function () %s end",
  each = "each = function () %s return { 'a' } end, act = nothing, verify = yes",
  ["__close"] = "verify = function () local x <close> = setmetatable({}, { __close = function () %s end }) end",
  pcall = "verify = function () pcall(function () %s end) return true end",
  ["wait_until"] = "verify = function () wait_until(function () %s return true end, { within = '1s' }) end",
}

describe("a trick that reaches beyond this machine", function()
  local hermes, home, cache, web, engine, box, dir, mark

  setup(function()
    hermes, cache, web = servers.sshd { name = "review" }, servers.redis { name = "plain", open = true }, servers.http()
    home = servers.ssh_home { hermes = hermes }
    engine = servers.docker()
    box = engine and engine.busybox { name = "tricked", cmd = { "sleep", "600" } }
  end)

  before_each(function()
    dir = suite.memory()
    T.mode(dir, tonumber("777", 8))
    mark = dir .. "/made"
    cache.cli("flushall")
    cache.cli("set", "kept", "1")
  end)

  local function writes_of_cache()
    local said = cache.cli("info", "commandstats")
    local count = 0
    for name, calls in said:gmatch("cmdstat_([%w_|-]+):calls=(%d+)") do
      if name:find("^set$") or name:find("^del$") or name:find("unlink") or name:find("^eval") or name:find("flush") or name:find("config|set") or name:find("multi") then
        count = count + tonumber(calls)
      end
    end
    return count
  end

  -- Everything that would show a write.
  local function look()
    local seen = { cache = writes_of_cache(), kept = cache.cli("get", "kept"), size = cache.cli("dbsize"), mark = io.open(mark) ~= nil }
    for what, count in pairs(web.counts()) do
      if not what:find("^GET /counts") and not what:find("^GET /ok") and not what:find("^HEAD ") then seen[what] = count end
    end
    if box then
      seen.box = box.inspect("{{.State.StartedAt}} {{.State.Status}}")
      seen.inside = box.exec { "ls", "-A", "/" }
      seen.boxes = engine.cli("ps", "-aq")
    end
    return seen
  end

  local function plan(steps)
    local boxed = box and 'local box = target.container "box"' or ""
    suite.write(dir .. "/book.lua", ([[
      runbook "Trick" { why = "it tries to write where it may only ask" }
      local cache, site, chat, hermes = target.redis "cache", target.url "site", target.webhook "chat", target.host "hermes"
      %s
      local mark = %q
      local function nothing() end
      local function yes() return true end
      %s]]):format(boxed, mark, steps))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" { cache = redis { url = "redis://127.0.0.1:%d/0" }, site = url { url = %q, health = "/ok" },
      chat = webhook { url = %q }, hermes = host { ssh = "hermes", config = %q }, %s }]]):format(cache.port, web.url, web.url .. "/echo", home.config,
      box and ("box = container { name = %q, docker = %q }"):format(box.name, engine.url) or ""))
    local r = servers.neap({ "plan", dir .. "/book.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--json" }, { timeout = 60000 })
    local ok, data = pcall(text.parse, r.out)
    assert.is_true(ok, r.out .. r.err)
    return data.steps, r
  end

  local function all_of(...)
    local list = {}
    for _, part in ipairs { ... } do table.move(part, 1, #part, #list + 1, list) end
    return list
  end

  for place, template in pairs(PLACES) do
    it("from " .. place .. " writes nothing, whatever it is called", function()
      local lines, calls = {}, all_of(WRITES, DISGUISED, box and BOXED or {})
      for i, call in ipairs(calls) do
        if not (call:find "^for " and place == "each") then lines[#lines + 1] = ('step "Try %d" { %s }'):format(i, template:format(call)) end
      end
      local before = look()
      local steps = plan(table.concat(lines, "\n"))
      assert.same(before, look())
      for _, step in ipairs(steps) do
        local call = calls[tonumber(step.title:match("%d+"))]
        local said = step.failed or place == "each" and step.withheld ~= nil or place == "pcall" or call:find("error(", 1, true)     -- what the server itself answers nonsense with
        assert.is_true(said and true, place .. ": " .. call .. "\n" .. text.json(step))
      end
    end)
  end

  it("from act is shown and writes nothing, whatever its result is asked", function()
    local lines, calls = {}, all_of(WRITES, box and BOXED or {})
    for i, call in ipairs(calls) do
      lines[#lines + 1] = ('step "Plain %d" { act = function () %s end, verify = yes }'):format(i, call)
      if not SILENT[call] then
        lines[#lines + 1] = ('step "Kept %d" { act = function () local r <close> = %s pcall(function () return r:status() + #r end) r:stop() r:stdin():write("x") end, verify = yes }'):format(i, call)
      end
    end
    local before = look()
    local steps = plan(table.concat(lines, "\n"))
    assert.same(before, look())
    for _, step in ipairs(steps) do
      assert.is_nil(step.failed, text.json(step))
      local first = step.lines[1] or {}
      assert.is_true(first.label == "predicted" or first.label == "unknown", calls[tonumber(step.title:match("%d+"))] .. text.json(step))
    end
  end)
end)
