--- What a runbook may ask of a container and of what runs in it.
--
-- What the Engine is asked (inspect, log, health) starts nothing. `read` runs a command because its author says that it only reads: in
-- a preview too, where the plan calls it "declared".

local duration = require "core.duration"
local engines = require "client.container_engine"
local move = require "client.pipe"
local raise = require "core.raise"
local result = require "client.result"
local run = require "client.container_command"
local system = require "native.system"
local task = require "native.task"

local methods = {}

-- ---- the container ----

--- Everything the Engine knows of it, as `docker inspect` has it.
---@return table
---@effect read
function methods.inspect(o) return engines.inspect(o) end

--- Is it running?
---@return boolean
---@effect read
function methods.running(o)
  local state = engines.inspect(o).State
  return state.Running and not state.Paused and not state.Restarting
end

local function health_of(state) return type(state.Health) == "table" and state.Health.Status ~= "none" and state.Health.Status or nil end

--- What its health check says: "starting", "healthy", "unhealthy"; nil where it has none.
---@return string|nil
---@effect read
function methods.health(o) return health_of(engines.inspect(o).State) end

--- Does it run, and is it well? Without a health check, that it runs is all there is to say.
---@return boolean
---@return string? why not
---@effect read
function methods.healthy(o)
  local state = engines.inspect(o).State
  if not state.Running or state.Paused or state.Restarting then return false, "it is " .. tostring(state.Status) end
  local health = health_of(state)
  if health and health ~= "healthy" then return false, "its health check says " .. health end
  return true
end

--- The id of its image, "sha256:…".
---@return string
---@effect read
function methods.image(o) return engines.inspect(o).Image end

--- Where it is reached from its host: its address on its network, nil where it has none of its own.
---@return string|nil
---@effect read
function methods.address(o) return (engines.address(engines.inspect(o))) end

-- "10m" ago, or a wall clock in milliseconds.
local function since_ms(since)
  if since == nil or math.type(since) == "integer" then return since end
  return system.wall_ms() - duration.parse(since)
end

--- What it logged: { out =, err =, truncated = }, the last mebibyte of each.
---@param wanted? { since: string|integer?, tail: integer? } since: "10m" ago; tail: so many last lines
---@return { out: string, err: string, truncated: integer|false }
---@effect read
function methods.logs(o, wanted)
  wanted = wanted or {}
  local id, engine = engines.id(o)
  return raise.check(engine:logs { container = id, since_ms = since_ms(wanted.since), tail = wanted.tail })
end

-- Under a deadline of its own, unless the step's is nearer.
local function within(text, fn)
  local mark = task.deadline(duration.parse(text))
  local answers = table.pack(pcall(fn))
  task.restore(mark)
  if not answers[1] then error(answers[2], 0) end
  return table.unpack(answers, 2, answers.n)
end

--- Wait until it logs a line that holds the text, since it was started (or since): that line. It ends with an error when the container does.
---@param wanted { text: string, since: string|integer?, within: string? } within: "60s"
---@return string
---@effect read
function methods.wait_for_log(o, wanted)
  if type(wanted) == "string" then wanted = { text = wanted } end
  if type(wanted) ~= "table" or type(wanted.text) ~= "string" then raise("usage", "wait_for_log needs the text to wait for: { text = \"ready\" }") end
  local id, engine = engines.id(o)
  return within(wanted.within or "60s", function ()
    return raise.check(engine:wait_log { container = id, text = wanted.text, since_ms = since_ms(wanted.since) })
  end)
end

--- Wait until its health check says that it is healthy. It ends with an error when the container does, or has no health check.
---@param wanted? { within: string? } "60s"
---@return true
---@effect read
function methods.wait_healthy(o, wanted)
  local id, engine = engines.id(o)
  return within(wanted and wanted.within or "60s", function () return raise.check(engine:wait_healthy(id)) end)
end

-- ---- commands ----

--- Run a command in it because it only reads: in a preview too.
---@param arguments string[] the program and its arguments; there is no shell
---@param given? { within: string?, env: table?, user: string?, workdir: string?, stdin: any, allow: integer[]|"any"|nil }
---@return table result
---@effect read
function methods.read(o, arguments, given)
  local call, engine = run.call_of(o, arguments, given, run.WHOLE)
  return result.of(run.name_of(o, call), raise.check(engine:read(call)), call.allow)
end

--- Everything a command that only reads prints, into a stream or a file of this machine: { bytes =, sha256 = }. The file has its name
--- only when the command ended well.
---@param arguments string[]
---@param to userdata|string a stream to write to, or a path
---@param given? { within: string?, stall: string?, env: table?, user: string?, workdir: string?, allow: integer[]|"any"|nil, compress: string?, total: integer? }
---@return { bytes: integer, sha256: string, written: integer }
---@effect write
function methods.output_to(o, arguments, to, given)
  local stream, own = run.stream(to, "w")
  if run.is_preview() then return own end
  local _ <close> = own
  local call, engine = run.call_of(o, arguments, given, run.STREAMED)
  call.read = true
  local command <close> = raise.check(engine:start(call))
  raise.check(command:stdin():shut())
  local said = move.drain(command:stderr())
  local moved = move.move(o.context, command:stdout(), stream, run.moving(o, call, given, "from"))
  run.check_end(o, call, command, said)
  if own then raise.check(own:close()) end
  return moved
end

-- ---- who it is ----

local NEVER <const> = "0001-01-01T00:00:00Z"

local function state_words(state)
  local words = { state.Status or (state.Running and "running" or "stopped") }
  if state.Running and state.StartedAt then words[#words + 1] = "since " .. state.StartedAt:gsub("%.%d+Z$", "Z") end
  if not state.Running and state.StartedAt ~= NEVER then words[#words + 1] = "with exit status " .. tostring(state.ExitCode) end
  local health = health_of(state)
  if health then words[#words + 1] = health end
  return table.concat(words, ", ")
end

local function lines_of(o, found, engine)
  local labels = found.Config.Labels or {}
  local lines = {
    { "container", ("%s (%s)"):format(found.Name:gsub("^/", ""), found.Id:sub(1, 12)) },
    { "image", ("%s (%s)"):format(found.Config.Image, (found.Image:gsub("^(sha256:%x%x%x%x%x%x%x%x%x%x%x%x)%x+$", "%1"))) },
  }
  local service = labels["com.docker.compose.service"]
  if service then
    local number = labels["com.docker.compose.container-number"]
    lines[#lines + 1] = { "compose", ("%s/%s%s"):format(labels["com.docker.compose.project"] or "?", service, number and ", number " .. number or "") }
  end
  lines[#lines + 1] = { "state", state_words(found.State) }
  local address, network = engines.address(found)
  lines[#lines + 1] = { "address", address and ("%s (%s)"):format(address, network) or "none of its own: network " .. tostring((found.HostConfig or {}).NetworkMode) }
  lines[#lines + 1] = { "engine", ("%s, API %s"):format(o.engine_at, engine:version()) }
  return lines
end

--- Who it is: { kind =, id =, lines =, lasting = }. `id` ends with the time it was started at; `lasting` does not, and may be pinned as well.
---@return table card
---@effect read
function methods.card(o)
  local found = engines.inspect(o)
  local lasting = engines.subject(o)
  return { kind = o.kind, id = ("%s@%s"):format(lasting, found.State.StartedAt), lasting = lasting, lines = lines_of(o, found, o.engine),
    trusted = not o.open_road }
end

--- What a preview calls it when it remembers what would have changed: "docker:<engine>/<container>".
---@return string
---@effect read
function methods.subject(o) return engines.subject(o) end

return methods
