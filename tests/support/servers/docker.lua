-- docker.lua: a real container engine, as servers.docker.
--
--   local engine, why = servers.docker()                   nil and the reason where none can run: the spec is pending with it
--   engine.socket  .dir  .url  .cli("ps", "-a")  .get("/containers/json")  .log()  .stop()  .start()
--   local box = engine.busybox{ name = "box", labels = { a = "b" }, project = "shop", service = "web", cmd = { "sleep", "60" } }
--   local db = engine.postgres{ name = "db", network = "host", address = "127.0.0.9" }     db.port  db.password  db.sql("select 1")
--   local cache = engine.redis{ … }                                                        cache.cli("ping")
--   box.id  .name  .exec{ "ls" }  .inspect("{{.State.Status}}")  .address()  .wait_healthy()  .remove()
--
-- dockerd is started by hand with a data directory, a run directory and a socket of its own in the suite's directory, so it
-- meets no engine of the machine. Without netns there is no bridge: containers have network "none" (the default) or "host".
-- With netns = true the engine lives in a network namespace with the default bridge: containers have an address that only who
-- is in engine.netns can reach, as an sshd{ netns = engine.netns } is. Images are made of the machine's files (images.sh).
-- Started by the first caller for the whole suite, about 1.5 s with its images. A container made inside an `it` is removed after it.
-- Rejected: podman (starts nothing as root without CAP_SYS_RESOURCE), rootless dockerd (wants /dev/net/tun).

local child = require "tests.support.child"
local netns = require "tests.support.servers.netns"
local http = require "native.http"
local suite = require "tests.support.suite"
local json = require "native.text"

local M = {}

local started, reasons = {}, {}
local counted = 0

local function program(name)
  for dir in ("/usr/bin:/usr/sbin:/usr/local/bin:" .. os.getenv("PATH")):gmatch("[^:]+") do
    local file = io.open(dir .. "/" .. name)
    if file then
      file:close()
      return dir .. "/" .. name
    end
  end
end

-- Why no engine can be started here, before trying; nil when nothing speaks against it.
local function obstacle()
  if T.uid() ~= 0 then return "not root: a container engine cannot be started" end
  for _, name in ipairs { "dockerd", "containerd", "runc", "docker" } do
    if not program(name) then return "no " .. name .. " is installed" end
  end
  if not T.entries("/sys/fs/cgroup") then return "no cgroups are mounted" end
end

local function file_system(dir) return (child.must { argv = { "stat", "-f", "-c", "%T", dir } }:gsub("%s", "")) end

-- What an Engine is known by, and its locks on this machine are named after: up to version 24 it is one for all Engines of a machine, unless
-- each is told another place for its key; later ones keep it with their data.
local function own_identity(engine)
  local major = tonumber(child.must({ argv = { program("dockerd"), "--version" } }):match("version (%d+)"))
  local config = major < 25 and ('{"deprecated-key-path": "%s/key.json"}'):format(engine.dir) or "{}"
  return { "--config-file", suite.write(engine.dir .. "/daemon.json", config) }
end

