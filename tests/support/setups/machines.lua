-- machines.lua: the set-ups without containers, for setups.lua: `plain`, one server with everything on it, and `direct`, a URL and local
-- tools. Both have the same PostgreSQL and Redis; what differs is how neap comes to them.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local web = require "tests.support.setups.web"

local M = {}

local APP <const> = 'start = { "$app/up" }, stop = { "$app/down" }, status = { "$app/is-up" }'

local PLAIN <const> = [[

  server = host { ssh = "root@server", config = "$config" },
  db = postgres { on = "server", url = "postgresql://$role@127.0.0.1:$port/$database", password = secret { env = "DB_PASSWORD" }, tls = "off"$db },
  redis = redis { on = "server", url = "redis://127.0.0.1:$cache/0", password = secret { env = "REDIS_PASSWORD" } },
  data = folder { on = "server", path = "$data" },
  backups = folder { on = "server", path = "$backups" },
  migrations = folder { on = "server", path = "$migrations" },
  migrate = command { on = "server", argv = { "$tool" }, env = { PATH = "$path" } },
  check = command { argv = { "ssh", "-F", "$config", "root@server", "redis-check-rdb" } },
  app = service { on = "server", ]] .. APP .. [[ },
  site = url { on = "server", behind = "app", url = "http://127.0.0.1:$site", health = "/health" },
  chat = webhook { url = secret { env = "CHAT_URL" }, format = "slack" },
]]

local DIRECT <const> = [[

  db = postgres { url = "postgresql://$role@127.0.0.1:$port/$database?schema=public&connection_limit=10&pool_timeout=10", password = secret { env = "DB_PASSWORD" }, tls = "off"$db },
  redis = redis { url = "redis://127.0.0.1:$cache/0", password = secret { env = "REDIS_PASSWORD" } },
  data = folder { path = "$data" },
  backups = folder { path = "$backups" },
  migrations = folder { path = "$migrations" },
  migrate = command { argv = { "$tool" } },
  check = command { argv = { "redis-check-rdb" } },
  app = service { ]] .. APP .. [[ },
  site = url { behind = "app", url = "http://127.0.0.1:$site", health = "/health" },
  chat = webhook { url = secret { env = "CHAT_URL" }, format = "slack" },
]]

-- Nothing is written by the server itself, so that whatever is written is somebody's.
local QUIET <const> = { "autovacuum = off", "checkpoint_timeout = 1d", "track_counts = on" }

local function database_server()
  local pg = servers.postgres { name = "setups", settings = QUIET }
  pg.sql "grant pg_read_all_stats, pg_signal_backend to owner"
  return pg
end

-- Redis with a configuration file, as a machine has it, and a directory that holds nothing but its data.
local function cache_server(name)
  local data = suite.temp()
  local server = servers.redis { name = "setups-" .. name, acl = false, settings = { "dir " .. data } }
  local cache = { cli = server.cli, password = server.passwords.default, data = data, port = server.port }

  function cache.monitor() return { "redis-cli", "-s", server.socket, "--no-auth-warning", "--pass", server.passwords.default, "monitor" } end

  function cache.clear()
    for _, setting in ipairs { "appendonly no", "appendfsync everysec", "maxmemory 0", "maxmemory-policy noeviction" } do
      server.cli("config", "set", setting:match("^(%S+) (%S+)$"))
    end
    server.cli("flushall")
    os.execute(("rm -rf '%s'/*"):format(data))
  end

  return cache
end

local function common(name)
  if not web.is_possible() then return nil, "no busybox: there is no application and no chat" end
  local setup = { name = name, pg = database_server(), redis = cache_server(name), app = web.app(), chat = web.chat() }
  setup.data = setup.redis.data
  setup.folders = { setup.app.dir }
  setup.words = { cache = setup.redis.port, app = setup.app.dir, site = setup.app.port }
  return setup
end

--- One server, root by SSH.
---@return table? setup
---@return string? why there is none here
function M.plain()
  if T.uid() ~= 0 then return nil, "not root: the server cannot be given an account of root's with a home of its own" end
  local server = servers.sshd { name = "server", address = "127.0.0.9", root = true }
  if not server.uid then return nil, "no mount namespace can be made for the server" end
  local setup, why = common "plain"
  if not setup then return nil, why end
  local home = servers.ssh_home { server = server }
  setup.entries, setup.hosts, setup.words.config, setup.words.path = PLAIN, { server = server }, home.config, os.getenv("PATH")

  function setup.new_backups()
    child.must { argv = { "sh", "-c", 'rm -rf "$1" && mkdir -m 700 "$1"', "sh", server.home .. "/backups" } }
    return server.home .. "/backups"
  end

  return setup
end

--- A URL, local tools.
---@return table? setup
---@return string? why there is none here
function M.direct()
  local setup, why = common "direct"
  if not setup then return nil, why end
  setup.entries = DIRECT
  return setup
end

return M
