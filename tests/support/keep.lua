-- keep.lua: what the Redis runbook specs share: a server of one spec with its directory, an inventory that binds it, neap.
--
--   local kept = keep.open { arguments = { "--save", "" } }          started with arguments alone; with file = { lines } from a file
--   kept.cli("set", "a", 1)   kept.neap { "run", "redis/health" }    kept.stop("kill")  kept.start { "--appendonly", "yes" }
--   kept.watch(function () … end)                                    the commands that neap sent meanwhile (MONITOR)

local child = require "tests.support.child"
local faults = require "tests.support.faults"
local journal = require "native.journal"
local neap = require "tests.support.neap"
local suite = require "tests.support.suite"

local M = {}

local INVENTORY <const> = [[
environment "demo" {
  redis = redis { url = "redis://127.0.0.1:%d/0" },
  data = folder { path = "%s/data" },
  backups = folder { path = "%s/backups" },
  check = command { argv = { "redis-check-rdb" } },
}
]]

local function log_of(at)
  local file = io.open(at.dir .. "/redis.log")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text
end

local function add_server(at, options)
  --- What redis-cli prints.
  function at.cli(...)
    local argv = { "redis-cli", "-p", tostring(at.port) }
    for _, word in ipairs { ... } do argv[#argv + 1] = tostring(word) end
    return (child.must({ argv = argv, timeout = 60000 }):gsub("\n$", ""))
  end

  --- Start it, with further arguments, and wait until it answers.
  function at.start(more)
    local argv = { "redis-server" }
    if options.file then argv[2] = at.dir .. "/redis.conf" end
    table.move({ "--port", tostring(at.port), "--bind", "127.0.0.1", "--dir", at.dir .. "/data", "--logfile", at.dir .. "/redis.log" }, 1, options.file and 0 or 8, #argv + 1, argv)
    for _, list in ipairs { options.arguments or {}, more or {} } do table.move(list, 1, #list, #argv + 1, argv) end
    local seen = #log_of(at)
    at.process = T.start { argv = argv, cwd = at.dir .. "/data", log = at.dir .. "/out.log" }
    suite.kept[at.process:pid()] = true
    local until_ms = T.now_ms() + 60000
    while not log_of(at):find("Ready to accept connections", seen + 1, true) do
      if at.process:wait(10) or T.now_ms() > until_ms then error("Redis did not start:\n" .. log_of(at), 2) end
    end
  end

  --- Stop it without a save; with "kill" as a crash.
  function at.stop(how)
    if not at.process then return end
    at.process:kill(how == "kill" and 9 or 15)
    if not at.process:wait(30000) then at.process:kill(9) end
    at.process:close()
    at.process = nil
  end

  --- Wait until INFO says so.
  function at.await(fact, value)
    local until_ms = T.now_ms() + 60000
    while not at.cli("info", "everything"):find(fact .. ":" .. value, 1, true) do
      if T.now_ms() > until_ms then error(fact .. " does not become " .. value, 2) end
      T.pause(10)
    end
  end

  --- A field of INFO.
  function at.info(fact) return at.cli("info", "everything"):match("\n" .. fact .. ":([^\r\n]*)") end
end

local function words_of(at, arguments)
  local list = table.move(arguments, 1, #arguments, 1, {})
  table.move({ "--inventory", at.dir .. "/inventory.lua", "--state", at.state }, 1, 4, #list + 1, list)
  if list[1] == "run" or list[1] == "plan" then table.move({ "--env", "demo" }, 1, 2, #list + 1, list) end
  if list[1] == "plan" or list[1] == "run" then table.move({ "--width", "1000" }, 1, 2, #list + 1, list) end
  return list
end

--- The commands that a server was sent while fn ran, but for the mark at the end.
---@param argv string[] a redis-cli with MONITOR
---@param cli fun(...): string
---@param path string file for what it says
---@param fn fun()
---@return string[]
function M.watch(argv, cli, path, fn)
  local function until_it_says(words)
    local until_ms = T.now_ms() + 60000
    while not suite.read(path):find(words, 1, true) do
      if T.now_ms() > until_ms then error("MONITOR does not say " .. words, 3) end
      T.pause(5)
    end
  end
  suite.write(path, "")
  local monitor = T.start { argv = argv, cwd = "/", log = path }
  suite.kept[monitor:pid()] = true
  until_it_says "OK"
  local ok, err = pcall(fn)
  cli("echo", "the watch is over")
  until_it_says "the watch is over"
  monitor:kill(15)
  monitor:wait(30000)
  monitor:close()
  if not ok then error(err, 0) end
  local list = {}
  for line in suite.read(path):gmatch("[^\n]+") do
    local words = line:match("%] (.*)$")
    if words and not words:find("the watch is over", 1, true) then list[#list + 1] = words end
  end
  return list
end

local function add_neap(at)
  --- Start neap with the inventory and the state of this place. options: tty.
  function at.start_neap(arguments, options) return neap.start(words_of(at, arguments), options) end

  --- Run it to its end; `all` is everything it said.
  function at.neap(arguments)
    local running = at.start_neap(arguments)
    running:shut()
    local r = running:finish(120000)
    r.all = r.out .. r.err
    return r
  end

  --- Start the run that is killed when it enters its nth call of this name.
  function at.doomed(arguments, call, nth)
    local list = words_of(at, arguments)
    return faults.start(list, { home = at.dir }, { call = call, when = nth }):finish(60000)
  end

  --- The newest run.
  function at.latest() return T.run(function () return assert(journal.index.list(at.state, {}))[1].run end) end

  function at.records() return T.run(function () return assert(journal.read(at.state, at.latest(), 0)) end) end

  --- The commands that clients other than redis-cli's own look sent while fn ran, in capitals, without their arguments.
  function at.watch(fn) return M.watch({ "redis-cli", "-p", tostring(at.port), "monitor" }, at.cli, at.dir .. "/monitor", fn) end
end

--- A plan's page without what differs from run to run.
---@param page string
---@param at table
---@return string
function M.plain(page, at)
  return (page:gsub("redis:%x+/", "redis:SERVER/"):gsub("Redis [%d.]+ on 127%.0%.0%.1:%d+", "Redis VERSION on 127.0.0.1:PORT"):gsub(":" .. at.port, ":PORT"))
end

--- The words of the lines of MONITOR that are no read: those of a connection and what only asks are left out.
---@param lines string[]
---@return string[]
function M.writes(lines)
  local reads, list = {}, {}
  for word in ("hello client ping role info dbsize scan command acl config get ttl pttl memory slowlog time exists lastsave auth select echo type"):gmatch("%a+") do reads[word] = true end
  for _, line in ipairs(lines) do
    local verb, second = line:lower():match('^"(%w+)" ?"?([%w-]*)')
    if not reads[verb] or (verb == "config" and second ~= "get") or (verb == "client" and second ~= "setname" and second ~= "setinfo") then list[#list + 1] = line end
  end
  return list
end

--- Kill -9 a run at some of its system calls, each time in a fresh place, resume it and see that all is right. `make` gives the place,
--- `right(at, what)` looks at it. A run that was killed
--- before it had begun has nothing to resume.
---@param make fun(): table
---@param arguments string[]
---@param many integer
---@param right fun(at: table, what: string)
---@param more? string[] words of the resume
---@return integer resumed how often a resume had something to go on with
function M.sweep(make, arguments, many, right, more)
  local resumed = 0
  local whole <close> = make()
  local done, calls = faults.record(words_of(whole, arguments), { home = whole.dir })
  assert(done.code == 0, done.out .. done.err)
  right(whole, "undisturbed")
  for _, point in ipairs(faults.spread(faults.points(calls), many, 11)) do
    local at <close> = make()
    local what = "killed at " .. point.name
    faults.start(words_of(at, arguments), { home = at.dir }, point):finish(120000)
    local run = (T.entries(at.state .. "/runs") or {})[1]
    if run and #(journal.read(at.state, run, 0) or {}) > 0 then
      at.cli("pexpire", "neap:lock:0", "1")                    -- or wait nine seconds for the dead run's lock
      local r = at.neap { "resume", run, "--no-input", table.unpack(more or {}) }
      if r.code ~= 64 then
        if r.code ~= 0 then error(what .. "\n" .. r.all, 0) end
        right(at, what)
        resumed = resumed + 1
      end
      assert(journal.verify(at.state, run))
    end
  end
  return resumed
end

--- A server of the running spec. options: file (lines of a configuration file; without it arguments alone), arguments.
---@param options? { file: string[]?, arguments: string[]? }
---@return table
function M.open(options)
  options = options or {}
  local dir = suite.temp()
  local at = { dir = dir, data = dir .. "/data", backups = dir .. "/backups", state = suite.memory() .. "/state", port = T.free_port() }
  os.execute(("mkdir '%s/data' '%s/backups' && ln -s '%s/runbooks' '%s/runbooks'"):format(dir, dir, os.getenv("PWD"), dir))
  suite.write(dir .. "/inventory.lua", INVENTORY:format(at.port, dir, dir))
  if options.file then
    local lines = { "port " .. at.port, "bind 127.0.0.1", "dir " .. dir .. "/data", "logfile " .. dir .. "/redis.log" }
    table.move(options.file, 1, #options.file, #lines + 1, lines)
    suite.write(dir .. "/redis.conf", table.concat(lines, "\n") .. "\n")
  end
  add_server(at, options)
  add_neap(at)
  at.start()
  suite.at_end(function () at.stop("kill") end)
  return setmetatable(at, { __close = function () at.stop("kill") end })
end

return M
