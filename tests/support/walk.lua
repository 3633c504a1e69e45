-- walk.lua: everything that can be reached from some values, for a piece of Lua that T.genuine runs.
--
--   local eyes, argument = ...
--   local walk = load(WALK)(eyes)
--
-- Reached means: members and keys of tables, metatables however hidden, user values, and (unless `held`) the upvalues of functions. The
-- Lua registry is not reached. `held` is what code can get hold of by itself, without the debug library.

local eyes = ...

local M = {}

--- Walk from the roots. Calls each(function, path) once for every C function.
---@param roots table<string, any>
---@param held boolean
---@param each fun(f: function, path: string)
function M.walk(roots, held, each)
  local seen, queue = {}, {}
  local function meet(value, path)
    local kind = type(value)
    if (kind ~= "table" and kind ~= "function" and kind ~= "userdata") or rawequal(value, eyes) or seen[value] then
      if kind ~= "string" or seen[""] then return end
      value = ""
    end
    seen[value] = true
    queue[#queue + 1] = { value, path }
  end
  local function look_at_metatable(value, path)
    local meta = eyes.meta(value)
    if not held then return meet(meta, path .. "<meta>") end
    local visible = meta and rawget(meta, "__metatable")
    if meta and visible == nil and type(value) == "table" then meet(meta, path .. "<meta>") end
    if meta and type(rawget(meta, "__index")) == "table" then -- methods can be called without seeing the table
      for name, member in next, rawget(meta, "__index") do meet(member, path .. "." .. tostring(name)) end
    end
  end
  for name, root in next, roots do meet(root, name) end
  local at = 0
  while at < #queue do
    at = at + 1
    local value, path = queue[at][1], queue[at][2]
    look_at_metatable(value, path)
    if type(value) == "table" then
      for key, member in next, value do
        meet(key, path .. "<key>")
        meet(member, path .. "." .. tostring(key))
      end
    elseif type(value) == "userdata" then
      for i = 1, 8 do meet((eyes.uservalue(value, i)), path .. "<user value>") end
    elseif type(value) == "function" then
      if eyes.row(value) ~= nil then each(value, path) end
      for i = 1, held and 0 or 255 do
        local name, up = eyes.upvalue(value, i)
        if not name then break end
        meet(up, path .. "^" .. name)
      end
    end
  end
  return at
end

return M
