-- neap.lua: the built binary as a child, as an operator or cron would start it.
--
--   local neap = require "tests.support.neap"
--   local r = neap({ "run", "x", "--env", "demo" }, { env = { PASSWORD = "…" }, input = "", tty = true, timeout = 5000, user = "nobody" })
--   r.code, r.signal, r.out, r.err
--   local child = neap.start({ "run", "x" }, { tty = true })   child:expect("type the name")  child:write("staging\n")  child:finish()
--
-- Nothing of our own environment goes in: HOME is a directory of the running `it` (so run and resume see
-- the same state), and with `tty` all output comes as `out`.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local M = {}

local copied = false
local home, home_of

local function home_directory(user)
  local key = suite.current or "suite"
  if home_of ~= key or not home or not T.entries(home) then
    home, home_of = suite.memory(), key
  end
  if user then T.owner(home, user) end
  return home
end

--- Path of the binary under test.
---@return string
function M.binary()
  local path = os.getenv("NEAP_BINARY") or "./neap"
  if path:sub(1, 1) == "/" then return path end
  return (os.getenv("PWD") or ".") .. "/" .. path
end

--- The binary at a place every user can reach.
---@return string
function M.for_everyone()
  local path = suite.directory() .. "/neap"
  if not copied then
    suite.write(path, suite.read(M.binary()))
    T.mode(path, tonumber("755", 8))
    copied = true
  end
  return path
end

local function environment(options)
  local env = {
    PATH = os.getenv("PATH"), LANG = "C.UTF-8", TERM = options.tty and "xterm-256color" or "dumb",
    HOME = home_directory(options.user), TMPDIR = suite.directory() .. "/tmp", USER = options.user or os.getenv("USER") or "root",
    ASAN_OPTIONS = os.getenv("ASAN_OPTIONS"), UBSAN_OPTIONS = os.getenv("UBSAN_OPTIONS"),
  }
  for name, value in pairs(options.env or {}) do env[name] = value end
  return env
end

--- Start it. options: env, tty, columns (of the terminal), user, cwd, enter (makes of an argv one that runs it elsewhere, as netns.enter).
---@param arguments string[]
---@param options? table
---@return Running
function M.start(arguments, options)
  options = options or {}
  local argv = { options.user and M.for_everyone() or M.binary() }
  table.move(arguments, 1, #arguments, 2, argv)
  if options.enter then argv = options.enter(argv) end
  return child.start { argv = argv, env = environment(options), tty = options.tty, columns = options.columns, user = options.user, cwd = options.cwd }
end

--- Run it to the end. options: also input, timeout (ms).
---@param arguments string[]
---@param options? table
---@return { code: integer?, signal: integer?, out: string, err: string }
function M.run(arguments, options)
  options = options or {}
  local running = M.start(arguments, options)
  if options.input then running:write(options.input) end
  if not options.tty then running:shut() end
  return running:finish(options.timeout)
end

return setmetatable(M, { __call = function(_, arguments, options) return M.run(arguments, options) end })
