-- report.lua: the output handler of our specs. Silent about what passes, whole about what fails, aloud about skips.
--
-- Counts are written to the file NEAP_TEST_COUNTS after every test ("passed failed skipped", and "running" until the
-- end), so that a crash of the interpreter is a failure with a name and not a shorter sum. Interpreters that are given the same directory
-- NEAP_TEST_CLAIMS share the files between them: each runs what nobody has taken yet, so none waits for a list that was cut badly.
-- NEAP_TEST_TIMES is a file that gets a line for each test and, behind its tests, each spec file: its seconds, its name.

local leaks = require "tests.support.leaks"
local suite = require "tests.support.suite"

local M = { passed = 0, failed = 0, skipped = 0 }

local before, current_file
local seen_failure = {}

local function pinned_skips()
  local names = {}
  for line in io.lines("tests/support/skips.txt") do
    if not line:match("^%s*#") and line:match("%S") then names[line:match("^%s*(.-)%s*$")] = true end
  end
  return names
end

local pinned = pinned_skips()

local function write_counts(state)
  local path = os.getenv("NEAP_TEST_COUNTS")
  if not path then return end
  local file = assert(io.open(path, "w"))
  file:write(("%d %d %d %s\n"):format(M.passed, M.failed, M.skipped, state))
  file:close()
end

--- Write that everything ran.
function M.finish()
  write_counts("done")
end

-- One write each, so that what two interpreters say does not mix.
local function say(...)
  io.stdout:write((table.concat({ ... })))
  io.stdout:flush()
end

local function text_of(message)
  if type(message) == "table" and not (getmetatable(message) or {}).__tostring then return require("pl.pretty").write(message) end
  return tostring(message)
end

local function show(kind, name, place, message)
  local lines = { ("\n%s  %s\n      %s\n"):format(kind, name, place) }
  for line in (text_of(message) .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = "      " .. line .. "\n" end
  say(table.unpack(lines))
end

local function place_of(element, trace)
  trace = trace or element.trace or {}
  return ("%s:%s"):format(trace.short_src or current_file or "?", trace.currentline or "?")
end

local function fail(name, place, message)
  M.failed = M.failed + 1
  show("FAIL", name, place, message)
end

local function skip(name, place, reason)
  M.skipped = M.skipped + 1
  reason = reason or "no reason given"
  say(("\nSKIP  %s\n      %s\n"):format(name, text_of(reason)))
  if not pinned[name] then fail(name, place, "this skip is not listed in tests/support/skips.txt") end
end

-- Is this file ours to run? A directory can be made once only, so one of the interpreters gets it.
local function claim(name)
  local claims = os.getenv("NEAP_TEST_CLAIMS")
  return not claims or os.execute(("mkdir '%s/%s' 2>/dev/null"):format(claims, (name:gsub("[^%w]", "_")))) == true
end

local file_ms, test_ms

local function note_time(since_ms, name)
  local path = os.getenv("NEAP_TEST_TIMES")
  if not path or not since_ms then return end
  local times = assert(io.open(path, "a"))
  times:write(("%7.1f  %s\n"):format((T.now_ms() - since_ms) / 1000, name))
  times:close()
end

local function begin_file(file)
  current_file, file_ms = file.name, T.now_ms()
  if claim(file.name) then return end
  file_ms = nil
  file.run = setmetatable({ getTrace = file.run.getTrace, rewriteMessage = file.run.rewriteMessage }, { __call = function () end })
end

local function end_file(file) note_time(file_ms, file.name) end

-- Events of busted ----------------------------------------------------------------------------------

return function()
  local busted = require "busted"
  local base = require "busted.outputHandlers.base"()
  local reasons = {}

  local function on_failure(element, _, message, trace)
    local name = base.getFullName(element)
    if seen_failure[element] then return nil, true end
    seen_failure[element] = true
    fail(name, place_of(element, trace), message)
    if type(trace) == "table" and trace.traceback and os.getenv("V") == "1" then say(trace.traceback, "\n") end
    write_counts("running")
    return nil, true
  end

  local function on_start(element)
    suite.current = base.getFullName(element)
    if os.getenv("V") == "1" then say("      ", suite.current, "\n") end
    before, test_ms = leaks.snapshot(), T.now_ms()
    write_counts("running " .. suite.current)
    return nil, true
  end

  local function on_end(element, _, status, trace)
    local name = base.getFullName(element)
    suite.sweep()
    note_time(test_ms, "  " .. name)
    local found = leaks.since(before)
    suite.current = nil
    if status == "pending" then skip(name, place_of(element, trace), reasons[element])
    elseif status == "success" and #found == 0 then M.passed = M.passed + 1 end
    if #found > 0 and not seen_failure[element] then fail(name, place_of(element), table.concat(found, "\n")) end
    write_counts("running")
    return nil, true
  end

  base.subscribe = function(self, options)
    require "busted.languages.en"
    self.options = options
    busted.subscribe({ "file", "start" }, function(file) begin_file(file) return nil, true end)
    busted.subscribe({ "file", "end" }, function(file) end_file(file) return nil, true end)
    busted.subscribe({ "test", "start" }, on_start)
    busted.subscribe({ "test", "end" }, on_end)
    busted.subscribe({ "pending" }, function(element, _, message) reasons[element] = message return nil, true end)
    busted.subscribe({ "failure" }, on_failure)
    busted.subscribe({ "error" }, on_failure)
    busted.subscribe({ "exit" }, function()
      local litter = table.concat(suite.litter(), "\n")
      if litter ~= "" then fail("the suite", "TMPDIR", "temporary files are there at the end:\n" .. litter) end
      suite.finish()
      M.finish()
      if not os.getenv("NEAP_TEST_COUNTS") then say(("\n%d passed, %d failed, %d skipped\n"):format(M.passed, M.failed, M.skipped)) end
      os.exit(M.failed == 0 and 0 or 1, true)
    end)
  end

  return base
end
