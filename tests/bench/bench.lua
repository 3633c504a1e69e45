-- bench.lua: programs measured in turn, and ratios between them.
--
-- Times on a machine that does other things too are worth little, so every comparison runs its programs in turns (limit, ours,
-- peer, limit, ours, …) and gives the median of the ratios of neighbours, not the ratio of medians: a slow minute
-- slows both. Rejected: the fastest run of each, which two different minutes may have given.
--
-- A program that leaves half a gigabyte unwritten leaves it to the kernel, and the next one waits for the disk in its place: so everything is on
-- the disk before a program begins. Whether a program has its own bytes there in the end is its own promise.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local M = {}

local MEASURE <const> = "build/bench/measure"

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

---@class Measured
---@field wall number seconds
---@field cpu number seconds of the processor, user and system
---@field peak number MB of the largest resident size
---@field seconds number what the program itself measured ("seconds: N"), else the wall time
---@field out string

--- Run a program; raises when it does not end well.
---@param argv string[]
---@param options? { env: table<string, string>, cwd: string, status: integer, input: string }
---@return Measured
function M.measure(argv, options)
  options = options or {}
  local words = { quoted(M.root .. "/" .. MEASURE) }
  for _, word in ipairs(argv) do words[#words + 1] = quoted(word) end
  local setting = { "cd " .. quoted(options.cwd or "/") .. " &&" }
  for name, value in pairs(options.env or {}) do setting[#setting + 1] = name .. "=" .. quoted(value) end
  local pipe = assert(io.popen(table.concat(setting, " ") .. " " .. table.concat(words, " ") .. " 2>&1 <" .. (options.input or "/dev/null")))
  local out = pipe:read("a")
  pipe:close()
  local wall, cpu, peak, status = out:match("\nmeasured: (%S+) (%S+) (%S+) (%S+)\n$")
  if tonumber(status) ~= (options.status or 0) then error(("%s ended with %s:\n%s"):format(argv[1], tostring(status), out), 2) end
  return { wall = wall / 1e6, cpu = cpu / 1e6, peak = peak / 1024, seconds = tonumber(out:match("seconds: (%S+)")) or wall / 1e6, out = out }
end

--- The middle of a list of numbers.
---@param list number[]
---@return number
function M.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local half = (#sorted + 1) // 2
  return #sorted % 2 == 1 and sorted[half] or (sorted[half] + sorted[half + 1]) / 2
end

--- Run the programs in turns, every second one backwards: who is always behind the same neighbour pays for what that leaves to be done (two builds
--- that differed in nothing that showed: up to 12 % of the processor, for whichever came first). Each is { name, function () -> Measured }.
---@param rounds integer
---@param programs table[]
---@return table<string, Measured[]> samples by name
function M.turns(rounds, programs)
  local samples = {}
  for _, program in ipairs(programs) do samples[program[1]] = {} end
  for round = 1, rounds do
    for i = 1, #programs do
      local program = programs[round % 2 == 1 and i or #programs + 1 - i]
      local list = samples[program[1]]
      os.execute("sync")
      list[#list + 1] = program[2]()
    end
  end
  return samples
end

--- Median of the ratios of neighbours.
function M.ratio(samples, one, other, field)
  local list = {}
  for i, sample in ipairs(samples[one]) do list[i] = sample[field or "seconds"] / samples[other][i][field or "seconds"] end
  return M.median(list)
end

--- What a program took more than another in the same turn, as samples of their own: a run's stream, say, without its start.
---@param samples table<string, Measured[]>
---@param name string the new samples are called `name .. " alone"`
---@param base string
---@param field string
function M.alone(samples, name, base, field)
  local list = {}
  for i, sample in ipairs(samples[name]) do list[i] = { [field] = sample[field] - samples[base][i][field] } end
  samples[name .. " alone"] = list
end

--- Median of a field.
function M.middle(samples, name, field)
  local list = {}
  for i, sample in ipairs(samples[name]) do list[i] = sample[field or "seconds"] end
  return M.median(list)
end

-- ---- what is installed ----

--- Does the command end with 0?
---@param line string for the shell
function M.works(line) return (os.execute(line .. " >/dev/null 2>&1 </dev/null")) == true end

-- ---- the table ----

local missed, lines = 0, 0

--- A line of the table. `most` and `least` say the goal for the number; without them the line is for orientation.
---@param what string
---@param number number
---@param goal { most: number?, least: number?, unit: string? }
---@param note? string
function M.line(what, number, goal, note)
  local unit = goal.unit or "x"
  local met = (not goal.most or number <= goal.most) and (not goal.least or number >= goal.least)
  local wanted = goal.most and ("<= %g %s"):format(goal.most, unit) or goal.least and (">= %g %s"):format(goal.least, unit) or ""
  local verdict = wanted == "" and "" or met and "met" or "MISSED"
  if verdict == "MISSED" then missed = missed + 1 end
  lines = lines + 1
  io.write((("  %-52s %8.2f %-3s %-12s %-7s %s"):format(what, number, unit, wanted, verdict, note or ""):gsub("%s+$", "")), "\n")
  io.flush()
end

--- A heading.
function M.section(text)
  io.write("\n", text, "\n")
  io.flush()
end

--- Something that could not be compared, and why.
function M.skip(what, why) io.write(("  %-52s skipped: %s\n"):format(what, why)) end

--- The last line.
---@return integer missed
function M.total()
  io.write(("\n%d figures, %d missed\n"):format(lines, missed))
  return missed
end

-- ---- neap and its limits ----

M.root = os.getenv("PWD") or "."

--- Turns of a section.
M.rounds = tonumber(os.getenv("NEAP_BENCH_ROUNDS")) or 5

--- A size from the environment.
---@param name string NEAP_BENCH_…
---@param usual integer
function M.size(name, usual) return tonumber(os.getenv(name)) or usual end

--- A runbook of one step that does nothing.
M.ONE = [[
runbook "One step" { why = "to be measured" }
local f = target.folder "f"
step "The step" { act = function () return 1 end, verify = function () check(true, "it is so") end }
]]

--- A place with a folder "f" of its own, and more entries.
---@param more? string
function M.folder_place(more)
  local dir = suite.temp()
  return M.place(('environment "here" { f = folder { path = "%s" }, %s }'):format(dir, more or ""), dir)
end

--- Where the promise asks for durability in a run whose steps write nothing: the run itself, and each intent.
function M.promised(r) return r.kind == "run" or r.kind == "step" and r.body:find('"state":"intent"', 1, true) ~= nil end

-- A run of the journal's limit program, each under a name of its own.
local runs = 0
function M.limit_journal(state, records)
  runs = runs + 1
  return M.measure({ M.root .. "/build/bench/journal", state, "limit" .. runs, records })
end

--- A directory with an inventory and runbooks; its words run neap and the limit programs in it.
---@param inventory string
---@param files? string a directory that is the folder of the inventory
---@return table place
function M.place(inventory, files)
  local place = { dir = suite.temp(), files = files }
  suite.write(place.dir .. "/inventory.lua", inventory)

  --- Write a runbook.
  function place.book(name, text) suite.write(place.dir .. "/" .. name .. ".lua", text) end

  --- Run it with the release binary (or with `plan` preview it), with `more` words; `seconds` is the time of its steps when `steps` is wanted, else that of the process.
  function place.neap(name, options)
    options = options or {}
    local state = options.state or place.dir .. "/state"
    local argv = { servers.neap.binary(), options.plan and "plan" or "run", place.dir .. "/" .. name .. ".lua", "--env", "here", "--state", state, "--inventory", place.dir .. "/inventory.lua",
      options.steps and "--json" or "--quiet", table.unpack(options.more or {}) }
    local measured = M.measure(argv, { cwd = place.dir, env = { HOME = place.dir, BENCH_PASSWORD = servers.passwords.admin } })
    if options.steps then
      local ms = 0
      for line in measured.out:gmatch("[^\n]+") do
        if line:find('"kind":"step"', 1, true) and line:find('"state":"end"', 1, true) then ms = ms + tonumber(line:match('"ms":(%d+)')) end
      end
      measured.seconds = ms / 1000
    end
    return measured
  end

  return place
end

--- Records of the one run in a state directory: {kind, step, body as text}.
---@param state string
---@return table[]
function M.records(state)
  local journal, text = require("native.journal"), require("native.text")
  return T.run(function ()
    local rows = assert(journal.index.list(state, { limit = 1 }))
    local list = {}
    for i, r in ipairs(assert(journal.read(state, rows[1].run, 0))) do list[i] = { kind = r.kind, step = r.step, body = text.json(r.body) } end
    return list
  end)
end

--- A file for the limit program: the records, made durable wherever `durable(record)` says so, and at the end.
---@param path string
---@param records table[]
---@param durable fun(record: table): boolean
function M.write_records(path, records, durable)
  local out = {}
  for _, r in ipairs(records) do
    out[#out + 1] = ("%s\t%s\t%s\n"):format(r.kind, (r.step:gsub("[\t\n]", " ")), r.body)
    if durable(r) then out[#out + 1] = ".\n" end
  end
  out[#out + 1] = ".\n"
  suite.write(path, table.concat(out))
end

return M
