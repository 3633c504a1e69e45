--- A program as a target, here or elsewhere: fixed leading arguments, a directory, an environment.
--
--   migrate = command { argv = { "node", "node_modules/prisma/build/index.js" }, cwd = "/srv/app" }
--   migrate = command { on = "api", argv = { "npx", "prisma" }, cwd = "/app", sees = "db:5432" }      in the container of the application
--
-- `on` a host or in a container that one's own words run it: its session, its detached jobs, its orphans; the command only knows what to say.
-- `read` runs it because the author says that it only reads: it runs in previews too, and the plan labels it
-- "declared". `run` is a write and is shown instead. There is no shell: arguments are a list, and a secret
-- goes into env or stdin, never into an argument. A status other than 0 is an error unless it is allowed.

local duration = require "core.duration"
local guard = require "native.guard"
local process = require "native.process"
local raise = require "core.raise"
local result = require "client.result"
local system = require "native.system"
local task = require "native.task"
local text = require "native.text"

local M = { kind = "command" }

M.fields = {
  argv = { type = "table", help = "the program and its first arguments, as a list" },
  cwd = { type = "string", help = "the directory it runs in" },
  env = { type = "table", help = "names and values it sees besides PATH, HOME, LANG and TZ; a value may be a secret" },
  on = { type = "string", help = "the host or container of this environment that it runs on; here when omitted" },
  sees = { type = "string", help = "host:port at which it reaches the database, where that is not as neap does: \"db:5432\"" },
}

local methods, guardians = {}, {}
local meta = { __index = methods, __name = "command" }

local function check_argv(role, argv)
  if type(argv) == "table" and #argv > 0 then
    for _, word in ipairs(argv) do
      if type(word) ~= "string" then argv = nil break end
    end
    if argv then return argv end
  end
  raise("config", ("command \"%s\" needs argv as a list of strings"):format(role), "Write command { argv = { \"pg_dump\", \"-Fc\" } }.")
end

--- Bind a command of the inventory.
---@param role string
---@param spec { argv: string[], cwd: string?, env: table?, on: string?, sees: string? }
---@param context? table
---@return table command
function M.bind(role, spec, context)
  local object = { kind = M.kind, role = role, argv = check_argv(role, spec.argv), cwd = spec.cwd, env = spec.env or {}, methods = methods, guardians = guardians }
  if spec.sees and not spec.sees:find("^[^:/@%s]+:%d+$") then
    raise("config", ("command \"%s\" sees \"%s\", which is no host:port"):format(role, spec.sees), "Write sees = \"db:5432\".")
  end
  object.seen, object.place_name = spec.sees, spec.on
  object.place = spec.on and context.target(spec.on, { "host", "container" })
  return setmetatable(object, meta)
end

local known = { within = true, env = true, stdin = true, allow = true, touches = true }

local function call_of(self, arguments, given)
  if arguments ~= nil and type(arguments) ~= "table" then
    raise("usage", "arguments are a list", ("Write %s:run { \"status\" }; there is no shell that would split a string."):format(self.role))
  end
  local call = { argv = {}, env = {}, cwd = self.cwd, role = self.role }
  for key in pairs(given or {}) do
    if not known[key] then raise("usage", ("a command has no option \"%s\""):format(tostring(key)), "It has within, env, stdin, allow and touches.") end
  end
  table.move(self.argv, 1, #self.argv, 1, call.argv)
  table.move(arguments or {}, 1, #(arguments or {}), #call.argv + 1, call.argv)
  for name, value in pairs(self.env) do call.env[name] = value end
  if not given then return call end
  for name, value in pairs(given.env or {}) do call.env[name] = value end
  call.stdin, call.allow = given.stdin, given.allow
  call.within_ms = given.within and duration.parse(given.within)
  return call
end

-- Said by the words of the host or container that it stands on.
local function elsewhere(self, verb, arguments, given)
  local call = call_of(self, arguments, given)
  local options = { env = next(call.env) and call.env or nil, stdin = call.stdin, allow = call.allow, within = given and given.within }
  options[self.place.kind == "container" and "workdir" or "cwd"] = call.cwd
  return self.place.methods[verb](self.place, call.argv, options)
end

local function finish(call) return result.of(text.shell(call.argv), raise.check(process.run(call)), call.allow) end

--- Run it because it only reads: in a preview too.
---@param arguments? string[]
---@param given? { within: string?, env: table?, stdin: any, allow: integer[]|"any"|nil }
---@return table result
---@effect read
function methods:read(arguments, given)
  if self.place then return elsewhere(self, "read", arguments, given) end
  local call = call_of(self, arguments, given)
  call.read = true
  return finish(call)
end

--- Run it. `touches` lists the subjects it changes beyond itself: a preview, which does not run it, then answers no
--- question about them from the world before.
---@param arguments? string[]
---@param given? { within: string?, env: table?, stdin: any, allow: integer[]|"any"|nil, touches: string[]? }
---@return table result
---@effect write
function methods:run(arguments, given)
  local ended = self.place and elsewhere(self, "run", arguments, given) or finish(call_of(self, arguments, given))
  if type(ended) == "userdata" then
    for _, subject in ipairs(given and given.touches or {}) do guard.mark(subject, task.step()) end
  end
  return ended
end

--- Where it reaches the database, "db:5432"; nil: as neap does.
---@return string|nil
---@effect pure
function methods:sees() return self.seen end

--- What this command is, for the plan.
---@return table card { kind, id, lines }
---@effect pure
function methods:card()
  local lines = { { "program", text.shell(self.argv) } }
  if self.cwd then lines[2] = { "directory", self.cwd } end
  if self.place then table.insert(lines, 1, { "on", self.place_name }) end
  return { kind = M.kind, id = "process:" .. self.role, lines = lines }
end

-- ---- for the engine ----

local POLL_MS <const>, GRACE_MS <const> = 50, 5000

-- Wait until nothing of the command's group is left: true, or false when the time is over.
local function is_over(evidence, within_ms)
  local ends = task.now_ms() + within_ms
  while process.probe(evidence) == "running" do
    if task.now_ms() >= ends then return false end
    task.sleep(POLL_MS)
  end
  return true
end

local function end_group(evidence, within_ms)
  system.kill_group(evidence.pid, evidence.started, "TERM")
  if is_over(evidence, math.min(GRACE_MS, within_ms)) then return true end
  system.kill_group(evidence.pid, evidence.started, "KILL")
  return is_over(evidence, within_ms)
end

--- What became of a command whose run died: "not begun" (it is let go only when its pid is durable, and there is none), "running"
--- while it or anything of its process group lives, else nil: how it ended nobody knows.
---@param evidence table the intent, with pid and started
---@param options { within_ms: integer, end_it: boolean? }
---@return string|nil
function M.fate(evidence, options)
  if not evidence.pid then return "not begun" end
  local over
  if options.end_it then over = end_group(evidence, options.within_ms) else over = is_over(evidence, options.within_ms) end
  return not over and "running" or nil
end

function guardians.probe(_, evidence, options) return M.fate(evidence, options) end

return M
