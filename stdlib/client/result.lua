--- What a command left when it ended, wherever it ran: its status and the last of what it said.

local M = {}

local raise = require "core.raise"

local methods = {}
local meta = { __index = methods, __name = "result" }

--- The exit status.
---@return integer
---@effect pure
function methods:status() return self.values.status end

--- What it printed; the last mebibyte of it.
---@return string
---@effect pure
function methods:out() return self.values.out end

--- What it printed to its standard error; the last mebibyte of it.
---@return string
---@effect pure
function methods:err() return self.values.err end

--- How many bytes of output are missing at its beginning, or false.
---@return integer|false
---@effect pure
function methods:truncated() return self.values.truncated end

local function is_allowed(status, allow)
  if status == 0 or allow == "any" then return true end
  for _, one in ipairs(allow or {}) do
    if one == status then return true end
  end
  return false
end

-- The last line that says something: programs put the reason there.
local function last_words(values)
  local last
  for line in ((values.err or "") .. "\n"):gmatch("([^\n]*)\n") do
    if line:find("%S") then last = line end
  end
  return last and ": " .. last:sub(1, 500) or ""
end

--- The end of a command as a result; raises when it was ended by a signal, or with a status that is not allowed. What a preview did not
--- run goes through: it is withheld.
---@param name string the command, as a message calls it
---@param values table|userdata { status=, signal=, out=, err=, truncated= }
---@param allow integer[]|"any"|nil statuses that are fine besides 0
---@return table result
function M.of(name, values, allow)
  if type(values) == "userdata" then return values end
  if values.signal then
    raise("remote", ("%s was ended by signal %s%s"):format(name, values.signal, last_words(values)), nil, { signal = values.signal })
  end
  if not is_allowed(values.status, allow) then
    raise("remote", ("%s ended with status %d%s"):format(name, values.status, last_words(values)), nil, { status = values.status })
  end
  return setmetatable({ kind = "result", values = values, methods = methods }, meta)
end

return M
