-- The promise: no Lua code reaches the world around the gate. Here every C function that a bound runbook could reach
-- in a state as neap makes it is found and asked for its row.

local suite = require("tests.support.suite")

-- Runs in the genuine state. Makes a bound model of a runbook that uses a role of every kind, walks, and returns one line for
-- each C function: "name effect path".
local BOUND = [=[
local eyes, dir = ...
local load_module, inventory, target = require("engine.load"), require("engine.inventory"), require("engine.target")
local file = require("native.file")
local clients = require("command.clients").all()
local walk = load(file.read(dir .. "/walk.lua"), "=walk", "t", _G)(eyes)
local model = load_module.load(dir .. "/book.lua", { run_id = "walk", folders = { dir } })
local environment = inventory.choose(inventory.read(file.read(dir .. "/inventory.lua"), "inventory", clients), "here")
local binding = require("engine.binding").new(environment, clients, { application = "walk", environment = "here" }, require("native.secret"))
target.bind(model, binding)
local lines = {}
local function add(f, path)
  local name, effect = eyes.row(f)
  lines[#lines + 1] = ("%s %s %s"):format(name or "-", effect or "-", path)
end
]=]

local BOOK = [[
runbook "Everything" { why = "to be walked" }
local db, shelf, tool = target.postgres "db", target.folder "shelf", target.command "tool"
local site, chat = target.url "site", target.webhook "chat"
local hermes, fleet, dbc = target.host "hermes", target.hosts "fleet", target.container "dbc"
local app, cache, far, second = target.service "app", target.redis "cache", target.folder "far", target.cluster "second"
local beside, std = require "beside", { require "std.migrations", require "std.health", require "std.sessions", require "std.triage", require "std.upkeep", require "std.rows", require "std.pitr" }
local p = params { name = { "a name", default = "x" } }
local before = step "Check" { needs = function () check(db:has("select 1") and shelf:has(p.name), "all is well", beside, std) end }
local caught, kept = pcall(function () return db:value "select 1" end)
step "Act" { act = function () tool:run { before:result(), kept, caught } chat:send(site:get():body()) note(scratch "x")
  hermes:run { "true" } fleet:on("a"):run { "true" } dbc:run { "true" } app:stop() cache:write("SET", "k", "v") far:write("n", "t") second:stop() end, done = function () return try(wait_until) end }
]]

local INVENTORY = [[environment "here" {
  db = postgres { url = "postgresql://nobody@127.0.0.1:1/none", password = secret { of = "hunter2hunter2" } },
  shelf = folder { path = "/" }, tool = command { argv = { "/bin/true" } },
  hermes = host { ssh = "hermes" }, fleet = hosts { names = { "a", "b" } }, dbc = container { on = "hermes", name = "db" },
  app = service { on = "hermes", systemd = "app.service" }, cache = redis { on = "hermes", url = "redis://127.0.0.1:1" },
  far = folder { on = "hermes", path = "/srv" }, second = cluster { on = "hermes", directory = "/srv/second", bin = "/usr/bin", port = 1 },
  site = url { url = "http://127.0.0.1:1" }, chat = webhook { url = secret { of = "https://127.0.0.1:1/hunter3" } },
}]]

local function place()
  local dir = suite.temp()
  suite.write(dir .. "/book.lua", BOOK)
  suite.write(dir .. "/beside.lua", "return { answer = function () return string.rep('x', 3) end }\n")
  suite.write(dir .. "/inventory.lua", INVENTORY)
  suite.write(dir .. "/walk.lua", suite.read("tests/support/walk.lua"))
  return dir
end

local function walk(code)
  local found = {}
  for line in T.genuine(BOUND .. code, place()):gmatch("[^\n]+") do
    local name, effect, path = line:match("^(%S+) (%S+) (.*)$")
    found[#found + 1] = { name = name, effect = effect, path = path }
  end
  return found
end

local FROM_CLAUSES = [=[
local roots = {}
for _, step in ipairs(model.order) do
  for name, clause in pairs(step.clauses) do roots[step.id .. "." .. name] = clause end
end
]=]

local function names(found)
  local set = {}
  for _, f in ipairs(found) do set[f.name] = f end
  return set
end

describe("everything reachable from a bound runbook", function ()
  it("is a C function with a row, through tables, metatables, user values and upvalues", function ()
    local found = walk(FROM_CLAUSES .. "walk.walk(roots, false, add) return table.concat(lines, '\\n')")
    for _, f in ipairs(found) do
      if f.name == "-" then error("no row in functions.def: " .. f.path) end
    end
    local set = names(found)
    for _, expected in ipairs { "string.rep", "pcall", "native.file.write", "native.pg.new", "native.process.run", "native.guard.mode", "require",
      "native.ssh.open", "native.docker.open", "native.redis.open", "native.http.request", "native.net.tunnel" } do
      assert.truthy(set[expected], expected .. " was not reached: the walk is blind")
    end
  end)

  it("is the same for every module that require could give, and holds no io, os, debug, coroutine or package", function ()
    local found = walk(FROM_CLAUSES .. [[
      for _, name in ipairs(eyes.modules()) do if name ~= "command.main" then roots["require " .. name] = require(name) end end
      for _, name in ipairs { "io", "os", "debug", "coroutine", "package", "dofile", "loadfile", "collectgarbage", "print", "warn" } do
        if _G[name] ~= nil then error(name .. " exists") end
      end
      if string.dump or ("").dump then error("string.dump exists") end
      walk.walk(roots, false, add)
      return table.concat(lines, "\n")]])
    for _, f in ipairs(found) do
      if f.name == "-" then error("no row in functions.def: " .. f.path) end
    end
    assert.truthy(#found > 150, #found .. " functions only")
  end)

  it("loads no binary chunk by any load it holds", function ()
    local binary = string.dump(function () end)
    local said = T.genuine([[
      local eyes, binary = ...
      local out = {}
      for _, mode in ipairs { "b", "bt" } do out[#out + 1] = tostring(pcall(load, binary, "=x", mode, {})) end
      local f, message = load(binary, "=x", "t", {})
      out[#out + 1] = tostring(f) .. " " .. message
      out[#out + 1] = tostring(pcall(load, function () return nil end, "=x", "t", {}))
      out[#out + 1] = tostring(pcall(load, ("-"):rep(2 * 1024 * 1024), "=x", "t", {}))
      return table.concat(out, "\n")]], binary)
    assert.equal("false\nfalse\nnil attempt to load a binary chunk (mode is 't')\nfalse\nfalse", said)
  end)

  it("computes only, as far as the runbook can hold it without the debug library", function ()
    local found = walk(FROM_CLAUSES .. [[
      local env
      for i = 1, 9 do
        local up, value = eyes.upvalue(model.order[1].clauses.needs, i)
        if up == "_ENV" then env = value end
      end
      local index, known = eyes.meta(env).__index, nil
      for i = 1, 9 do
        local up, value = eyes.upvalue(index, i)
        if up == "known" then known = value end
      end
      roots = {}
      for word, value in pairs(known) do roots[word] = value end
      roots.handle, roots.role = known.target.postgres "other", known.params
      walk.walk(roots, true, add)
      return table.concat(lines, "\n")]])
    local set = names(found)
    assert.truthy(set["string.rep"] and set["math.max"], "the words were not found")
    for _, f in ipairs(found) do
      if f.effect ~= "pure" then error(("%s (%s) can be held: %s"):format(f.name, f.effect, f.path)) end
    end
    for _, withheld in ipairs { "load", "rawset", "rawget", "require" } do assert.is_nil(set[withheld], withheld .. " can be held") end
  end)

  it("would be found without a row, if there were one", function ()
    local found = walk("walk.walk({ planted = { function () return eyes end, setmetatable({}, { __index = eyes.bare() }) } }, false, add) return table.concat(lines, '\\n')")
    assert.truthy(names(found)["-"])
  end)
end)

-- ---- the sources ----

local function sources(dir, list)
  for _, name in ipairs(T.entries(dir)) do
    local path = dir .. "/" .. name
    if name:match("%.c$") then list[#list + 1] = path elseif T.entries(path) then sources(path, list) end
  end
  return list
end

describe("functions.def", function ()
  it("is the only door: nobody but script/function.c pushes a C function", function ()
    for _, path in ipairs(sources("runtime", {})) do
      local text = suite.read(path):gsub("/%*.-%*/", "")
      for _, call in ipairs { "lua_pushcfunction", "lua_pushcclosure", "luaL_setfuncs", "luaL_newlib%f[%s(]", "lua_register", "luaL_openlibs", "lua_load%f[%s(]", "luaL_load" } do
        local allowed = path == "runtime/script/function.c" and call == "lua_pushcclosure" or path == "runtime/script/state.c" and call == "luaL_load"
        if not allowed and text:find(call) then error(("%s calls %s"):format(path, call)) end
      end
    end
  end)

  it("has no row that nothing uses, and none twice", function ()
    local text, seen = {}, {}
    for _, path in ipairs(sources("runtime", {})) do text[#text + 1] = suite.read(path) end
    text = table.concat(text)
    local stock = T.genuine([[local out = {}
      for name, lib in pairs { [""] = _G, ["string."] = string, ["table."] = table, ["math."] = math, ["utf8."] = utf8, ["string:"] = (...).meta("") } do
        for member in pairs(lib) do out[#out + 1] = name .. member end
      end
      return "\n" .. table.concat(out, "\n") .. "\n"]])
    for _, name in ipairs(T.functions()) do
      assert.is_nil(seen[name], name .. " is there twice")
      seen[name] = true
      local prefix, last = name:match("^(.*[.:])([%w_]+)$")
      local used = text:find("\"" .. name .. "\"", 1, true) or stock:find("\n" .. name .. "\n", 1, true)
        or (prefix and text:find("\"" .. prefix .. "\"", 1, true) and text:find("{\"" .. last .. "\",", 1, true))
      if not used then error(name .. " has a row and no function") end
    end
  end)

  it("is held against what a function brings to the gate", function ()
    local said = T.genuine([[
      local eyes = ...
      require("native.task").phase("act")
      local _, without = pcall(eyes.stray)
      local _, weaker = pcall(eyes.stray, "string.rep")
      return without.code .. " " .. without.message .. "\n" .. weaker.code .. " " .. weaker.message]])
    assert.equal("bug \"a function without a row\" comes to the gate with file.write; its row in functions.def does not allow that\n"
      .. "bug \"string.rep\" comes to the gate with file.write; its row in functions.def does not allow that", said)
  end)
end)
