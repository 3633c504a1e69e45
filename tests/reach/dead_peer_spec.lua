-- A peer that is gone without a word: the cable between two network namespaces swallows every packet, both ways, and everybody who
-- waited for the other end is told within 30 s, whatever they were doing. What runs is dead_peer.lua; the servers are real, each
-- behind a proxy that listens at the far end of the cable.
--
-- Two processes wait side by side: in one the way itself dies, in the other a host goes on living whose own way to the PostgreSQL and
-- the Redis behind it dies. NEAP_DEAD_PEER=PATTERN runs only the cases of that name, NEAP_DEAD_PEER_SHOW=1 prints what each was told.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local INTERPRETER = assert(require("native.system").realpath("/proc/self/exe"))
local NOTICED_MS <const>, MORE_MS <const>, LOOK_MS <const> = 30000, 60000, 50

-- Places are groups of texts and numbers.
local function write_places(dir, places)
  local lines = { "return {" }
  for name, place in pairs(places) do
    if type(place) ~= "table" then
      lines[#lines + 1] = ("%s = %q,"):format(name, place)
    else
      lines[#lines + 1] = name .. " = {"
      for key, value in pairs(place) do lines[#lines + 1] = ("%s = %q,"):format(key, value) end
      lines[#lines + 1] = "},"
    end
  end
  lines[#lines + 1] = "}"
  suite.write(dir .. "/places.lua", table.concat(lines, "\n"))
end

local function results(text)
  local list = {}
  for name, ms, code, message in text:gmatch("([^\n\t]+)\t(%-?%d+)\t([^\t]*)\t([^\n]*)\n") do
    list[#list + 1] = { name = name, ms = tonumber(ms), code = code, message = message }
  end
  return list
end

-- Wait until all have ended; for how long, of that time, this machine let nobody run: a look that comes later than it should.
local function follow(watchers)
  local last, ends, stood = T.now_ms(), T.now_ms() + NOTICED_MS + MORE_MS, 0
  while true do
    local working = false
    for _, watcher in ipairs(watchers) do working = select(2, watcher.running.handle:wait(0)) == "timeout" or working end
    if not working or last > ends then return stood end
    T.pause(LOOK_MS)
    local now = T.now_ms()
    last, stood = now, stood + math.max(0, now - last - 2 * LOOK_MS)
  end
end

-- What was told too late, or without a word that says so.
local function wrong(list, stood)
  local found = {}
  for _, one in ipairs(list) do
    local said = (one.code == "closed" or one.code == "unknown" or one.code == "unreachable") and one.message ~= ""
    if one.ms > NOTICED_MS + stood or not said then found[#found + 1] = ("%s: %d ms, %s, %s"):format(one.name, one.ms, one.code, one.message) end
  end
  return found
end

describe("a dead peer", function ()
  local pg, cache, hermes, engine, database

  setup(function ()
    if T.uid() ~= 0 then return end
    pg, cache, hermes, engine = servers.postgres(), servers.redis { name = "plain", open = true }, servers.sshd { name = "hermes" }, servers.docker()
    database = pg.database()
    pg.sql("CREATE TABLE sink (x text); GRANT ALL ON sink TO app", database)
    cache.cli { "-x", "set", "big", input = ("x"):rep(8 << 20) }
  end)

  -- A port at the far end of the cable.
  local function door(cable, to)
    to.netns, to.address = cable.far.path, cable.far.address
    local proxy = T.proxy(to)
    suite.after(function () proxy:close() end)
    return proxy:port()
  end

  local function base(address, port)
    return { postgres = { url = ("postgresql://app@%s:%d/%s"):format(address, port, database), password = servers.passwords.app },
      only = os.getenv("NEAP_DEAD_PEER") }
  end

  -- The way itself dies.
  local function the_way(cable)
    local address = cable.far.address
    local places = base(address, door(cable, { port = pg.port }))
    places.postgres.there, places.postgres.port = "127.0.0.1", pg.port
    places.redis = { host = address, port = door(cable, { port = cache.port }), there = "127.0.0.1", thereport = cache.port }
    places.deaf = { host = address, port = door(cable, { port = cache.port, way = "to", stall_at = 1 << 16 }) }
    local port = door(cable, { host = hermes.address, port = hermes.port })
    local near = setmetatable({ address = address, port = port, host_line = function ()
      return (hermes.host_line():gsub("%[[%d.]+%]:%d+", ("[%s]:%d"):format(address, port)))
    end }, { __index = hermes })
    places.ssh = { name = "hermes", config = servers.ssh_home { hermes = near }.config }
    if engine then places.docker = { host = address, port = door(cable, { socket = engine.socket }), container = engine.busybox {}.id } end
    return places
  end

  -- The host lives, in the near namespace of this cable.
  local function behind(cable)
    local iris = servers.sshd { name = "islander", netns = cable.near }
    suite.after(iris.remove)
    local places = base("db.internal", 5432)
    places.postgres.there, places.postgres.port = cable.far.address, door(cable, { port = pg.port })
    places.postgres.real, places.postgres.other = pg.port, servers.postgres { name = "other" }.port
    places.redis = { there = cable.far.address, thereport = door(cable, { port = cache.port }) }
    places.ssh = { name = "iris", config = servers.ssh_home { iris = iris }.config }
    places.behind = true
    return places
  end

  local function start(places, enter)
    local dir = suite.temp()
    write_places(dir, places)
    local argv = { INTERPRETER, "tests/reach/dead_peer.lua", dir }
    return { dir = dir, running = child.start { argv = enter and enter(argv) or argv } }
  end

  it("is noticed within 30 s by PostgreSQL, Redis, Docker and both ways of SSH, idle, reading, writing, waiting, and through tunnels", function ()
    local cable, why = servers.link()
    if not cable then return pending(why) end
    local other = assert(servers.link())
    local watchers = { start(the_way(cable), cable.near.enter), start(behind(other)) }
    for _, watcher in ipairs(watchers) do watcher.running:expect("ready\n", 150000) end
    local moment = T.now_ms()
    cable.drop("both")
    other.drop("both")
    for _, watcher in ipairs(watchers) do suite.write(watcher.dir .. "/dead", tostring(moment)) end
    local stood, seen, codes = follow(watchers), {}, {}
    for i, watcher in ipairs(watchers) do
      local r = watcher.running:finish()
      if os.getenv("NEAP_DEAD_PEER_SHOW") then io.stderr:write(r.out) end
      table.move(results(r.out), 1, 99, #seen + 1, seen)
      codes[i] = ("%s %s"):format(r.code, r.code == 0 and r.out:match("left: [^\n]*") or r.err)
    end
    assert.same({}, wrong(seen, stood))
    assert.same({ "0 left: 0 handles, 0 tasks", "0 left: 0 handles, 0 tasks" }, codes)
    if not os.getenv("NEAP_DEAD_PEER") then assert.equal(engine and 48 or 44, #seen) end
    hermes.kill_all()
  end)
end)
