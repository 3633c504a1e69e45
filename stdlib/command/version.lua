-- `neap version`: one line; with --verbose the libraries that are really loaded.
local json = require "show.json"
local system = require "native.system"
local text = require "core.text"

local M = {}

---@param _ string[]
---@param _parsed Parsed
---@param context table
---@return integer exit code
function M.run(_, _parsed, context)
  local libraries = system.libraries()
  if context.json then
    context.out(json.line { schema = json.schema, kind = "version", version = system.version(), libraries = libraries } .. "\n")
    return 0
  end
  local lines = { "neap " .. system.version() }
  for _, name in ipairs(context.verbose and text.keys(libraries) or {}) do
    lines[#lines + 1] = ("  %s %s"):format(context.style:pad(name, 12), libraries[name])
  end
  context.lines(lines)
  return 0
end

return M
