--- What the engine asks of a container and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- An Engine remembers no locks; the machine it stands on does (client.keeper). They are named by the Engine and the container's name, not its
-- id: the name is what outlives it when it is made anew.

local engines = require("client.container_engine")
local keeper = require("client.keeper")
local raise = require("core.raise")
local tar = require("client.tar")

local guardians = keeper.guardians(function (o)
  local found = engines.inspect(o)
  return ("docker:%s%s"):format(o.engine:id(), found.Name)
end)

-- ---- orphans ----

-- What inspect says; nil when there is no such container.
local function look(o, id)
  local found, err = engines.engine(o):inspect(id)
  if not found and err.status ~= 404 then error(err, 0) end
  return found
end

local CHANGED <const> = {
  start = function (found) return found.State.Running and "done" or "not begun" end,
  stop = function (found) return found.State.Running and "not begun" or "done" end,
  restart = function (found, evidence)
    if not found.State.Running then return "half" end
    if not evidence.started then return nil end
    return found.State.StartedAt ~= evidence.started and "done" or "not begun"
  end,
}

local LOOK <const> = {
  ["docker.change"] = function (o, evidence)
    if evidence.verb == "create" then return evidence.name and (look(o, evidence.name) and "done" or "not begun") end
    local found = look(o, evidence.container)
    return found and CHANGED[evidence.verb] and CHANGED[evidence.verb](found, evidence)
  end,
  ["docker.remove"] = function (o, evidence)
    local found = look(o, evidence.container)
    if not found or found.State.Dead then return "done" end
    return found.State.Status == "removing" and "running" or "not begun"
  end,
  -- A file that has the size that was announced is there; what it says is the step's own proof to tell.
  ["docker.put"] = function (o, evidence)
    if not evidence.bytes then return nil end
    local stream <close>, err = engines.engine(o):archive_get { container = evidence.container, path = evidence.path }
    if not stream then
      if err.status == 404 then return "not begun" end
      error(err, 0)
    end
    local entry = tar.entry(stream)
    return entry and entry.size == evidence.bytes and "done" or "half"
  end,
}

--- What became of a write whose run died: "done", "not begun", "half", "running" (after `within_ms`; with `end_it` it is ended) or nil: nobody
--- knows. A command is asked after by its pid, within the run of the container it was started in: none of them outlives that.
---@param o table
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  if LOOK[evidence.primitive] then return LOOK[evidence.primitive](o, evidence) end
  if evidence.primitive ~= "docker.exec" then return nil end
  local found, why = engines.engine(o):probe(evidence, patience)
  if not found and type(why) == "table" then error(why, 0) end
  if not found then error(raise.new("unknown", ("the command in %s: %s"):format(o.role, why)), 0) end
  return found
end

-- ---- the ledger ----

--- Is a container of the ledger still there? Raises {refused} where this is another Engine than the one it was made on.
function guardians.there(o, entry)
  local subject = ("docker:%s/%s"):format(engines.engine(o):id(), entry.name)
  if subject ~= entry.subject then
    raise("refused", ("\"%s\" is on another Engine than %s was made on: that was %s"):format(o.role, entry.name, entry.subject), "Somebody moved the target, or the inventory has changed.")
  end
  return look(o, entry.name) ~= nil
end

--- Remove a container of the ledger, although it runs, and its anonymous volumes.
---@effect destroy
function guardians.discard(o, entry)
  local found = look(o, entry.name)
  if found then raise.check(engines.engine(o):remove_container(found.Id, { force = true, volumes = true })) end
end

return guardians
