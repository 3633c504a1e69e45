-- shop.lua: what the runbook specs share: a copy of the fixture migrations, an inventory, a tool that counts its calls.
--
--   local shop = require("tests.support.shop").open(pg, "prisma")
--   shop.neap({ "run", "postgres/fresh-database", "--database", "x" })   shop.calls()   shop.folder
--
-- The tool is a wrapper around the real one: it writes each of its argument lists into a file, and while a file
-- `kill-at` holds a number it kills neap before the call of that number, as a crash would.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local child = require "tests.support.child"

local M = {}

local INVENTORY <const> = [[
environment "demo" {
  db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "OWNER_PASSWORD" } },
  migrations = folder { path = "%s" },
  migrate = command { argv = { "%s" } },
}
]]

local WRAPPER <const> = [[
#!/bin/sh
# Counts; dies with its caller when told to; else becomes the tool.
here=%s
echo "$*" >>"$here/calls"
at=$(cat "$here/kill-at" 2>/dev/null)
if [ -n "$at" ] && [ "$(wc -l <"$here/calls")" -eq "$at" ]; then
  rm "$here/kill-at"
  until [ -s "$here/pid" ]; do sleep 0.02; done
  kill -9 "$(cat "$here/pid")"
  exit 1
fi
exec %s "$@"
]]

--- The tool of a directory: it counts its calls and then becomes the program.
---@param dir string
---@param program string
function M.write_tool(dir, program)
  T.mode(suite.write(dir .. "/tool", WRAPPER:format(dir, program)), tonumber("755", 8))
end

--- The argument lists that the tool of a directory was called with.
---@param dir string
---@return string[]
function M.calls(dir)
  local file, list = io.open(dir .. "/calls"), {}
  if file then
    for line in file:lines() do list[#list + 1] = line end
    file:close()
  end
  return list
end

--- A folder, an inventory with a database of its own (which a run locks), and a tool for one test. `tool` is "prisma" or "drizzle"; `program` stands in for it.
---@param pg table server
---@param tool string
---@param program? string
---@return table shop
function M.open(pg, tool, program)
  local dir = suite.temp()
  local shop = { dir = dir, folder = dir .. "/migrations", state = suite.memory() .. "/state" }
  child.must { argv = { "cp", "-R", tools.migrations[tool], shop.folder } }
  local argv = tools.command(tool)
  M.write_tool(dir, program or argv and argv[1] or "/bin/false")
  suite.write(dir .. "/inventory.lua", INVENTORY:format(pg.port, pg.database(), shop.folder, dir .. "/tool"))

  --- Run neap to its end with the inventory, the state and the password of the shop. options: cwd, env.
  function shop.neap(arguments, options)
    local list = table.move(arguments, 1, #arguments, 1, {})
    table.move({ "--inventory", dir .. "/inventory.lua", "--state", shop.state, "--width", "1000" }, 1, 6, #list + 1, list)
    if list[1] == "run" or list[1] == "plan" then table.move({ "--env", "demo" }, 1, 2, #list + 1, list) end
    local env = { OWNER_PASSWORD = servers.passwords.owner }
    for name, value in pairs(options and options.env or {}) do env[name] = value end
    os.remove(dir .. "/pid")                       -- the tool that kills waits for the new one
    local running = servers.neap.start(list, { env = env, cwd = options and options.cwd })
    suite.write(dir .. "/pid", tostring(running:pid()))
    running:shut()
    return running:finish(180000)
  end

  --- The argument lists the tool was called with.
  function shop.calls() return M.calls(dir) end

  --- Leave only the newest n superseded migrations of Prisma and the baseline: each start of the tool is a second and more, and eight of them show
  --- no more than one or two, where the number is not what is tried.
  function shop.shorten(n)
    for i = 1, #tools.superseded - n do T.remove_tree(shop.folder .. "/" .. tools.superseded[i]) end
    M.write_tool(dir, assert(tools.with_folder("prisma", dir .. "/program", shop.folder)))
    return table.move(tools.superseded, #tools.superseded - n + 1, #tools.superseded, 1, {})
  end

  --- Kill neap before the nth call of the tool.
  function shop.kill_at(n) suite.write(dir .. "/kill-at", tostring(n)) end

  return shop
end

return M
