-- http.lua: a real web server (node), as servers.http.
--
--   local web = servers.http()      web.url  .tls_url  .other_url (another port)  .socket  .ca  .other_ca  web.counts() -> {["GET /ok"]=n}
--
-- What its pages do is said in http.js.

local child = require "tests.support.child"
local redis = require "tests.support.servers.redis"
local suite = require "tests.support.suite"

local M = {}

local started

--- Start it, or give the one that runs.
function M.start()
  if started then return started end
  local tls, dir = redis.certificates(), T.directory(suite.directory() .. "/w")
  local process = child.start { argv = { "node", "tests/support/servers/http.js", dir, tls.key, tls.cert } }
  suite.kept[process:pid()] = true
  process:expect("ready ")
  local plain, safe, other = process:expect("\n"):match("(%d+) (%d+) (%d+)")
  local web = { url = "http://127.0.0.1:" .. plain, tls_url = "https://localhost:" .. safe, other_url = "http://127.0.0.1:" .. other,
    port = plain, socket = dir .. "/http.sock", ca = tls.ca, other_ca = tls.other_ca }

  --- What was asked so far: counts by "METHOD /path", and most requests at once.
  function web.counts()
    local text = child.must { argv = { "node", "-e", ("fetch('%s/counts').then(r => r.text()).then(t => console.log(t))"):format(web.url) } }
    local data = require("native.text").parse(text)
    return data.counts, data.most
  end

  suite.at_end(function ()
    started = nil
    process:kill(15)
    process:close()
  end)
  started = web
  return web
end

return M
