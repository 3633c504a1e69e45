-- recorded.lua: what a test inside neap's own process had recorded, as it would stand in the journal.
--
--   local records = require "tests.support.recorded"
--   records("intent")[1].primitive

local text = require "native.text"

--- The bodies of all records of a kind, in their order; T.forget_records begins anew.
---@param kind string "intent", "outcome", "started", …
---@return table[]
return function (kind)
  local found = {}
  for _, record in ipairs(T.records()) do
    if record.kind == kind then found[#found + 1] = text.parse(record.body) end
  end
  return found
end
