-- Runs by the beginning of their id, as people type them. An ambiguous or unknown one is an error
-- that names what there is.
local journal = require "native.journal"
local raise = require "core.raise"
local system = require "native.system"
local text = require "core.text"

local M = {}

---@param state string
---@return string
function M.directory(state, run)
  return state .. "/runs/" .. run
end

local function known(context)
  local ids = {}
  for _, row in ipairs(journal.index.list(context.state, { limit = 1000 }) or {}) do ids[#ids + 1] = row.run end
  return ids
end

-- The index may have lost a run whose evidence is there: it is a copy, and can be made again.
local function unlisted(prefix, context)
  for _, name in ipairs(system.list(context.state .. "/runs") or {}) do
    if name:sub(1, #prefix) == prefix then return name end
  end
end

local function refuse(prefix, context, err)
  local lost = unlisted(prefix, context)
  local near = text.nearest(prefix, known(context))
  raise("usage", err and err.message or ('there is no run "%s"'):format(prefix),
    lost and ("Its evidence is there, the index does not list it: neap journal rebuild, then again with %s."):format(lost)
      or near and ("Did you mean %s?"):format(near) or err and err.hint or "neap history lists the runs.")
end

---@param prefix string
---@param context table
---@return table row of the index
function M.find(prefix, context)
  if not prefix:match("^[%w_-]+$") then raise("usage", ('"%s" is not the id of a run'):format(prefix), "neap history lists the runs.") end
  local row, err = journal.index.find(context.state, prefix)
  if not row then
    if err and err.code ~= "usage" then error(err, 0) end
    refuse(prefix, context, err)
  end
  if row.run then return row end
  if #row == 1 then return row[1] end
  local ids = {}
  for n, one in ipairs(row) do ids[n] = one.run end
  if #ids == 0 then refuse(prefix, context) end
  return raise("usage", ('"%s" is the beginning of %s'):format(prefix, text.count(#ids, "run")),
    "Type more of it: " .. text.join(ids) .. ".")
end

return M
