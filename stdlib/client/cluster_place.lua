--- Where a cluster is and as whom its commands run: here or on its host, by the same words; and the database objects that lead into it.

local M = {}

local commands = require("client.command")
local postgres = require("client.postgres")
local process = require("native.process")
local raise = require("core.raise")
local system = require("native.system")

-- What goes before a command that another user runs. PAM asks root nothing.
local function as_user(user, mine)
  if not user or user == mine then return {} end
  if mine == "root" then return { "runuser", "-u", user, "--" } end
  return { "sudo", "-n", "-u", user, "--" }
end

local function mine(o)
  if not o.place then return system.user() end
  local sudo = o.place.spec.sudo
  if sudo then return sudo == true and "root" or sudo end
  o.login = o.login or o.place.ways.session(o.place):card().user
  return o.login
end

-- The words of a command, run by the cluster's own user, whose messages are not translated.
local function words_of(o, argv)
  local all = as_user(o.spec.as, mine(o))
  table.move({ "env", "LC_ALL=C" }, 1, 2, #all + 1, all)
  return table.move(argv, 1, #argv, #all + 1, all)
end

local function call(o, verb, argv, given)
  if o.place then
    local options = { cwd = "/" }
    for key, value in pairs(given or {}) do options[key] = value end
    return o.place.methods[verb](o.place, words_of(o, argv), options)
  end
  local command = commands.bind(o.role, { argv = words_of(o, argv), cwd = "/" })
  return command.methods[verb](command, nil, given)
end

--- Run it because it only reads.
function M.read(o, argv, given) return call(o, "read", argv, given) end

--- Run it.
function M.run(o, argv, given) return call(o, "run", argv, given) end

--- The machine and the directory, which is what a cluster is known by.
---@return string
function M.id(o)
  o.identity = o.identity or "cluster:" .. (o.place and o.place.methods.card(o.place).id or "") .. o.directory
  return o.identity
end

--- The run that asks.
---@return string
function M.run_of(o) return o.context.application:match("([^:]*)$") end

--- Start a command where a folder is, that only reads.
---@return userdata command
function M.start_at(folder, argv)
  if folder.place then return folder.place.methods.start(folder.place, argv, { read = true, bulk = true, cwd = "/" }) end
  return (raise.check(process.start { argv = argv, read = true, role = folder.role, cwd = "/" }))
end

-- The socket in the cluster's directory, or its port where a password is given, as the host that it is on reaches them.
local function far(o)
  local below = o.place
  local ways = { machine = below.ways.machine }
  function ways.dial(_, _, port)
    if o.spec.password then return below.ways.dial(below, "127.0.0.1", port) end
    return below.ways.dial_unix(below, ("%s/run/.s.PGSQL.%d"):format(o.directory, port))
  end
  ways.machine = function () return below.ways.machine(below) end
  return { kind = M.kind, role = o.role, ways = ways }
end

local function url_of(o)
  if o.place then return ("postgresql://localhost:%d"):format(o.spec.port) end
  if o.spec.password then return ("postgresql://127.0.0.1:%d"):format(o.spec.port) end
  return ("postgresql:///?host=%s/run&port=%d"):format(o.directory, o.spec.port)
end

--- The database object of the cluster. Connects to nothing.
function M.sql(o)
  if o.sql then return o.sql end
  local context = setmetatable({ target = function () return far(o) end }, { __index = o.context })
  o.sql = postgres.bind(o.role, { url = url_of(o), on = o.place and o.role or nil, user = o.spec.user or "postgres", password = o.spec.password,
    database = o.spec.database or "postgres", tls = "off" }, context)
  return o.sql
end


return M
