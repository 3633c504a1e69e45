--- Secrets on their way to Redis, HTTP, hosts and containers, whose far ends repeat what they are told. Everything that leaves neap is
--- searched for them: arguments of every process while the run goes on, what it says, what it leaves, here and there.

local child = require("tests.support.child")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")

-- Of this process alone: neither this file, which may lie in the home of a host, nor a suite that runs beside this one holds them.
local function made(text) return ("%s%d"):format(text, T.pid()) end

local SECRETS <const> = {
  PG = servers.passwords.owner, CACHE = servers.redis and require("tests.support.servers.redis").passwords.default,
  HEADER = made "hdr/7c+planted=19xq", LOGIN = made "log%5cplanted-88ab", CHAT = made "chat-planted-5d21f0", QUERY = made "qry-planted-e0c7",
}

local BOOK <const> = [[
runbook "Leak it" { why = "It tries to." }
local db, cache, site, chat, hermes = target.postgres "db", target.redis "cache", target.url "site", target.webhook "chat", target.host "hermes"
local box = BOX
local echo = { "sh", "-c", "env; cat; sleep 0.3; env >&2" }
local function told() return { env = { URL = db:url() }, stdin = db:url() } end
step "Ask" {
  verify = function ()
    local answer = site:get("/auth", { allow = { 401 } })
    note("%s", answer:body() .. answer:header "x-told")
    local said = hermes:read(echo, told())
    note("%s", said:out() .. said:err())
    if box then note("%s", box:read(echo, told()):out()) end
    note("%s", cache:get "planted" .. tostring(site:json("/echo").headers.authorization))
    check(said:status() == 0, "it said " .. said:out())
    report { title = "Words", columns = { "word" }, rows = { { cache:get "planted" }, { said:out() } } }
  end,
}
step "Act" {
  act = function ()
    cache:write("SET", "url", db:url())
    cache:transaction { { "SET", "url", db:url() }, { "GET", "url" } }
    local said = hermes:run(echo, told())
    note("%s", said:out() .. said:err())
    if box then note("%s", box:run(echo, told()):out()) end
    note("%s", site:post("/echo", { body = db:url(), headers = { ["X-Own"] = db:url() } }):body())
    chat:send("hello", { word = cache:get "planted" })
    return said:out()
  end,
  verify = function () check.same(cache:get "url", "x", "the url is " .. cache:get "url") end,
}
]]

local FAILURES <const> = {
  ["by a host"] = 'hermes:run({ "sh", "-c", "echo no: $URL >&2; exit 3" }, { env = { URL = db:url() } })',
  ["by Redis, which repeats the words it does not know"] = 'cache:write("NOSUCH", db:url(), db:url())',
  ["by a page"] = 'site:post "/auth"',
  ["by an error of the runbook's own"] = 'error("no: " .. cache:get "planted" .. site:get("/auth", { allow = "any" }):body())',
}

local function base64(text) return (child.run { argv = { "base64", "-w0" }, input = text }.out) end

