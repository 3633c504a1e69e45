-- A table with a closed set of names. Reading or writing any other name is an error with the
-- nearest one, because a misspelt field that reads as nil is how a check silently passes.
local raise = require "core.raise"
local text = require "core.text"

local M = {}

local function refuse(what, key, names)
  local near = type(key) == "string" and text.nearest(key, names)
  local hint = near and ("Did you mean \"%s\"?"):format(near) or ("It has: %s."):format(table.concat(names, ", "))
  raise("usage", ('%s has no "%s"'):format(what, tostring(key)), hint)
end

---Refuses the keys of `given` that are not in `known`.
---@param what string how to call it in the message
---@param given table
---@param known table<string, any>
---@return table given
function M.only(what, given, known)
  for key in pairs(given) do
    if known[key] == nil then refuse(what, key, text.keys(known)) end
  end
  return given
end

---A view of `fields` that raises on names it does not hold and cannot be written.
---@param what string
---@param fields table
---@return table
function M.closed(what, fields)
  return setmetatable({}, {
    __index = function(_, key)
      local value = fields[key]
      if value == nil then refuse(what, key, text.keys(fields)) end
      return value
    end,
    __newindex = function(_, key)
      raise("usage", ('%s cannot be changed: "%s"'):format(what, tostring(key)), "It is read-only.")
    end,
    __pairs = function() return next, fields, nil end,
    __metatable = false,
  })
end

return M