-- runc keeps files in TMPDIR for as long as a health check runs; in that of the suite they look like somebody's litter.
local function daemon_argv(engine)
  local argv = { program("env"), "TMPDIR=" .. engine.dir .. "/tmp", program("dockerd"), "--data-root", engine.dir .. "/data", "--exec-root", engine.dir .. "/exec", "--pidfile",
    engine.dir .. "/dockerd.pid", "-H", "unix://" .. engine.socket, "--exec-opt",
    "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" .. engine.cgroup }
  local function add(...) table.move({ ... }, 1, select("#", ...), #argv + 1, argv) end
  add(table.unpack(own_identity(engine)))
  if file_system(engine.dir) == "overlayfs" then add("--storage-driver", "vfs") end
  if engine.tls then
    add("-H", "tcp://127.0.0.1:" .. engine.port, "--tlsverify", "--tlscacert", engine.tls.ca, "--tlscert", engine.tls.cert, "--tlskey", engine.tls.key)
  end
  if engine.netns then return engine.netns.enter(argv) end
  add("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
  return argv
end

local function add_talk(engine)
  --- Everything it logged.
  function engine.log()
    local file = io.open(engine.dir .. "/dockerd.log")
    if not file then return "" end
    local text = file:read("a")
    file:close()
    return text
  end

  --- Run the docker client against this engine; the result of child.run.
  ---@param words string[] and input = text
  function engine.try(words)
    local argv = table.move(words, 1, #words, 2, { program("docker") })
    return child.run { argv = argv, input = words.input, timeout = words.timeout or 180000,
      env = { DOCKER_HOST = engine.url, DOCKER_CONFIG = engine.dir .. "/client", PATH = os.getenv("PATH"), HOME = engine.dir } }
  end

  --- What the docker client prints for these words; raises when it fails.
  function engine.cli(...)
    local words = type(...) == "table" and (...) or { ... }
    local r = engine.try(words)
    if r.code ~= 0 then error(("docker %s: exit %s\n%s%s"):format(table.concat(words, " "), r.code, r.out, r.err), 2) end
    return (r.out:gsub("\n$", ""))
  end
end

local function add_questions(engine)
  --- What the Engine's API answers to a GET, without a program in between: many of these are cheap.
  ---@param path string
  ---@return string body
  function engine.get(path)
    return T.run(function ()
      local answer = assert(http.request { url = "http://engine", unix = engine.socket, path = path, within_ms = 120000, limit = 1 << 26 })
      if answer.status ~= 200 then error(("GET %s: %d %s"):format(path, answer.status, answer.body), 0) end
      return answer.body
    end)
  end

  --- What happened to containers since that moment (a result of engine.now()): "start", "exec_create: …", in their order.
  ---@param since string
  ---@return string[]
  function engine.events(since)
    local list = {}
    for line in engine.get(("/events?since=%s&until=%s&filters=%%7B%%22type%%22:%%5B%%22container%%22%%5D%%7D"):format(since, engine.now())):gmatch("[^\n]+") do
      list[#list + 1] = json.parse(line).Action
    end
    return list
  end

  --- This moment, as events() wants it.
  ---@return string
  function engine.now() return (child.must { argv = { "date", "+%s.%N" } }:gsub("%s", "")) end
end

local function is_ready(engine)
  return engine.log():find("API listen on", engine.seen, true) ~= nil
end

local function add_life(engine)
  --- Start it (again); true, or nil and what it said.
  function engine.start()
    engine.seen = #engine.log() + 1
    engine.process = T.start { argv = daemon_argv(engine), cwd = "/", log = engine.dir .. "/dockerd.log" }
    suite.kept[engine.process:pid()] = true
    local until_ms = T.now_ms() + 120000
    while not is_ready(engine) do
      if engine.process:wait(20) or T.now_ms() > until_ms then
        local said = engine.log():sub(engine.seen)
        engine.stop()
        return nil, "dockerd does not start here: " .. (said:match("failed to start[^\n]*") or said:sub(-300))
      end
    end
    T.mode(engine.socket, tonumber("666", 8)) -- in a directory of our own: whoever came in through an sshd of ours may use it
    return true
  end

  --- Stop it, containers first; what it kept on disk stays for start().
  function engine.stop()
    if not engine.process then return end
    child.must { argv = { "sh", "-c", suite.read("tests/support/servers/down.sh") .. "engine_down \"$1\"\n", "neap-test-down", engine.dir }, timeout = 180000 }
    if not engine.process:wait(20000) then engine.process:kill(9) end
    engine.process:close()
    engine.process = nil
  end

  --- Stop it and remove everything it kept.
  function engine.remove()
    engine.stop()
    if engine.netns then engine.netns.remove() end
    T.remove_tree(engine.dir)
    started[engine.name] = nil
  end
end

local function add_images(engine)
  child.must { argv = { "sh", "tests/support/servers/images.sh", engine.dir }, timeout = 180000 }
  local path = "ENV PATH=" .. require("tests.support.servers.postgres").bin() .. ":/usr/bin:/bin"
  engine.cli("import", "--change", "ENV PATH=/bin", "--change", 'CMD ["sh"]', engine.dir .. "/busybox.tar", "test/busybox:1")
  engine.cli("import", "--change", path, "--change", "ENV PGHOST=/tmp", "--change", "ENV PGUSER=postgres", "--change", "USER postgres",
    "--change", 'ENTRYPOINT ["/postgres.sh"]', "--change", "HEALTHCHECK --interval=1s --timeout=5s --retries=60 CMD pg_isready -q",
    engine.dir .. "/machine.tar", "test/postgres:1")
  engine.cli("import", "--change", path, "--change", 'ENTRYPOINT ["/redis.sh"]', engine.dir .. "/machine.tar", "test/redis:1")
  os.remove(engine.dir .. "/busybox.tar")
  os.remove(engine.dir .. "/machine.tar")
end

local function add_container_words(engine, box)
  --- docker inspect with a format.
  function box.inspect(format) return engine.cli("inspect", "--format", format, box.id) end

  --- Its address on the bridge; "" when it has none.
  function box.address() return box.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}") end

  --- Run a command inside; the result of child.run.
  ---@param argv string[] and input = text, user = name
  function box.exec(argv)
    local words = { "exec", "-i", input = argv.input }
    if argv.user then table.move({ "--user", argv.user }, 1, 2, #words + 1, words) end
    words[#words + 1] = box.id
    return engine.try(table.move(argv, 1, #argv, #words + 1, words))
  end

  --- Wait until its health check says so.
  function box.wait_healthy(ms)
    local until_ms = T.now_ms() + (ms or 120000)
    while true do
      local state = json.parse(engine.get(("/containers/%s/json"):format(box.id))).State
      if state.Health and state.Health.Status == "healthy" then return end
      if T.now_ms() > until_ms or not state.Running then
        error("the container " .. box.name .. " does not become healthy:\n" .. engine.try({ "logs", box.id }).err, 2)
      end
      T.pause(50)
    end
  end

  --- Remove it with its volumes, running or not.
  function box.remove()
    if engine.process then engine.try { "rm", "-f", "-v", box.id } end
  end
end

local function add_labels(words, options)
  for key, value in pairs(options.labels or {}) do table.move({ "--label", key .. "=" .. value }, 1, 2, #words + 1, words) end
  local compose = { project = options.project, service = options.service, ["container-number"] = options.service and "1" or nil,
    oneoff = options.service and "False" or nil }
  for key, value in pairs(compose) do table.move({ "--label", ("com.docker.compose.%s=%s"):format(key, value) }, 1, 2, #words + 1, words) end
end

-- How often a server in a container is asked how it is. A check is a process that runc makes, a tenth of a second of a processor, and a dozen
-- servers live as long as the suite.
local SERVED_EVERY <const> = "3s"

-- Start a container: options name, labels, project, service, network, env, health (a shell command), args (more words for
-- docker run), cmd, created (true: made, not started).
local function run_container(engine, image, options, more)
  counted = counted + 1
  local box = { name = options.name or "box" .. counted, image = image, engine = engine }
  local words = { options.created and "create" or "run", "--pull", "never", "--name", box.name, "--stop-timeout", "1", "--network",
    options.network or (engine.netns and "bridge" or "none") }
  local function add(...) table.move({ ... }, 1, select("#", ...), #words + 1, words) end
  if not options.created then add("-d") end
  add_labels(words, options)
  for key, value in pairs(options.env or {}) do add("-e", key .. "=" .. value) end
  if options.health then add("--health-cmd", options.health, "--health-interval", options.health_every or "1s", "--health-timeout", "5s", "--health-retries", "600") end
  add(table.unpack(more))
  add(table.unpack(options.args or {}))
  add(image)
  add(table.unpack(options.cmd or {}))
  box.id = engine.cli(words)
  add_container_words(engine, box)
  suite.after(box.remove)
  return box
end

-- Where a server in a container listens: every address behind a bridge, one of loopback on the host's network, else its socket only.
local function listening(engine, options)
  local network = options.network or (engine.netns and "bridge" or "none")
  if network == "bridge" then return "*" end
  return network == "host" and (options.address or "127.0.0.9") or nil
end

local function with_env(options, env)
  local copy = {}
  for key, value in pairs(options) do copy[key] = value end
  for key, value in pairs(options.env or {}) do env[key] = value end
  copy.env = env
  return copy
end

local function add_containers(engine)
  --- A container of Debian's busybox; sleeps when no cmd is given.
  function engine.busybox(options)
    options = options or {}
    if not options.cmd then options.cmd = { "sleep", "3600" } end
    return run_container(engine, "test/busybox:1", options, {})
  end

  --- A healthy PostgreSQL with superuser postgres. options also: address and port (network "host"), volume (a name: the data outlives
  --- the container's stop; else it lies in memory), password, later (true: the caller waits until it is healthy, and does something else before).
  function engine.postgres(options)
    options = options or {}
    local listen = listening(engine, options)
    local port = options.port or (options.network == "host" and T.free_port() or 5432)
    local password = options.password or "pgc-40be17"
    local data = options.volume and { "-v", options.volume .. ":/var/lib/pg" } or { "--tmpfs", "/var/lib/pg:uid=999,gid=999,mode=700" }
    local more = { "--stop-signal", "SIGINT", "--health-interval", SERVED_EVERY, "-v", "/usr:/usr:ro", table.unpack(data) }
    local env = { POSTGRES_PASSWORD = password, PGPORT = tostring(port), PGLISTEN = listen or "" }
    local box = run_container(engine, "test/postgres:1", with_env(options, env), more)
    box.port, box.password, box.listen = port, password, listen
    --- What psql inside the container prints for the statements (unaligned, tuples only).
    function box.sql(text, database)
      local r = box.exec { "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database or "postgres", "-f", "-", input = text }
      if r.code ~= 0 then error(r.err, 2) end
      return (r.out:gsub("\n$", ""))
    end
    if not options.later then box.wait_healthy() end
    return box
  end

  --- A healthy Redis with one password. options also: address and port (network "host"), password, later.
  function engine.redis(options)
    options = options or {}
    local listen = listening(engine, options)
    local port = options.port or (options.network == "host" and T.free_port() or 6379)
    local password = options.password or "rec-c80d52"
    options.health = options.health or ("redis-cli -h %s -p %d -a %s --no-auth-warning ping | grep -q PONG"):format(
      options.network == "host" and listen or "127.0.0.1", port, password)
    options.health_every = options.health_every or SERVED_EVERY
    local env = { REDIS_PASSWORD = password, REDIS_PORT = tostring(port), REDIS_LISTEN = listen == "*" and "0.0.0.0" or listen or "127.0.0.1" }
    local box = run_container(engine, "test/redis:1", with_env(options, env), { "-v", "/usr:/usr:ro" })
    box.port, box.password, box.listen = port, password, listen
    --- What redis-cli inside the container prints.
    function box.cli(...)
      local r = box.exec { "redis-cli", "-h", options.network == "host" and listen or "127.0.0.1", "-p", tostring(port), "-a", password,
        "--no-auth-warning", ... }
      if r.code ~= 0 then error(r.out .. r.err, 2) end
      return (r.out:gsub("\n$", ""))
    end
    if not options.later then box.wait_healthy() end
    return box
  end
end

local function new_engine(name, options)
  local why = obstacle()
  if why then return nil, why end
  local space
  if options.netns then
    space, why = netns.start("engine")
    if not space then return nil, why end
  end
  local dir = T.directory(suite.directory() .. "/dk")
  T.mode(dir, tonumber("711", 8))
  local engine = { name = name, dir = dir, socket = dir .. "/docker.sock", url = "unix://" .. dir .. "/docker.sock", netns = space,
    cgroup = "neap-test-" .. dir:match("neap%.(%w+)/") .. name, tls = options.tls, port = options.tls and T.free_port() }
  os.execute("mkdir " .. dir .. "/client " .. dir .. "/tmp") -- health checks write to the latter whenever they like, not into what is looked at for leaks
  suite.write(dir .. "/cgroup", engine.cgroup)
  add_talk(engine)
  add_questions(engine)
  add_life(engine)
  suite.at_end(engine.remove)
  local ok
  ok, why = engine.start()
  if not ok then return nil, why end
  add_images(engine)
  add_containers(engine)
  return engine
end

--- A running engine, or nil and why there is none. options: name (another name is another engine), netns (true: in a network
--- namespace of its own, with the default bridge), tls (files ca, cert, key: it listens on 127.0.0.1, engine.port, too, for whoever has
--- a certificate of that authority).
---@param options? { name?: string, netns?: boolean, tls?: { ca: string, cert: string, key: string } }
---@return table? engine
---@return string? why
function M.start(options)
  options = options or {}
  local name = options.name or (options.netns and "bridged" or "engine")
  if not started[name] and not reasons[name] then started[name], reasons[name] = new_engine(name, options) end
  return started[name], reasons[name]
end

return M
