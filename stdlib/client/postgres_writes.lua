--- What act, undo and after may do to a PostgreSQL database. In a preview each word comes back as a withheld value.

local answer = require("client.answer")
local connections = require("client.postgres_connections")
local file = require("native.file")
local guard = require("native.guard")
local pipe = require("client.pipe")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local temporary = require("client.temporary")

local methods = {}

-- A withheld value (in a preview) goes through as it is.
local function result(done)
  if type(done) ~= "table" then return done end
  return { count = function () return done.count end, rows = function () return done.rows or {} end, tag = function () return done.tag end }
end

local function write(o, verb, ...)
  local connection = connections.actor(o)
  local done, err = connection[verb](connection, ...)
  connections.tell(o, connection)
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
  local stream, own = connections.stream(from, "r")
  local closing <close> = own
  local whole = type(from) == "string" and raise.check(file.stat(from)).size or nil
  local moved = pipe.move(o.context, stream, into, { total = whole })
  raise.check(into:close())
  if closing then raise.check(closing:close()) end
  return moved
end

-- The words of what the function of `transaction` gets.
local FACE <const> = { "exec", "exec_many", "value", "row", "rows", "has" }

local function face_by(call)
  local face = {}
  for _, verb in ipairs(FACE) do face[verb] = call(verb) end
  return face
end

local function face_of(tx)
  local function call(verb)
    return function (_, ...)
      local done, err = tx[verb](tx, ...)
      if done == nil and err ~= nil then error(err, 0) end
      return verb:find("^exec") and result(done) or done
    end
  end
  return face_by(call)
end

local function preview_face(o)
  return face_by(function (verb) return function (_, ...) return (methods[verb] or reads[verb])(o, ...) end end)
end

--- Several statements, all or none: committed when the function returns, rolled back when it raises.
---@param fn fun(tx: table): any ...
---@return ... what the function returned
---@effect write
function methods.transaction(o, fn)
  if guard.mode() == "plan" then return fn(preview_face(o)) end
  local connection = connections.actor(o)
  local tx <close> = raise.check(connection:begin())
  local results = table.pack(fn(face_of(tx)))
  raise.check(tx:commit())
  connections.tell(o, connection)
  return table.unpack(results, 1, results.n)
end

--- One statement many times, once for each list of parameters: all or none, and sent without waiting for each answer. Inside a
--- transaction it is tx:exec_many. A row with a NULL is best written table.pack(1, nil).
---@param sql string
---@param list any[][] { { 1, "a" }, { 2, "b" } }
---@return { count: function } result rows changed by all of them
---@effect write
function methods.exec_many(o, sql, list)
  if guard.mode() == "plan" then return write(o, "exec_many", sql, list) end
  return methods.transaction(o, function (tx) return tx:exec_many(sql, list) end)
end

local function entry_of(o, name) return temporary.scratch(o, "database", name, function () return reads.subject(o.methods.on(o, name)) end) end

--- Make a database on the server. One with a scratch name is entered in the ledger first: neap gc removes it when the run no longer can.
---@param name string
---@param wanted? { owner: string?, template: string?, encoding: string? }
---@effect write
function methods.create_database(o, name, wanted)
  local ours = entry_of(o, name)
  if ours then o.context.ledger.enter(ours) end
  return result(write(o, "create_database", name, wanted))
end

--- Drop a database of the server, with everything in it.
---@param name string
---@effect destroy
function methods.drop_database(o, name)
  local other = (o.parent or o).others and (o.parent or o).others[name]
  if other then connections.close(other) end               -- our own sessions must not stand in the way
  local done, ours = result(write(o, "drop_database", name)), entry_of(o, name)
  if ours then o.context.ledger.leave(ours) end
  return done
end

--- End the sessions of a database; how many.
---@param wanted { database: string?, except_own: boolean? }
---@return { count: function } answer
---@effect write
function methods.terminate(o, wanted)
  local done = write(o, "terminate", { database = wanted and wanted.database or o.database, except_own = wanted and wanted.except_own })
  return type(done) == "table" and answer.of("count", done.rows[1].ended) or done
end

return methods
