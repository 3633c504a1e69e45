-- Which Engine the docker CLI would speak to (drive/docker_endpoint.c): the same answer from the same files and variables.

local suite = require "tests.support.suite"

local LOCAL = { scheme = "unix", path = "/var/run/docker.sock", source = "the default" }

local function sha256(text) return require("native.text").sha256(text) end

-- A directory as ~/.docker is. contexts = { name = { host=, skip=, tls = { "ca", … } } }
local function home(current, contexts)
  local dir = suite.temp()
  if current then suite.write(dir .. "/config.json", current) end
  for name, context in pairs(contexts or {}) do
    local id = sha256(name)
    os.execute(("mkdir -p %s/contexts/meta/%s %s/contexts/tls/%s/docker"):format(dir, id, dir, id))
    suite.write(dir .. "/contexts/meta/" .. id .. "/meta.json", context.text or ('{"Name":"%s","Metadata":{},"Endpoints":{"docker":{"Host":"%s","SkipTLSVerify":%s}}}')
      :format(name, context.host, context.skip and "true" or "false"))
    for _, file in ipairs(context.tls or {}) do suite.write(dir .. "/contexts/tls/" .. id .. "/docker/" .. file .. ".pem", "x") end
  end
  return dir
end

local function find(env, given) return T.docker_endpoint(env, given or {}) end

local addresses = {
  { "unix:///run/d.sock", { scheme = "unix", path = "/run/d.sock" } },
  { "unix://", { scheme = "unix", path = "/var/run/docker.sock" } },
  { "tcp://10.0.0.3:2375", { scheme = "tcp", host = "10.0.0.3", port = 2375 } },
  { "tcp://dock.example", { scheme = "tcp", host = "dock.example", port = 2375 } },
  { "tcp://:4243", { scheme = "tcp", host = "localhost", port = 4243 } },
  { "tcp://[2001:db8::1]:2375", { scheme = "tcp", host = "2001:db8::1", port = 2375 } },
  { "tcp://[::1]", { scheme = "tcp", host = "::1", port = 2375 } },
  { "dock.example:4243", { scheme = "tcp", host = "dock.example", port = 4243 } },
  { "ssh://hermes", { scheme = "ssh", host = "hermes" } },
  { "ssh://app@hermes:2222", { scheme = "ssh", host = "hermes", user = "app", port = 2222 } },
  { "ssh://app@hermes/run/user/1000/docker.sock", { scheme = "ssh", host = "hermes", user = "app", path = "/run/user/1000/docker.sock" } },
  { "ssh://hermes/", { scheme = "ssh", host = "hermes" } },
  { "ssh://app:secret@hermes", "must not hold a password" },
  { "ssh://hermes?a=b", "neither a query nor a fragment" },
  { "ssh://hermes#x", "neither a query nor a fragment" },
  { "ssh://", "names no host" },
  { "ssh://-oProxyCommand=id", "begins with a dash" },
  { "tcp://host:port", "port is no port" },
  { "tcp://host:70000", "port is no port" },
  { "tcp://user@host", "a user has no place" },
  { "tcp://host:2375/base", "path behind the port" },
  { "tcp://::1", "port is no port" },
  { "unix://relative.sock", "not absolute" },
  { "npipe:////./pipe/docker_engine", "cannot be reached by \"npipe\"" },
  { "http://host", "cannot be reached by \"http\"" },
}

