-- A peer that lives and reads nothing is no dead peer (dead_peer_spec.lua is about those): its kernel says "no room" again and again, and as
-- long as it says so the connection is kept, ours and libpq's. A proxy stops reading between client and server, for more than twice the
-- time after which a silent peer is given up; then it reads on, and everything has arrived.

local net = require "native.net"
local postgres = require "native.pg"
local redis = require "native.redis"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local task = require "native.task"

local MUCH <const>, LINE <const>, LINES <const> = 32 << 20, ("x"):rep(65535) .. "\n", 512

describe("a living peer that reads nothing", function ()
  local pg, cache, database

  setup(function ()
    pg, cache = servers.postgres(), servers.redis { name = "plain", open = true }
    database = pg.database()
    pg.sql("CREATE TABLE sink (x text); GRANT ALL ON sink TO app", database)
  end)

  local function stalled(port)
    local proxy = T.proxy { port = port, way = "to" }
    return proxy, function () proxy:set { stall_at = 1 << 20 } end, function () proxy:set { stall_at = false } end
  end

  -- Both are stalled for so long while connections of our own and of libpq have this patience; gives what they were told.
  local function outlive(patience_ms, stalled_ms)
    local before <const> = T.patience(patience_ms)
    local told = {}
    local ok, why = pcall(T.run, function ()
      local cache_proxy <close>, cache_stop, cache_go = stalled(cache.port)
      local pg_proxy <close>, pg_stop, pg_go = stalled(pg.port)
      local store <close> = assert(redis.open(net.tcp("127.0.0.1", cache_proxy:port()), { role = "cache", within_ms = 300000 }))
      local connection <close> = assert(postgres.new { url = ("postgresql://app@127.0.0.1:%d/%s"):format(pg_proxy:port(), database),
        password = assert(secret.of(servers.passwords.app, "password")), application = "neap:spec:1" })
      assert(connection:open())
      cache_stop()
      pg_stop()
      local setting = task.spawn(function () told.redis = { store:write("SET", "sink", ("x"):rep(MUCH)) } end)
      local copying = task.spawn(function ()
        local into <close> = assert(connection:copy_in("COPY sink FROM STDIN"))
        for _ = 1, LINES do
          local written, err = into:write(LINE)
          if not written then told.postgres = { written, err } return end
        end
        told.postgres = { into:close() }
      end)
      task.sleep(stalled_ms)
      assert.same({}, told)                          -- nobody was told anything: both still wait
      cache_go()
      pg_go()
      assert(setting:join())
      assert(copying:join())
    end)
    T.patience(before)
    if not ok then error(why, 0) end
    return told
  end

  local function is_kept(patience_ms, stalled_ms)
    local told = outlive(patience_ms, stalled_ms)
    assert.same({ redis = { "OK" }, postgres = { true } }, told)
    assert.equal(tostring(LINES), pg.sql("SELECT count(*) FROM sink", database))
    pg.sql("TRUNCATE sink", database)
    assert.equal(tostring(MUCH), (cache.cli("strlen", "sink"):gsub("%s", "")))
    cache.cli("del", "sink")
  end

  it("is kept for more than twice the patience with a dead one, and gets everything", function () is_kept(6000, 14000) end)

  it("is kept for 45 s, and gets everything #long", function () is_kept(20000, 45000) end)
end)
