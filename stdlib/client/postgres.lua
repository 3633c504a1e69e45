--- A PostgreSQL database as a runbook sees it: native.pg, made to raise.
--
-- An object is one database of one server. It opens what it needs when it needs it: a fenced connection for
-- reads (each call in its own read-only snapshot, in every phase), an acting one for writes, one more for the lock. `on`
-- gives the object of another database of the same server; it exists before its database does. In a preview the acting
-- connection is never opened, and reads use the inventory's preview role, on the standby if there is one.
--
-- Rejected: one connection for both (a fence that is taken down for writes is no fence), and reads inside
-- `transaction` going over the fenced connection (they would not see what the transaction did).

local M = {}

local duration = require("core.duration")
local file = require("native.file")
local guard = require("native.guard")
local native = require("native.pg")
local raise = require("core.raise")
local text = require("native.text")

M.kind = "postgres"

M.fields = {
  url = { type = "string", help = "postgresql://user@host:port/database; the URLs of Prisma, Drizzle and JDBC work too" },
  password = { type = "secret", help = "of the role; without it libpq's passfile is asked" },
  user = { type = "string", help = "instead of the URL's" },
  database = { type = "string", help = "instead of the URL's" },
  preview = { type = "table", help = "{ user =, password = } of a role that only reads, for previews" },
  standby = { type = "string", help = "URL of a hot standby: previews read there" },
  tls = { type = "string", help = "\"off\": it is known that the server's certificate is not verified" },
  pin = { type = "string", help = "the identity this must be: pg:<system identifier>/<database>" },
  connect_within = { type = "string", help = "time to connect, \"15s\"" },
  read_within = { type = "string", help = "time for one read, \"30s\"" },
}

local methods, guardians = {}, {}

local function milliseconds(value, otherwise)
  if value == nil then return otherwise end
  return duration.parse(value)
end

-- ---- connections ----

local function options(o, more)
  local spec = o.spec
  local all = {
    url = spec.url, user = spec.user, password = spec.password, database = o.database or spec.database, role = o.role,
    application = o.context.application, within_ms = milliseconds(spec.connect_within, 15000),
    statement_ms = milliseconds(spec.read_within, 30000),
  }
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

-- Another database's subject is known before it exists; the first one's only after somebody answered.
local function subject(o)
  if o.subject then return o.subject end
  if o.parent then o.subject = o.server.root and (o.server.root .. "/" .. o.database) end
  return o.subject
end

local function learn(o, connection)
  local card = connection:card()
  if not o.parent then o.server.root = card.id:match("^(.*)/") or card.id end
  o.subject = card.id
  return card
end

local function tell(o, connection)
  local notices = connection:notices()
  for _, notice in ipairs(notices or {}) do
    if o.context.notice then o.context.notice(notice.severity:lower(), notice.message, o.role) end
  end
end

local function open(o, more)
  if o.parent and not o.server.root then methods.card(o.parent) end
  more.subject = more.subject or subject(o)
  local connection = raise.check(native.new(options(o, more)))
  raise.check(connection:open())
  tell(o, connection)
  return connection
end

-- A standby counts only while it is one, of this very server.
local function open_standby(o)
  local ok, connection = pcall(open, o, { url = o.spec.standby, fenced = true })
  if not ok then return nil end
  local card = connection:card()
  if card.recovery and (not o.server.root or card.id:match("^(.*)/") == o.server.root) then return connection end
  connection:close()
  return nil
end

local function open_reader(o)
  local more = { fenced = true }
  if guard.mode() == "plan" then
    if o.spec.preview then more.user, more.password = o.spec.preview.user, o.spec.preview.password end
    local standby = o.spec.standby and not o.parent and open_standby(o)
    if standby then return standby end
  end
  return open(o, more)
end

-- Two tasks may come here at once; the one that is later with its connection uses the other's.
local function connection_of(o, slot, make)
  local known = o[slot]
  if known and known:is_open() then return known end
  local made = make(o)
  known = o[slot]
  if known and known:is_open() then
    made:close()
    return known
  end
  o[slot] = made
  learn(o, made)
  return made
end

local function reader(o) return connection_of(o, "reading", open_reader) end

local function actor(o)
  if guard.mode() == "plan" then
    if not subject(o) then methods.card(o) end
    o.showing = o.showing or raise.check(native.new(options(o, { subject = subject(o) })))
    return o.showing
  end
  local connection = connection_of(o, "acting", function () return open(o, {}) end)
  connection:bound(o.context.max_rows and o.context.max_rows() or 0)
  return connection
