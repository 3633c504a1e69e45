-- TLS as a client, against openssl's own server: whom it believes, what it says when it does not, and how a stream ends.
local certificates = require "tests.support.certificates"
local net = require "native.net"
local suite = require "tests.support.suite"

local dir, ours, theirs, good, expired, future, elsewhere, wild, client

local function all(stream)
  local parts = {}
  while true do
    local piece, err = stream:read()
    if err then return nil, err, table.concat(parts) end
    if not piece then return table.concat(parts) end
    parts[#parts + 1] = piece
  end
end

local function serve(certificate, ...) return certificates.serve(dir, certificate, ...) end

local function connect(port, options)
  local way = assert(net.tls(net.tcp("127.0.0.1", port), options))
  return net.connect(way)
end

local function refused(certificate, options, ...)
  local server <close> = serve(certificate, ...)
  return T.run(function()
    local conn, err = connect(server.port, options)
    assert.is_nil(conn)
    return err
  end)
end

describe("tls", function()
  setup(function()
    dir = suite.temp()
    ours, theirs = certificates.authority(dir, "ours"), certificates.authority(dir, "theirs")
    good = ours:issue("good", { "DNS:db.internal", "IP:127.0.0.1" })
    wild = ours:issue("wild", { "DNS:*.shop.internal" })
    elsewhere = ours:issue("elsewhere", { "DNS:a.test", "DNS:b.test", "IP:192.0.2.7", "DNS:c.test", "DNS:d.test", "DNS:e.test" })
    expired = ours:issue("expired", { "DNS:db.internal" }, { from = "20200101000000Z", to = "20210203000000Z" })
    future = ours:issue("future", { "DNS:db.internal" }, { from = "20600101000000Z", to = "20700101000000Z" })
    client = ours:issue("client", { "DNS:client" })
  end)

  it("believes the right authority and the right name, or the right number", function()
    local server <close> = serve(good, "-rev")
    T.run(function()
      for _, name in ipairs { "db.internal", "127.0.0.1" } do
        local conn <close> = assert(connect(server.port, { ca = ours.cert, name = name }))
        assert(conn:write("hello\n"))
        assert.equal("olleh\n", conn:read())
      end
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))        -- the host it dials is the name
      assert(conn:write("a\n"))
      assert.equal("a\n", conn:read())
    end)
  end)

  it("speaks TLS 1.2 as well", function()
    local server <close> = serve(wild, "-rev", "-tls1_2")
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert, name = "db.shop.internal" }))
      assert(conn:write("hello\n"))
      assert.equal("olleh\n", conn:read(100))
    end)
  end)

  it("does not believe another authority, and says who issued what", function()
    local err = refused(good, { ca = theirs.cert, name = "db.internal" })
    assert.equal("auth", err.code)
    assert.equal('the certificate "CN=good" of "db.internal" was issued by "CN=ours", which is not trusted here', err.message)
    assert.matches("ca", err.hint)
    assert.equal("auth", refused(good, { name = "db.internal" }).code)        -- nor does the system
  end)

  it("does not believe another name, and says which ones there are", function()
    local err = refused(elsewhere, { ca = ours.cert, name = "db.internal" })
    assert.equal("auth", err.code)
    assert.equal('the certificate is for a.test, b.test, 192.0.2.7, c.test and 2 more, not for "db.internal"', err.message)
    assert.matches('is for db.internal, 127.0.0.1, not for "127.0.0.2"', refused(good, { ca = ours.cert, name = "127.0.0.2" }).message)
  end)

  it("says since when a certificate is no longer valid, or from when on it will be", function()
    assert.equal('the certificate "CN=expired" expired on 2021-02-03', refused(expired, { ca = ours.cert, name = "db.internal" }).message)
    assert.equal('the certificate "CN=future" is not valid before 2060-01-01', refused(future, { ca = ours.cert, name = "db.internal" }).message)
  end)

  it("believes anybody when it is told so", function()
    local server <close> = serve(expired, "-rev")
    T.run(function()
      local conn <close> = assert(connect(server.port, { verify = false }))
      assert(conn:write("hello\n"))
      assert.equal("olleh\n", conn:read())
    end)
  end)

  it("shows its own certificate to a server that asks, and says so when that one wants another", function()
    local server <close> = serve(good, "-rev", "-Verify", "1", "-verify_return_error", "-CAfile", ours.cert)
    T.run(function()
      local conn = assert(connect(server.port, { ca = ours.cert, name = "db.internal", cert = client.cert, key = client.key }))
      assert(conn:write("hello\n"))
      assert.equal("olleh\n", conn:read())
      conn:close()                                       -- this server talks to one at a time
      local other <close> = assert(connect(server.port, { ca = ours.cert, name = "db.internal" }))      -- TLS 1.3: it hears of it when it reads
      local bytes, err = other:read()
      assert.is_nil(bytes)
      assert.equal("auth", err.code)
      assert.matches('"db.internal" does not accept who we are: .*certificate required', err.message)
      assert.matches("cert", err.hint)
    end)
  end)

  it("says what is wrong with a file before anybody is dialed", function()
    local way = net.tcp("127.0.0.1", 1)
    local function wrong(options)
      local made, err = net.tls(way, options)
      assert.is_nil(made)
      assert.equal("config", err.code)
      return err.message
    end
    assert.matches('cannot read the certificates of "/none": No such file', wrong { ca = "/none" })
    assert.matches("there are no certificates in", wrong { ca = good.key })
    assert.matches("holds no certificate", wrong { cert = good.key })
    assert.matches("the key in .* cannot be used", wrong { cert = good.cert, key = client.key })
    assert.matches("is of no use without a certificate", wrong { key = good.key })
    assert(os.execute(("openssl ec -in '%s' -aes256 -passout pass:x -out '%s/locked.key' 2>/dev/null"):format(good.key, dir)))
    assert.matches("the key in .* cannot be used", wrong { cert = good.cert, key = dir .. "/locked.key" })
    local made, err = net.tls(net.unix("/run/s"))
    assert.is_nil(made)
    assert.matches("no name that the certificate could prove", err.message)
  end)

  it("says that somebody does not speak TLS", function()
    local peer <close> = T.peer { kind = "say", text = "HTTP/1.0 400 Bad Request\r\n\r\n" }
    T.run(function()
      local conn, err = connect(peer:port(), { ca = ours.cert })
      assert.is_nil(conn)
      assert.equal("protocol", err.code)
      assert.matches('"127.0.0.1" does not speak TLS', err.message)
    end)
    local ends <close> = T.peer { kind = "say", text = "" }
    T.run(function()
      local conn, err = connect(ends:port(), { ca = ours.cert })
      assert.is_nil(conn)
      assert.equal("closed", err.code)
      assert.matches("during the TLS handshake", err.message)
    end)
  end)

  it("carries megabytes whole, and reads on after its own side has ended", function()
    local bytes = {}
    for i = 1, 300000 do bytes[i] = ("line %d\n"):format(i) end
    local text = table.concat(bytes)
    local file <close> = assert(io.open(dir .. "/page", "wb"))
    file:write(text)
    file:close()
    local server <close> = serve(good, "-WWW")
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))
      assert(conn:write("GET /page HTTP/1.0\r\n\r\n"))
      assert(conn:shut())
      local page = assert(all(conn))
      assert.equal(text, page:match("\r\n\r\n(.*)"))
      assert.is_nil((conn:read()))
      local none, err = conn:write("more")
      assert.is_nil(none)
      assert.equal("closed", err.code)
    end)
  end)

  it("reads byte by byte what came as one record", function()
    local server <close> = serve(good, "-rev")
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))
      assert(conn:write("abc\n"))
      for _, byte in ipairs { "c", "b", "a", "\n" } do assert.equal(byte, conn:read(1)) end
    end)
  end)

  it("takes a megabyte that the far end is slow to read", function()
    local server <close> = serve(good)
    local text = ("0123456789abcde\n"):rep(16384)
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))
      for _ = 1, 4 do assert(conn:write(text)) end
      assert(conn:write("the end\n"))
      assert(conn:write(""))
      assert(conn:shut())
      server.process:expect("the end\n")        -- while the stream lives: see tls.h
      assert.is_nil((conn:read()))
    end)
    local _, lines = server.process.out:gsub("0123456789abcde\n", "")
    assert.equal(65536, lines)
  end)

  it("tells a connection that was cut off from one that ended", function()
    local server <close> = serve(good, "-rev")
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))
      assert(conn:write("hello\n"))
      assert.equal("olleh\n", conn:read())
      server.process:kill(9)
      local bytes, err = conn:read()
      assert.is_nil(bytes)
      assert.equal("closed", err.code)
    end)
  end)

  it("can be given up at any moment", function()
    local task = require "native.task"
    local silent <close> = T.peer { kind = "silent" }
    T.run(function()
      local mark = task.deadline(30)
      local ok, err = pcall(connect, silent:port(), { ca = ours.cert })
      task.restore(mark)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
    end)
    local server <close> = serve(good, "-rev")
    T.run(function()
      local conn <close> = assert(connect(server.port, { ca = ours.cert }))
      local mark = task.deadline(20)
      local ok, err = pcall(conn.read, conn)
      task.restore(mark)
      assert.is_false(ok)
      assert.equal("timeout", err.code)
      assert(conn:write("hello\n"))                    -- and it is as good as before
      assert.equal("olleh\n", conn:read())
    end)
  end)
end)
