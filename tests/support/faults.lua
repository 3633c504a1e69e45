-- faults.lua: the built binary under strace: which system calls it makes, and what a kill -9 at any one of them leaves.
--
--   local calls = faults.record(argv, options)            the calls of one undisturbed run, in their order
--   local points = faults.points(calls)                   { call = "pwrite64", when = 7 }, …
--   faults.kill(argv, options, point)                     the same run, killed when it enters that call
--   faults.spread(points, 12, seed)                       some of them, evenly spread
--
-- strace counts calls for each thread by itself, so a point stands for the thread that gets to its nth such call first. It
-- follows neap's threads and lets the programs go that neap starts, which are what a killed run leaves behind.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local M = {}

M.calls = "write,pwrite64,fsync,fdatasync,sendto,sendmsg,writev"

--- Why there can be no faults here, nil when there can.
---@return string?
function M.missing()
  if not os.execute("command -v strace >/dev/null") then return "strace is not installed" end
  local r = child.run { argv = { "strace", "-qq", "-o", "/dev/null", "true" } }
  return r.code ~= 0 and "tracing is not permitted here" or nil
end

local function strace(extra, arguments, options)
  local argv = { "strace", "-f", "--detach-on=execve", "-qq" }
  table.move(extra, 1, #extra, #argv + 1, argv)
  argv[#argv + 1] = neap.binary()
  table.move(arguments, 1, #arguments, #argv + 1, argv)
  local env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8", TERM = "dumb", HOME = options.home, TMPDIR = suite.directory() .. "/tmp",
    UV_THREADPOOL_SIZE = "1", OWNER_PASSWORD = servers.passwords.owner }
  return child.start { argv = argv, env = env }
end

--- The system calls of one run.
---@return table result of the run
---@return { thread: integer, call: string }[]
function M.record(arguments, options)
  local log = suite.temp() .. "/strace"
  local running = strace({ "-e", "trace=" .. M.calls, "-o", log }, arguments, options)
  running:shut()
  local result, list = running:finish(120000), {}
  for thread, call in suite.read(log):gmatch("(%d+) +([%w_]+)%(") do list[#list + 1] = { thread = tonumber(thread), call = call } end
  return result, list
end

--- What can be told apart: the nth call of a name in a thread, once.
function M.points(calls)
  local counts, seen, points = {}, {}, {}
  for _, c in ipairs(calls) do
    local key = c.thread .. c.call
    counts[key] = (counts[key] or 0) + 1
    local name = c.call .. " " .. counts[key]
    if not seen[name] then points[#points + 1] = { call = c.call, when = counts[key], name = name } end
    seen[name] = true
  end
  return points
end

--- `count` of them, one out of each equal share, chosen by the seed.
function M.spread(points, count, seed)
  if count >= #points then return points end
  local chosen, state = {}, seed
  for i = 1, count do
    local first, last = (i - 1) * #points // count + 1, i * #points // count
    state = (state * 1103515245 + 12345) % 2147483648
    chosen[i] = points[first + (state >> 8) % (last - first + 1)]
  end
  return chosen
end

--- Start the run that dies at the point.
---@return Running
function M.start(arguments, options, point)
  local running = strace({ "-e", "trace=" .. point.call, "-e", ("inject=%s:signal=KILL:when=%d"):format(point.call, point.when), "-o", "/dev/null" }, arguments, options)
  running:shut()
  return running
end

return M
