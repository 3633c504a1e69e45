-- native.http against a real web server (servers/http.js).

local http = require "native.http"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local web

local function ask(more)
  local all = { url = web.url, within_ms = 120000 }
  for key, value in pairs(more) do all[key] = value end
  return http.request(all)
end

local function asked(more) return assert(ask(more)) end

local function refused(code, more)
  local answer, err = ask(more)
  assert.is_nil(answer)
  assert.equal(code, err.code, tostring(err))
  return err
end

local function raises(code, pattern, more)
  local ok, err = pcall(ask, more)
  assert.is_false(ok)
  assert.equal(code, err.code)
  assert.matches(pattern, err.message)
  return err
end

-- Bodies of the records of a kind.
local function recorded(kind)
  local list = {}
  for _, r in ipairs(T.records()) do
    if r.kind == kind then list[#list + 1] = type(r.body) == "string" and text.parse(r.body) or r.body end
  end
  return list
end

-- An `it` whose body is a task.
local function try(sentence, fn)
  it(sentence, function () T.run(fn) end)
end

describe("native.http", function ()
  setup(function () web = servers.http() end)

  describe("asks", function ()
    try("and hands back status, headers and body, whatever the status", function ()
      local answer = asked { path = "/ok" }
      assert.same({ 200, "hello\n", false }, { answer.status, answer.body, answer.doubtful })
      assert.equal("127.0.0.1:" .. web.port, answer.address)
      assert.equal(404, asked { path = "/nothing" }.status)
      assert.equal(500, asked { path = "/status/500" }.status)
      assert.equal("", asked { path = "/ok", method = "HEAD" }.body)
      assert.equal("one,two,three", asked { path = "/chunked" }.body)
    end)

    try("in the plainest way: one HTTP/1.1 request, nothing compressed, no cookies, no proxy of the environment", function ()
      T.setenv("http_proxy", "http://127.0.0.1:1")
      T.setenv("HTTP_PROXY", "http://127.0.0.1:1")
      local seen = text.parse(asked({ path = "/echo?a=b" }).body)
      T.setenv("http_proxy", nil)
      T.setenv("HTTP_PROXY", nil)
      assert.equal("/echo?a=b", seen.path)
      assert.matches("^neap/", seen.headers["user-agent"])
      assert.same({ "accept", "host", "user-agent" }, (function ()
        local names = {}
        for name in pairs(seen.headers) do names[#names + 1] = name end
        table.sort(names)
        return names
      end)())
    end)

    try("with headers, a body or JSON", function ()
      local seen = text.parse(asked({ path = "/echo", method = "PUT", body = "some\0bytes", headers = { ["X-Own"] = "yes", ["X-Empty"] = "" } }).body)
      assert.equal("some\0bytes", seen.body)
      assert.equal("yes", seen.headers["x-own"])
      assert.equal("", seen.headers["x-empty"])
      assert.equal("text/plain; charset=utf-8", seen.headers["content-type"])
      seen = text.parse(asked({ path = "/echo", method = "POST", json = { list = { 1, 2 }, word = "x" } }).body)
      assert.equal('{"list":[1,2],"word":"x"}', seen.body)
      assert.equal("application/json", seen.headers["content-type"])
      assert.equal("DELETE", text.parse(asked({ path = "/echo", method = "DELETE" }).body).method)
      assert.equal("one, two", asked({ path = "/echo" }).headers["x-twice"])
    end)

    try("over TLS, when the certificate is one of the given authority and names the host", function ()
      assert.equal("hello\n", asked({ url = web.tls_url, path = "/ok", ca = web.ca }).body)
      assert.matches("certificate", refused("auth", { url = web.tls_url, ca = web.other_ca }).message)
      assert.matches("certificate", refused("auth", { url = web.tls_url }).message)
      assert.matches("subject name", refused("auth", { url = web.tls_url:gsub("localhost", "0.0.0.0"), ca = web.ca }).message)
      refused("config", { url = web.tls_url, ca = "/nowhere.pem" })
      refused("protocol", { url = web.url:gsub("^http:", "https:") })
    end)

    try("over a unix socket", function ()
      assert.equal("hello\n", asked({ url = "http://anything", path = "/ok", unix = web.socket }).body)
      refused("unreachable", { url = "http://anything", unix = suite.directory() .. "/nobody.sock" })
    end)

    try("fifty at once, side by side", function ()
      local tasks = {}
      for i = 1, 50 do
        tasks[i] = task.spawn(function () return asked({ path = "/together?n=50", within_ms = 60000, headers = { ["X-Number"] = tostring(i) } }).body end)
      end
      for _, t in ipairs(tasks) do
        local ok, body = t:join()
        assert.same({ true, "together" }, { ok, body })
      end
      local _, most = web.counts()
      assert.is_true(most >= 50)
    end)
  end)

  describe("refuses before it asks", function ()
    try("what is no http or https URL written in full", function ()
      for _, url in ipairs { "example.org", "ftp://example.org/", "file:///etc/passwd", "http://", "https://ex ample.org", "http://ёж.рф/", "gopher://x" } do
        raises("usage", "no URL that can be asked", { url = url })
      end
      local ok, err = pcall(http.request, { path = "/ok" })
      assert.is_false(ok)
      assert.equal("a request needs a url", err.message)
    end)

    try("headers that would be two, and those that are its own", function ()
      raises("usage", "control character", { headers = { ["X-A"] = "b\r\nX-B: c" } })
      raises("usage", "no name of a header", { headers = { ["X A"] = "b" } })
      raises("usage", "neap's own", { headers = { ["Transfer-Encoding"] = "chunked" } })
      raises("usage", "no method", { method = "GET / HTTP/1.1\r\nX: y" })
      raises("usage", "not both", { method = "POST", body = "a", json = {} })
      for _, name in ipairs { "X-HTTP-Method-Override", "x-http-method", "X-Method-Override" } do
        raises("usage", "neap's own", { headers = { [name] = "DELETE" } })
        raises("usage", "neap's own", { method = "POST", headers = { [name] = "DELETE" } })
      end
    end)

    try("a body in what is a read, which could be anything", function ()
      local before = web.counts()["GET /echo"] or 0
      for _, method in ipairs { "GET", "HEAD" } do
        raises("usage", "a " .. method .. " has no body", { method = method, path = "/echo", body = "delete by query" })
        raises("usage", "a " .. method .. " has no body", { method = method, path = "/echo", json = { delete = true } })
      end
      local ok, err = pcall(http.open, { url = web.url, path = "/echo", body = "x" })
      assert.same({ false, "usage" }, { ok, err.code })
      assert.equal(before, web.counts()["GET /echo"] or 0)
    end)

    try("a secret inside json, which would be sent as its name", function ()
      local value = secret.of("pass-71b2f9", "pass")
      local err = raises("usage", "secret cannot be part of json", { method = "POST", json = { deep = { value } } })
      assert.matches("template", err.hint)
    end)
  end)

  describe("a redirect", function ()
    local function to(url, status) return "/redirect?status=" .. (status or 302) .. "&to=" .. url:gsub("[:/?=&%%]", function (c) return ("%%%02X"):format(c:byte()) end) end

    try("is an answer like any other, unless it is allowed", function ()
      local answer = asked { path = to "/ok" }
      assert.equal(302, answer.status)
      assert.equal("/ok", answer.headers.location)
      for _, status in ipairs { 301, 302, 303, 307, 308 } do
        assert.equal("hello\n", asked({ path = to("/ok", status), follow = 3 }).body)
      end
    end)

    try("is followed as often as is allowed and no further", function ()
      local path = to("/ok")
      for _ = 1, 3 do path = to(web.url .. path) end
      assert.equal("hello\n", asked({ path = path, follow = 4 }).body)
      assert.matches("more than 3 times", refused("remote", { path = path, follow = 3 }).message)
    end)

    try("never leads to another protocol", function ()
      assert.matches("another protocol", refused("remote", { path = to(web.tls_url .. "/ok"), follow = 3, ca = web.ca }).message)
      assert.matches("another protocol", refused("remote", { url = web.tls_url, path = to(web.url .. "/ok"), follow = 3, ca = web.ca }).message)
      refused("protocol", { path = to("file:///etc/passwd"), follow = 3 })
    end)

    try("takes no credentials and no header of ours to another host", function ()
      local own = { ["X-Api-Key"] = "k3y-aa81", Authorization = "Bearer zz", Accept = "text/plain" }
      local seen = text.parse(asked({ path = to("/echo"), follow = 1, headers = own }).body)
      assert.equal("k3y-aa81", seen.headers["x-api-key"])
      seen = text.parse(asked({ path = to(web.other_url .. "/echo"), follow = 1, headers = own }).body)
      assert.is_nil(seen.headers["x-api-key"])
      assert.is_nil(seen.headers.authorization)
      assert.equal("text/plain", seen.headers.accept)
      local login = web.url:gsub("//", "//anna:pw-55e1@")
      assert.truthy(text.parse(asked({ url = login, path = to("/echo"), follow = 1 }).body).headers.authorization)
      assert.is_nil(text.parse(asked({ url = login, path = to(web.other_url .. "/echo"), follow = 1 }).body).headers.authorization)
      assert.is_nil(text.parse(asked({ path = to(web.other_url:gsub("//", "//x:y@") .. "/echo"), follow = 1 }).body).headers.authorization)
      local there_and_back = to(web.other_url .. to(web.url .. "/echo"))
      assert.is_nil(text.parse(asked({ path = there_and_back, follow = 2, headers = own }).body).headers["x-api-key"])
    end)

    try("of a write is never followed", function ()
      assert.equal(307, asked({ method = "POST", path = to("/echo", 307), follow = 5, body = "x" }).status)
    end)
  end)

  describe("a far end that misbehaves", function ()
    try("is unreachable, silent, slow or cut, each with its own words", function ()
      assert.is_true(refused("unreachable", { url = "http://127.0.0.1:1" }).retry)
      assert.matches("no%-such%-host", refused("unreachable", { url = "http://no-such-host.invalid" }).message)
      assert.matches("no answer within 100 ms", refused("timeout", { path = "/never", within_ms = 100 }).message)
      local stalled
      for _, within_ms in ipairs { 100, 10000 } do              -- half of it must have come by then
        stalled = refused("timeout", { path = "/stall", within_ms = within_ms }).message
        if stalled:find("not whole", 1, true) then break end
      end
      assert.matches("not whole within %d+ ms", stalled)
      assert.matches("50 bytes remaining", refused("closed", { path = "/cut" }).message)
      assert.matches("[Ee]mpty reply", refused("closed", { path = "/drop" }).message)
      assert.equal("slow", asked({ path = "/slow?ms=50" }).body)
    end)

    try("cannot fill our memory", function ()
      local err = refused("remote", { path = "/big?bytes=2000000", limit = 1000000 })
      assert.matches("larger than 1000000 bytes", err.message)
      refused("remote", { path = "/big?length=1&bytes=2000000", limit = 1000000 })
      refused("remote", { path = "/big?bytes=40000000" })
      assert.equal(1000000, #asked({ path = "/big?bytes=1000000", limit = 1000000 }).body)
    end)

    try("lets go at once when the task is stopped, wherever it is", function ()
      for _, path in ipairs { "/never", "/stall", "/slow?ms=90000" } do
        local began = T.now_ms()
        local mark = task.deadline(50)
        local ok, err = pcall(ask, { path = path })
        task.restore(mark)
        assert.is_false(ok)
        assert.equal("timeout", err.code)
        assert.is_true(T.now_ms() - began < 60000)
      end
    end)
  end)

  describe("a write", function ()
    try("is ok, failed or unknown by its answer", function ()
      asked { method = "POST", path = "/status/204" }
      asked { method = "POST", path = "/status/409" }
      assert.is_true(asked({ method = "POST", path = "/status/502" }).doubtful)
      local ends = {}
      for i, outcome in ipairs(recorded("outcome")) do ends[i] = outcome.status .. " " .. outcome.answer end
      assert.same({ "ok 204", "failed 409", "unknown 502" }, ends)
    end)

    try("is unknown when the request went out and no whole answer came", function ()
      for _, path in ipairs { "/drop", "/cut", "/never", "/stall" } do
        local err = refused("unknown", { method = "POST", path = path, within_ms = 500 })
        assert.matches("It may have been done", err.hint)
      end
      for _, outcome in ipairs(recorded("outcome")) do assert.equal("unknown", outcome.status) end
    end)

    try("is failed when nothing was sent", function ()
      refused("unreachable", { method = "POST", url = "http://127.0.0.1:1" })
      refused("auth", { method = "POST", url = web.tls_url, ca = web.other_ca })
      refused("unreachable", { method = "POST", url = "http://no-such-host.invalid" })
      for _, outcome in ipairs(recorded("outcome")) do assert.equal("failed", outcome.status) end
    end)

    try("that is stopped is unknown once it was sent", function ()
      local function come() return text.parse(asked({ path = "/counts" }).body).counts["POST /never"] or 0 end
      local before = come()
      local writer = task.spawn(function () ask { method = "POST", path = "/never" } end)
      while come() == before do task.sleep(5) end
      writer:cancel("enough")
      assert.is_false((writer:join()))
      assert.equal("unknown", recorded("outcome")[1].status)
    end)

    try("is sent once, whatever becomes of it", function ()
      local before = web.counts()["DELETE /drop"] or 0
      refused("unknown", { method = "DELETE", path = "/drop" })
      assert.equal(before + 1, web.counts()["DELETE /drop"])
    end)
  end)

  describe("secrets", function ()
    try("go out as they are and come back as their names", function ()
      local token = secret.of("tok/55+aa91==", "api")
      local answer = asked { path = "/auth", headers = { Authorization = token } }
      assert.equal("no: ‹secret api›", answer.body)
      assert.equal("‹secret api›", answer.headers["x-told"])
      local seen = asked { method = "POST", path = "/echo", body = token }
      assert.matches("‹secret api›", seen.body)
      assert.is_nil(seen.body:find("tok/55+aa91", 1, true))
    end)

    try("are in no record: not those of a header, a body, a login, a query or the URL itself", function ()
      local hook = secret.of(web.url .. "/echo/T0K3N-77ab", "hook")
      asked { method = "POST", path = "/echo?api_key=planted-key-1&page=2", body = secret.of("planted-body-1", "body") }
      asked { method = "POST", url = web.url:gsub("//", "//anna:planted-login-1@"), path = "/echo" }
      asked { method = "POST", url = hook }
      local texts = {}
      for _, intent in ipairs(recorded("intent")) do texts[#texts + 1] = intent.text end
      assert.same({ "POST " .. web.url .. "/echo?api_key=…&page=2", "POST " .. web.url .. "/echo", "POST " .. web.url .. "/‹secret hook›" }, texts)
      for _, r in ipairs(T.records()) do
        local all = type(r.body) == "string" and r.body or text.json(r.body)
        assert.is_nil(all:find("planted", 1, true))
        assert.is_nil(all:find("T0K3N", 1, true))
      end
    end)
  end)

  describe("through a dialer", function ()
    local net = require "native.net"

    try("everything is as it is without one, and the name is not looked up here", function ()
      local way = net.tcp("127.0.0.1", tonumber(web.port))
      local answer = asked { url = "http://db.inside", path = "/ok", dialer = way }
      assert.equal("hello\n", answer.body)
      assert.equal("127.0.0.1:" .. web.port, answer.address)
      assert.equal(3000000, #asked({ url = "http://10.1.2.3:8080", path = "/big?bytes=3000000", dialer = way }).body)
      local body = ("y"):rep(3000000)
      assert.equal(#body, #text.parse(asked({ method = "POST", url = "http://x", path = "/echo", body = body, dialer = way }).body).body)
      local safe = net.tcp("127.0.0.1", tonumber(web.tls_url:match("%d+$")))
      assert.equal("hello\n", asked({ url = "https://localhost", path = "/ok", ca = web.ca, dialer = safe }).body)
      assert.matches("subject name", refused("auth", { url = "https://elsewhere", path = "/ok", ca = web.ca, dialer = safe }).message)
      assert.equal("hello\n", asked({ url = "http://x", path = "/ok", dialer = net.unix(web.socket) }).body)
    end)

    try("a way that is closed is a failure, and what was sent on one that breaks is not known", function ()
      refused("unreachable", { method = "POST", dialer = net.tcp("127.0.0.1", 1) })
      assert.equal("failed", recorded("outcome")[1].status)
      local way = net.tcp("127.0.0.1", tonumber(web.port))
      refused("unknown", { method = "POST", path = "/drop", dialer = way })
      refused("closed", { path = "/cut", dialer = way })
      refused("timeout", { path = "/never", dialer = way, within_ms = 100 })
      refused("remote", { path = "/redirect?to=" .. web.other_url, dialer = way, follow = 2 })
      assert.equal("hello\n", asked({ path = "/redirect?to=/ok", dialer = way, follow = 2 }).body)
    end)
  end)

  describe("a stream", function ()
    try("gives a big answer piece by piece", function ()
      local stream, head = http.open { url = web.url, path = "/big?bytes=20000000" }
      assert.equal(200, head.status)
      local bytes = 0
      while true do
        local piece, err = stream:read(65536)
        assert.is_nil(err)
        if not piece then break end
        bytes = bytes + #piece
      end
      stream:close()
      assert.equal(20000000, bytes)
    end)

    try("goes into a file, follows redirects, and is an answer too when it is an error", function ()
      local path = suite.temp() .. "/page"
      local stream = assert(http.open { url = web.url, path = "/redirect?to=/ok", follow = 1 })
      local file <close> = require("native.file").open(path, "w")
      assert.equal(6, stream:pipe(file).bytes)
      stream:close()
      file:close()
      assert.equal("hello\n", suite.read(path))
      local bad <close>, head = http.open { url = web.url, path = "/status/500" }
      assert.equal(500, head.status)
      assert.equal("status 500", bad:read(100))
    end)

    try("ends with an error when it is cut", function ()
      local stream <close> = assert(http.open { url = web.url, path = "/cut" })
      local seen, piece, err = 0, stream:read(100)
      while piece do
        seen = seen + #piece
        piece, err = stream:read(100)
      end
      assert.equal(50, seen)
      assert.equal("closed", err.code)
    end)

    try("may be left in the middle, and may never begin", function ()
      local stream <close> = assert(http.open { url = web.url, path = "/big?bytes=20000000" })
      assert.truthy(stream:read(10))
      local none, err = http.open { url = web.url, path = "/never", within_ms = 100 }
      assert.is_nil(none)
      assert.equal("timeout", err.code)
    end)
  end)
end)
