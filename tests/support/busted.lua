-- busted.lua: runs specs inside neap's own test interpreter.
--
--   build/debug/neap-test tests/support/busted.lua [busted options] [FILE_spec.lua …]
--
-- Without files, all tests/**/*_spec.lua. Tags in the name of a describe or it choose what runs:
-- #bulk (large amounts of data), #kill (kill -9 sweeps) are left out by check-asan, #long runs only in check-long:
-- set NEAP_TEST_EXCLUDE=bulk,kill,long as the Makefile does; the default leaves out #long.

package.path = "./?.lua;" .. package.path

local function add_specs(dir, list)
  local names = T.entries(dir) or {}
  table.sort(names)
  for _, name in ipairs(names) do
    local path = dir .. "/" .. name
    if name:match("_spec%.lua$") then list[#list + 1] = path
    elseif name ~= "node_modules" and T.entries(path) then add_specs(path, list) end
  end
  return list
end

local function is_named_file(arguments)
  for _, argument in ipairs(arguments) do
    if argument:match("%.lua$") then return true end
  end
  return false
end

local options = { "-o", "tests/support/report.lua" }
local exclude = os.getenv("NEAP_TEST_EXCLUDE") or "long"
if exclude ~= "" then options[#options + 1] = "--exclude-tags=" .. exclude end

local arguments = table.move(arg, 1, #arg, #options + 1, options)
if not is_named_file(arg) then table.move(add_specs("tests", {}), 1, 9999, #arguments + 1, arguments) end
arguments[0], arguments[-1] = arg[0], arg[-1]
arg = arguments -- luacheck: ignore (busted reads the global)

-- Before busted runs, because it forgets after each file what that file was the first to require, and the servers are the suite's.
require "tests.support.servers"

require "busted.runner" { standalone = false }