end

local function withheld(o, database)
  local step = o.server.root and guard.withheld(o.server.root .. "/" .. database)
  if step then error(raise.new("withheld", step), 0) end
end

local function new(role, spec, context, server, parent, database)
  return { kind = M.kind, role = role, methods = methods, guardians = guardians, spec = spec, context = context, server = server,
    parent = parent, database = database, idle = {} }
end

--- Bind a role to what the inventory says. Connects to nothing.
---@param role string
---@param spec table see M.fields
---@param context table {application=, environment=, max_rows=function|nil, notice=function|nil}
---@return table object
---@effect pure
function M.bind(role, spec, context)
  if not spec.url then raise("config", ("\"%s\" has no url"):format(role), "postgresql://user@host:port/database") end
  return new(role, spec, context, {}, nil, nil)
end

-- ---- reads ----

local function read(o, verb, ...)
  local connection = reader(o)
  local results = table.pack(connection[verb](connection, ...))
  tell(o, connection)
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

-- Each stream has a connection to itself while it runs; afterwards the connection is kept for the next.
local function take_idle(o)
  local connection = table.remove(o.idle)
  while connection and not connection:is_idle() do
    connection:close()
    connection = table.remove(o.idle)
  end
  return connection or open_reader(o)
end

--- Rows one after the other, any number of them in constant memory: for row in db:each "select …" do … end
---@param sql string
---@return function iterator
---@effect read
function methods.each(o, sql, ...)
  local connection = take_idle(o)
  learn(o, connection)
  local rows = raise.check(connection:each(sql, ...))
  local closing = setmetatable({}, { __close = function ()
    rows:close()
    if #o.idle < 4 then o.idle[#o.idle + 1] = connection else connection:close() end
  end })
  local function next_row()
    local row, err = rows()
    if err then error(err, 0) end
    if row == nil then tell(o, connection) end
    return row
  end
  return next_row, nil, nil, closing
end

-- A path becomes a stream; whoever opened it closes it.
local function as_stream(place, mode)
  if type(place) ~= "string" then return place, nil end
  local stream = raise.check(file.open(place, mode))
  return stream, stream
end

--- The rows of a SELECT as a file or into a stream: { bytes =, sha256 = }. A local file is written, so only act may do that;
--- into a stream that is open it is a read.
---@param sql string
---@param to string|userdata path or stream
---@param wanted? { format: "text"|"csv"|"binary", header: boolean }
---@return { bytes: integer, sha256: string }
---@effect read
function methods.copy_out(o, sql, to, wanted)
  local connection = take_idle(o)
  learn(o, connection)
  local stream, own = as_stream(to, "w")
  local from <close> = raise.check(connection:copy_out(sql, wanted))
  local closing <close> = own
  local following <close> = o.context.progress and o.context.progress(function () return from:moved() end)
  local moved = raise.check(from:pipe(stream))
  raise.check(from:close())
  if closing then raise.check(closing:close()) end
  if #o.idle < 4 then o.idle[#o.idle + 1] = connection end
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
  local connection = reader(o)
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
  card.kind, card.lines, card.label = M.kind, lines, label
  card.trusted = card.trusted or o.spec.tls == "off"
  return card
end

--- What a preview calls this database when it remembers what would have changed: "pg:<system identifier>/<database>".
---@return string
---@effect read
function methods.subject(o)
  if not subject(o) then methods.card(o.parent or o) end
  return subject(o)
end

--- Is there a database of this name on the server?
---@param database string
---@return boolean
---@effect read
function methods.exists(o, database)
  reader(o)
  withheld(o, database)
  return methods.has(o, "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1", database)
end

