-- redis.lua: real Redis servers, as servers.redis.
--
--   local cache = servers.redis()             cache.port  .tls_port  .socket  .ca  .dir  .passwords
--   cache.cli("set", "a", "1")  cache.cli{ "get", "a", user = "ro" }  cache.url("app", 0)  cache.log()  .stop()  .start()
--
-- Users, each with a password: default (everything), ro (reads, INFO, PING), app (its own keys app:*, nothing dangerous or for
-- administrators). With acl = false there is one password (requirepass); with open = true there is none. DEBUG is allowed
-- over loopback, so that a spec can make it sleep or lose its memory. TCP, TLS (a CA of its own) and a unix socket all answer.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

-- Other ones in each interpreter: redis-cli is told them in its arguments, and a spec about secrets looks at those of every process.
local own = ("%x"):format(T.pid())
M.passwords = { default = "red-51c07e" .. own, ro = "rro-8d2f94" .. own, app = "rap-c3b60a" .. own }

local started = {}
local authority

local function openssl(...)
  child.must { argv = { "openssl", ... }, cwd = suite.directory() .. "/tls", timeout = 120000 }
end

--- A certificate authority for the suite, and a server's certificate for localhost and 127.0.0.1; made when first asked for.
---@return { ca: string, cert: string, key: string, other_ca: string }
function M.certificates()
  if authority then return authority end
  local dir = suite.directory() .. "/tls"
  os.execute("mkdir -p -m 711 " .. dir)
  local curve = { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes" }
  local function new(...) openssl("req", table.unpack(table.move({ ... }, 1, select("#", ...), #curve + 1, { table.unpack(curve) }))) end
  for _, name in ipairs { "ca", "other" } do
    new("-x509", "-days", "2", "-subj", "/CN=" .. name .. " of the tests", "-keyout", name .. ".key", "-out", name .. ".crt")
  end
  new("-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
  suite.write(dir .. "/names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
  openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names",
    "-out", "server.crt")
  authority = { ca = dir .. "/ca.crt", cert = dir .. "/server.crt", key = dir .. "/server.key", other_ca = dir .. "/other.crt" }
  suite.at_end(function () authority = nil end)
  return authority
end

local function write_users(server)
  local p = M.passwords
  suite.write(server.dir .. "/users.acl", table.concat({
    ("user default on >%s ~* &* +@all"):format(p.default), ("user ro on >%s ~* -@all +@read +info +ping +command"):format(p.ro),
    ("user app on >%s ~app:* &app:* +@all -@dangerous -@admin"):format(p.app) }, "\n") .. "\n")
end

local function write_config(server, options)
  local tls = M.certificates()
  local lines = {
    "bind 127.0.0.1", "port " .. server.port, "unixsocket " .. server.socket, "unixsocketperm 777", "tls-port " .. server.tls_port,
    "tls-cert-file " .. tls.cert, "tls-key-file " .. tls.key, "tls-ca-cert-file " .. tls.ca, "tls-auth-clients no", "dir " .. server.dir,
    'save ""', "appendonly no", "daemonize no", "logfile " .. server.dir .. "/redis.log", "enable-debug-command local",
  }
  if options.acl == false then lines[#lines + 1] = "requirepass " .. M.passwords.default
  elseif not options.open then
    write_users(server)
    lines[#lines + 1] = "aclfile " .. server.dir .. "/users.acl"
  end
  table.move(options.settings or {}, 1, #(options.settings or {}), #lines + 1, lines)
  suite.write(server.dir .. "/redis.conf", table.concat(lines, "\n") .. "\n")
end

local function add_words(server, options)
  --- What redis-cli prints for the command. As default, or as `user` of a table.
  ---@param ... any the command's words, or one table { "get", "a", user = "ro" }
  function server.cli(...)
    local words = type(...) == "table" and (...) or { ... }
    local user = words.user or "default"
    local argv = { "redis-cli", "-s", server.socket, "--no-auth-warning" }
    if words.user or not options.open then table.move({ "--user", user, "--pass", M.passwords[user] }, 1, 4, #argv + 1, argv) end
    if options.acl == false then argv = { "redis-cli", "-s", server.socket, "--no-auth-warning", "--pass", M.passwords.default } end
    for _, word in ipairs(words) do argv[#argv + 1] = tostring(word) end
    return (child.must({ argv = argv, input = words.input, timeout = 120000 }):gsub("\n$", ""))
  end

  --- A URL over TCP with user and password, or over TLS.
  function server.url(user, db, tls)
    local login = user and ("%s:%s@"):format(user, M.passwords[user]) or ""
    return ("%s://%s127.0.0.1:%d/%d"):format(tls and "rediss" or "redis", login, tls and server.tls_port or server.port, db or 0)
  end

  --- Everything it logged.
  function server.log()
    local file = io.open(server.dir .. "/redis.log")
    if not file then return "" end
    local text = file:read("a")
    file:close()
    return text
  end

  --- Start it and wait until it takes connections.
  function server.start()
    local seen = #server.log()
    server.process = T.start { argv = { "redis-server", server.dir .. "/redis.conf" }, cwd = "/", log = server.dir .. "/out.log" }
    suite.kept[server.process:pid()] = true
    local until_ms = T.now_ms() + 90000
    while not server.log():find("server is now ready to accept connections at " .. server.socket, seen + 1, true) do
      if server.process:wait(10) or T.now_ms() > until_ms then error("Redis did not start:\n" .. server.log(), 2) end
    end
  end

  --- Stop it: nothing is saved. With "kill" as a crash.
  function server.stop(how)
    if not server.process then return end
    server.process:kill(how == "kill" and 9 or 15)
    if not server.process:wait(30000) and T.alive(server.process:pid()) then server.process:kill(9) end
    server.process:close()
    server.process = nil
  end

  --- Stop it and remove its files.
  function server.remove()
    server.stop("kill")
    T.remove_tree(server.dir)
    started[server.name] = nil
  end
end

--- A running server. options: name (another name is another server), acl = false (one password), open = true (none), settings
--- (lines of redis.conf).
---@param options? table
---@return table server
function M.start(options)
  options = options or {}
  local name = options.name or "redis"
  if started[name] then return started[name] end
  local dir = T.directory(suite.directory() .. "/redis")
  T.mode(dir, tonumber("711", 8)) -- whoever comes in through an sshd may reach the socket
  local server = { name = name, dir = dir, socket = dir .. "/redis.sock", port = T.free_port(), tls_port = T.free_port(),
    passwords = M.passwords, ca = M.certificates().ca, other_ca = M.certificates().other_ca }
  add_words(server, options)
  write_config(server, options)
  server.start()
  started[name] = server
  suite.at_end(server.remove)
  return server
end

return M
