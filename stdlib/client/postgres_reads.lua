--- What a runbook may ask of a PostgreSQL database: every word a fenced read with a snapshot of its own.

local connections = require("client.postgres_connections")
local duration = require("core.duration")
local guard = require("native.guard")
local native = require("native.pg")
local pipe = require("client.pipe")
local raise = require("core.raise")

local methods = {}

local function withheld(o, database)
  local step = o.server.root and guard.withheld(o.server.root .. "/" .. database)
  if step then error(raise.new("withheld", step), 0) end
end

local function read(o, verb, ...)
  local connection = connections.reader(o)
  local results = table.pack(connection[verb](connection, ...))
  connections.tell(o, connection)
  if results[1] == nil and results[2] ~= nil then error(results[2], 0) end
  return results[1]
end

--- The one value of one row; nil for NULL. Anything else than one row with one column is an error.
---@param sql string
---@param ... any parameters $1, $2, …
---@return any
---@effect read
function methods.value(o, sql, ...) return read(o, "value", sql, ...) end

--- The one row, as { column = value }.
---@param sql string
---@return table
---@effect read
function methods.row(o, sql, ...) return read(o, "row", sql, ...) end

--- All rows, as a list. For many use `each`.
---@param sql string
---@return table[]
---@effect read
function methods.rows(o, sql, ...) return read(o, "rows", sql, ...) end

--- Is there any row? For a statement that answers one boolean: is it true?
---@param sql string
---@return boolean
---@effect read
function methods.has(o, sql, ...) return read(o, "has", sql, ...) end

--- Rows one after the other, any number of them in constant memory: for row in db:each "select …" do … end
---@param sql string
---@return function iterator
---@effect read
function methods.each(o, sql, ...)
  local connection = connections.take(o)
  local rows = raise.check(connection:each(sql, ...))
  local closing = setmetatable({}, { __close = function ()
    connections.tell(o, connection)
    rows:close()
    connections.give_back(o, connection)
  end })
  return rows:iterator(), nil, nil, closing
end

--- The rows of a SELECT as a file or into a stream: { bytes =, sha256 = }. A local file is written, so only act may do that;
--- into a stream that is open it is a read.
---@param sql string
---@param to string|userdata path or stream
---@param wanted? { format: "text"|"csv"|"binary", header: boolean }
---@return { bytes: integer, sha256: string }
---@effect read
function methods.copy_out(o, sql, to, wanted)
  local connection = connections.take(o)
  local stream, own = connections.stream(to, "w")
  local from <close> = raise.check(connection:copy_out(sql, wanted))
  local closing <close> = own
  local moved = pipe.move(o.context, from, stream)
  raise.check(from:close())
  if closing then raise.check(closing:close()) end
  connections.give_back(o, connection)
  return moved
end

local function tls_line(card, spec)
  if card.tls == "local" then return nil end
  if card.tls == "verified" then return "verified" end
  local what = card.tls == "encrypted" and "encrypted, the server's name is not verified" or "none: passwords and data cross the network in clear"
  return spec.tls == "off" and what .. " (the inventory knows)" or what
end

--- Who answers: {kind=, id=, lines=, trusted=, …}.
---@return table card
---@effect read
function methods.card(o)
  local connection = connections.reader(o)
  local card = connection:card()
  local label, why = connection:label()
  local lines = {
    { "server", ("PostgreSQL %s on %s"):format(card.version, card.address or card.host or "a local socket") },
    { "database", card.database },
    { "role", card.superuser and card.user .. " (superuser)" or card.user },
  }
  if card.recovery then lines[#lines + 1] = { "state", "standby, read-only" } end
  local tls = tls_line(card, o.spec)
  if tls then lines[#lines + 1] = { "tls", tls } end
  if label ~= "enforced" then lines[#lines + 1] = { "reads", label .. ": " .. why } end
  card.kind, card.lines, card.label = o.kind, lines, label
  card.trusted = card.trusted or o.spec.tls == "off"
  return card
end

--- What a preview calls this database when it remembers what would have changed: "pg:<system identifier>/<database>".
---@return string
---@effect read
function methods.subject(o)
  if not connections.subject(o) then methods.card(o.parent or o) end
  return connections.subject(o)
end

--- Is there a database of this name on the server?
---@param database string
---@return boolean
---@effect read
function methods.exists(o, database)
  connections.reader(o)
  withheld(o, database)
  return methods.has(o, "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1", database)
end

local TABLES <const> = [[
  SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%' ORDER BY 1, 2]]

--- The tables, without those of the system.
---@return string[] names "schema.table"
---@effect read
function methods.tables(o)
  local names = {}
  for i, row in ipairs(methods.rows(o, TABLES)) do names[i] = row.schema .. "." .. row.name end
  return names
end

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

--- The exact number of rows of every table, in one snapshot.
---@return table<string, integer> counts by "schema.table"
---@effect read
function methods.counts(o)
  local parts, names, counts = {}, {}, {}
  for i, row in ipairs(methods.rows(o, TABLES)) do
    names[i] = row.schema .. "." .. row.name
    parts[i] = ("SELECT %d AS i, count(*) AS n FROM %s.%s"):format(i, quote(row.schema), quote(row.name))
  end
  local rows = #parts > 0 and raise.check(connections.patient(o):rows(table.concat(parts, " UNION ALL "))) or {}
  for _, row in ipairs(rows) do counts[names[row.i]] = row.n end
  return counts
end

--- The sessions of a database, our own one left out.
---@param database? string this one when omitted
---@return table[] {pid=, role=, application=, client=, state=, since=, query=}
---@effect read
function methods.sessions(o, database)
  return methods.rows(o, [[
    SELECT pid, usename AS role, application_name AS application, host(client_addr) AS client, state, backend_start AS since, query
      FROM pg_catalog.pg_stat_activity WHERE datname = coalesce($1, current_database()) AND pid <> pg_backend_pid()
       AND backend_type = 'client backend' ORDER BY backend_start]], database)
end

--- The sessions of a database that are none of this run's.
---@param database? string this one when omitted
---@return table[] as sessions
---@effect read
function methods.strangers(o, database)
  local list = {}
  for _, s in ipairs(methods.sessions(o, database)) do
    if s.application ~= o.context.application then list[#list + 1] = s end
  end
  return list
end

--- "15.20"
---@return string
---@effect read
function methods.server_version(o) return (methods.card(o).version:match("^%S+")) end

--- This database's URL for a tool, the password in it: a secret. `at` is where the tool reaches the server, when it is elsewhere ("db:5432");
--- `lock_within` is how long a statement of it may wait for a lock, as a session option (a pooler takes none).
---@param wanted? { prisma: boolean, at: string?, lock_within: string? }
---@return userdata secret
---@effect pure
function methods.url(o, wanted)
  local options = connections.options(o)
  if wanted and wanted.at then
    options.socket, options.machine = nil, nil
    options.host, options.port = wanted.at:match("^(.+):(%d+)$")
  end
  local connection <close> = raise.check(native.new(options))
  return raise.check(connection:url { prisma = wanted and wanted.prisma, lock_ms = wanted and wanted.lock_within and duration.parse(wanted.lock_within) })
end

return methods
