-- floors.lua: nothing points up. Reads the lists in README.md, section "Floors", and the sources.
--
-- The section holds indented lines of three kinds:
--   main.c > cli > bind > …            an #include stays on its floor or points down this list
--   uv.h in loop, drive                a foreign header stays on these floors
--   engine -> core, native.task        a require stays on its floor or follows an arrow; "native.*" is every native module
-- Run as a program it prints what it finds and fails (make lint); floors_spec.lua uses it as a module.

local M = {}

---@class Plan
---@field order table<string, integer> C floor -> height, base is 1
---@field headers table<string, table<string, boolean>> foreign header -> floors that may include it
---@field arrows table<string, table<string, boolean>> Lua floor -> floors and native modules it may require

local function words(text)
  local set = {}
  for word in text:gmatch("[%w_.*]+") do set[word] = true end
  return set
end

local function read_order(line, plan)
  local names = {}
  for name in line:gmatch("[%w_.]+") do table.insert(names, 1, name) end
  for height, name in ipairs(names) do plan.order[name] = height end
end

--- The lists of a README.
---@param text string
---@return Plan
function M.plan(text)
  local plan = { order = {}, headers = {}, arrows = {} }
  local section = text:match("\n## Floors\n(.-)\n## ") or text:match("\n## Floors\n(.*)$") or ""
  for line in section:gmatch("    ([^\n]+)") do
    local header, floors = line:match("^(%S+%.h) +in +(.+)$")
    local from, to = line:match("^(%S+) +%-> +(.+)$")
    if header then plan.headers[header] = words(floors)
    elseif from then plan.arrows[from] = words(to)
    elseif line:find(" > ", 1, true) then read_order(line, plan) end
  end
  assert(next(plan.order) and next(plan.arrows), "README.md has no section \"Floors\" with the two lists")
  return plan
end

local function check_include(plan, floor, target)
  local own = target:match("^\"(%w+)/")
  local foreign = target:match("^<(.+)>$")
  if own and not plan.order[own] then return "includes " .. target .. ", which is on no floor" end
  if own and plan.order[own] > plan.order[floor] then return ("points up: %s includes %s"):format(floor, target) end
  if foreign and plan.headers[foreign] and not plan.headers[foreign][floor] then
    return ("%s does not belong on floor %s"):format(foreign, floor)
  end
end

--- What is wrong with the includes of one C file.
---@param plan Plan
---@param path string "runtime/guard/guard.c"
---@param text string
---@return string[]
function M.check_c(plan, path, text)
  local floor = path:match("^runtime/(%w+)/") or path:match("^runtime/([%w.]+)$")
  if not plan.order[floor] then return { path .. ": floor \"" .. tostring(floor) .. "\" is not in README.md" } end
  local found, number = {}, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local target = line:match("^%s*#%s*include%s+(%S+)")
    local wrong = target and check_include(plan, floor, target)
    if wrong then found[#found + 1] = ("%s:%d: %s"):format(path, number, wrong) end
  end
  return found
end

local function may_require(allowed, floor, module)
  local target = module:match("^%w+")
  if target == floor or allowed[target] then return true end
  if target == "std" then return true end -- what only runbooks can require: in stdlib/ it stands in a text
  return target == "native" and (allowed["native.*"] or allowed[module]) or false
end

--- What is wrong with the requires of one file of stdlib.
---@param plan Plan
---@param path string "stdlib/engine/run.lua"
---@param text string
---@return string[]
function M.check_lua(plan, path, text)
  local floor = path:match("^stdlib/(%w+)/")
  local allowed = plan.arrows[floor]
  if not allowed then return { path .. ": floor \"" .. tostring(floor) .. "\" is not in README.md" } end
  local found, number = {}, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local code = line:gsub("%-%-.*$", "")
    for module in code:gmatch("require%s*%(?%s*[\"']([%w_.]+)[\"']") do
      if not module:find("^std%.") and not may_require(allowed, floor, module) then   -- std.NAME stands in examples of runbooks
        found[#found + 1] = ("%s:%d: %s may not require %s"):format(path, number, floor, module)
      end
    end
  end
  return found
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

local function each_file(command, check, plan, found)
  for path in io.popen(command):lines() do
    for _, wrong in ipairs(check(plan, path, read(path))) do found[#found + 1] = wrong end
  end
end

--- Check the whole tree.
---@return string[] found empty when nothing points up
function M.check()
  local plan, found = M.plan(read("README.md")), {}
  each_file("find runtime -name '*.[ch]' | LC_ALL=C sort", M.check_c, plan, found)
  each_file("find stdlib -name '*.lua' | LC_ALL=C sort", M.check_lua, plan, found)
  return found
end

if arg and arg[0] and arg[0]:match("floors%.lua$") then
  local found = M.check()
  for _, wrong in ipairs(found) do print(wrong) end
  os.exit(#found == 0 and 0 or 1)
end

return M
