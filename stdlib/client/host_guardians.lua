--- What the engine asks of a host and runbooks do not: what became of a command whose run died.

local guardians = {}

local session = require("client.host_session")

--- What became of a write whose run died: "done", "not begun", "half", "running" (with `end_it` it is ended) or nil: nobody knows.
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  local found, err = session.of(o):probe(evidence, patience)
  if not found and type(err) == "table" then error(err, 0) end
  return found
end

return guardians
