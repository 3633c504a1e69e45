-- setups.lua: the four set-ups that every shipped runbook must work against, on real servers, with the same role names in each.
--
--   local setups = require "tests.support.setups"
--   local at, why = setups.open("docker", { … })       nil and the reason where the machine cannot have it: the spec is pending with it
--   at.neap { "plan", "postgres/backup" }   at.ends(0, { "run", … })   at.plan { … }   at.held({ … })   at.records()     (as a ward's)
--   at.pg.sql("select 1", at.database)   at.pg.log()   at.redis.cli("get", "a")   at.watch(fn)
--   at.app.running()  .stop()  .start()   at.said()   at.calls()   at.has "dbc"
--   at.dir  .state  .inventory  .database  .backups  .data  .migrations  .folders  (all paths are of this machine)
--
--   docker    three sshd, hermes, atlas and iris; PostgreSQL, Redis and the application are containers on hermes that publish no port, and
--             docker is reached with sudo there; the backups are on iris. neap stands outside of the network that the bridge is in
--   compose   a local Engine with the labels of compose; the application is a compose service; folders are local
--   plain     one server, root by SSH, everything on it, and a process manager that has start, stop and status
--   direct    PostgreSQL by a URL with the parameters of an ORM, local tools, local folders
--
-- Roles: db, dbc (where there is a container), redis, data (the directory of Redis), backups, migrations, migrate (prisma's or drizzle's
-- place: it counts its calls), check (redis-check-rdb, where the backups are), app (a service), site (its url), chat (a webhook). docker
-- also has hermes, atlas and iris, plain has server. The application serves /health itself, so a site whose application is stopped is down.
--
-- A set-up is started by the first spec that opens it, for the whole suite; open() then makes a place on it in well under a second: a
-- database of its own with the schema of the wards, empty folders, an empty Redis as it was started, an application that runs, an inventory,
-- a state directory. A spec that must stop or configure PostgreSQL itself brings a server: { postgres = servers.postgres { … } } (plain and direct).
--
-- Rejected: a fake for what is missing on a machine (the set-up is then not there, and the test says so); a place for each file that is
-- shared by its tests (a test would see what another one left).

local machines = require "tests.support.setups.machines"
local boxes = require "tests.support.setups.boxes"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local keep = require "tests.support.keep"
local shops = require "tests.support.shop"
local tools = require "tests.support.tools"
local child = require "tests.support.child"
local wards = require "tests.support.ward"

local M = {}

M.names = { "docker", "compose", "plain", "direct" }

local here = os.getenv("PWD")
local KINDS <const> = { docker = boxes.docker, compose = boxes.compose, plain = machines.plain, direct = machines.direct }

-- Kept with the suite: busted forgets this module after each file.
suite.setups = suite.setups or {}

-- What is started lives as long as the suite, even when an `it` is the first to ask.
local function started(name)
  local known = suite.setups[name]
  if known then return known.setup, known.why end
  local current = suite.current
  suite.current = nil
  local ok, setup, why = pcall(KINDS[name])
  suite.current = current
  if not ok then error(setup, 0) end
  suite.setups[name] = { setup = setup, why = why }
  return setup, why
end

local function entries(setup, at, options)
  local words = {
    database = at.database, role = options.role or "owner", backups = at.backups, data = at.data, migrations = at.migrations, tool = at.dir .. "/tool",
    db = options.db and ", " .. options.db or "",
  }
  for name, value in pairs(setup.words) do words[name] = value end
  return (setup.entries:gsub("%$(%w+)", words))
end

--- The inventory again, with other options.
local function write_inventory(setup, at, options)
  suite.write(at.inventory, ('environment "%s" {\n  %s\n%s  %s\n}\n'):format(setup.name, options.settings or "", entries(setup, at, options), options.entries or ""))
end

-- What a test that failed left in nobody's way: the locks of its runs on this machine.
local function forget(at)
  for _, name in ipairs(T.entries("/run/lock") or {}) do
    local path = "/run/lock/" .. name
    for _, run in ipairs(name:find("^neap%-") and T.entries(at.state .. "/runs") or {}) do
      local file = io.open(path)
      if file and file:read("a"):find("run " .. run, 1, true) then os.remove(path) end
      if file then file:close() end
    end
  end
end

local function files(setup, at, options)
  at.dir = suite.temp()
  at.state, at.inventory, at.migrations = suite.memory() .. "/state", at.dir .. "/inventory.lua", at.dir .. "/migrations"
  at.data = setup.data
  at.backups = setup.new_backups and setup.new_backups() or at.dir .. "/backups"
  if not setup.new_backups then os.execute("mkdir " .. at.backups) end
  child.must { argv = { "cp", "-R", options.migrations or tools.fixtures[options.tool or "prisma"], at.migrations } }
  os.execute(("ln -s '%s/runbooks' '%s/runbooks'"):format(here, at.dir))
  local argv = tools.command(options.tool or "prisma")
  shops.write_tool(at.dir, options.program or argv and argv[1] or "/bin/false")
  at.folders = { at.dir .. "/inventory.lua", at.dir .. "/tool", at.migrations, at.backups, at.data, here .. "/runbooks" }
  table.move(setup.folders or {}, 1, #(setup.folders or {}), #at.folders + 1, at.folders)
end

local function operate(setup, at)
  --- The words of a command line.
  function at.words(words)
    local all = table.move(words, 1, #words, 1, {})
    table.move({ "--state", at.state, "--width", "1000" }, 1, 4, #all + 1, all)
    if words[1] ~= "show" and words[1] ~= "gc" then table.move({ "--inventory", at.inventory }, 1, 2, #all + 1, all) end
    if words[1] == "run" or words[1] == "plan" then table.move({ "--env", setup.name }, 1, 2, #all + 1, all) end
    return all
  end

  --- Start neap where the set-up is reached from. options: tty, user.
  function at.start(words, options)
    options = options or {}
    return servers.neap.start(at.words(words), { env = at.env, cwd = at.dir, tty = options.tty, user = options.user, enter = setup.enter })
  end

  wards.operate(at)

  --- Does the set-up have this role?
  function at.has(role) return setup.entries:find("\n%s*" .. role .. " = ") ~= nil end

  --- The argument lists that the migration tool was called with.
  function at.calls() return shops.calls(at.dir) end

  --- The commands that Redis was sent while fn ran.
  function at.watch(fn) return keep.watch(setup.redis.monitor(), setup.redis.cli, at.dir .. "/monitor", fn) end

  --- What was posted to the webhook, a line for each.
  function at.said() return setup.chat.said() end
end

--- A place on a set-up. options: role (the role of PostgreSQL: owner, admin, app, reader; owner when omitted), schema (SQL instead of the
--- wards'; "" for none), db (more fields of the entry db, as text), settings and entries (more lines of the environment, as text),
--- tool ("prisma" or "drizzle"), program (stands in for the tool), migrations (a folder to copy), postgres (a server of the spec),
--- limit_ms (for each command).
---@param name string one of M.names
---@param options? table
---@return table? place
---@return string? why there is none on this machine
function M.open(name, options)
  options = options or {}
  if not KINDS[name] then error("no such set-up: " .. tostring(name), 2) end
  local setup, why = started(name)
  if not setup then return nil, why end
  local pg, role = options.postgres or setup.pg, options.role or "owner"
  local at = { name = name, pg = pg, redis = setup.redis, app = setup.app, engine = setup.engine, enter = setup.enter, hosts = setup.hosts or {}, limit_ms = options.limit_ms }
  at.database = pg.database()
  if options.schema ~= "" then pg.sql(options.schema or wards.schema, at.database) end
  files(setup, at, options)
  at.env = { DB_PASSWORD = servers.passwords[role], REDIS_PASSWORD = setup.redis.password, CHAT_URL = setup.chat.url }
  setup.words.port = pg.port
  write_inventory(setup, at, options)
  operate(setup, at)
  setup.chat.clear()
  setup.redis.clear()
  setup.app.start()
  suite.after(function ()
    forget(at)
    pg.sql(("drop database if exists %s with (force)"):format(at.database))
  end)

  --- The inventory again, with these options.
  function at.bind(more) write_inventory(setup, at, more) end

  return at
end

return M
