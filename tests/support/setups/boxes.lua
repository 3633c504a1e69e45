-- boxes.lua: the set-ups with containers, for setups.lua: `docker`, on a host that is reached by SSH, and `compose`, on the local Engine. Both
-- use the suite's Engine with a bridge: what is in a container is reached at its own address, and nothing is published.

local child = require "tests.support.child"
local postgres = require "tests.support.servers.postgres"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"
local web = require "tests.support.setups.web"

local M = {}

local DOCKER <const> = [[

  hermes = host { ssh = "hermes", config = "$config", sudo = true },
  atlas = host { ssh = "atlas", config = "$config", sudo = true },
  iris = host { ssh = "iris", config = "$config" },
  dbc = container { on = "hermes", project = "$project", service = "db" },
  db = postgres { on = "dbc", url = "postgresql://$role@localhost/$database", password = secret { env = "DB_PASSWORD" }$db },
  box = container { on = "hermes", project = "$project", service = "redis" },
  redis = redis { on = "box", url = "redis://localhost:6379/0", password = secret { env = "REDIS_PASSWORD" } },
  data = folder { on = "hermes", path = "$data" },
  backups = folder { on = "iris", path = "$backups" },
  migrations = folder { path = "$migrations" },
  migrate = command { argv = { "$tool" } },
  check = command { argv = { "ssh", "-F", "$config", "iris", "redis-check-rdb" } },
  app = service { on = "hermes", compose = { project = "$project", service = "api" } },
  web = container { on = "hermes", project = "$project", service = "api" },
  site = url { on = "web", behind = "app", url = "http://localhost:8080", health = "/health" },
  chat = webhook { url = secret { env = "CHAT_URL" }, format = "slack" },
]]

local COMPOSE <const> = [[

  dbc = container { docker = "$engine", project = "$project", service = "db" },
  db = postgres { on = "dbc", url = "postgresql://$role@localhost/$database?schema=public", password = secret { env = "DB_PASSWORD" }$db },
  box = container { docker = "$engine", project = "$project", service = "redis" },
  redis = redis { on = "box", url = "redis://localhost:6379/0", password = secret { env = "REDIS_PASSWORD" } },
  data = folder { path = "$data" },
  backups = folder { path = "$backups" },
  migrations = folder { path = "$migrations" },
  migrate = command { argv = { "$tool" } },
  check = command { argv = { "redis-check-rdb" } },
  app = service { docker = "$engine", compose = { project = "$project", service = "api" } },
  web = container { docker = "$engine", project = "$project", service = "api" },
  site = url { on = "web", behind = "app", url = "http://localhost:8080", health = "/health" },
  chat = webhook { url = secret { env = "CHAT_URL" }, format = "slack" },
]]

-- Serves its page and ends at once when it is told to.
local SERVE <const> = [[trap 'exit 0' TERM; mkdir -p /www; echo fine >/www/health; httpd -p 8080 -h /www; echo 'Backend listening on :8080'; sleep 100000 & wait $!]]

-- As the servers that are not in containers have it: the roles, a log of every statement, nothing that the server writes by itself.
local function prepare(box)
  local p = servers.passwords
  for _, setting in ipairs { "log_statement = 'all'", "log_line_prefix = '%m [%p] %u@%d/%a '", "log_connections = on", "autovacuum = off", "checkpoint_timeout = '1d'" } do
    box.sql("alter system set " .. setting)
  end
  box.sql("select pg_reload_conf()")
  box.sql(table.concat({ ("create role admin superuser login password '%s'"):format(p.admin), ("create role owner login createdb password '%s'"):format(p.owner),
    ("create role app login password '%s'"):format(p.app), ("create role reader login password '%s'"):format(p.reader),
    "grant pg_read_all_data to reader", "grant pg_read_all_stats, pg_signal_backend to owner" }, ";"))
end

-- Its address, as it is now; asked of the Engine itself, which is cheaper than its program.
local function address(box)
  local _, network = next(text.parse(box.engine.get(("/containers/%s/json"):format(box.id))).NetworkSettings.Networks)
  return network.IPAddress
end

local function is_running(box) return text.parse(box.engine.get(("/containers/%s/json"):format(box.id))).State.Running end