local function shapes_of(secret)
  local hex = secret:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  local list = { secret, hex, hex:upper(), (secret:gsub("[^%w%-_.~]", function(c) return ("%%%02X"):format(c:byte()) end)) }
  for pad = 0, 2 do
    local code = base64(("x"):rep(pad) .. secret):gsub("=+$", "")
    list[#list + 1] = code:sub(pad == 0 and 1 or pad + 2, -4)
  end
  return list
end

describe("a secret told to a far end that repeats it", function()
  local pg, cache, web, hermes, home, engine, box, database, shapes, dir

  setup(function()
    pg, cache, web, hermes = servers.postgres(), servers.redis(), servers.http(), servers.sshd { name = "review" }
    home = servers.ssh_home { hermes = hermes }
    engine = servers.docker()
    box = engine and engine.busybox { name = "leaky", cmd = { "sleep", "600" } }
    database = pg.database()
    shapes = {}
    for name, secret in pairs(SECRETS) do
      for _, shape in ipairs(shapes_of(secret)) do shapes[#shapes + 1] = { name = name, text = shape } end
    end
  end)

  before_each(function()
    dir = suite.memory()
    cache.cli("set", "planted", SECRETS.HEADER)
  end)

  local function clean(words, where)
    for _, shape in ipairs(shapes) do
      local at = words:find(shape.text, 1, true)
      if at then error(("%s is in %s: %s"):format(shape.name, where, words:sub(math.max(at - 80, 1), at + #shape.text + 20)), 2) end
    end
  end

  local function arguments()
    for _, pid in ipairs(T.entries("/proc")) do
      local file = pid:match("^%d+$") and io.open("/proc/" .. pid .. "/cmdline")
      if file then
        clean((file:read("a") or ""):gsub("\0", " "), "the arguments of process " .. pid)
        file:close()
      end
    end
  end

  local function files_below(path)
    for _, name in ipairs(T.entries(path) or {}) do
      local inside = path .. "/" .. name
      if T.entries(inside) then files_below(inside)
      else
        local file = io.open(inside, "rb")
        if file then clean(file:read("a") or "", inside) file:close() end
      end
    end
  end

  local function neap(words, followed)
    table.move({ "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state" }, 1, 6, #words + 1, words)
    local env = { CHAT_URL = web.url .. "/echo?token=" .. SECRETS.CHAT }
    for name, value in pairs(SECRETS) do env[name] = value end
    local running, samples = servers.neap.start(words, { env = env }), 0
    while followed do
      arguments()
      samples = samples + 1
      local name, bytes = running.handle:read(0)
      if name then running[name] = running[name] .. bytes elseif bytes == "end" then break end
    end
    assert.is_true(not followed or samples > 0)
    return running:finish()
  end

  local function write_book(text)
    suite.write(dir .. "/leak.lua", (text:gsub("BOX", box and 'target.container "box"' or "nil")))
  end

  local function inventory()
    suite.write(dir .. "/inventory.lua", ([[environment "demo" {
      db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PG" } },
      cache = redis { url = "redis://127.0.0.1:%d/0", password = secret { env = "CACHE" } },
      site = url { url = %q, headers = { Authorization = secret { env = "HEADER" } } },
      chat = webhook { url = secret { env = "CHAT_URL" } }, hermes = host { ssh = "hermes", config = %q }, %s }]]):format(
      pg.port, database, cache.port, web.url, home.config, box and ("box = container { name = %q, docker = %q }"):format(box.name, engine.url) or ""))
  end

  for way, act in pairs(FAILURES) do
    it("appears nowhere " .. way, function()
      inventory()
      write_book(BOOK:gsub("check%.same%(.-\n", "check(true, 'done') end,\n") .. ('step "Fail" { act = function () %s end, verify = function () check(true, "x") end }\n'):format(act))
      for _, more in ipairs { {}, { "--json" } } do
        local words = { "run", dir .. "/leak.lua", "--no-input", table.unpack(more) }
        local r = neap(words, true)
        clean(r.out .. r.err, "what it said")
        assert.matches("Fail", r.out .. r.err, 1, true)
        assert.are_not.equal(0, r.code)
        local run = T.entries(dir .. "/state/runs") and T.entries(dir .. "/state/runs")[1]
        if run then
          for _, page in ipairs { { "show", run }, { "show", run, "--step", "1" }, { "show", run, "--step", "3" }, { "show", run, "--json" } } do
            local seen = servers.neap({ table.unpack(page), "--state", dir .. "/state" }, {})
            clean(seen.out .. seen.err, "show")
          end
        end
        local plan = neap { "plan", dir .. "/leak.lua", table.unpack(more) }
        clean(plan.out .. plan.err, "the plan")
        assert.matches("SET", plan.out, 1, true)
        neap { "undo", run or "x" }
      end
      files_below(dir .. "/state")
      files_below(suite.directory() .. "/tmp")
      if hermes.uid then files_below(hermes.home) end      -- the home of an account made for it
      clean(hermes.log(), "the log of sshd")
      if box then clean(engine.cli("inspect", box.id) .. engine.log(), "what the Engine tells") end
    end)
  end

  it("appears nowhere when a check shows what it is", function()
    inventory()
    write_book(BOOK)
    local r = neap({ "run", dir .. "/leak.lua", "--no-input" }, true)
    assert.are_not.equal(0, r.code)
    clean(r.out .. r.err, "what it said")
    files_below(dir .. "/state")
  end)

  it("appears nowhere when it stands in a url that does not work", function()
    local urls = {
      ('site = url { url = "http://anna:%s@127.0.0.1:1/x" }'):format(SECRETS.QUERY), ('site = url { url = "http://127.0.0.1:1/x?token=%s" }'):format(SECRETS.QUERY),
      ('site = url { url = "http://anna:%s@[::bad/x" }'):format(SECRETS.QUERY), ('site = url { url = "ftp://anna:%s@h/x" }'):format(SECRETS.QUERY),
      ('site = url { url = "%s" }'):format((web.url:gsub("//", "//anna:" .. SECRETS.QUERY .. "@")) .. "/status/500"),
      ('cache = redis { url = "redis://anna:%s@127.0.0.1:1/0" }'):format(SECRETS.QUERY), ('cache = redis { url = "redis://anna:%s@127.0.0.1:%d/0" }'):format(SECRETS.QUERY, cache.port),
      ('cache = redis { url = "redis://anna:%s@[::bad/0" }'):format(SECRETS.QUERY), ('cache = redis { url = "redis://:%s@127.0.0.1:%d/notadb" }'):format(SECRETS.QUERY, cache.port),
      ('chat = webhook { url = "http://127.0.0.1:1/hooks/x?key=%s" }'):format(SECRETS.QUERY), 'chat = webhook { url = secret { env = "BAD" } }',
      ('cache = redis { url = "redis://127.0.0.1:%d/0", password = secret { env = "QUERY" } }'):format(cache.port),
    }
    for _, url in ipairs(urls) do
      local role, kind = url:match("^(%w+) = (%w+)")
      suite.write(dir .. "/inventory.lua", ([[environment "demo" { %s }]]):format(url))
      local act = { url = 'site:post "/x"', redis = 'cache:write("SET", "a", "1")', webhook = 'chat:send("x", nil, { must = true })' }
      suite.write(dir .. "/leak.lua", ([[runbook "Leak" { why = "x" } local %s = target.%s "%s"
        step "Do" { act = function () %s end, verify = function () check(true, "x") end }]]):format(role, kind, role, act[kind]))
      for _, words in ipairs { { "run", dir .. "/leak.lua", "--no-input" }, { "run", dir .. "/leak.lua", "--no-input", "--json" }, { "plan", dir .. "/leak.lua" }, { "doctor" } } do
        local r = neap(words)
        clean(r.out .. r.err, url .. " " .. words[1])
      end
    end
    files_below(dir .. "/state")
  end)
end)
