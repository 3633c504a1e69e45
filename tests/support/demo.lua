-- demo.lua: what neap is, in one minute: `make demo`.
--
-- A throwaway PostgreSQL in a temporary directory; an inventory beside it; the fresh-database runbook is previewed, run,
-- run again (nothing is left to do), run for another database and killed half-way with kill -9, resumed; then the
-- history. Everything shown is the release binary's own output, and every exit status is checked. The migration tool
-- is the real one: Prisma, or drizzle-kit where only that could be installed.

package.path = "./?.lua;" .. package.path

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"

local RUNBOOK = "postgres/fresh-database"

local function say(...)
  io.stdout:write(...)
  io.stdout:flush()
end

local function title(text) say("\n== ", text, "\n") end

-- ---- the place ----

local INVENTORY = [[
environment "demo" {
  db         = postgres { url = "postgresql://owner@127.0.0.1:%d/postgres", password = secret { env = "DEMO_PASSWORD" } },
  migrations = folder { path = %q },
  migrate    = command { argv = { %q } },
}
]]

local function choose_tool()
  for _, name in ipairs { "prisma", "drizzle" } do
    local argv, why = tools.command(name)
    if argv then return name, argv[1] end
    say("  ", why, "\n")
  end
  error("the demo needs Prisma or drizzle-kit, and neither could be installed: is there an npm registry?", 0)
end

---@class Demo
---@field server table
---@field tool string
---@field env table<string, string> the environment of every command
local Demo = {}
Demo.__index = Demo

local function prepare()
  local tool, program = choose_tool()
  local server = servers.postgres { name = "demo" }
  local dir = suite.temp()
  local inventory = suite.write(dir .. "/inventory.lua", INVENTORY:format(server.port, tools.migrations[tool], program))
  say(("  PostgreSQL %s on port %d, migration tool: %s\n"):format(server.sql("show server_version"), server.port, tool))
  say("  inventory ", inventory, ":\n\n", (suite.read(inventory):gsub("([^\n]+)", "    %1")))
  local env = {
    PATH = os.getenv("PATH"), HOME = dir, LANG = "C.UTF-8", TERM = os.getenv("TERM") or "dumb", USER = os.getenv("USER") or "demo",
    TMPDIR = suite.directory() .. "/tmp", NEAP_STATE = dir .. "/state", NEAP_INVENTORY = inventory, DEMO_PASSWORD = servers.passwords.owner,
  }
  return setmetatable({ server = server, tool = tool, env = env }, Demo)
end

-- ---- commands ----

--- Run neap and show what it says as it says it. `watch` is called while it waits and may kill it.
---@param arguments string[]
---@param watch? fun(running: Running)
---@return { code: integer?, signal: integer?, out: string, err: string }
function Demo:neap(arguments, watch)
  say("\n$ neap ", table.concat(arguments, " "), "\n")
  local argv = table.move(arguments, 1, #arguments, 2, { servers.neap.binary() })
  local running = child.start { argv = argv, env = self.env }
  running:shut()
  local shown, until_ms = 0, T.now_ms() + 180000
  while true do
    local name, bytes = running.handle:read(watch and 50 or 1000)
    if name then
      running[name] = running[name] .. bytes
      shown = shown + #bytes
      say(bytes)
    elseif bytes == "end" then break end
    if watch then watch(running) end
    if T.now_ms() > until_ms then running:kill(9, true) end
  end
  return running:finish()
end

--- The same, and anything but the expected exit status ends the demo.
function Demo:expect(code, arguments)
  local result = self:neap(arguments)
  if result.code ~= code then
    error(("neap %s: exit %s, expected %d"):format(arguments[1], result.code or "by a signal", code), 0)
  end
  return result
end

local function arguments_of(command, database)
  local list = { command, RUNBOOK, "--env", "demo", "--database", database }
  if command == "run" then list[#list + 1] = "--no-input" end
  return list
end

--- How many migrations the tool's own table has for the database; 0 while there is no such table or database.
function Demo:recorded(database)
  local relation = self.tool == "prisma" and "_prisma_migrations" or "drizzle.__drizzle_migrations"
  local ok, count = pcall(function()
    return self.server.sql("select count(*) from " .. relation, database)
  end)
  return ok and tonumber(count) or 0
end

--- Start a run and kill -9 it once three migrations are recorded; the id of the run.
function Demo:run_killed(database)
  local killed = false
  local result = self:neap(arguments_of("run", database), function(running)
    if killed or self:recorded(database) < 3 then return end
    killed = true
    running:kill(9)
    say("\n  … kill -9 after the third migration was recorded\n")
  end)
  if result.signal ~= 9 then error("the run ended before it could be killed", 0) end
  self:expect(0, { "history" })
  return (result.out .. result.err):match("run (%x%x%x%x%x%x+)") or error("the run did not say its id", 0)
end

local function show_result(demo, database)
  local tables = demo.server.sql("select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')", database)
  local recorded = demo:recorded(database)
  say(("\n  %s: %s tables, %d migrations recorded\n"):format(database, tables, recorded))
  if recorded ~= #tools.superseded + 1 then error("a migration is missing or was recorded twice", 0) end
end

local function main()
  title("A throwaway server and an inventory")
  local demo = prepare()
  title("Preview: what would happen, and nothing happens (exit 2: changes are predicted)")
  demo:expect(2, arguments_of("plan", "shop_staging"))
  title("Run")
  demo:expect(0, arguments_of("run", "shop_staging"))
  show_result(demo, "shop_staging")
  title("Run again: everything is already so")
  demo:expect(0, arguments_of("run", "shop_staging"))
  title("Another database, and the machine dies half-way")
  local run = demo:run_killed("shop_review")
  title("Resume: what was done is not done again")
  demo:expect(0, { "resume", run, "--no-input" })
  show_result(demo, "shop_review")
  title("History")
  demo:expect(0, { "history" })
end

local ok, message = xpcall(main, function(e) return os.getenv("V") == "1" and debug.traceback(e) or e end)
suite.finish()
if not ok then
  io.stderr:write("\ndemo: ", tostring(message), "\n")
  os.exit(1)
end
say("\n  the server is stopped, its directory is gone\n")
