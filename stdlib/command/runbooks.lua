-- Runbooks as the command line sees them: found by name, their parameters turned into flags. A
-- parameter may be written --dump latest, --dump=latest or --set dump=latest.
local instant = require "core.instant"
local load = require "engine.load"
local options = require "command.options"
local raise = require "core.raise"
local system = require "native.system"

local M = {}

---@param context table
---@return string[] folders
function M.folders(context)
  return load.folders(context.share)
end

-- The runbooks that parameters name, looked for before the other words can be read: their own parameters are flags too.
local function chosen(info, words)
  local given = {}
  for _, param in ipairs(info.params) do
    local flag = param.kind == "runbook" and param.name:gsub("_", "-")
    for at, word in ipairs(flag and words or {}) do
      local value = word:match("^%-%-[%w-]+=(.*)$") or words[at + 1]
      if word:match("^%-%-([%w-]+)") == flag then given[param.name] = value end
      local name, set = (word:match("^%-%-set=(.*)$") or words[at - 1] == "--set" and word or ""):match("^([%w_-]+)=(.*)$")
      if name and name:gsub("_", "-") == flag then given[param.name] = set end
    end
  end
  return given
end

---@param name string name or path
---@param context table
---@param words? string[] of the command line: they may name a runbook that a step of this one runs
---@param run_id? string of the run that it is looked at for, which begins now
---@return table {name, title, why, params, steps, destroys, file, model, run_id, stamp}
function M.inspect(name, context, words, run_id)
  local asked = { folders = M.folders(context), run_id = run_id, stamp = run_id and instant.compact(system.wall_ms()) }
  local path = load.find(name, asked.folders)
  local info = load.inspect(path, asked)
  asked.given = chosen(info, words or {})
  return next(asked.given) and load.inspect(path, asked) or info
end

---Was it looked at with the very runbooks for its steps that the arguments choose? What a nested runbook takes is not known before.
---@param inspected table
---@param arguments table<string, string>
---@return boolean
function M.is_chosen(inspected, arguments)
  for name, given in pairs(inspected.model.chosen) do
    if (arguments[name] or false) ~= given then return false end
  end
  return true
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
      rows[#rows + 1] = { name = flag, value = not boolean and (param.kind or "value"):upper() or nil, boolean = boolean, help = param.help or "",
        parameter = param.name, complete = param.kind == "runbook" and "runbook" or nil,
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
