-- client.url and client.webhook against a real web server.

local guard = require "native.guard"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local task = require "native.task"
local text = require "native.text"
local urls, webhooks = require "client.url", require "client.webhook"

local web, notices

local function context(more)
  local all = { notice = function (severity, message, role) notices[#notices + 1] = ("%s %s: %s"):format(role, severity, message) end }
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

local function site(more, given)
  local spec = { url = web.url }
  for key, value in pairs(more or {}) do spec[key] = value end
  return urls.bind("site", spec, context(given))
end

local function chat(more)
  local spec = { url = web.url .. "/echo" }
  for key, value in pairs(more or {}) do spec[key] = value end
  return webhooks.bind("chat", spec, context())
end

local function fails(code, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(code, err.code, tostring(err))
  return err
end

local function try(sentence, fn)
  it(sentence, function ()
    notices = {}
    T.run(fn)
  end)
end

local function in_preview(fn)
  guard.mode("plan")
  guard.predictions()
  local ok, err = pcall(fn)
  guard.mode("run")
  guard.clear()
  if not ok then error(err, 0) end
  return guard.predictions()
end

describe("a url", function ()
  setup(function () web = servers.http() end)

  try("gives pages, their headers and what their JSON stands for", function ()
    local answer = site():get "/echo?a=1"
    assert.equal(200, answer:status())
    assert.equal("application/json", answer:header "Content-Type")
    assert.equal("/echo?a=1", answer:json().path)
    assert.equal("GET", site({ url = web.url .. "/echo" }):json().method)
    assert.equal(204, site({ url = web.url .. "/status/" }):get("204"):status())
    assert.equal("", site():head("/ok"):body())
    local stream <close> = site():open "/ok"
    assert.equal("hello\n", stream:read(100))
  end)

  try("raises on a status that was not allowed, with what the page said", function ()
    local err = fails("remote", function () site():get "/status/503" end)
    assert.equal(("GET %s/status/503 answered 503: status 503"):format(web.url), err.message)
    assert.equal(503, err.status)
    assert.equal(404, site():get("/nothing", { allow = { 404 } }):status())
    assert.equal(302, site():get("/redirect?to=/ok", { allow = { 302 } }):status())
    assert.equal("hello\n", site():get("/redirect?to=/ok", { follow = 1 }):body())
    fails("remote", function () site():open "/status/500" end)
    fails("usage", function () site():get("/ok", { timeout = "1s" }) end)
  end)

  try("sends what changes something, once, with its headers", function ()
    local s = site { headers = { ["X-Key"] = secret.of("k3y-0a91cc", "key") } }
    for _, method in ipairs { "post", "put", "patch", "delete" } do
      local seen = s[method](s, "/echo", { json = { n = 1 } }):json()
      assert.equal(method:upper(), seen.method)
      assert.equal('{"n":1}', seen.body)
      assert.equal("‹secret key›", seen.headers["x-key"])
    end
    assert.equal("PURGE", s:send("/echo", { method = "PURGE" }):json().method)
    fails("usage", function () s:send("/echo", { method = "GET" }) end)
    fails("remote", function () s:post "/status/422" end)
    fails("unknown", function () s:post "/status/504" end)
    fails("unknown", function () s:post "/drop" end)
  end)

  try("is healthy or not, and raises only for what waiting does not mend", function ()
    local s, hasty = site { health = "/ok" }, site { within = "300ms" }
    assert.is_true(s:healthy())
    assert.is_true(s:healthy { contains = "hello" })
    assert.same({ false, "its page does not hold \"bye\"" }, { s:healthy { contains = "bye" } })
    assert.same({ false, "status 503" }, { s:healthy { path = "/status/503" } })
    assert.is_true(s:healthy { path = "/status/503", status = 503 })
    for _, path in ipairs { "/never", "/drop", "/cut" } do assert.is_false((hasty:healthy { path = path })) end
    assert.is_false((site { url = "http://127.0.0.1:1" }:healthy()))
    fails("auth", function () site { url = web.tls_url, ca = web.other_ca }:healthy() end)
    local mark = task.deadline(50)
    fails("timeout", function () s:healthy { path = "/never", within = "9s" } end)
    task.restore(mark)
  end)

  try("shows what it would send in a preview, and sends nothing", function ()
    local before = web.counts()["POST /echo"] or 0
    local made = in_preview(function ()
      task.phase "act"
      local withheld = site():post("/echo?token=planted", { json = { database = "shop" } })
      assert.equal("userdata", type(withheld))
      fails("withheld", function () site():get "/ok" end)
    end)
    assert.equal(before, web.counts()["POST /echo"] or 0)
    assert.equal(("POST %s/echo?token=…"):format(web.url), made[1].text)
    assert.equal('{"database":"shop"}', made[1].plan)
    assert.equal("url:http://127.0.0.1:" .. web.port, made[1].subject)
  end)

  try("is declared: its reads are worth what its author says", function ()
    guard.reads()
    site():get "/ok"
    assert.equal("declared", guard.reads()[1].label)
  end)

  try("has a card, which tells and does not raise when nobody answers", function ()
    local card = site({ health = "/ok" }):card()
    assert.equal("url:http://127.0.0.1:" .. web.port, card.id)
    assert.same({ { "url", web.url .. "/" }, { "answers", "200, from 127.0.0.1:" .. web.port } }, card.lines)
    assert.is_nil(card.wrong)
    assert.equal("certificate proved", site({ url = web.tls_url, ca = web.ca }):card().lines[2][2])
    assert.matches("answers 500", site({ health = "/status/500" }):card().wrong.message)
    local dead = site({ url = "http://127.0.0.1:1" }):card()
    assert.equal("url:http://127.0.0.1:1", dead.id)
    assert.matches("connect", dead.wrong.message)
  end)

  try("is reached from the target it stands on", function ()
    local asked = {}
    local below = { ways = { dial = function (_, host, port)
      asked[#asked + 1] = ("%s %d"):format(host, port)
      return require("native.net").tcp("127.0.0.1", tonumber(web.port))
    end } }
    local s = site({ url = "http://inside:9000", on = "hermes" }, { target = function (role, kinds) return role == "hermes" and #kinds == 2 and below end })
    assert.equal("hello\n", s:get("/ok"):body())
    assert.equal("hello\n", s:get("/ok"):body())
    assert.same({ "inside 9000" }, asked)
    assert.equal("url:hermes/http://inside:9000", s:card().id)
  end)

  it("is refused where it is written, when it is none", function ()
    assert.matches("no url", fails("config", urls.bind, "site", {}, context()).message)
    assert.matches("\"site\": this is no URL", fails("config", urls.bind, "site", { url = "example.org" }, context()).message)
  end)
end)

describe("a webhook", function ()
  setup(function () web = servers.http() end)

  -- The body that arrived, in a record's stead: the server repeats it.
  local function told(spec, ...)
    local c = chat(spec)
    local body
    local http = require "native.http"
    local request = http.request
    http.request = function (asked)
      local answer, err = request(asked)
      body = answer and text.parse(answer.body).body
      return answer, err
    end
    local ok, err = pcall(c.send, c, ...)
    http.request = request
    assert.is_true(ok, tostring(err))
    return body
  end

  try("tells in the words of who listens", function ()
    assert.same({ text = "a &lt;b&gt; &amp; c\n• database: shop\n• rows: 3" }, text.parse(told({ format = "slack" }, "a <b> & c", { rows = 3, database = "shop" })))
    assert.same({ text = "begun", fields = { run = "7f" } }, text.parse(told({}, "begun", { run = "7f" })))
    assert.same({ text = "begun" }, text.parse(told({ format = "json" }, "begun")))
    assert.equal("begun\nz: 1\na: 2\n", told({ format = "plain" }, "begun", { { "z", 1 }, { "a", 2 } }))
    local card = text.parse(told({ format = "teams" }, "begun", { run = "7f" })).attachments[1].content
    assert.equal("begun", card.body[1].text)
    assert.same({ { title = "run", value = "7f" } }, card.body[2].facts)
  end)

  try("gives false and a note when nobody could be told, unless it must", function ()
    local dead = { url = "http://127.0.0.1:1" }
    local began = T.now_ms()
    assert.is_false((chat(dead):send "begun"):told())
    assert.is_true(T.now_ms() - began >= 1500, "it is tried three times")
    assert.matches("^chat warning: nobody could be told: ", notices[1])
    assert.is_false((chat({ url = web.url .. "/status/500" }):send "begun"):told())
    assert.equal(2, #notices)
    fails("remote", function () chat({ url = web.url .. "/status/500" }):send("begun", nil, { must = true }) end)
    fails("remote", function () chat({ url = web.url .. "/status/500", must = true }):send "begun" end)
    assert.is_false((chat({ url = web.url .. "/status/500", must = true }):send("begun", nil, { must = false })):told())
  end)

  try("does not say twice what may have arrived", function ()
    local before = web.counts()["POST /drop"] or 0
    assert.is_false((chat({ url = web.url .. "/drop" }):send "begun"):told())
    assert.equal(before + 1, web.counts()["POST /drop"])
  end)

  try("keeps its url out of everything that is shown", function ()
    local hook = secret.of(web.url .. "/status/500/T0K-99ee", "chat.url")
    local c = webhooks.bind("chat", { url = hook }, context())
    assert.is_false((c:send "begun"):told())
    assert.equal(web.url .. "/‹secret chat.url›", c:card().lines[1][2])
    for _, words in ipairs { notices[1], text.json(T.records()) } do assert.is_nil(words:find("T0K-99ee", 1, true)) end
    local made = in_preview(function ()
      task.phase "act"
      c:send("begun", { database = "shop" })
    end)
    assert.equal(("POST %s/‹secret chat.url›"):format(web.url), made[1].text)
    assert.matches("begun", made[1].plan)
  end)

  it("is refused where it is written, when it cannot be used", function ()
    assert.equal("Did you mean slack?", fails("config", webhooks.bind, "chat", { url = "https://x", format = "slak" }, context()).hint)
    fails("config", webhooks.bind, "chat", { url = "x" }, context())
    T.run(function () fails("usage", function () chat():send(nil) end) end)
  end)
end)
