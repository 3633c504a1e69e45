--- What the engine asks of a service and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The last is what the write was below: a change of a container, a job of the host, a process of this machine.

local commands = require("client.command")
local containers = require("client.container_guardians")
local keeper = require("client.keeper")

local guardians = keeper.guardians(function (o) return o.manager.id(o) end)

--- What became of a write whose run died; what was done on a host or in a container is that one's to tell, under its own role.
---@param o table
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  if evidence.primitive:find("^docker%.") then return containers.probe(o, evidence, patience) end
  local command = commands.bind(o.role, { argv = { "true" } })
  return command.guardians.probe(command, evidence, patience)
end

return guardians
