-- postgres.lua: real PostgreSQL servers for the specs and for the demo, as servers.postgres.
--
--   local pg = require("tests.support.servers").postgres()
--   pg.port  pg.socket  pg.dir  pg.url("app", "t1")  pg.sql("select 1", "t1")  pg.database()  pg.log()
--   pg.stop("immediate")  pg.start()  pg.restart()
--
-- A spec that stops, breaks or restores a server takes one of its own: postgres{ name = "mine" }, in its `setup`.
-- It listens on 127.0.0.1 and on a unix socket in a private directory.
--
-- Roles, each with a password: admin (superuser), owner (may create databases), app (may log in), reader
-- (SELECT everywhere). Rejected: pg_ctl, which detaches the server from us, so that nobody would stop it after a kill -9.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

-- Other ones in each interpreter: a spec about secrets looks at the arguments of every process of the machine.
local own = ("%x"):format(T.pid())
M.passwords = { admin = "adm-6b1f0c" .. own, owner = "own-93ad72" .. own, app = "app-e04c5d" .. own, reader = "rea-7721fb" .. own }

local started = {}

--- Directory with initdb, postgres and psql of the newest installed version.
---@return string? bin nil when there is none
function M.bin()
  local newest = 0
  for _, name in ipairs(T.entries("/usr/lib/postgresql") or {}) do newest = math.max(newest, tonumber(name) or 0) end
  if newest > 0 then return ("/usr/lib/postgresql/%d/bin"):format(newest) end
end

local function server_user() return T.uid() == 0 and "postgres" or nil end

local SETTINGS = {
  "listen_addresses = '127.0.0.1'", "fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200",
  "shared_buffers = 32MB", "shared_preload_libraries = 'pg_stat_statements'", "logging_collector = off", "log_statement = all",
  "log_line_prefix = '%m [%p] %u@%d/%a '", "log_connections = on", "timezone = 'UTC'", "log_timezone = 'UTC'",
}

-- What the specs themselves ask comes as admin through the socket, thousands of times: it proves no password, which costs a third of such a question.
local function let_admin_in(server)
  local path = server.dir .. "/data/pg_hba.conf"
  suite.write(path, "local all admin trust\n" .. suite.read(path))
end

local function configure(server, extra)
  local lines = table.move(SETTINGS, 1, #SETTINGS, 1, {})
  lines[#lines + 1] = "port = " .. server.port
  lines[#lines + 1] = ("unix_socket_directories = '%s'"):format(server.dir)
  for _, line in ipairs(extra or {}) do lines[#lines + 1] = line end
  local file = assert(io.open(server.dir .. "/data/postgresql.conf", "a"))
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
  let_admin_in(server)
end

local function initialise(server, more)
  local password_file = suite.write(server.dir .. "/password", M.passwords.admin)
  local user = server_user()
  if user then
    T.owner(server.dir, user)
    T.owner(password_file, user)
  end
  local argv = { server.bin .. "/initdb", "-D", server.dir .. "/data", "-U", "admin", "--pwfile=" .. password_file, "-A", "scram-sha-256",
    "-E", "UTF8", "--locale=C.UTF-8", "--no-sync" }
  child.must { argv = table.move(more or {}, 1, #(more or {}), #argv + 1, argv), user = user, cwd = "/", timeout = 120000 }
  os.remove(password_file)
end

local function add_roles(server)
  local p = M.passwords
  server.sql(table.concat({
    ("create role owner login createdb password '%s'"):format(p.owner), ("create role app login password '%s'"):format(p.app),
    ("create role reader login password '%s'"):format(p.reader), "grant pg_read_all_data to reader",
  }, ";"))
end

-- The eighth line of the lock file says "ready" once connections are taken.
local function is_ready(server)
  local file = io.open(server.dir .. "/data/postmaster.pid")
  if not file then return false end
  local text = file:read("a")
  file:close()
  return text:match("\nready%s*$") ~= nil
end

--- What psql prints for the statements (unaligned, tuples only); raises when one fails. As admin, unless a user is given.
---@param where { host: string, port: integer, enter: fun(argv: string[])? } enter: as netns.enter, where the server is reached from
---@param text string
---@param database? string
---@param user? string
---@return string
function M.ask(where, text, database, user)
  local argv = { M.bin() .. "/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", where.host, "-p", tostring(where.port),
    "-U", user or "admin", "-d", database or "postgres", "-f", "-" }
  local out = child.must {
    argv = where.enter and where.enter(argv) or argv,
    env = { PGPASSWORD = M.passwords[user or "admin"], PATH = os.getenv("PATH"), PGAPPNAME = "spec", LANG = "C.UTF-8" },
    input = text, timeout = 120000,
  }
  return (out:gsub("\n$", ""))
end

local function add_words(server)
  --- Start it and wait until it takes connections.
  function server.start()
    server.process = T.start {
      argv = { server.bin .. "/postgres", "-D", server.dir .. "/data" }, user = server_user(), cwd = "/", log = server.dir .. "/pg.log",
    }
    suite.kept[server.process:pid()] = true
    local until_ms = T.now_ms() + 90000
    while not is_ready(server) do
      if server.process:wait(20) or T.now_ms() > until_ms then error("PostgreSQL did not start:\n" .. server.log(), 2) end
    end
  end

  --- Stop it: "fast" (the default), "smart" or "immediate" (as a crash).
  function server.stop(mode)
    if not server.process then return end
    server.process:kill(({ smart = 15, immediate = 3 })[mode] or 2)
    if not server.process:wait(60000) and T.alive(server.process:pid()) then server.process:kill(9, true) end
    server.process:close()
    server.process = nil
  end

  function server.restart(mode)
    server.stop(mode)
    server.start()
  end

  --- Stop it and remove its files.
  function server.remove()
    server.stop("immediate")
    T.remove_tree(server.dir)
    started[server.name] = nil
  end

  --- Everything it logged, all statements included.
  function server.log() return suite.read(server.dir .. "/pg.log") end

  --- A URL over TCP; without user and password when no user is given.
  function server.url(user, database)
    local login = user and ("%s:%s@"):format(user, M.passwords[user]) or ""
    return ("postgresql://%s127.0.0.1:%d/%s"):format(login, server.port, database or "postgres")
  end

  --- What psql prints for the statements (unaligned, tuples only); raises when one fails. As admin, unless a user is given.
  function server.sql(text, database, user) return M.ask({ host = server.dir, port = server.port }, text, database, user) end

  --- A new database with a name of its own, owned by `owner`.
  function server.database(template)
    server.databases = (server.databases or 0) + 1
    local name = "t" .. server.databases
    server.sql(("create database %s owner owner%s"):format(name, template and " template " .. template or ""))
    return name
  end
end

--- A running server. options: name (another name is another server), settings (lines of postgresql.conf), dir (its
--- directory, which the caller removes), initdb (more words for it).
---@param options? { name?: string, settings?: string[], dir?: string, initdb?: string[] }
---@return table server
function M.start(options)
  options = options or {}
  local name = options.name or "main"
  if started[name] then return started[name] end
  local bin = assert(M.bin(), "no PostgreSQL server is installed in /usr/lib/postgresql")
  local dir = options.dir or T.directory(suite.directory() .. "/pg")
  local server = { name = name, bin = bin, dir = dir, socket = dir, port = T.free_port() }
  add_words(server)
  initialise(server, options.initdb)
  configure(server, options.settings)
  started[name] = server
  suite.at_end(function() server.stop("fast") end)
  server.start()
  add_roles(server)
  return server
end

return M
