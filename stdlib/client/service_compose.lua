--- A service of docker compose: all its containers, found by their labels, told one after the other.

local M = { name = "compose" }

local engines = require("client.container_engine")
local raise = require("core.raise")

local LABEL <const> = "com.docker.compose."

local function number_of(listed) return tonumber(listed.Labels[LABEL .. "container-number"]) or 0 end

--- Its containers in the order of their numbers, and the Engine. Those of `docker compose run` are none of them.
local function containers(o)
  local engine, wanted, found = engines.engine(o), o.spec.compose, {}
  local list = raise.check(engine:list { all = true, labels = { [LABEL .. "project"] = wanted.project, [LABEL .. "service"] = wanted.service } })
  for _, listed in ipairs(list) do
    if listed.Labels[LABEL .. "oneoff"] ~= "True" then found[#found + 1] = listed end
  end
  if #found == 0 then
    raise("config", ("\"%s\": there is no container of %s/%s"):format(o.role, wanted.project, wanted.service), engines.what_there_is(engine))
  end
  table.sort(found, function (a, b) return number_of(a) < number_of(b) end)
  return found, engine
end

local function look(o)
  local list, engine = containers(o)
  local found = {}
  for i, listed in ipairs(list) do found[i] = raise.check(engine:inspect(listed.Id)) end
  return found
end

function M.what(o) return ("%s/%s"):format(o.spec.compose.project, o.spec.compose.service) end

function M.id(o) return ("service:docker:%s/%s"):format(engines.engine(o):id(), M.what(o)) end

--- What a preview marks when it would change it: its containers.
function M.made_of(o)
  local list, engine = containers(o)
  local subjects = {}
  for i, listed in ipairs(list) do subjects[i] = ("docker:%s/%s"):format(engine:id(), listed.Id) end
  return subjects
end

function M.state(o)
  local found = look(o)
  local up, restarts, unwell, words = 0, 0, nil, {}
  for i, one in ipairs(found) do
    local state, name = one.State, one.Name:gsub("^/", "")
    local health = type(state.Health) == "table" and state.Health.Status ~= "none" and state.Health.Status or nil
    if state.Running and not state.Paused and not state.Restarting then up = up + 1 end
    if health and health ~= "healthy" then unwell = unwell or ("the health check of %s says %s"):format(name, health) end
    restarts = restarts + (one.RestartCount or 0)
    words[i] = ("%s is %s%s"):format(name, state.Status, health and ", " .. health or "")
  end
  return { running = up == #found, unwell = unwell, restarts = restarts, words = table.concat(words, "; ") }
end

local function each(o, change)
  local list, engine = containers(o)
  local done
  for _, listed in ipairs(list) do
    done = raise.check(engine[change](engine, listed.Id, change ~= "start_container" and { started = engines.started(engine, listed.Id) } or nil))
  end
  return done
end

function M.start(o) return each(o, "start_container") end
function M.stop(o) return each(o, "stop_container") end
function M.restart(o) return each(o, "restart_container") end

function M.logs(o, tail)
  local list, engine = containers(o)
  local parts = {}
  for i, listed in ipairs(list) do
    local log = raise.check(engine:logs { container = listed.Id, tail = tail })
    parts[i] = log.out .. log.err
  end
  return table.concat(parts)
end

return M
