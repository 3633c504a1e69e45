-- Errors as tables: {code, message, hint, retry, sqlstate, status, cause, where} whose text is the
-- message and, on a second line, the hint. The C side (script/raise.h) makes the same shape, so
-- that nobody needs to know on which side of the wall an error was born. `code` is one of
-- base/errors.def in lower case. A message is lower case, quotes the offending thing and has no
-- full stop; a hint is a whole sentence. Rejected: strings with a prefix (they must be parsed
-- again) and error classes (a code is enough to decide what to do).
local M = {}

local meta = {}
meta.__name = "neap error"

function meta:__tostring()
  local message = tostring(self.message)
  if self.hint then return message .. "\nhint: " .. tostring(self.hint) end
  return message
end

---An error as a value, not yet raised.
---@param code string one of base/errors.def, lower case
---@param message string
---@param hint? string
---@param more? table further fields (sqlstate, status, where, …)
---@return table
function M.new(code, message, hint, more)
  local err = setmetatable({ code = code, message = message, hint = hint }, meta)
  for key, value in pairs(more or {}) do err[key] = value end
  return err
end

---Is this one of our errors, whoever made it?
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and type(rawget(value, "code")) == "string" and type(rawget(value, "message")) == "string"
end

-- Lua's own words when its allocator says no; there is no memory left to say it better.
local NO_MEMORY = "not enough memory"

---Is this what Lua raises when the memory limit is reached?
---@param value any
---@return boolean
function M.is_memory(value)
  return value == NO_MEMORY or M.is(value) and value.code == "memory"
end

-- `error()`, and error values whose __tostring is itself wrong, must not break whoever reports them.
local function text_of(value)
  if value == nil then return "an error without a message" end
  local ok, text = pcall(tostring, value)
  if ok then return text end
  return ("an error (a %s) that cannot be shown"):format(type(value))
end

---Any thrown value as an error table. A plain string comes from Lua itself or from `error "…"`; its
---"file:line:" prefix becomes `where`.
---@param value any
---@param code? string the code of what is not yet an error table; "bug" when omitted
---@return table
function M.of(value, code)
  if M.is(value) then return value end
  if M.is_memory(value) then return M.new("memory", "the memory limit was reached", "Ask the target for less at a time.") end
  local text = text_of(value)
  local where, message = text:match("^(%S[^\n]-:%d+): (.*)$")
  return M.new(code or "bug", message or text, nil, { where = where })
end

---Turns the `nil, err` of native.* into a raised error and hands every other result through, as many as there are: one more nil would
---be one more argument of whoever is called with it.
---@param ... any
---@return any ...
function M.check(...)
  local value, err = ...
  if value == nil and err ~= nil then error(err, 0) end
  return ...
end

---Raises. `require "core.raise"` may itself be called: raise("usage", "…", "…").
---@param code string
---@param message string
---@param hint? string
---@param more? table
function M.raise(code, message, hint, more)
  error(M.new(code, message, hint, more), 0)
end

return setmetatable(M, { __call = function(_, ...) return M.raise(...) end })
