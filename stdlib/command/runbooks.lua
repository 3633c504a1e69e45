-- Runbooks as the command line sees them: found by name, their parameters turned into flags. A
-- parameter may be written --dump latest, --dump=latest or --set dump=latest.
local load = require "engine.load"
local options = require "command.options"
local raise = require "core.raise"

local M = {}

---@param context table
---@return string[] folders
function M.folders(context)
  return load.folders(context.share)
end

---@param name string name or path
---@param context table
---@return table {name, title, why, params, steps, destroys, file}
function M.inspect(name, context)
  local folders = M.folders(context)
  return load.inspect(load.find(name, folders), { folders = folders })
end

---Parameters of a runbook as rows of options; a name that is an option of ours is reached by --set.
---@param inspected table
---@param taken table[] rows that exist
---@return table[]
function M.flags(inspected, taken)
  local reserved, rows = {}, {}
  for _, row in ipairs(taken) do reserved[row.name] = true end
  for _, param in ipairs(inspected.params or {}) do
    local flag = param.name:gsub("_", "-")
    if not reserved[flag] then
      local boolean = param.kind == "boolean"
      rows[#rows + 1] = { name = flag, value = not boolean and (param.kind or "value"):upper() or nil, boolean = boolean, help = param.help or "", parameter = param.name,
        among = param.choices, default = param.default, optional = param.optional, example = param.example,
        required = param.default == nil and not param.optional }
    end
  end
  return rows
end

---The parameters as given: flags of the runbook and --set, as raw strings by name.
---@param parsed Parsed
---@param rows table[] of M.flags
---@return table<string, string>
function M.arguments(parsed, rows)
  local given = options.pairs(parsed.options.set)
  for _, row in ipairs(rows) do
    local value = parsed.options[row.name]
    if value ~= nil then
      if given[row.parameter] and given[row.parameter] ~= value then
        raise("usage", ("%s was given twice with different values"):format(row.parameter), "Give it once.")
      end
      given[row.parameter] = value
    end
  end
  return given
end

return M
