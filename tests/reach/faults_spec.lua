-- Every driver through the fault proxy: a reset, a silence or a turned byte at seeded places, and writes of one byte. What was asked for is
-- known beforehand, so there are two good ends: the right answer, or an error with a sentence. Never a hang, never a wrong answer.
--
-- A plain protocol cannot notice every turned byte: Redis and HTTP carry values without a checksum. There the byte that is turned is one of the
-- protocol's own, or the answer may differ in that one byte; SSH and TLS must notice each.

local docker = require "native.docker"
local http = require "native.http"
local net = require "native.net"
local postgres = require "native.pg"
local redis = require "native.redis"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local ssh = require "native.ssh"
local task = require "native.task"

-- How long is waited for a line with a fault, and for one without; the last is how long a slow machine may need to come round to what is over.
local WITHIN_MS <const>, PATIENT_MS <const>, LONGEST_MS <const> = 2500, 30000, 90000
local WORD <const> = ("0123456789abcdef"):rep(4096)

-- The same places on every run, some near the beginning where the greeting is.
local function places(seed, most, count)
  local state, list = seed, {}
  for i = 1, count do
    state = (state * 1103515245 + 12345) & 0x7fffffff
    list[i] = i % 2 == 0 and state % most or state % math.min(most, 600)
  end
  return list
end

local function is_sentence(err)
  return type(err) == "table" and type(err.message) == "string" and #err.message > 8 and not err.message:find("[%z\1-\8\11-\31\127]")
end

-- How many bytes of two texts differ.
local function differing(a, b)
  if #a ~= #b then return math.huge end
  local count = 0
  for i = 1, #a do
    if a:byte(i) ~= b:byte(i) then count = count + 1 end
  end
  return count
end