-- Both outputs: each piece has a head of eight bytes, whose last four are its length.
local function said(box)
  local bytes, parts, at = box.engine.get(("/containers/%s/logs?stdout=1&stderr=1"):format(box.id)), {}, 1
  while at + 8 <= #bytes do
    local length = (">I4"):unpack(bytes, at + 4)
    parts[#parts + 1] = bytes:sub(at + 8, at + 7 + length)
    at = at + 8 + length
  end
  return table.concat(parts)
end

local function database_box(engine, project)
  local box = engine.postgres { name = project .. "-db-1", project = project, service = "db", volume = project .. "-data", later = true }
  local pg, count, looks = { box = box, port = 5432 }, 0, 0

  function pg.sql(statements, database, user)
    return postgres.ask({ host = address(box), port = 5432, enter = engine.netns.enter }, statements, database, user)
  end

  --- Everything it logged so far, all statements included. The Engine writes down what a container says when it comes round to it: the log is
  --- whole up to a word of our own that has come.
  function pg.log()
    looks = looks + 1
    local word, until_ms = ("look %d at the log"):format(looks), T.now_ms() + 60000
    pg.sql(("select '%s'"):format(word))
    while true do
      local log = said(box)
      if log:find(word, 1, true) then return log end
      if T.now_ms() > until_ms then error("the log does not come: " .. log:sub(-500), 2) end
      T.pause(10)
    end
  end

  --- Where it is on the bridge: whoever is in the Engine's network namespace can reach it there.
  function pg.address() return address(box) end

  --- It answers, and has its roles.
  function pg.begin()
    box.wait_healthy()
    prepare(box)
  end

  --- A new database with a name of its own, owned by `owner`.
  function pg.database()
    count = count + 1
    pg.sql(("create database t%d owner owner"):format(count))
    return "t" .. count
  end

  return pg
end

local CLEAR <const> = { "appendonly no", "appendfsync everysec", "maxmemory 0", "maxmemory-policy noeviction" }

local function cache_box(engine, project)
  local data = suite.temp()
  local box = engine.redis { name = project .. "-redis-1", project = project, service = "redis", args = { "-v", data .. ":/var/lib/redis" }, later = true }
  local cache = { box = box, data = data, password = box.password }

  local function argv(...)
    return engine.netns.enter { "redis-cli", "-h", address(box), "-a", box.password, "--no-auth-warning", ... }
  end

  function cache.cli(...) return (child.must({ argv = argv(...), timeout = 60000 }):gsub("\n$", "")) end
  function cache.monitor() return argv "monitor" end

  function cache.clear()
    for _, setting in ipairs(CLEAR) do cache.cli("config", "set", setting:match("^(%S+) (%S+)$")) end
    cache.cli "flushall"
    os.execute(("rm -rf '%s'/*"):format(data))
  end

  return cache
end

local function app_box(engine, project)
  local box = engine.busybox { name = project .. "-api-1", project = project, service = "api", cmd = { "sh", "-c", SERVE } }
  local app = { box = box }
  function app.running() return is_running(box) end
  function app.stop() engine.cli("stop", box.id) end

  --- Started, and its page is there.
  function app.start()
    if not app.running() then engine.cli("start", box.id) end
    web.wait_for("http://" .. address(box) .. ":8080/health", engine.netns.enter)
  end

  return app
end

local function common(name)
  local engine, why = servers.docker { netns = true }
  if not engine then return nil, why end
  local project = ("%s%d"):format(name, T.pid())
  local setup = { name = name, engine = engine, pg = database_box(engine, project), redis = cache_box(engine, project), app = app_box(engine, project) }
  setup.pg.begin()                                   -- the first look at how they are comes seconds after their start: they are waited for together
  setup.redis.box.wait_healthy()
  setup.data = setup.redis.data
  setup.words = { project = project, engine = engine.url }
  return setup
end

--- A host of containers, another one for backups.
---@return table? setup
---@return string? why there is none here
function M.docker()
  local setup, why = common "docker"
  if not setup then return nil, why end
  local hosts = {}
  for _, name in ipairs { "hermes", "atlas", "iris" } do
    hosts[name] = servers.sshd { name = name, sudo = true, netns = name == "hermes" and setup.engine.netns or nil, env = name == "hermes" and { DOCKER_HOST = setup.engine.url } or nil }
  end
  if not hosts.iris.uid then return nil, "no mount namespaces can be made for the hosts" end
  setup.entries, setup.hosts, setup.chat = DOCKER, hosts, web.chat()
  setup.words.config = servers.ssh_home(hosts).config

  function setup.new_backups()
    local path = hosts.iris.home .. "/backups"
    child.must { argv = { "sh", "-c", 'rm -rf "$1" && mkdir -m 700 "$1"', "sh", path } }
    T.owner(path, hosts.iris.uid)
    return path
  end

  return setup
end

--- The local Engine: neap stands where its bridge is.
---@return table? setup
---@return string? why there is none here
function M.compose()
  local setup, why = common "compose"
  if not setup then return nil, why end
  setup.entries, setup.enter, setup.chat = COMPOSE, setup.engine.netns.enter, web.chat(setup.engine.netns.enter)
  return setup
end

return M
