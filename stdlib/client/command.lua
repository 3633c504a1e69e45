--- A local program as a target: fixed leading arguments, a directory, an environment.
--
--   migrate = command { argv = { "node", "node_modules/prisma/build/index.js" }, cwd = "/srv/app" }
--
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
---@param spec { argv: string[], cwd: string?, env: table? }
---@return table command
function M.bind(role, spec)
  local object = { kind = M.kind, role = role, argv = check_argv(role, spec.argv), cwd = spec.cwd, env = spec.env or {}, methods = methods, guardians = guardians }
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

local function finish(call) return result.of(text.shell(call.argv), raise.check(process.run(call)), call.allow) end

--- Run it because it only reads: in a preview too.
---@param arguments? string[]
---@param given? { within: string?, env: table?, stdin: any, allow: integer[]|"any"|nil }
---@return table result
---@effect read
function methods:read(arguments, given)
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
  local ended = finish(call_of(self, arguments, given))
  if type(ended) == "userdata" then
    for _, subject in ipairs(given and given.touches or {}) do guard.mark(subject, task.step()) end
  end
  return ended
end

--- What this command is, for the plan.
---@return table card { kind, id, lines }
---@effect pure
function methods:card()
  local lines = { { "program", text.shell(self.argv) } }
  if self.cwd then lines[2] = { "directory", self.cwd } end
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