--- The object of another database of the server, which need not exist yet.
---@param database string
---@return table object
---@effect pure
function methods.on(o, database)
  if type(database) ~= "string" or database == "" then raise("usage", "on() needs a database's name") end
  local top = o.parent or o
  top.others = top.others or {}
  top.others[database] = top.others[database] or new(o.role, o.spec, o.context, o.server, top, database)
  return top.others[database]
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
  for _, row in ipairs(#parts > 0 and methods.rows(o, table.concat(parts, " UNION ALL ")) or {}) do counts[names[row.i]] = row.n end
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

--- "15.20"
---@return string
---@effect read
function methods.server_version(o) return (methods.card(o).version:match("^%S+")) end

--- This database's URL for a tool, the password in it: a secret.
---@param wanted? { prisma: boolean }
---@return userdata secret
---@effect pure
function methods.url(o, wanted)
  local connection <close> = raise.check(native.new(options(o)))
  return raise.check(connection:url(wanted or {}))
end

-- ---- writes ----

-- A withheld value (in a preview) goes through as it is.
local function result(done)
  if type(done) ~= "table" then return done end
  return { count = function () return done.count end, rows = function () return done.rows or {} end, tag = function () return done.tag end }
end

local function write(o, verb, ...)
  local connection = actor(o)
  local done, err = connection[verb](connection, ...)
  tell(o, connection)
  if done == nil then error(err, 0) end
  return done
end

--- One statement, done once. Its answer may be lost, its end is not: the server is asked.
---@param sql string
---@return { count: function, rows: function, tag: function } result
---@effect write
function methods.exec(o, sql, ...) return result(write(o, "exec", sql, ...)) end

--- COPY … FROM STDIN from a file or a stream, in a transaction of its own: all rows or none.
---@param sql string
---@param from string|userdata path or stream
---@return { bytes: integer, sha256: string } moved a withheld value in a preview
---@effect write
function methods.copy_in(o, sql, from)
  local to = write(o, "copy_in", sql)
  if guard.mode() == "plan" then return to end
  local into <close> = to
  local stream, own = as_stream(from, "r")
  local closing <close> = own
  local whole = type(from) == "string" and raise.check(file.stat(from)).size or nil
  local following <close> = o.context.progress and o.context.progress(function () return stream:moved(), whole end)
  local moved = raise.check(stream:pipe(into))
  raise.check(into:close())
  if closing then raise.check(closing:close()) end
  return moved
end

-- What the function of `transaction` gets.
local function face_of(tx)
  local function call(verb)
    return function (_, ...)
      local done, err = tx[verb](tx, ...)
      if done == nil and err ~= nil then error(err, 0) end
      return verb == "exec" and result(done) or done
    end
  end
  return { exec = call "exec", value = call "value", row = call "row", rows = call "rows", has = call "has" }
end

local function preview_face(o)
  local function call(verb) return function (_, ...) return methods[verb](o, ...) end end
  return { exec = call "exec", value = call "value", row = call "row", rows = call "rows", has = call "has" }
end

--- Several statements, all or none: committed when the function returns, rolled back when it raises.
---@param fn fun(tx: table): any ...
---@return any ... what the function returned
---@effect write
function methods.transaction(o, fn)
  if guard.mode() == "plan" then return fn(preview_face(o)) end
  local connection = actor(o)
  local tx <close> = raise.check(connection:begin())
  local results = table.pack(fn(face_of(tx)))
  raise.check(tx:commit())
  tell(o, connection)
  return table.unpack(results, 1, results.n)
end

--- Make a database on the server.
---@param name string
---@param wanted? { owner: string?, template: string?, encoding: string? }
---@effect write
function methods.create_database(o, name, wanted) return result(write(o, "create_database", name, wanted)) end

--- Drop a database of the server, with everything in it.
---@param name string
---@effect destroy
function methods.drop_database(o, name)
  local other = (o.parent or o).others and (o.parent or o).others[name]
  if other then M.close(other) end               -- our own sessions must not stand in the way
  return result(write(o, "drop_database", name))
end

--- End the sessions of a database; how many.
---@param wanted { database: string?, except_own: boolean? }
---@return integer
---@effect write
function methods.terminate(o, wanted)
  local done = write(o, "terminate", { database = wanted and wanted.database or o.database, except_own = wanted and wanted.except_own })
  return type(done) == "table" and done.rows[1].ended or done
end

-- ---- for the engine ----

local function key_of(o)
  if not subject(o) then methods.card(o) end
  return text.sha256("neap lock " .. subject(o)):sub(1, 16)
end

local function locker(o) return connection_of(o, "locking", function () return open(o, {}) end) end

--- Take the database for this run until the connection ends: true, or nil and who has it.
function guardians.lock(o) return locker(o):lock(key_of(o)) end

--- Is the lock still ours? Asks the server.
function guardians.prove(o)
  local connection = o.locking
  return connection ~= nil and connection:is_open() and connection:has_lock(key_of(o)) == true
end

--- The text of the hold on the database, whoever left it; nil when there is none.
function guardians.held(o)
  local held, more = locker(o):hold_get(key_of(o))
  if held == nil and type(more) == "table" then error(more, 0) end
  return held
end

--- Leave a hold: the text stays when this run dies.
function guardians.hold(o, words) return raise.check(locker(o):hold_set(key_of(o), words)) end

--- Take the hold away.
function guardians.release(o) return raise.check(locker(o):hold_clear(key_of(o))) end

-- The database a pg.create or pg.drop was about: the subject is "pg:<system identifier>/<name>".
local function named(evidence) return evidence.subject and evidence.subject:match("^pg:[^/]+/(.+)$") end

-- "CREATE INDEX CONCURRENTLY name ON table (…": the index's name and the table as it is written, nil for every other way to say it.
local function index_of(sql)
  local rest = sql:match("^%s*[Cc][Rr][Ee][Aa][Tt][Ee]%s+(.*)$")
  local words = rest and rest:upper():match("^UNIQUE%s+INDEX%s+CONCURRENTLY%s+") or rest and rest:upper():match("^INDEX%s+CONCURRENTLY%s+")
  if not words then return nil end
  rest = rest:sub(#words + 1)
  rest = rest:sub(#(rest:upper():match("^IF%s+NOT%s+EXISTS%s+") or "") + 1)
  local plain, on = rest:match("^([%a_][%w_$]*)%s+[Oo][Nn]%s+(.*)$")
  local quoted
  if not plain then quoted, on = rest:match("^\"([^\"]+)\"%s+[Oo][Nn]%s+(.*)$") end
  local name = quoted or plain and plain:lower()
  local there = on and (on:match("^[%w_$.]+") or on:match("^\"[^\"]+\"%.?\"?[^\"(]*\"?"))
  return name and there and { index = name, table = there:match("^(.-)%s*$") }
end

-- Writes that leave no transaction behind are judged by what is there, once nobody works on them any more.
local LOOK <const> = {
  ["pg.create"] = function (o, evidence)
    local name = named(evidence)
    return name and (methods.exists(o, name) and "done" or "not begun")
  end,
  ["pg.drop"] = function (o, evidence)
    local name = named(evidence)
    local limits = name and methods.rows(o, "SELECT datconnlimit AS most FROM pg_catalog.pg_database WHERE datname = $1", name)
    if not limits then return nil end
    if not limits[1] then return "done" end
    return limits[1].most == -2 and "half" or "not begun"     -- -2: a drop that was interrupted
  end,
  -- Sessions are not brought back by a rollback.
  ["pg.terminate"] = function (o, evidence)
    local name = named(evidence)
    return name and (#methods.sessions(o, name) == 0 and "done" or "half")
  end,
  -- An index that was being built beside the writers is there and valid, there and invalid, or not there.
  ["pg.exec"] = function (o, evidence)
    local made = index_of(evidence.text or "")
    if not made then return nil end
    local there = evidence.database and evidence.database ~= methods.card(o).database and methods.on(o, evidence.database) or o
    local rows = methods.rows(there, [[
      SELECT i.indisvalid AND i.indisready AS valid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
       WHERE c.relname = $1 AND i.indrelid = pg_catalog.to_regclass($2)]], made.index, made.table)
    if not rows[1] then return "not begun" end
    return rows[1].valid and "done" or "half"
  end,
}

--- What became of a write whose run died: "done", "not begun", "half", "running" (after `within_ms`; with `end_it` its backend
--- is ended) or nil: nobody knows. Any database of the server can tell.
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  if not subject(o) and not o.parent then methods.card(o) end
  local connection <close> = raise.check(native.new(options(o)))
  local found, why = native.orphan(connection, evidence, patience)
  local look = LOOK[evidence.primitive]
  if look and (found == "ended" or (found == "not begun" and evidence.primitive == "pg.terminate")) then return look(o, evidence) end
  if not found and why ~= "" then error(raise.new("unknown", why), 0) end
  return found ~= "ended" and found or nil
end

--- Close every connection of the object.
function M.close(o)
  for _, slot in ipairs { "reading", "acting", "showing", "locking" } do
    if o[slot] then o[slot]:close() end
    o[slot] = nil
  end
  for _, connection in ipairs(o.idle) do connection:close() end
  o.idle = {}
  for _, other in pairs(o.others or {}) do M.close(other) end
end

return M
