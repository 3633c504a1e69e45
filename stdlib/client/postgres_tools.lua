--- The programs of PostgreSQL (pg_dump, pg_restore, psql) for a database: where they run, how they get to it there, how old they are.
--
--   tools = "dbc"        the role of a host or a container whose programs are used; "local" is this machine
--   nothing              what the database stands on, else this machine
--
-- A program connects by its environment: no password is ever an argument, and none is asked for (--no-password). In a container, and on the
-- host the server stands on, it goes to the address the URL names as it looks from there; without a password in the inventory that is the
-- local socket, which often trusts. On this machine it goes through the tunnel that our own connections use.
--
-- What is started counts as the database's own command, not that of the place: its intent carries the database's role, so that after a crash
-- the database is asked what became of it (postgres_guardians.lua).
--
-- Rejected: docker exec or ssh as programs (they are streams of ours), a URL as an argument (every user of the machine reads it there).

local M = {}

local connections = require("client.postgres_connections")
local containers = require("client.container_engine")
local native = require("native.pg")
local process = require("native.process")
local raise = require("core.raise")
local session = require("client.host_session")
local sql = require("native.sql")

-- The keywords of a URL that a program is told by its environment.
local NAMES <const> = { hostaddr = "PGHOSTADDR", sslmode = "PGSSLMODE", sslrootcert = "PGSSLROOTCERT", sslcert = "PGSSLCERT", sslkey = "PGSSLKEY",
  sslcrl = "PGSSLCRL", channel_binding = "PGCHANNELBINDING", gssencmode = "PGGSSENCMODE" }

--- What the server calls the session of a restore, before the run's id.
M.RESTORING = "neap:restore:"

--- The id of the run an object was bound for: the end of what its sessions are called.
---@return string
function M.run_of(o) return (o.context.application or ""):match(":(%w+)$") or "" end

--- Where the programs of a database run: a bound host or container; nil is this machine.
---@param o table
---@return table|nil
function M.place(o)
  local server = o.server
  if server.tools ~= nil then return server.tools or nil end
  return server.place
end

--- What an error calls it.
---@return string
function M.where(o)
  local place = M.place(o)
  return place == nil and "here" or place.kind == "container" and "in " .. place.role or "on " .. (place.name or place.role)
end

-- The host the server stands on is reached from there at the container's own address.
local function seen_from(o, place, host)
  local on = o.server.place
  if not on or on == place then return host end
  if on.kind == "container" and on.place == place then return on.ways.address(on, host) end
  raise("config", ("\"%s\" stands on \"%s\", and its tools are %s"):format(o.role, o.spec.on, M.where(o)),
    "The programs run in the container, on the host it stands on, or on this machine (tools = \"local\").")
end

local function add_address(o, env, place, where, password)
  if not place and o.server.place then
    env.PGHOST, env.PGPORT = connections.options(o).socket, "5432"
    return
  end
  for keyword, name in pairs(NAMES) do env[name] = where[keyword] end
  if place and place.kind == "container" and place == o.server.place and not password then return end
  env.PGHOST, env.PGPORT = place and seen_from(o, place, where.host or "localhost") or where.host, where.port
end

--- The environment in which a program gets to the database.
---@param o table
---@param application string what the server calls its session
---@return table<string, any> env a value may be a secret
function M.environment(o, application)
  local place, where = M.place(o), raise.check(sql.url(o.spec.url)).pairs
  local connection <close> = raise.check(native.new(connections.options(o)))
  local password = connection:password()
  local env = { PGPASSWORD = password, PGAPPNAME = application:sub(1, 60), PGCONNECT_TIMEOUT = "15", LC_ALL = "C" }
  env.PGUSER, env.PGDATABASE = connections.reader(o.parent or o):card().user, M.database(o)
  add_address(o, env, place, where, password)
  return env
end

--- The name of the database behind an object.
---@return string
function M.database(o) return o.database or connections.reader(o):card().database end

