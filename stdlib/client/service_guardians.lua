--- What the engine asks of a service and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The last is what the write was below: a change of a container, a job of the host, a process of this machine.

local guardians = {}

local commands = require("client.command")
local containers = require("client.container_guardians")
local keeper = require("client.keeper")

local function key(o)
  o.key = o.key or keeper.key(o.manager.id(o))
  return o.key
end

--- Take the service for this run: true, or nil and who has it.
function guardians.lock(o) return keeper.lock(o, key(o)) end

--- Is the lock still ours?
function guardians.prove(o) return keeper.prove(o, key(o)) end

--- The text of the hold on the service, whoever left it; nil when there is none.
function guardians.held(o) return keeper.held(o, key(o)) end

--- Leave a hold: the text stays when this run dies.
function guardians.hold(o, words) return keeper.hold(o, key(o), words) end

--- Take the hold away.
function guardians.release(o) return keeper.release(o, key(o)) end

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
