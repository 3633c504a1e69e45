-- certificates.lua: authorities and certificates for tests, made by openssl.
--
--   local ca = certificates.authority(dir, "ours")                        ca.cert, ca.key
--   local server <close> = certificates.serve(dir, c, "-rev")             openssl's own server: server.port, server.process
--   local c = ca:issue("db", { "DNS:db.internal", "IP:127.0.0.1" })       c.cert, c.key; { from =, to = } sets its days

local child = require "tests.support.child"

local M = {}

local Authority = {}
Authority.__index = Authority

local function sh(format, ...)
  local line = format:format(...)
  assert(os.execute("(" .. line .. ") >/dev/null 2>&1"), line)
end

---@param dir string
---@param name string
function M.authority(dir, name)
  local ca = setmetatable({ dir = dir, cert = ("%s/%s.pem"):format(dir, name), key = ("%s/%s.key"):format(dir, name) }, Authority)
  sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout '%s' -out '%s' -days 30 -subj '/CN=%s'", ca.key, ca.cert, name)
  return ca
end

---@param name string
---@param names string[] "DNS:…", "IP:…"
---@param days? { from: string, to: string } YYYYMMDDHHMMSSZ
function Authority:issue(name, names, days)
  local base = ("%s/%s"):format(self.dir, name)
  local made = { cert = base .. ".pem", key = base .. ".key" }
  days = days or { from = "20200101000000Z", to = "20700101000000Z" }
  sh("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout '%s' -out '%s.csr' -subj '/CN=%s'", made.key, base, name)
  local config <close> = assert(io.open(base .. ".conf", "w"))
  config:write(("[ca]\ndefault_ca=d\n[d]\ndatabase=%s.db\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n"):format(base, self.dir),
    "[p]\ncommonName=supplied\n[x]\nsubjectAltName=", table.concat(names, ","), "\n")
  config:close()
  sh(": >'%s.db'; openssl ca -batch -notext -config '%s.conf' -extensions x -cert '%s' -keyfile '%s' -in '%s.csr' -out '%s' -startdate %s -enddate %s",
    base, base, self.cert, self.key, base, made.cert, days.from, days.to)
  return made
end

--- A server for the length of a scope, in this directory.
---@param dir string
---@param certificate table
---@return { port: integer, process: table } server
function M.serve(dir, certificate, ...)
  local port = T.free_port()
  local server = child.start { cwd = dir,
    argv = { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert", certificate.cert, "-key", certificate.key, ... } }
  server:expect("ACCEPT")
  local function stop()
    server:kill(9)
    server.handle:wait()
    server:close()
  end
  return setmetatable({ port = port, process = server }, { __close = stop })
end

return M
