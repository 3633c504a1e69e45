-- dead_peer.lua: the process of dead_peer_spec.lua whose peers die. Every case has a connection of its own, all at once.
--
--   neap-test tests/reach/dead_peer.lua DIRECTORY      DIRECTORY/places.lua says where the servers are, and which cases there are:
--     the way dies       we stand at the near end of the cable, and everything is at its far end
--     what is behind     the host lives, and what we reach through it is at the far end of a cable of its own
--
-- It prints "ready" when each case stands where its peer may die, and waits for DIRECTORY/dead, which holds the moment (ms,
-- monotonic) before the cable began to swallow. Then one line per case: name, ms until it was told, code, message. It ends with 0 only
-- when no handle and no task is left.

local docker = require "native.docker"
local net = require "native.net"
local postgres = require "native.pg"
local redis = require "native.redis"
local secret = require "native.secret"
local ssh = require "native.ssh"
local task = require "native.task"

local dir = arg[1]
local at = dofile(dir .. "/places.lua")
local BLOCK <const> = ("x"):rep(1 << 20)

local standing, since = 0, nil     -- how many cases stand; when the way died
local cases, groups = {}, {}

-- fn(up) calls up() when its peer may die, waits, and returns what it is told. up.told(why) is for those who are told before they
-- have done with it: a job is looked for once more, a write that was lost is asked about.
local function case(name, fn)
  if not at.only or name:find(at.only) then cases[#cases + 1] = { name = name, fn = fn } end
end

-- A session or a tunnel that several cases share: made by the first, closed by the last.
local function shared(key, make)
  groups[key] = groups[key] or {}
  local group = groups[key]
  group.users = (group.users or 0) + 1
  while group.making do task.sleep(20) end
  if not group.value then
    group.making = true
    group.value = make()
    group.making = nil
  end
  return setmetatable({ value = group.value }, { __close = function ()
    group.users = group.users - 1
    if group.users == 0 then group.value:close() end
  end })
end

local function until_true(fn)
  while not fn() do task.sleep(50) end
  return { code = "closed", message = "it knows" }
end

-- PostgreSQL, direct or behind a socket --------------------------------------------------------------------------------------------

local function pg(more)
  local o = { url = at.postgres.url, password = assert(secret.of(at.postgres.password, "password")), application = "neap:spec:1" }
  for key, value in pairs(more or {}) do o[key] = value end
  local connection = assert(postgres.new(o))
  local ok, err = connection:open()
  if not ok then error(err.message) end
  return connection
end

local function pg_idle(more)
  return function (up)
    local c <close> = pg(more)
    up()
    return until_true(function () return not c:is_open() end)
  end
end

-- What became of the write is asked for a minute; that the connection is gone is known before.
local function pg_wait(more)
  return function (up)
    local c <close> = pg(more)
    local runner = task.spawn(function () return c:exec("SELECT pg_sleep(300)") end)
    up()
    up.told(until_true(function () return not c:is_open() end))
    runner:cancel "enough"
    runner:join()
  end
end

local function pg_read(more)
  return function (up)
    local c <close> = pg { fenced = true, statement_ms = 300000, socket = more and more.socket }
    local rows <close> = assert(c:each("SELECT generate_series(1, 100000000) AS n, repeat('x', 1000) AS x"))
    up()
    while true do
      local row, err = rows()
      if not row then return err end
    end
  end
end

local function pg_copy(more)
  return function (up)
    local c <close> = pg(more)
    local to <close> = assert(c:copy_in("COPY sink FROM STDIN"))
    up()
    while true do
      local ok, err = to:write(("x"):rep(65535) .. "\n")
      if not ok then return up.told(err) end
    end
  end
end

local the_way = at.behind == nil

if the_way then
  case("postgres idle", pg_idle())
  case("postgres in pg_sleep", pg_wait())
  case("postgres reading", pg_read())
  case("postgres writing", pg_copy())
end

-- Redis --------------------------------------------------------------------------------------------------------------------------

local function cache(dialer)
  return assert(redis.open(dialer or net.tcp(at.redis.host, at.redis.port), { role = "cache", within_ms = 300000 }))
end

local function redis_idle(way)
  return function (up)
    local c <close> = cache(way and way())
    up()
    return until_true(function () return not c:is_open() end)
  end
end

local function redis_wait(way)
  return function (up)
    local c <close> = cache(way and way())
    up()
    return select(2, c:write("BLPOP", "nothing", 0))
  end
end

if the_way then
  case("redis idle", redis_idle())
  case("redis in BLPOP", redis_wait())
  case("redis reading", function (up)
    local c <close> = cache()
    up()
    while true do
      local value, err = c:read("GET", "big")
      if not value then return err end
    end
  end)
  case("redis that has read nothing for a while", function (up)
    local c <close> = cache(net.tcp(at.deaf.host, at.deaf.port))
    local runner = task.spawn(function () up.told(select(2, c:write("SET", "sink", BLOCK:rep(16)))) end)
    task.sleep(6000)
    up()
    runner:join()
  end)
  case("redis writing", function (up)
    local c <close> = cache()
    up()
    while true do
      local value, err = c:write("SET", "sink", BLOCK)
      if not value then return err end
    end
  end)
end

-- Docker --------------------------------------------------------------------------------------------------------------------------

if at.docker then
  local function engine(dialer) return assert(docker.open(dialer or net.tcp(at.docker.host, at.docker.port), { role = "box" })) end
  local function sh(script, more)
    local call = { container = at.docker.container, argv = { "sh", "-c", script } }
    for key, value in pairs(more or {}) do call[key] = value end
    return call
  end

  case("docker in exec", function (up)
    local e = engine()
    up()
    return select(2, e:run(sh "sleep 300"))
  end)
  case("docker reading", function (up)
    local e = engine()
    up()
    return select(2, e:read(sh "yes"))
  end)
  case("docker writing", function (up)
    local e = engine()
    local command <close> = assert(e:start(sh "cat >/dev/null"))
    local input <close> = command:stdin()
    up()
    while true do
      local ok, err = input:write(BLOCK)
      if not ok then return up.told(err) end
    end
  end)
  case("docker waiting for a line", function (up)
    local e = engine()
    up()
    return select(2, e:wait_log { container = at.docker.container, text = "never" })
  end)
end

-- SSH -----------------------------------------------------------------------------------------------------------------------------

local function host(backend) return assert(ssh.open { name = at.ssh.name, role = "host", config = at.ssh.config, backend = backend }) end
local function call(script) return { argv = { "sh", "-c", script } } end

local function ssh_cases(backend)
  case(backend .. " idle", function (up)
    local h <close> = host(backend)
    up()
    return until_true(function () return h:lost() end)
  end)
  case(backend .. " in a command", function (up)
    local h <close> = host(backend)
    up()
    return select(2, h:read(call "sleep 300"))
  end)
  case(backend .. " in a job", function (up)
    local h <close> = host(backend)
    local runner = task.spawn(function () return h:run(call "sleep 300") end)
    task.sleep(500)
    up()
    up.told(until_true(function () return h:lost() end))
    runner:cancel "enough"
    runner:join()
  end)
  case(backend .. " reading", function (up)
    local h <close> = host(backend)
    up()
    return select(2, h:read(call "yes"))
  end)
  case(backend .. " writing", function (up)
    local h <close> = host(backend)
    local command <close> = assert(h:start(call "cat >/dev/null"))
    local input <close> = command:stdin()
    up()
    while true do
      local ok, err = input:write(BLOCK)
      if not ok then return up.told(err) end
    end
  end)
end

-- What is reached through a host: a socket of this machine stands in front of a PostgreSQL.
local function tunnel_cases(backend)
  local function through(fn)
    return function (up)
      local h <close> = shared(backend, function () return host(backend) end)
      local socket <close> = assert(net.tunnel(h.value:dial_tcp(at.postgres.there, at.postgres.port), { name = ".s.PGSQL.5432" }))
      return fn { socket = socket:dir() } (up)
    end
  end
  local function through_redis(fn)
    return function (up)
      local h <close> = shared(backend, function () return host(backend) end)
      return fn(function () return h.value:dial_tcp(at.redis.there, at.redis.thereport) end)(up)
    end
  end
  case(backend .. " tunnel, postgres idle", through(pg_idle))
  case(backend .. " tunnel, postgres in pg_sleep", through(pg_wait))
  case(backend .. " tunnel, postgres reading", through(pg_read))
  case(backend .. " tunnel, postgres writing", through(pg_copy))
  case(backend .. " tunnel, redis idle", through_redis(redis_idle))
  case(backend .. " tunnel, redis in BLPOP", through_redis(redis_wait))
end

for _, backend in ipairs { "libssh2", "program" } do
  if the_way then ssh_cases(backend) end
  tunnel_cases(backend)
end

-- The way lives, and who answers at its end is not who answered before: a server that was started anew knows nothing of our session,
-- and nobody tells us.
if not the_way then
  case("postgres in pg_sleep, whose server was exchanged", function (up)
    local proxy <close> = T.proxy { port = at.postgres.real }
    local socket <close> = assert(net.tunnel(net.tcp("127.0.0.1", proxy:port()), { name = ".s.PGSQL.5432" }))
    local c <close> = pg { socket = socket:dir(), database = "postgres" }
    up()
    while not since do task.sleep(10) end
    proxy:set { swap = at.postgres.other }               -- before it is asked beside the query: that goes to who is there now
    local runner = task.spawn(function ()
      c:exec("SELECT pg_sleep(300)")
    end)
    up.told(until_true(function () return not c:is_open() end))
    runner:cancel "enough"
    runner:join()
  end)
end

-- All of them ---------------------------------------------------------------------------------------------------------------------

local function moment()
  local file = io.open(dir .. "/dead")
  local text = file and file:read("n")
  if file then file:close() end
  return text
end

local function run_case(one)
  local told
  local function tell(why)
    if told then return end
    told = why or { code = "none", message = "" }
    if since then print(("%s\t%d\t%s\t%s"):format(one.name, task.now_ms() - since, told.code, (told.message:gsub("%s", " ")))) end
  end
  local function stand()
    one.stands = true
    standing = standing + 1
  end
  local ok, why = pcall(one.fn, setmetatable({ told = tell }, { __call = stand }))
  tell(ok and why or { code = "raised", message = type(why) == "table" and why.message or tostring(why) })
  assert(since, one.name .. ": " .. told.message)
end

io.stdout:setvbuf("line")
T.run(function ()
  local tasks = {}
  for i, one in ipairs(cases) do tasks[i] = task.spawn(run_case, one) end
  local late = task.now_ms() + 120000
  while standing < #cases do
    task.sleep(20)
    for _, one in ipairs(task.now_ms() > late and cases or {}) do assert(one.stands, one.name .. " does not come to stand") end
  end
  task.sleep(500) -- what is said at once has been said
  print("ready")
  repeat
    task.sleep(10)
    since = moment()
  until since
  for _, one in ipairs(tasks) do assert(one:join()) end
end)
print(("left: %d handles, %d tasks"):format(T.handles(), T.tasks()))
