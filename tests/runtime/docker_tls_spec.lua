-- An Engine behind TLS that lets in who has a certificate of its authority, as `dockerd --tlsverify` does: asked by the bytes of native.docker, and
-- by the built binary with the variables the docker program knows.
local certificates = require "tests.support.certificates"
local docker = require "native.docker"
local net = require "native.net"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local BOOK <const> = [[
runbook "Look" { why = "An Engine behind TLS." }
local box = target.container "box"
step "Look" { act = function () note("heard " .. box:read({ "echo", "inside" }):out()) end, verify = function () check(true, "it was heard") end }
]]

describe("an Engine behind TLS", function ()
  local engine, why, ours, theirs, client, box, made

  setup(function ()
    local dir = T.directory(suite.directory() .. "/dt")
    made = dir
    suite.at_end(function () T.remove_tree(dir) end)
    ours, theirs = certificates.authority(dir, "ours"), certificates.authority(dir, "theirs")
    local server = ours:issue("engine", { "IP:127.0.0.1", "DNS:localhost" })
    client = ours:issue("client", { "DNS:client" })
    engine, why = servers.docker { name = "tls", tls = { ca = ours.cert, cert = server.cert, key = server.key } }
    if engine then box = engine.busybox { name = "tls-box" } end
  end)

  teardown(function ()
    if box then box.remove() end
    if engine then engine.remove() end
  end)

  local function try(name, fn)
    it(name, function ()
      if not engine then return pending(why) end
      T.run(fn)
    end)
  end

  local function open(tls)
    return docker.open(assert(net.tls(net.tcp("127.0.0.1", engine.port), tls)), { role = "box" })
  end

  try("runs commands, binary safe both ways, and again and again", function ()
    local there = assert(open { name = "127.0.0.1", ca = ours.cert, cert = client.cert, key = client.key, verify = true })
    assert.equal(box.id, there:inspect("tls-box").Id)
    local bytes = ("\0\xff\r\n"):rep(50000)
    for _ = 1, 5 do
      local result = assert(there:read { container = box.id, argv = { "cat" }, stdin = bytes })
      assert.equal(0, result.status)
      assert.is_true(result.out == bytes)
    end
    assert.equal(3, assert(there:read { container = box.id, argv = { "sh", "-c", "exit 3" }, allow = { 3 } }).status)
  end)

  try("is not entered without a certificate, or with one of another authority", function ()
    local stranger = theirs:issue("stranger", { "DNS:client" })
    for _, tls in ipairs { { name = "127.0.0.1", ca = ours.cert, verify = true }, { name = "127.0.0.1", ca = ours.cert, cert = stranger.cert, key = stranger.key, verify = true } } do
      local there, err = open(tls)
      assert.is_nil(there)
      assert.is_true(err.code == "auth" or err.code == "closed", err.code .. " " .. err.message)
    end
  end)

  try("is not believed when another authority vouches for it, or for another name", function ()
    for _, tls in ipairs { { name = "127.0.0.1", ca = theirs.cert }, { name = "db.internal", ca = ours.cert } } do
      tls.cert, tls.key, tls.verify = client.cert, client.key, true
      local there, err = open(tls)
      assert.is_nil(there)
      assert.equal("auth", err.code)
    end
  end)

  it("is found by the variables of the docker program", function ()
    if not engine then return pending(why) end
    local dir, home = suite.temp(), made .. "/home"
    os.execute(("mkdir -p %s && cp %s %s/ca.pem && cp %s %s/cert.pem && cp %s %s/key.pem"):format(home, ours.cert, home, client.cert, home, client.key, home))
    suite.write(dir .. "/inventory.lua", 'environment "demo" { box = container { name = "tls-box" } }')
    suite.write(dir .. "/book.lua", BOOK)
    local r = servers.neap({ "run", dir .. "/book.lua", "--no-input", "--json", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state" },
      { env = { DOCKER_HOST = "tcp://127.0.0.1:" .. engine.port, DOCKER_TLS_VERIFY = "1", DOCKER_CERT_PATH = home } })
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("heard inside", r.out)
  end)
end)
