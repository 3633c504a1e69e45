-- native.docker against a fake Engine: what a real one does not do on demand. The bytes are a fake's; the client is the real one.

local docker = require "native.docker"
local net = require "native.net"
local records = require "tests.support.recorded"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local ID = ("ab"):rep(32)

local function answer(status, body, more)
  return ("HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"):format(status, more or "", #body, body)
end

local function frame(stream, bytes) return string.char(stream, 0, 0, 0) .. (">I4"):pack(#bytes) .. bytes end

local PING = { "GET /_ping", answer("200 OK", "OK", "Api-Version: 1.41\r\n") }
local INFO = { "GET /v1.41/info", answer("200 OK", '{"ID":"FAKE"}') }
local CONTAINER = { "GET /v1.41/containers/" .. ID .. "/json", answer("200 OK", text.json { Id = ID, State = { StartedAt = "2026-01-02T03:04:05.6Z", Running = true }, Config = { Tty = false } }) }
local CREATE = { "POST /v1.41/containers/" .. ID .. "/exec", answer("201 Created", '{"Id":"e1"}') }
local UPGRADED = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
-- "TOKEN 7 99\n" in a frame: 32 characters for the token
local GREETING = string.char(1, 0, 0, 0) .. (">I4"):pack(32 + 6) .. "@TOKEN@ 7 99\n"

local function started(more, options)
  local rule = { "POST /v1.41/exec/e1/start", UPGRADED .. GREETING, more = more }
  for key, value in pairs(options or {}) do rule[key] = value end
  return rule
end

local function code(value) return { "GET /v1.41/exec/e1/json", answer("200 OK", ('{"ID":"e1","Running":false,"ExitCode":%s}'):format(value)) } end

-- Open an Engine of these rules and call fn with it, in a task.
local function with(rules, fn)
  local path = suite.temp() .. "/fake.sock"
  local fake <close> = T.fake_engine(path, rules) -- luacheck: ignore 211
  T.run(function()
    task.deadline(60000)                                                -- an answer that never comes fails the test
    fn(docker.open(net.unix(path), { role = "box" }))
  end)
end

local function run(rules, check, write)
  local all = { PING, INFO, CONTAINER, CREATE, table.unpack(rules) }
  with(all, function(engine)
    local call = write and engine.run or engine.read
    check(call(engine, { container = ID, argv = { "true" } }))
  end)
end

local function refused(expected, pattern)
  return function(value, err)
    assert.is_nil(value)
    assert.equal(expected, err.code)
    assert.matches(pattern, err.message)
  end
end

describe("native.docker on a fake Engine", function()
  describe("opening", function()
    local function ping(header) return { "GET /_ping", answer("200 OK", "OK", header) } end

    it("speaks the Engine's version, or ours when that is older", function()
      for theirs, spoken in pairs { ["1.24"] = "1.24", ["1.40"] = "1.40", ["1.47"] = "1.47", ["1.99"] = "1.47", ["2.1"] = "1.47" } do
        with({ ping("Api-Version: " .. theirs .. "\r\n"), { ("GET /v%s/info"):format(spoken), answer("200 OK", '{"ID":"FAKE"}') } }, function(engine, err)
          assert(engine, err and err.message)
          assert.equal(spoken, engine:version())
          assert.equal("FAKE", engine:id())
        end)
      end
    end)

    it("refuses an Engine that is too old, one that is too new, and what is none", function()
      with({ ping("Api-Version: 1.23\r\n") }, refused("unsupported", "speaks API version 1.23"))
      with({ ping("Api-Version: 1.52\r\n"), { "GET /v1.47/info", answer("400 Bad Request", '{"message":"client version 1.47 is too old. Minimum supported API version is 1.50"}') } },
        refused("unsupported", "Minimum supported API version is 1.50"))
      with({ ping("Api-Version: soon\r\n") }, refused("protocol", "is no Engine"))
      with({ { "GET /_ping", "220 mail.example ESMTP\r\n" } }, refused("protocol", "not HTTP/1"))
      with({ { "GET /_ping", "" } }, refused("closed", "closed without an answer"))
    end)

    it("is unreachable where nobody listens", function()
      T.run(function() refused("unreachable", "")(docker.open(net.unix(suite.temp() .. "/none.sock"))) end)
    end)
  end)

  describe("an answer", function()
    it("in chunks that come byte by byte is read whole", function()
      local body = '{"ID":"FAKE"}'
      local chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      for at = 1, #body, 5 do chunked = chunked .. ("%x;x=y\r\n%s\r\n"):format(#body:sub(at, at + 4), body:sub(at, at + 4)) end
      with({ PING, { "GET /v1.41/info", chunked .. "0\r\nTrailer: x\r\n\r\n", bytes = 1 } }, function(engine) assert.equal("FAKE", engine:id()) end)
    end)

    it("that refuses has the Engine's words and its status, whatever they look like", function()
      local cases = { { "404 Not Found", '{"message":"no such container"}', "remote", "%(404%): no such container" }, { "403 Forbidden", '{"message":"authz plugin"}', "auth", "authz" },
        { "500 Internal Server Error", "oh \27[31m no", "remote", "status 500: oh" }, { "502 Bad Gateway", "", "remote", "status 502" } }
      for _, case in ipairs(cases) do
        with({ PING, INFO, { "GET /v1.41/containers/x/json", answer(case[1], case[2]) } }, function(engine)
          local value, err = engine:inspect("x")
          refused(case[3], case[4])(value, err)
          assert.equal(tonumber(case[1]:sub(1, 3)), err.status)
        end)
      end
    end)

    it("that is cut, too large in its head or no JSON is an error", function()
      local function inspect(said, expected, pattern)
        with({ PING, INFO, { "GET /v1.41/containers/x/json", said } }, function(engine)
          refused(expected, pattern)(engine:inspect("x"))
        end)
      end
      inspect("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "closed", "cut short")
      inspect("HTTP/1.1 200 OK\r\nX: " .. ("x"):rep(70000) .. "\r\n\r\n", "protocol", "longer than 64 KiB")
      inspect("HTTP/1.1 200 OK\r\n" .. ("X: y\r\n"):rep(101) .. "\r\n", "protocol", "more than 100 headers")
      inspect(answer("200 OK", "{"), "invalid", "")
    end)

    it("to a change that never comes leaves the change unknown", function()
      with({ PING, INFO, { "POST /v1.41/containers/" .. ID .. "/stop", "" } }, function(engine)
        refused("unknown", "nobody knows whether it was done")(engine:stop_container(ID))
        assert.equal("unknown", records("outcome")[1].status)
      end)
    end)
  end)

  describe("the exit status", function()
    it("is asked for until it is a number: null is no zero", function()
      local null = code("null")
      null.times = 5
      run({ started(frame(1, "out")), null, code("3") }, function(r) assert.same({ 3, "out" }, { r.status, r.out }) end)
    end)

    it("is waited for while the command runs on without its outputs", function()
      local running = { "GET /v1.41/exec/e1/json", answer("200 OK", '{"Running":true,"ExitCode":0}'), times = 4 }
      run({ started(""), running, code("0") }, function(r) assert.equal(0, r.status) end)
    end)

    it("is unknown when the Engine never names one, at some time #long", function()
      run({ started(""), code("null") }, refused("unknown", "names no exit status"), true)
    end)

    it("is unknown when the Engine has forgotten the exec", function()
      run({ started("out"), { "GET /v1.41/exec/e1/json", answer("404 Not Found", '{"message":"No such exec instance: e1"}') } },
        refused("unknown", "does not know the exec"), true)
      assert.equal("unknown", records("outcome")[1].status)
    end)

    it("is unknown when the container was started again, has stopped or is gone", function()
      local first = { CONTAINER[1], CONTAINER[2], times = 1 }
      local function after(said, pattern)
        with({ PING, INFO, first, { CONTAINER[1], said }, CREATE, started(""), code("0") }, function(engine)
          refused("unknown", pattern)(engine:run { container = ID, argv = { "true" } })
          assert.equal("unknown", records("outcome")[1].status)
        end)
      end
      after(answer("200 OK", text.json { Id = ID, State = { StartedAt = "2026-01-02T04:00:00Z", Running = true } }), "started again")
      after(answer("200 OK", text.json { Id = ID, State = { StartedAt = "2026-01-02T03:04:05.6Z", Running = false } }), "has stopped")
      after(answer("404 Not Found", '{"message":"No such container"}'), "gone")
    end)

    -- Nobody looks at the container before a read; so its clock must tell, which counts seconds.
    it("of a read that was killed is known where its container was started before it, by the Engine's clock", function()
      local function created(date) return { CREATE[1], answer("201 Created", '{"Id":"e1"}', date and "Date: Fri, 02 Jan 2026 " .. date .. " GMT\r\n") } end
      local function killed(date, check)
        with({ PING, INFO, CONTAINER, created(date), started(""), code("137") }, function(engine) check(engine:read { container = ID, argv = { "true" } }) end)
      end
      killed("03:04:06", function(r) assert.equal(137, r.status) end)
      killed("03:04:05", refused("remote", "started again meanwhile, or in the second"))
      killed("03:04:04", refused("remote", "started again meanwhile, or in the second"))
      killed(nil, refused("remote", "does not say when"))
      killed("soon", refused("remote", "does not say when"))
    end)
  end)

  describe("the output", function()
    it("comes apart however the frames are cut", function()
      run({ started(frame(1, "one ") .. frame(2, "two ") .. frame(1, "") .. frame(1, "three") .. frame(2, "four"), { bytes = 1 }), code("0") },
        function(r) assert.same({ "one three", "two four" }, { r.out, r.err }) end)
    end)

    it("with an error of the Engine's own is unknown, with its words", function()
      run({ started(frame(1, "half") .. frame(3, "containerd: disk full")), code("0") }, refused("unknown", "the Engine reports: containerd: disk full"), true)
    end)

    it("that ends inside a frame, or is no frame, is unknown", function()
      run({ started(frame(1, "whole"):sub(1, -3)), code("0") }, refused("unknown", "in the middle of the output"), true)
      run({ started(frame(1, "whole"):sub(1, -3)), code("0") }, refused("unreachable", "in the middle of the output"))
      run({ started("Unable to find\r\n"), code("0") }, refused("unknown", "no frames"), true)
    end)

    it("that a container's shell prints before the greeting is passed over", function()
      run({ { "POST /v1.41/exec/e1/start", UPGRADED .. frame(1, "motd\n") .. GREETING, more = frame(1, "mine") }, code("0") }, function(r) assert.equal("mine", r.out) end)
    end)
  end)

  it("of a container's command is neither written to nor shut", function()
    with({ PING, INFO, CONTAINER, CREATE, started(""), code("0") }, function(engine)
      local command <close> = assert(engine:start { container = ID, argv = { "true" }, read = true })
      local out = command:stdout()
      refused("usage", "can only be read")(out:write("x"))
      refused("usage", "can only be read")(out:shut())
    end)
  end)

  describe("a command", function()
    after_each(function() T.flush_fails(false) end)

    it("does not begin when the connection is not handed over", function()
      run({ { "POST /v1.41/exec/e1/start", answer("200 OK", "") } }, refused("protocol", "hand over the connection"), true)
      assert.equal("failed", records("outcome")[1].status)
    end)

    it("does not begin when the Engine refuses its exec", function()
      with({ PING, INFO, CONTAINER, { CREATE[1], answer("409 Conflict", '{"message":"Container is paused"}') } }, function(engine)
        refused("remote", "is paused")(engine:run { container = ID, argv = { "true" } })
        assert.equal(0, #records("intent"))
      end)
    end)

    it("is named in the journal before it is let go", function()
      run({ started(""), code("0") }, function(r) assert.equal(0, r.status) end, true)
      local intent, began = records("intent")[1], records("started")[1]
      assert.same({ ID, "2026-01-02T03:04:05.6Z", "e1" }, { intent.container, intent.started, intent.exec })
      assert.same({ "e1", 7, 99 }, { began.exec, began.pid, began.ticks })
    end)

    it("does not begin when the journal has failed while it was held", function()
      T.flush_fails(true)
      with({ PING, INFO, CONTAINER, CREATE, started("") }, function(engine)
        task.deadline(2000)
        local ok, err = pcall(engine.run, engine, { container = ID, argv = { "true" } })
        assert.same({ false, "journal" }, { ok, err.code })
      end)
    end)
  end)
end)

describe("native.docker in a preview", function()
  local guard = require "native.guard"

  it("asks, and only tells what it would change", function()
    with({ PING, INFO, CONTAINER }, function(engine) -- no rule for a POST: one would be answered with 500
      guard.mode("plan")
      local _ = engine:run { container = ID, argv = { "rm", "-rf", "/data" } }
      _ = engine:stop_container(ID)
      _ = engine:remove_container(ID)
      local told = {}
      for i, prediction in ipairs(guard.predictions()) do told[i] = prediction.primitive .. " " .. prediction.text end
      assert.same({ "docker.exec rm -rf /data", "docker.change stop container abababababab", "docker.remove remove container abababababab" }, told)
      local ok, err = pcall(engine.inspect, engine, ID)
      assert.is_false(ok)
      assert.equal("withheld", err.code)
      guard.clear()
      assert.equal(ID, assert(engine:inspect(ID)).Id)
      guard.mode("run")
    end)
  end)
end)

describe("the parser of HTTP/1.1", function()
  local function each_cut(bytes, check, bodiless)
    for _, piece in ipairs { 1, 2, 3, 7, #bytes } do check(T.http1(bytes, piece, bodiless)) end
  end

  it("reads a head and a body by their length, and leaves the rest", function()
    each_cut("HTTP/1.1 200 OK\r\nX-Test:  a b \r\nContent-Length: 3\r\n\r\nabcREST", function(r)
      assert.same({ status = 200, heads = 1, length = "length", body = "abc", header = "a b" }, { status = r.status, heads = r.heads, length = r.length, body = r.body, header = r.header })
    end)
    assert.equal("REST", T.http1("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcREST", 100).rest)
  end)

  it("reads chunks, until close, and no body at all", function()
    each_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A;x\r\n0123456789\r\n0\r\n\r\n", function(r) assert.equal("abc0123456789", r.body) end)
    each_cut("HTTP/1.0 200 OK\nServer: x\n\nall of it", function(r) assert.same({ "close", "all of it" }, { r.length, r.body }) end)
    each_cut("HTTP/1.1 204 No Content\r\n\r\n", function(r) assert.equal("none", r.length) end)
    each_cut("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", function(r) assert.equal("none", r.length) end, true)
    each_cut("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", function(r) assert.equal("", r.body) end)
  end)

  it("passes over 100 and hands over after 101", function()
    each_cut("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", function(r) assert.same({ 200, 1, "x" }, { r.status, r.heads, r.body }) end)
    assert.equal("raw", T.http1("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nraw", 100).rest)
  end)

  it("refuses what is not HTTP, and what says two things at once", function()
    local head = "HTTP/1.1 200 OK\r\n"
    for _, bytes in ipairs { "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 020 OK\r\n\r\n", "hello\r\n\r\n", head .. "no colon\r\n\r\n", head .. " folded: x\r\n\r\n",
      head .. "a: b\0c\r\n\r\n", head .. "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", head .. "Content-Length: -1\r\n\r\n", head .. "Content-Length: 99999999999999999999\r\n\r\n",
      head .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", head .. "Transfer-Encoding: gzip, chunked\r\n\r\n", head .. "Transfer-Encoding: chunked\r\n\r\n\r\n",
      head .. "Transfer-Encoding: chunked\r\n\r\n1x\r\na\r\n0\r\n\r\n", head .. "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
      head .. "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", head .. "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", head .. "Content-Length: 5\r\n\r\nabc", head } do
      each_cut(bytes, function(r, why)
        assert.is_nil(r, bytes)
        assert.is_string(why)
      end)
    end
  end)
end)

describe("the parser of Docker's frames", function()
  it("sorts streams, whatever the cuts, and knows whether it ended between two", function()
    local bytes = frame(1, "a") .. frame(2, "bb") .. frame(0, "c") .. frame(1, "") .. frame(3, "no")
    for piece = 1, #bytes do
      local got = T.docker_frames(bytes:gsub("^", ""), piece)
      assert.same({ "bb", "no", true }, { got.err, got.system, got.whole })
    end
    assert.is_false(T.docker_frames(bytes:sub(1, -2), 5).whole)
    assert.is_false(T.docker_frames("\1\0\0", 5).whole)
    assert.is_nil(T.docker_frames("Unable to find image", 4))
    assert.is_nil(T.docker_frames("\4\0\0\0\0\0\0\0", 8))
    assert.is_nil(T.docker_frames("\1\0\0\1\0\0\0\0", 8))
  end)

  it("needs no memory for a frame of four gigabytes", function()
    assert.equal("x", T.docker_frames("\1\0\0\0\255\255\255\255x", 9).out)
  end)
end)

describe("a time of the Engine", function()
  it("becomes seconds and nanoseconds", function()
    assert.equal("1767323045.600000000", T.docker_time("2026-01-02T03:04:05.6Z"))
    assert.equal("1767323045.000000000", T.docker_time("2026-01-02T03:04:05Z"))
    assert.equal("1767323045.123456789", T.docker_time("2026-01-02T03:04:05.123456789Z"))
    assert.is_nil(T.docker_time("2026-01-02"))
    assert.is_nil(T.docker_time("2026-01-02T03:04:05+01:00"))
  end)
end)
