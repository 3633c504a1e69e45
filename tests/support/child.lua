-- child.lua: run a program to its end, or talk to one, with a time limit on everything.

local M = {}

---@class Running
---@field handle userdata what T.start gave
---@field out string all standard output so far
---@field err string all standard error so far
local Running = {}
Running.__index = Running

--- Start a program. Fields as T.start, with env also as a table {NAME = "value"}.
---@param options table
---@return Running
function M.start(options)
  local given = {}
  for name, value in pairs(options) do given[name] = value end
  if given.env then
    local list = {}
    for name, value in pairs(given.env) do list[#list + 1] = type(name) == "string" and name .. "=" .. value or value end
    given.env = list
  end
  return setmetatable({ handle = T.start(given), out = "", err = "" }, Running)
end

function Running:pid() return self.handle:pid() end
function Running:write(text) return self.handle:write(text) end
function Running:shut() return self.handle:shut() end
function Running:kill(signal, group) return self.handle:kill(signal, group) end
function Running:resize(rows, columns) return self.handle:resize(rows, columns) end
function Running:close() return self.handle:close() end

local function read_some(self, ms)
  local name, bytes = self.handle:read(ms)
  if not name then return false, bytes end
  self[name] = self[name] .. bytes
  return true
end

--- Wait until its output holds the text (plain), then forget up to there for the next expect.
---@param text string
---@param ms? integer time limit, a minute when omitted: a safety net, not what a test is about
---@return string seen what came up to and including the text
function Running:expect(text, ms)
  local until_ms = T.now_ms() + (ms or 60000)
  self.seen = self.seen or 1
  while true do
    local _, last = self.out:find(text, self.seen, true)
    if last then
      local seen = self.out:sub(self.seen, last)
      self.seen = last + 1
      return seen
    end
    local ok, why = read_some(self, math.max(0, until_ms - T.now_ms()))
    if not ok then error(("expected %q, got the %s after:\n%s\n%s"):format(text, why, self.out:sub(self.seen), self.err), 2) end
  end
end

--- Read to the end and reap. Past the time limit the group is killed and that is an error.
---@param ms? integer time limit, two minutes when omitted
---@return { code: integer?, signal: integer?, out: string, err: string }
function Running:finish(ms)
  local until_ms = T.now_ms() + (ms or 120000)
  local ok, why
  repeat ok, why = read_some(self, math.max(0, until_ms - T.now_ms())) until not ok
  local code, _, signal
  if why == "end" then code, _, signal = self.handle:wait(math.max(0, until_ms - T.now_ms())) end
  if not code and not signal then
    self.handle:kill(9, true)
    self.handle:wait()
    error(("the program did not end in time; so far:\n%s\n%s"):format(self.out, self.err), 2)
  end
  self.handle:close()
  return { code = code, signal = signal, out = self.out, err = self.err }
end

--- Run to the end.
---@param options table T.start's fields, `input` (text), `timeout` (ms)
---@return { code: integer?, signal: integer?, out: string, err: string }
function M.run(options)
  local child = M.start(options)
  if options.input then child:write(options.input) end
  if not options.tty or options.input then child:shut() end
  return child:finish(options.timeout)
end

--- Run to the end; anything but exit 0 is an error that shows the output.
---@param options table
---@return string out
function M.must(options)
  local result = M.run(options)
  if result.code ~= 0 then
    error(("%s: exit %s\n%s%s"):format(table.concat(options.argv, " "), result.code or "by signal " .. result.signal, result.out, result.err), 2)
  end
  return result.out
end

return M