local function argv_of(o, program, arguments)
  local argv = { (o.spec.tools_path and o.spec.tools_path .. "/" or "") .. program }
  return table.move(arguments, 1, #arguments, 2, argv)
end

--- The Engine of a container, known by the database's role: what runs there is the database's.
local function engine_of(o, container)
  local server = o.server
  server.engines = server.engines or {}
  local shadow = server.engines[container]
  if not shadow then
    shadow = setmetatable({ role = o.role, engine = false }, { __index = container })
    server.engines[container] = shadow
  end
  return containers.engine(shadow), (containers.id(container))
end

--- Start a program beside the task, as client.command does.
---@param o table
---@param program string "pg_dump"
---@param arguments string[]
---@param given { application: string, reads: boolean?, changes: string? }
---@return userdata command withheld in a preview, unless it reads
---@effect write
function M.start(o, program, arguments, given)
  local place = M.place(o)
  local call = { argv = argv_of(o, program, arguments), env = M.environment(o, given.application), read = given.reads, changes = given.changes, role = o.role }
  if not place then return (raise.check(process.start(call))) end
  if place.kind == "host" then
    place.streaming, call.bulk = true, true
    return (session.use(place, function (s) return s:start(call) end))
  end
  local engine, id = engine_of(o, place)
  call.container, call.user, call.role = id, place.spec.user, nil
  return (raise.check(engine:start(call)))
end

-- What it prints; a declared read.
local function ask(o, argv)
  local place = M.place(o)
  if place then return place.methods.read(place, argv, { within = "30s" }):out() end
  local ended = raise.check(process.run { argv = argv, read = true, role = o.role, within_ms = 30000 })
  if ended.status ~= 0 then raise("remote", ("%s --version ended with status %s"):format(argv[1], ended.status or "?")) end
  return ended.out
end

--- How old a program is: 15, "15.20".
---@param o table
---@param program string
---@return integer major
---@return string version
---@effect read
function M.version(o, program)
  local server = o.server
  server.versions = server.versions or {}
  if not server.versions[program] then
    local ok, said = pcall(ask, o, argv_of(o, program, { "--version" }))
    if not ok then
      local err = raise.of(said)
      if err.code == "withheld" then error(said, 0) end         -- a preview could not ask: that is no answer
      raise("config", ("there is no %s %s for \"%s\": %s"):format(program, M.where(o), o.role, err.message),
        "Install PostgreSQL's client programs there, or name a role that has them: tools = \"…\".")
    end
    server.versions[program] = said:match("%(PostgreSQL%)%s+(%d[%w.]*)") or raise("remote", ("%s --version says \"%s\""):format(program, said:sub(1, 80)))
  end
  return math.tointeger(tonumber(server.versions[program]:match("^%d+"))), server.versions[program]
end

--- Refuse a program that is older than the server: it would leave out what it does not know, or refuse itself half-way.
---@effect read
function M.check_version(o, program)
  local ours, version = M.version(o, program)
  local card = connections.reader(o.parent or o):card()
  local theirs = tonumber(card.version:match("^%d+"))
  if ours < theirs then
    raise("config", ("%s %s is %s, the server is PostgreSQL %s"):format(program, M.where(o), version, card.version:match("^%S+")),
      "Install the client programs of the server's version there, or name a role that has them: tools = \"…\", tools_path = \"…\".")
  end
end

-- The words of a command as the journal has them: quoted for a shell where they must be.
local function words_of(text)
  local words, word, at = {}, nil, 1
  while at <= #text do
    local quoted = text:match("^'([^']*)'", at)
    local plain = not quoted and text:match("^[^%s'\\]+", at)
    local escaped = not quoted and not plain and text:match("^\\(.)", at)
    if quoted or plain or escaped then word = (word or "") .. (quoted or plain or escaped) end
    if not (quoted or plain or escaped) and word then words[#words + 1], word = word, nil end
    at = at + (quoted and #quoted + 2 or plain and #plain or escaped and 2 or 1)
  end
  words[#words + 1] = word
  return words
end

--- The argument that names a database; a name that looks like a connection string is spelled as one.
---@param name string
---@return string
---@effect pure
function M.database_argument(name)
  if not name:find("[=/:%s'\\]") then return "--dbname=" .. name end
  return "--dbname=dbname='" .. name:gsub("['\\]", "\\%0") .. "'"
end

--- The database that a command of ours was for; nil when it names none.
---@param text string the command, quoted
---@return string|nil
---@effect pure
function M.database_of(text)
  for _, word in ipairs(words_of(text)) do
    local name = word:match("^%-%-dbname=(.*)$")
    local spelled = name and name:match("^dbname='(.*)'$")
    if spelled then return (spelled:gsub("\\(.)", "%1")) end
    if name then return name end
  end
  return nil
end

--- What became of a program that was started for the database: "running" while it works, "not begun", or nil: it is over.
---@param o table
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
---@return string|nil
function M.probe(o, evidence, patience)
  local place, found = M.place(o), nil
  if evidence.primitive == "process.run" then found = require("client.command").fate(evidence, patience)
  elseif evidence.primitive == "host.run" and place then found = session.of(place):probe(evidence, patience)
  elseif evidence.primitive == "docker.exec" and place then found = engine_of(o, place):probe(evidence, patience) end
  return (found == "running" or found == "not begun") and found or nil
end

return M