describe("the Engine that docker would speak to", function()
  for _, case in ipairs(addresses) do
    it("by DOCKER_HOST=" .. case[1], function()
      local got, err = find({ DOCKER_HOST = case[1], HOME = "/nowhere" })
      if type(case[2]) == "string" then
        assert.is_nil(got)
        assert.is_nil(err.message:find("secret", 1, true))
        return assert.truthy(err.message:find(case[2], 1, true), err.message)
      end
      case[2].source = "DOCKER_HOST"
      assert.same(case[2], got)
    end)
  end

  it("is the local one when nothing says otherwise", function()
    assert.same(LOCAL, find { HOME = "/nowhere" })
    assert.same(LOCAL, find { DOCKER_CONFIG = home("{}") })
    assert.same(LOCAL, find { HOME = "/nowhere", DOCKER_HOST = "", DOCKER_CONTEXT = "" })
  end)

  it("goes by what is given, then DOCKER_HOST, DOCKER_CONTEXT, currentContext", function()
    local dir = home('{"currentContext":"current"}', { current = { host = "ssh://a" }, named = { host = "ssh://b" }, given = { host = "ssh://c" } })
    local env = { DOCKER_CONFIG = dir }
    assert.same({ scheme = "ssh", host = "a", source = "context current (config.json)" }, find(env))
    env.DOCKER_CONTEXT = "named"
    assert.same({ scheme = "ssh", host = "b", source = "context named (DOCKER_CONTEXT)" }, find(env))
    env.DOCKER_HOST = "ssh://d"
    assert.same({ scheme = "ssh", host = "d", source = "DOCKER_HOST" }, find(env))
    assert.same({ scheme = "ssh", host = "c", source = "context given (the inventory)" }, find(env, { context = "given" }))
    assert.same({ scheme = "ssh", host = "e", source = "the inventory" }, find(env, { host = "ssh://e" }))
    assert.same({ scheme = "ssh", host = "d", source = "DOCKER_HOST" }, find(env, { context = "default" }))
    local _, err = find(env, { host = "ssh://e", context = "given" })
    assert.equal("config", err.code)
  end)

  it("is the local one for the context \"default\"", function()
    local env = { DOCKER_CONFIG = home('{"currentContext":"default"}') }
    assert.equal("/var/run/docker.sock", find(env).path)
  end)

  it("takes its certificates from the context's own directory", function()
    local dir = home(nil, { whole = { host = "tcp://h:2376", tls = { "ca", "cert", "key" } }, plain = { host = "tcp://h:2375" }, lax = { host = "tcp://h:2376", skip = true } })
    local tls = dir .. "/contexts/tls/" .. sha256("whole") .. "/docker/"
    assert.same({ scheme = "tcp", host = "h", port = 2376, tls = "verified", ca = tls .. "ca.pem", cert = tls .. "cert.pem", key = tls .. "key.pem",
      source = "context whole (the inventory)" }, find({ DOCKER_CONFIG = dir }, { context = "whole" }))
    assert.is_nil(find({ DOCKER_CONFIG = dir }, { context = "plain" }).tls)
    assert.equal("not verified", find({ DOCKER_CONFIG = dir }, { context = "lax" }).tls)
  end)

  it("takes its certificates from DOCKER_CERT_PATH, else beside config.json, when DOCKER_TLS_VERIFY is set", function()
    local dir = suite.temp()
    for _, name in ipairs { "ca", "cert", "key" } do suite.write(dir .. "/" .. name .. ".pem", "x") end
    local whole = { scheme = "tcp", host = "h", port = 2376, tls = "verified", ca = dir .. "/ca.pem", cert = dir .. "/cert.pem", key = dir .. "/key.pem", source = "DOCKER_HOST" }
    assert.same(whole, find { DOCKER_HOST = "tcp://h", DOCKER_TLS_VERIFY = "1", DOCKER_CERT_PATH = dir, HOME = "/nowhere" })
    assert.same(whole, find { DOCKER_HOST = "tcp://h", DOCKER_TLS_VERIFY = "1", DOCKER_CONFIG = dir })
    assert.equal("not verified", find({ DOCKER_HOST = "tcp://h", DOCKER_TLS = "1", DOCKER_CONFIG = dir }).tls)
    assert.is_nil(find({ DOCKER_HOST = "unix:///run/d.sock", DOCKER_TLS_VERIFY = "1", DOCKER_CONFIG = dir }).tls)
  end)

  it("is none, with a reason, when the configuration is broken or names what is not there", function()
    local function refused(pattern, env, given)
      local got, err = find(env, given)
      assert.is_nil(got)
      assert.equal("config", err.code)
      assert.truthy(err.message:find(pattern, 1, true), err.message)
    end
    refused("is not a JSON object", { DOCKER_CONFIG = home("{") })
    refused("is not a JSON object", { DOCKER_CONFIG = home("[]") })
    refused('no docker context "gone"', { DOCKER_CONFIG = home('{"currentContext":"gone"}') })
    refused("is no name of a docker context", { DOCKER_CONFIG = home("{}") }, { context = "../x" })
    local dir = home("{}", { odd = { text = "{" }, swarm = { text = '{"Name":"swarm","Endpoints":{}}' } })
    refused("is not a JSON object", { DOCKER_CONFIG = dir }, { context = "odd" })
    refused("holds no endpoint", { DOCKER_CONFIG = dir }, { context = "swarm" })
  end)
end)
