--- Dumps of a database, and what is in it at one moment.
--
--   local now <close> = db:snapshot()                                  a transaction that only reads, kept open
--   local dump <close> = db:dump { format = "custom", snapshot = now }
--   backups:copy_in(dump, "shop.dump")
--   now:counts()  now:shape()                                          of the very instant that the dump is of
--
-- The session of a snapshot exports it; every read of `now` and pg_dump begin where it stands. It costs the server what any open transaction
-- costs (dead rows stay until it ends), so it belongs into one scope with the dump.
--
-- Rejected: counting on the live tables before or after (rows come meanwhile; [measured] 98 against 97 in the dump), and a session that waits
-- for pg_dump to export its own (it does not).

local methods = {}

local connections = require("client.postgres_connections")
local raise = require("core.raise")
local shape = require("client.postgres_shape")
local tools = require("client.postgres_tools")

local FORMATS <const> = { custom = "custom", plain = "plain", directory = "tar" }

local KNOWN <const> = { format = true, snapshot = true, tables = true, without = true, schema_only = true, data_only = true, no_owner = true, globals = true }

local function quote(name) return '"' .. name:gsub('"', '""') .. '"' end

-- A table as the catalogue has it ("public.Session"), as the pattern that means it and nothing else.
local function pattern_of(name)
  local schema, rest = name:match("^([^.]+)%.(.+)$")
  return schema and quote(schema) .. "." .. quote(rest) or quote(name)
end

local function name_of_snapshot(snapshot)
  if type(snapshot) == "table" then snapshot = rawget(snapshot, "snapshot_id") or snapshot:snapshot_name() end
  if type(snapshot) ~= "string" then raise("usage", "snapshot is what db:snapshot() returned") end
  return snapshot
end

local function arguments_of(wanted)
  local words = { "--no-password", "--format=" .. FORMATS[wanted.format or "custom"], "--lock-wait-timeout=60000" }
  local function add(word) words[#words + 1] = word end
  if wanted.snapshot then add("--snapshot=" .. name_of_snapshot(wanted.snapshot)) end
  if wanted.tables then add("--strict-names") end
  for _, name in ipairs(wanted.tables or {}) do add("--table=" .. pattern_of(name)) end
  for _, name in ipairs(wanted.without or {}) do add("--exclude-table=" .. pattern_of(name)) end
  if wanted.schema_only then add("--schema-only") end
  if wanted.data_only then add("--data-only") end
  if wanted.no_owner then add("--no-owner") add("--no-privileges") end
  return words
end

local function check(wanted)
  for key in pairs(wanted) do
    if not KNOWN[key] then
      raise("usage", ("dump has no option \"%s\""):format(tostring(key)), "It has format, snapshot, tables, without, schema_only, data_only, no_owner and globals.")
    end
  end
  if wanted.format and not FORMATS[wanted.format] then
    raise("usage", ("a dump cannot be \"%s\""):format(tostring(wanted.format)), "Its format is custom, plain or directory (one tar stream).")
  end
end

--- Start pg_dump: a command that only reads, to be copied from (folder:copy_in). Refused when it is older than the server. A directory is the
--- directory's files as one tar. Tables are named as the catalogue has them, "public.Session"; one that is not there is an error. With
--- `globals` it is the roles of the whole server instead, without their passwords.
---@param wanted? { format: "custom"|"plain"|"directory", snapshot: table|string, tables: string[], without: string[], schema_only: boolean, data_only: boolean, no_owner: boolean, globals: boolean }
---@return userdata command
---@effect read
function methods.dump(o, wanted)
  wanted = wanted or {}
  check(wanted)
  local application = o.context.application
  if wanted.globals then
    tools.check_version(o, "pg_dumpall")
    return (tools.start(o, "pg_dumpall", { "--no-password", "--roles-only", "--no-role-passwords" }, { application = application, reads = true }))
  end
  tools.check_version(o, "pg_dump")
  return (tools.start(o, "pg_dump", arguments_of(wanted), { application = application, reads = true }))
end

-- ---- one moment ----

local function let_go(now)
  connections.close(now)
  now.rows:close()
  now.holder:close()
end

--- This database as it is now, for as long as the value is in scope: local now <close> = db:snapshot(). It has the words that read; what they
--- answer is what a dump with this snapshot holds.
---@return table object
---@effect read
function methods.snapshot(o)
  local holder = connections.fresh(o, { statement_ms = 0, idle_ms = 0, keeps = true })
  local rows = raise.check(holder:each "SELECT pg_catalog.pg_export_snapshot() AS id")
  return setmetatable({ kind = o.kind, role = o.role, methods = o.methods, guardians = o.guardians, spec = o.spec, context = o.context, server = o.server,
    parent = o.parent or o, database = tools.database(o), snapshot_id = rows:iterator()().id, holder = holder, rows = rows, idle = {}, actors = {} },
    { __close = let_go })
end

--- What the server calls the moment of db:snapshot().
---@return string
---@effect pure
function methods.snapshot_name(o)
  return o.snapshot_id or raise("usage", "only what db:snapshot() returned has a moment of its own")
end

--- Is there nothing in it that a restore would meet? Extensions do not count.
---@return boolean
---@effect read
function methods.is_empty(o) return shape.things(o) == 0 end

--- What every table is, as a hash of its definition, and everything else under "": equal where a restore brought all of it back. Owners and
--- privileges do not count, nor do values.
---@return table<string, string> shape by "schema.table"
---@effect read
function methods.shape(o) return shape.of(o) end

return methods
