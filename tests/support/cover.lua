-- cover.lua: what the tests reached, from gcovr's JSON. Lines and branches per floor, and per file of the guard, where the journal
-- lives; there LEAST percent of the branches must be taken or named in uncovered.txt.
--
--   build/cover/neap-test tests/support/cover.lua FILE.json
--
-- uncovered.txt names a function, how many of its branches stay open, and why. The number keeps a name from excusing what is added
-- later; more than are open is said, not punished, because a race may take a branch on one day and not on another.

local json = require "native.text"

local LEAST = 95
local NAMES = "tests/support/uncovered.txt"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

---@return table<string, {count: integer, used: boolean}> by "file:function"
local function read_names()
  local names = {}
  for line in read(NAMES):gmatch("[^\n]+") do
    if not line:match("^#") then
      local place, count = line:match("^(%S+): (%d+): %S")
      assert(place and not names[place], NAMES .. ": not FILE:FUNCTION: COUNT: REASON, or twice: " .. line)
      names[place] = { count = tonumber(count), used = 0 }
    end
  end
  return names
end

--- The function a line belongs to: the last that begins before it.
local function function_at(functions, number)
  local name, from = "?", 0
  for _, f in ipairs(functions) do
    if f.lineno <= number and f.lineno > from then name, from = f.name, f.lineno end
  end
  return name
end

local function new_sum() return { lines = 0, lines_hit = 0, branches = 0, taken = 0 } end

--- Add a file to a sum; `open`(function name, line) is told of every branch that was not taken.
local function add(sum, file, open)
  for _, line in ipairs(file.lines) do
    if not line["gcovr/noncode"] then
      sum.lines = sum.lines + 1
      if line.count > 0 then sum.lines_hit = sum.lines_hit + 1 end
      for _, branch in ipairs(line.branches) do
        sum.branches = sum.branches + 1
        if branch.count > 0 then sum.taken = sum.taken + 1
        else open(function_at(file.functions, line.line_number), line.line_number) end
      end
    end
  end
end

local function percent(part, whole) return whole == 0 and 100 or 100 * part / whole end

local function say(name, sum)
  print(("  %-24s lines %5d of %5d  %5.1f %%    branches %5d of %5d  %5.1f %%"):format(name, sum.lines_hit, sum.lines,
    percent(sum.lines_hit, sum.lines), sum.taken, sum.branches, percent(sum.taken, sum.branches)))
end

local function sorted(set)
  local keys = {}
  for key in pairs(set) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- Open branches of the guard that no name covers. Prints each function that has some.
local function unnamed(open, names)
  local count = 0
  for _, place in ipairs(sorted(open)) do
    local name = names[place] or { count = 0 }
    local more = #open[place] - name.count
    name.used = #open[place]
    if more > 0 then
      count = count + more
      print(("  not taken, not named: %s: %d, in lines %s"):format(place, more, table.concat(open[place], " ")))
    end
  end
  return count
end

local function main(path)
  local floors, guard, open, names = {}, {}, {}, read_names()
  for _, file in ipairs(assert(json.parse(read(path))).files) do
    local floor, short = file.file:match("^runtime/(%w+)/(.+)$")
    floor = floor or "main"
    floors[floor] = floors[floor] or new_sum()
    add(floors[floor], file, function(name, line)
      local place = short and short .. ":" .. name
      if floor ~= "guard" then return end
      open[place] = open[place] or {}
      table.insert(open[place], line)
    end)
    if floor == "guard" then
      guard[short] = new_sum()
      add(guard[short], file, function() end)
    end
  end
  for _, floor in ipairs(sorted(floors)) do say(floor, floors[floor]) end
  for _, file in ipairs(sorted(guard)) do say("guard/" .. file, guard[file]) end
  local left, sum = unnamed(open, names), floors.guard
  for _, place in ipairs(sorted(names)) do
    local name = names[place]
    if name.used < name.count then print(("  named %d, open %d: %s"):format(name.count, name.used, place)) end
  end
  local all = percent(sum.branches - left, sum.branches)
  print(("guard and journal: %d of %d branches taken (%.1f %%), %d named in %s, together %.1f %%; at least %d %%"):format(sum.taken,
    sum.branches, percent(sum.taken, sum.branches), sum.branches - sum.taken - left, NAMES, all, LEAST))
  return all >= LEAST
end

os.exit(main(arg[1]), true)
