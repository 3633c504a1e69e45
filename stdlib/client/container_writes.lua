--- What act, undo and after may do to a container and in it. In a preview each word comes back as a withheld value.

local duration = require "core.duration"
local engines = require "client.container_engine"
local move = require "client.pipe"
local raise = require "core.raise"
local result = require "client.result"
local run = require "client.container_command"
local temporary = require "client.temporary"

local methods = {}

-- ---- commands ----

--- Run a command in it, once, to its end. A status other than 0 is an error unless it is allowed.
---@param arguments string[] the program and its arguments; there is no shell
---@param given? { within: string?, env: table?, user: string?, workdir: string?, stdin: any, allow: integer[]|"any"|nil } stdin: text, a secret, a stream
---@return table result
---@effect write
function methods.run(o, arguments, given)
  local call, engine = run.call_of(o, arguments, given, run.WHOLE)
  return result.of(run.name_of(o, call), raise.check(engine:run(call)), call.allow)
end

--- Start a command in it whose streams are used meanwhile: local dump <close> = db:start({ "pg_dump", "-Fc", "shop" }, { read = true })
--- It has stdin(), stdout(), stderr(), wait(), stop(milliseconds) and pid(); what still runs at the end of its scope is stopped. Read both
--- of its outputs, or use output_to and input_from, which do. Without a command the container itself is started; one that runs is fine.
---@param arguments? string[]
---@param given? { read: boolean?, env: table?, user: string?, workdir: string? } read: it only reads, and is started in a preview too
---@return userdata|nil command
---@effect write
function methods.start(o, arguments, given)
  if arguments == nil then
    local id, engine = engines.id(o)
    raise.check(engine:start_container(id))
    return
  end
  local call, engine = run.call_of(o, arguments, given, run.BESIDE)
  call.read = given and given.read
  return (raise.check(engine:start(call)))
end

-- Everything into the command; then the error of the copy, if it had one. A command that ended by itself explains it better.
local function pour(o, command, stream, moving)
  local ok, moved = pcall(move.move, o.context, stream, command:stdin(), moving)
  if ok then ok, moved = command:stdin():shut() and true, moved end
  if not ok and type(moved) == "table" and moved.to_status ~= "failed" then
    command:stop()
    error(moved, 0)
  end
  return ok, moved
end

-- In a preview: the command is shown, and its source looked at, unless that is what the same act would have made.
local function show_input(engine, call, from)
  local shown = raise.check(engine:start(call))
  local ok, stream, own = pcall(run.stream, from, "r")
  if not ok and not (raise.is(stream) and stream.code == "withheld") then error(stream, 0) end
  if ok and own then own:close() end
  return shown
end

--- Run a command that reads everything a stream or a file of this machine has, by its standard input: { bytes =, sha256 =, status = }. When the
--- source fails the command is stopped: half of it never looks like the whole.
---@param arguments string[]
---@param from userdata|string a stream to read from, or a path
---@param given? { within: string?, stall: string?, env: table?, user: string?, workdir: string?, allow: integer[]|"any"|nil, expand: string?, total: integer? }
---@return { bytes: integer, sha256: string, status: integer }
---@effect write
function methods.input_from(o, arguments, from, given)
  local call, engine = run.call_of(o, arguments, given, run.STREAMED)
  if run.is_preview() then return show_input(engine, call, from) end
  local stream, own = run.stream(from, "r")
  local _ <close> = own
  local command <close> = raise.check(engine:start(call))
  local printed, said = move.drain(command:stdout()), move.drain(command:stderr())
  local ok, moved = pour(o, command, stream, run.moving(o, call, given, "to"))
  local ended = run.check_end(o, call, command, said)
  printed:join()
  if not ok then error(moved, 0) end
  moved.status = ended.values.status
  return moved
end

-- ---- the container ----

local function options_of(engine, id, given)
  return { grace_ms = given and given.grace and duration.parse(given.grace) or nil, started = engines.started(engine, id) }
end

--- Stop it: its stop signal, the grace (its own when not given), then KILL. One that is stopped is fine.
---@param given? { grace: string? }
---@effect write
function methods.stop(o, given)
  local id, engine = engines.id(o)
  raise.check(engine:stop_container(id, options_of(engine, id, given)))
end

--- Stop it and start it again.
---@param given? { grace: string? }
---@effect write
function methods.restart(o, given)
  local id, engine = engines.id(o)
  raise.check(engine:restart_container(id, options_of(engine, id, given)))
end

local function entry_of(o, name)
  return temporary.scratch(o, "container", name, function () return ("docker:%s/%s"):format(engines.engine(o):id(), name) end)
end

--- Remove it. `force`: although it runs; `volumes`: its anonymous ones go with it.
---@param given? { force: boolean?, volumes: boolean? }
---@effect destroy
function methods.remove(o, given)
  local id, engine = engines.id(o)
  raise.check(engine:remove_container(id, given))
  local entry = entry_of(o, o.role)
  if entry then o.context.ledger.leave(entry) end
end

local CREATED_BY <const> = { name = true, image = true, argv = true, entrypoint = true, env = true, labels = true, user = true, workdir = true, binds = true,
  network = true }

--- Make another container on the same Engine, of an image that is there (nothing is pulled), and do not start it: the object of it, with
--- the methods of this one. Its name is how a run that died finds it again, so it must have one; a scratch name is entered in the ledger first.
---@param given { name: string, image: string, argv: string[]?, entrypoint: string[]?, env: table?, labels: table?, user: string?, workdir: string?, binds: string[]?, network: string? }
---@return table container
---@effect write
function methods.create(o, given)
  if type(given) ~= "table" or type(given.name) ~= "string" or type(given.image) ~= "string" then
    raise("usage", "create needs a name and an image", ("Write %s:create { name = \"scratch\", image = \"postgres:16\" }."):format(o.role))
  end
  for key in pairs(given) do
    if not CREATED_BY[key] then raise("usage", ("a container to be created has no \"%s\""):format(tostring(key))) end
  end
  local entry = entry_of(o, given.name)
  if entry then o.context.ledger.enter(entry) end
  local id = raise.check(engines.engine(o):create_container(given))
  if type(id) == "userdata" then return id end
  return o.beside(id, given.name)
end

return methods
