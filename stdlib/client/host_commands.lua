--- Commands on a host: lists of words, never a string that a shell would split.
--
-- `read` runs because the author says that it only reads, in previews too. `run` is a job: a lost connection does not end it, and nobody
-- starts it twice. `start` runs beside the task for as long as the connection lasts, with streams to copy from and to.

local commands = {}

local duration = require("core.duration")
local guard = require("native.guard")
local raise = require("core.raise")
local result = require("client.result")
local session = require("client.host_session")
local task = require("native.task")
local text = require("native.text")

local KNOWN <const> = {
  read = { within = true, env = true, cwd = true, stdin = true, allow = true, sudo = true },
  run = { within = true, env = true, cwd = true, stdin = true, allow = true, sudo = true, touches = true },
  start = { env = true, cwd = true, sudo = true, read = true, bulk = true, allow = true },
}

local function words_of(o, verb, argv)
  local fits = type(argv) == "table" and #argv > 0
  for _, word in ipairs(fits and argv or {}) do fits = fits and type(word) == "string" end
  if not fits then
    raise("usage", "a command is a list of words", ("Write %s:%s { \"df\", \"-P\" }; there is no shell that would split a string."):format(o.role, verb))
  end
  return argv
end

local function call_of(o, verb, argv, given)
  local call = { argv = words_of(o, verb, argv), role = o.role }
  for key, value in pairs(given or {}) do
    if not KNOWN[verb][key] then
      local names = {}
      for name in pairs(KNOWN[verb]) do names[#names + 1] = name end
      table.sort(names)
      raise("usage", ("%s has no option \"%s\""):format(verb, tostring(key)), ("It has %s."):format(table.concat(names, ", ")))
    end
    call[key] = value
  end
  call.within, call.touches = nil, nil
  call.within_ms = given and given.within and duration.parse(given.within)
  return call
end

local function finish(o, verb, call)
  local values = session.use(o, function (s) return s[verb](s, call) end)
  return result.of(("%s on %s"):format(text.shell(call.argv), o.name), values, call.allow)
end

--- Run it because it only reads: in a preview too. Its output is all that it printed until it ended; what it leaves running is not
--- waited for. When the connection breaks before all of that came, its end is unknown.
---@param argv string[]
---@param given? { within: string?, env: table?, cwd: string?, stdin: any, allow: integer[]|"any"|nil, sudo: boolean|string|nil }
---@return table result
---@effect read
function commands.read(o, argv, given) return finish(o, "read", call_of(o, "read", argv, given)) end

--- Run it. `touches` lists the subjects it changes beyond the host: a preview, which does not run it, then answers no question about
--- them from the world before.
---@param argv string[]
---@param given? { within: string?, env: table?, cwd: string?, stdin: any, allow: integer[]|"any"|nil, sudo: boolean|string|nil, touches: string[]? }
---@return table result
---@effect write
function commands.run(o, argv, given)
  local ended = finish(o, "run", call_of(o, "run", argv, given))
  if type(ended) == "userdata" then
    for _, subject in ipairs(given and given.touches or {}) do guard.mark(subject, task.step()) end
  end
  return ended
end

--- Start it beside the task: stdin(), stdout() and stderr() are streams, wait() tells how it ended; the end of its scope ends it.
--- stdout() ends where the command did: a connection that breaks before that is an error of the reader. With
--- read = true it is a declared read. bulk = true: over a connection of its own, for what moves many bytes.
---@param argv string[]
---@param given? { env: table?, cwd: string?, sudo: boolean|string|nil, read: boolean?, bulk: boolean?, allow: integer[]|nil }
---@return userdata command
---@effect write
function commands.start(o, argv, given)
  local call = call_of(o, "start", argv, given)
  o.streaming = true
  return (session.use(o, function (s) return s:start(call) end))
end

return commands
