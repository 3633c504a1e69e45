-- world.lua -- a target made of Lua tables behind the real gate, so that the engine can be tried without servers: a
-- fake that says so. `world.new()` gives a folder for runbooks and state, one toy target "w" and a context as the
-- commands make it. What the toy "does" is kept outside the run, so it survives it.

local suite = require("tests.support.suite")

local M = {}

local function write_file(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

local function methods_of(world)
  return {
    card = function (o) return { kind = "toy", id = "toy:" .. o.role, lines = { { "toy", "a table" } } } end,
    get = function (o, key)
      local ok = T.touch("pg.read", o.role, "toy:" .. o.role, "get " .. key)
      return ok and world.values[key]
    end,
    set = function (o, key, value)
      local done = T.touch("pg.exec", o.role, "toy:" .. o.role, ("set %s = %s"):format(key, tostring(value)))
      if done ~= true then return done end
      world.log[#world.log + 1] = key
      if world.fail[key] then
        world.fail[key] = world.fail[key] - 1
        if world.fail[key] >= 0 then error({ code = "remote", message = "the toy broke at " .. key }, 0) end
      end
      world.values[key] = value
      world.writes[#world.writes + 1] = { key = key, value = value }
      return { count = function () return 1 end }
    end,
    on = function (o, role) return { role = role, kind = "toy", methods = o.methods } end,
  }
end

local function client(world)
  local methods = methods_of(world)
  world.methods = methods
  local guardians = {
    lock = function ()
      if world.locked then return nil, { code = "busy", message = "run " .. world.locked .. " has it" } end
      return true
    end,
    held = function () return world.held end,
    hold = function (_, text) world.held = text end,
    release = function () world.held = nil end,
    probe = function (_, write) return world.probe and world.probe(write) end,
  }
  return { kind = "toy", fields = { note = { type = "string" }, pin = { type = "string" } },
    bind = function (role)
      return { role = role, kind = "toy", methods = methods, guardians = guardians }
    end }
end

--- A fresh world.
---@return table
function M.new()
  local world = { dir = suite.memory(), values = {}, log = {}, writes = {}, fail = {}, events = {} }
  write_file(world.dir .. "/inventory.lua", "environment \"here\" { w = toy {} }\n")
  world.client = client(world)

  --- A context for one command.
  function world.context(more)
    local ctx = { state = world.dir .. "/state", inventory = world.dir .. "/inventory.lua", environment = "here", clients = { toy = world.client },
      secrets = require("native.secret"), arguments = {}, confirm = {}, interactive = false,
      view = { event = function (_, e) world.events[#world.events + 1] = e end } }
    for key, value in pairs(more or {}) do ctx[key] = value end
    return ctx
  end

  --- Write a runbook; returns its path.
  function world.runbook(body, name)
    local path = ("%s/%s.lua"):format(world.dir, name or "book")
    write_file(path, "runbook \"Book\" { why = \"test\" }\nlocal w = target.toy \"w\"\n" .. body)
    return path
  end

  function world.inventory(text) write_file(world.dir .. "/inventory.lua", text) end

  --- Run a command's function as a task; returns its results, or nil and the error.
  function world.try(f, ...)
    local args = table.pack(...)
    return T.run(function ()
      require("native.task").phase("engine")
      require("native.guard").mode("plan")
      local ok, a, b = pcall(f, table.unpack(args, 1, args.n))
      if ok then return a, b end
      return nil, a
    end)
  end

  --- Statuses of the steps' ends in the events, by number: { [1] = "ok", … }.
  function world.ends()
    local ends = {}
    for _, e in ipairs(world.events) do
      if e.kind == "step" and e.body.state == "end" then ends[e.body.number] = e.body.status end
    end
    return ends
  end

  --- The last event of a kind.
  function world.last(kind)
    for i = #world.events, 1, -1 do
      if world.events[i].kind == kind then return world.events[i].body end
    end
    return nil
  end

  return world
end

return M