describe("through a broken line", function ()
  local cache, hermes, home_of, engine, box, web, pg, database

  setup(function ()
    cache, hermes, engine, web, pg = servers.redis { name = "plain", open = true }, servers.sshd { name = "hermes" }, servers.docker(), servers.http(), servers.postgres()
    database = pg.database()
    cache.cli { "-x", "set", "word", input = WORD }
    if engine then box = engine.busybox { name = "line-" .. T.pid() } end
    function home_of(port)
      local near = setmetatable({ address = "127.0.0.1", port = port, host_line = function ()
        return (hermes.host_line():gsub("%[[%d.]+%]:%d+", ("[127.0.0.1]:%d"):format(port)))
      end }, { __index = hermes })
      return servers.ssh_home { hermes = near }
    end
  end)

  local function ask_host(backend)
    return function (proxy, within_ms)
      local home = home_of(proxy:port())
      local session, err = ssh.open { name = "hermes", role = "hermes", config = home.config, backend = backend, connect_ms = within_ms }
      if not session then return nil, err end
      local h <close> = session
      local r, why = h:read { argv = { "head", "-c", "65536", "/dev/zero" }, within_ms = within_ms }
      return r and (r.status == 0 and r.out:gsub("%z", "0") or "status " .. tostring(r.status)), why
    end
  end

  local KINDS <const> = {
    redis = { most = 66000, back = function () return { port = cache.port } end, want = function () return WORD end, lenient = true, ask = function (proxy, within_ms)
      local c, err = redis.open(net.tcp("127.0.0.1", proxy:port()), { role = "cache", within_ms = within_ms, connect_ms = within_ms })
      if not c then return nil, err end
      local conn <close> = c
      return conn:read("GET", "word")
    end },
    http = { most = 66000, back = function () return { port = web.port } end, want = function () return ("x"):rep(65000) end, lenient = true, ask = function (proxy, within_ms)
      local r, err = http.request { method = "GET", url = ("http://127.0.0.1:%d/big?bytes=65000&length=1"):format(proxy:port()), within_ms = within_ms, role = "site" }
      return r and (r.status == 200 and r.body or "status " .. r.status), err
    end },
    tls = { most = 68000, back = function () return { port = cache.tls_port } end, want = function () return WORD end, ask = function (proxy, within_ms)
      local dialer = net.tls(net.tcp("127.0.0.1", proxy:port()), { name = "localhost", ca = cache.ca })
      local c, err = redis.open(dialer, { role = "cache", within_ms = within_ms, connect_ms = within_ms })
      if not c then return nil, err end
      local conn <close> = c
      return conn:read("GET", "word")
    end },
    libssh2 = { most = 70000, back = function () return { host = hermes.address, port = hermes.port } end, want = function () return ("0"):rep(65536) end, ask = ask_host "libssh2", slow = true },
    program = { most = 70000, back = function () return { host = hermes.address, port = hermes.port } end, want = function () return ("0"):rep(65536) end,
      ask = ask_host "program", few = true, slow = true },
    docker = { most = 3000, back = function () return engine and { socket = engine.socket } end, want = function () return "word\n" end, lenient = true, ask = function (proxy, within_ms)
      local e, err = docker.open(net.tcp("127.0.0.1", proxy:port()), { role = "box" })
      if not e then return nil, err end
      local r, why = e:read { container = box.id, argv = { "echo", "word" }, within_ms = within_ms }
      return r and (r.status == 0 and r.out or "status " .. tostring(r.status)), why
    end },
    ["pg tunnel"] = { most = 68000, back = function () return { port = pg.port } end, want = function () return WORD end, lenient = true, ask = function (proxy, within_ms)
      local socket <close> = assert(net.tunnel(net.tcp("127.0.0.1", proxy:port()), { name = ".s.PGSQL.5432" }))
      local c <close> = assert(postgres.new { url = ("postgresql://app@db/%s"):format(database), password = secret.of(servers.passwords.app, "password"),
        socket = socket:dir(), within_ms = within_ms, fenced = true, statement_ms = within_ms, application = "neap:spec:1" })
      local ok, err = c:open()
      if not ok then return nil, err end
      local mark = task.deadline(within_ms)
      local fine, value, why = pcall(c.value, c, "SELECT repeat('0123456789abcdef', 4096)")
      task.restore(mark)
      if not fine then return nil, value end
      return value, why
    end },
  }

  -- What is wrong with this end, as a sentence; nil when nothing is.
  local function complaint(kind, fault, value, err, took)
    if took > LONGEST_MS then return ("it took %d ms"):format(took) end
    if not value then return not is_sentence(err) and "no sentence: " .. tostring(err and err.message) or nil end
    if value == kind.want() then return nil end
    if fault.corrupt_at and kind.lenient and type(value) == "string" and (differing(value, kind.want()) <= 1 or value:find "^status ") then return nil end
    return ("a wrong answer: %q"):format(tostring(value):sub(1, 60))
  end

  local function faults_of(kind, count, stalls)
    local list = { {}, { bytes = 1, rate = false } }
    for i, at in ipairs(places(7, kind.most, count)) do
      list[#list + 1] = { reset_at = at, way = i % 3 == 0 and "to" or "from" }
      list[#list + 1] = { corrupt_at = at, way = i % 4 == 0 and "to" or "from" }
    end
    for _, at in ipairs(places(11, kind.most, stalls)) do list[#list + 1] = { stall_at = at } end
    return list
  end

  local function meet(name, kind, count, stalls)
    it(name, function ()
      local back = kind.back()
      if not back then return pending "no engine runs here" end
      local wrong, answered = {}, 0
      T.run(function ()
        local tasks, running, most = {}, 0, kind.few and 6 or 12
        for i, fault in ipairs(faults_of(kind, count, stalls)) do
          tasks[i] = task.spawn(function ()
            while running >= most do task.sleep(10) end
            running = running + 1
            local options = kind.back()
            for key, value in pairs(fault) do options[key] = value end
            local proxy = T.proxy(options)
            local began = task.now_ms()
            local within_ms = i <= 2 and PATIENT_MS or WITHIN_MS
            local mark = task.deadline(2 * within_ms)
            local fine, value, err = pcall(kind.ask, proxy, within_ms)
            task.restore(mark)
            if not fine then value, err = nil, value end
            proxy:close()
            running = running - 1
            if value then answered = answered + 1 end
            local what = complaint(kind, fault, value, err, task.now_ms() - began)
            if not value and i <= 2 then what = "it fails without a fault: " .. tostring(err and err.message) end
            local key, at = next(fault)
            if what then wrong[#wrong + 1] = ("%s %s %s: %s"):format(tostring(key), tostring(at), fault.way or "", what) end
          end)
        end
        for _, one in ipairs(tasks) do assert(one:join()) end
      end)
      assert.same({}, wrong)
      assert.is_true(answered >= 2)
    end)
  end

  -- Behind the packet that was turned come whole ones: what they hold would close over the hole.
  it("no byte of the last packets of libssh2 is turned unnoticed, and none is missing", function ()
    T.run(function ()
      local tasks, refused = {}, 0
      for at = 66100, 68200, 150 do
        tasks[#tasks + 1] = task.spawn(function ()
          local proxy = T.proxy { host = hermes.address, port = hermes.port, corrupt_at = at }
          local value, err = KINDS.libssh2.ask(proxy, PATIENT_MS)
          proxy:close()
          if value then assert.equal(65536, #value) else assert.is_true(is_sentence(err)) end
          refused = refused + (value and 0 or 1)
        end)
      end
      for _, one in ipairs(tasks) do assert(one:join()) end
      assert.is_true(refused > 0)
    end)
  end)

  for name, kind in pairs(KINDS) do
    if not kind.slow then meet(name .. " gives the right answer or an error, at five places", kind, 5, 0) end
    meet(name .. " gives the right answer or an error, at twenty places, and where the line goes silent #long", kind, 20, 4)
  end
end)
