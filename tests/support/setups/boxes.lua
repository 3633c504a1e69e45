-- boxes.lua: the set-ups with containers, for setups.lua: `docker`, on a host that is reached by SSH, and `compose`, on the local Engine. Both
-- use the suite's Engine with a bridge: what is in a container is reached at its own address, and nothing is published.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
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

local function database_box(engine, project)
  local box = engine.postgres { name = project .. "-db-1", project = project, service = "db", volume = project .. "-data" }
  prepare(box)
  local count = 0

  --- Everything it logged, all statements included.
  function box.log()
    local said = engine.try { "logs", box.id }
    return said.out .. said.err
  end

  --- A new database with a name of its own, owned by `owner`.
  function box.database()
    count = count + 1
    box.sql(("create database t%d owner owner"):format(count))
    return "t" .. count
  end

  return box
end

local function cache_box(engine, project)
  local data = suite.temp()
  local box = engine.redis { name = project .. "-redis-1", project = project, service = "redis", args = { "-v", data .. ":/var/lib/redis" } }
  box.data = data

  function box.monitor()
    return engine.netns.enter { "redis-cli", "-h", box.address(), "-a", box.password, "--no-auth-warning", "monitor" }
  end

  function box.clear()
    box.exec { "sh", "-c", "redis-cli -a \"$0\" --no-auth-warning; rm -rf /var/lib/redis/*", box.password,
      input = "config set appendonly no\nconfig set appendfsync everysec\nconfig set maxmemory 0\nconfig set maxmemory-policy noeviction\nflushall\n" }
  end

  return box
end

local function app_box(engine, project)
  local box = engine.busybox { name = project .. "-api-1", project = project, service = "api", cmd = { "sh", "-c", SERVE } }
  local app = { box = box }
  function app.running() return box.inspect("{{.State.Running}}") == "true" end
  function app.stop() engine.cli("stop", box.id) end

  --- Started, and its page is there.
  function app.start()
    engine.cli("start", box.id)
    local until_ms = T.now_ms() + 10000
    while box.exec({ "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health" }).code ~= 0 do
      if T.now_ms() > until_ms then error("the application does not answer", 0) end
      T.pause(10)
    end
  end

  return app
end

local function common(name)
  local engine, why = servers.docker { netns = true }
  if not engine then return nil, why end
  local project = ("%s%d"):format(name, T.pid())
  local setup = { name = name, engine = engine, pg = database_box(engine, project), redis = cache_box(engine, project), app = app_box(engine, project) }
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
