-- stage.lua: what the operator specs share: a runbook that can be stopped in the server and in a child, an inventory
-- whose secrets are planted, and the built binary run as an operator, as cron or as another user would.
--
--   local stage = require("tests.support.stage").open(pg)          -- { user = "nobody" }: all files are that user's
--   stage.runbook("slow", text)   stage.run("slow", "--no-input")   stage.start({ "run", … }, { tty = true })
--   stage.records(run)   stage.latest()   stages.await(function () return … end, "what is awaited")   stage.strike(running)
--
-- The child program of the stage writes its pid, then does what its first argument says: `wait` until `stage.go()`.

local journal = require "native.journal"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"

local M = {}

M.secrets = { OWNER_PASSWORD = servers.passwords.owner, TOKEN = "tok/9f+planted=77zq" }

local INVENTORY <const> = [[
environment "demo" {
  db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { %s } },
  tool = command { argv = { "/bin/sh", "%s/tool.sh" }, env = { TOKEN = secret { %s } } },
}
]]

-- `wait` has a child of its own, in its process group; `stubborn` does not go when it is asked to.
local TOOL <const> = [[
here=%s
case "$1" in
  wait) cat "$here/go" & echo $$ $! >"$here/pids.part"; mv "$here/pids.part" "$here/pids"; wait ;;
  stubborn) trap '' TERM INT; echo $$ >"$here/pids.part"; mv "$here/pids.part" "$here/pids"; exec cat "$here/go" ;;
  environment) env; env >&2; exit 3 ;;
esac
]]

--- Poll what has no event; an error names it after a minute.
---@param fn fun(): any what is truthy when it has come
---@param what string
function M.await(fn, what)
  local until_ms = T.now_ms() + 60000
  while true do
    local got = fn()
    if got then return got end
    if T.now_ms() > until_ms then error("did not come: " .. what, 2) end
    T.pause(15)
  end
end

local function add_words(stage, user)
  local common = { "--state", stage.state, "--inventory", stage.dir .. "/inventory.lua" }
  local bound = { run = true, plan = true, resume = true, undo = true, check = true, settle = true, doctor = true }

  --- Write a runbook of the stage.
  function stage.runbook(name, source)
    suite.write(stage.dir .. "/" .. name .. ".lua", source)
    if user then T.owner(stage.dir .. "/" .. name .. ".lua", user) end
  end

  --- The words of a command line; a runbook is named by its file.
  function stage.words(arguments)
    local list = table.move(arguments, 1, #arguments, 1, {})
    if list[1] == "run" or list[1] == "plan" then
      list[2] = stage.dir .. "/" .. list[2] .. ".lua"
      table.move({ "--env", "demo" }, 1, 2, #list + 1, list)
    end
    return table.move(common, 1, bound[list[1]] and 4 or 2, #list + 1, list)
  end

  local function options_of(options)
    options = options or {}
    local env = {}
    for name, value in pairs(M.secrets) do env[name] = value end
    for name, value in pairs(options.env or {}) do env[name] = value end
    return { tty = options.tty, columns = options.columns, user = user, env = env, cwd = options.cwd or "/" }
  end

  --- Start neap. options: tty, columns, env, cwd.
  function stage.start(arguments, options) return neap.start(stage.words(arguments), options_of(options)) end

  --- Run neap to its end.
  function stage.neap(arguments, options)
    local running = stage.start(arguments, options)
    if not (options and options.tty) then running:shut() end
    return running:finish(60000)
  end

  function stage.run(name, ...) return stage.neap { "run", name, ... } end

  -- What neap prints as JSON lines.
  local function lines_of(arguments)
    local list = {}
    for line in stage.neap(arguments).out:gmatch("[^\n]+") do list[#list + 1] = text.parse(line) end
    return list
  end

  --- Rows of the index, the newest first. Another user's are read by a neap of that user: nobody else may.
  function stage.runs()
    if user then return lines_of { "history", "--json" } end
    return T.run(function () return assert(journal.index.list(stage.state, {})) end)
  end

  --- The id of the newest run.
  function stage.latest()
    local rows = stage.runs()
    return rows[1] and rows[1].run
  end

  --- The records of a run, the newest one when none is named.
  function stage.records(run)
    if user then return lines_of { "show", run or stage.latest(), "--json" } end
    return T.run(function () return assert(journal.read(stage.state, run or stage.latest(), 0)) end)
  end

  --- The body of the last record of a kind, of one step when it is named.
  function stage.last(kind, step)
    local found
    for _, r in ipairs(stage.records()) do
      if r.kind == kind and (not step or r.step == step) then found = r.body end
    end
    return found
  end

  --- How often a record was made.
  function stage.count(kind, matches)
    local n = 0
    for _, r in ipairs(stage.records()) do
      if r.kind == kind and (not matches or matches(r.body, r.step)) then n = n + 1 end
    end
    return n
  end

  --- The pids of the child program, once it has begun.
  function stage.pids()
    local file = io.open(stage.dir .. "/pids")
    if not file then return nil end
    local list = {}
    for pid in file:read("a"):gmatch("%d+") do list[#list + 1] = math.tointeger(pid) end
    file:close()
    return list
  end

  --- Let the waiting child go on.
  function stage.go()
    local file = assert(io.open(stage.dir .. "/go", "w"))
    file:write("\n")
    file:close()
  end
end

--- A directory with an inventory, a tool and a database. options: user; database; files (the secrets come from files,
--- as cron has no variables).
---@param pg table server
---@param options? { user?: string, database?: string, files?: boolean }
---@return table stage
function M.open(pg, options)
  options = options or {}
  local dir = suite.temp()
  local memory = suite.memory()
  local stage = { dir = dir, state = memory .. "/state", database = options.database or pg.database() }
  local function reference(name)
    if not options.files then return ("env = %q"):format(name) end
    T.mode(suite.write(dir .. "/" .. name, M.secrets[name] .. "\n"), tonumber("600", 8))
    return ("file = %q"):format(dir .. "/" .. name)
  end
  suite.write(dir .. "/inventory.lua", INVENTORY:format(pg.port, stage.database, reference "OWNER_PASSWORD", dir, reference "TOKEN"))
  suite.write(dir .. "/tool.sh", TOOL:format(dir))
  assert(os.execute("mkfifo " .. dir .. "/go"))
  if options.user then
    for _, name in ipairs { "", "/inventory.lua", "/tool.sh", "/go" } do T.owner(dir .. name, options.user) end
    T.owner(memory, options.user)
  end
  add_words(stage, options.user)

  --- Does a table of this name exist?
  function stage.has(name) return pg.sql(("select count(*) from pg_tables where tablename = '%s'"):format(name), stage.database) == "1" end

  --- Kill -9 a run, and wait until the server has noticed, which it does in its own time: until then whoever comes is told that the run is at work.
  --- The result of its process.
  function stage.strike(running)
    running:kill(9)
    local r = running:finish()
    M.await(function ()
      return pg.sql("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())", stage.database) == "0"
    end, "the end of its lock")
    return r
  end

  --- Backends of neap that are in a statement like this one.
  function stage.active(pattern)
    local pid = pg.sql(("select pid from pg_stat_activity where application_name like 'neap:%%' and state = 'active' and query like '%s'"):format(pattern))
    return math.tointeger(tonumber(pid))
  end
  return stage
end

return M
