--- What the engine asks of a cluster and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The last is what the write was below: a statement, a process of this machine; what was done on a host is the host's to tell, under its own role.

local commands = require("client.command")
local keeper = require("client.keeper")
local place = require("client.cluster_place")
local postgres = require("client.postgres_guardians")
local raise = require("core.raise")

local guardians = keeper.guardians(place.id)

--- What became of a write whose run died.
---@param o table
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  if evidence.primitive:find("^pg%.") then return postgres.probe(place.sql(o), evidence, patience) end
  local command = commands.bind(o.role, { argv = { "true" } })
  return command.guardians.probe(command, evidence, patience)
end

-- ---- the ledger ----

local function run_of(entry) return entry.name:match("@(%x+)$") end

--- Is a cluster of the ledger still there? Raises {refused} where this is another place than the one it was made in.
function guardians.there(o, entry)
  if place.id(o) ~= entry.subject then
    raise("refused", ("\"%s\" is not where %s was made: that was %s"):format(o.role, entry.name, entry.subject), "Somebody moved the target, or the inventory has changed.")
  end
  local is = o.methods.look(o)
  return is.what == "ours" and is.mark.run == run_of(entry) and is.mark.state ~= "promoted"
end

--- Stop and remove it. What was promoted, or belongs to another run by now, is nobody's leftover.
---@effect destroy
function guardians.discard(o, entry)
  if not guardians.there(o, entry) then return end
  if o.methods.look(o).running then place.run(o, { o.spec.bin .. "/pg_ctl", "-D", o.data, "-m", "fast", "-w", "stop" }) end
  place.run(o, { "rm", "-rf", "--", o.directory })
end

return guardians
