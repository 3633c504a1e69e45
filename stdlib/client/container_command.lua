--- Commands in a container: how they are written, and what both ends of their streams come to.
--
-- There is no shell: arguments are a list, and what is secret goes into env or stdin. A command's own last words explain a failure
-- better than the stream that broke because of it, so they are asked first.

local M = {}

local duration = require "core.duration"
local engines = require "client.container_engine"
local file = require "native.file"
local guard = require "native.guard"
local raise = require "core.raise"
local result = require "client.result"
local text = require "native.text"

local function set_of(words)
  local set = {}
  for word in words:gmatch("%S+") do set[word] = true end
  return set
end

--- The options of a command that is run to its end, of one whose streams are used, and of one that is moved through.
M.WHOLE = set_of "within env user workdir stdin allow"
M.BESIDE = set_of "env user workdir allow read"
M.STREAMED = set_of "within stall env user workdir allow compress expand total"

local function check_arguments(o, arguments)
  local fine = type(arguments) == "table" and #arguments > 0
  for _, word in ipairs(fine and arguments or {}) do fine = fine and type(word) == "string" end
  if not fine then raise("usage", "a command is a list: the program and its arguments", ("Write %s:run { \"pg_isready\", \"-q\" }; there is no shell that would split a string."):format(o.role)) end
end

--- The table that native.docker takes, and the Engine.
---@param known table one of the sets above
---@return table call
---@return userdata engine
function M.call_of(o, arguments, given, known)
  check_arguments(o, arguments)
  for key in pairs(given or {}) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      table.sort(names)
      raise("usage", ("a command in a container has no option \"%s\""):format(tostring(key)), ("It has %s."):format(table.concat(names, ", ")))
    end
  end
  given = given or {}
  local id, engine = engines.id(o)
  local call = { container = id, argv = table.move(arguments, 1, #arguments, 1, {}), env = given.env, user = given.user or o.spec.user, workdir = given.workdir,
    allow = given.allow }
  if known == M.WHOLE then
    call.stdin = given.stdin
    call.within_ms = given.within and duration.parse(given.within) or nil
  end
  return call, engine
end

--- "psql -Atc … in db"
function M.name_of(o, call) return ("%s in %s"):format(text.shell(call.argv), o.role) end

--- A path becomes a stream, which is also the second result for its opener to close. In a preview one that would be written is withheld,
--- and asking it anything ends the preview of what asks.
---@param place userdata|string
---@param mode "r"|"w"
function M.stream(place, mode)
  if type(place) == "string" then
    local stream = raise.check(file.open(place, mode))
    return stream, stream
  end
  local _ = place:moved()
  return place, nil
end

--- Does nothing that is written happen just now?
function M.is_preview() return guard.mode() == "plan" end

--- How a stream of a command is moved, for client.pipe. `side` is which end the command is, "from" or "to".
function M.moving(o, call, given, side)
  given = given or {}
  local name = ("%s in %s"):format(call.argv[1], o.role)
  return { [side] = name, within = given.within, stall = given.stall, compress = given.compress, expand = given.expand, total = given.total,
    text = name }
end

--- Wait for the end of a command and raise when it did not end well, with its own last words.
---@param said table the task that reads its standard error
function M.check_end(o, call, command, said)
  local ended = raise.check(command:wait())
  local _, words = said:join()
  return result.of(M.name_of(o, call), { status = ended.status, err = words, out = "" }, call.allow)
end

return M
