-- T32: looking at logs and keys. `logs --tail=120` shows the line of an earlier start, whatever became of this one; `KEYS *` holds the whole server while it looks.
-- What answers: a line is waited for since the container was started, with a deadline; keys are looked at by SCAN, a batch at a time, and KEYS is refused.

local keep = require "tests.support.keep"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

-- The first start is well, every later one is not until it is mended.
local START <const> = [[if [ -e /once ] && [ ! -e /mended ]; then echo 'cannot reach the database'; else touch /once; echo 'Backend listening on :8080'; fi; sleep 3600]]

local BOOK <const> = [[runbook "Is it there" { why = "x" } local web = target.container "web"
  step "It listens" { verify = function () note(web:wait_for_log { text = "listening on :8080", within = "%s" }) end }]]

describe("T32, logs of another start", function ()
  it("show the line that is looked for, by the guide's way; ours waits for that of this start", function ()
    local engine, why = servers.docker()
    if not engine then return pending(why) end
    local box = engine.busybox { name = "backend32", cmd = { "sh", "-c", START } }
    local dir = suite.temp()
    suite.write(dir .. "/inventory.lua", ('environment "demo" { web = container { docker = "%s", name = "backend32" } }'):format(engine.url))
    local function ours(within)
      suite.write(dir .. "/there.lua", BOOK:format(within))
      local r = servers.neap.run({ "run", dir .. "/there.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "200" }, { cwd = dir })
      return r.code, r.out .. r.err
    end
    local function guide() return engine.cli("logs", "--tail=120", box.id) end

    local code, said = ours "2m"
    assert.equal(0, code, said)
    engine.cli("restart", "-t", "0", box.id)
    repeat T.pause(10) until guide():find("cannot reach", 1, true)
    assert.matches("Backend listening on :8080", guide(), 1, true)
    code, said = ours "1s"
    assert.equal(1, code, said)
    assert.matches("It listens", said, 1, true)
    box.exec { "touch", "/mended" }
    engine.cli("restart", "-t", "0", box.id)
    code, said = ours "2m"
    assert.equal(0, code, said)
  end)
end)

describe("T32, every key at once", function ()
  local KEYS <const>, A_BATCH <const> = 200000, 2000

  -- How often a command of this name was carried out since the counts were set to nothing.
  local function calls(at, name) return tonumber(at.cli("info", "commandstats"):match("cmdstat_" .. name .. ":calls=(%d+)") or 0) end

  it("holds the server by the guide's way; ours takes a batch at a time, and refuses KEYS", function ()
    local at <close> = keep.open { arguments = { "--save", "" } }
    at.cli("eval", ("for i = 1, %d do redis.call('set', 'cache:page:' .. i, 'x') end return 1"):format(KEYS), "0")
    at.cli("config", "resetstat")
    at.cli("keys", "*")                                             -- a server does one command at a time: whoever comes meanwhile waits for all of them
    assert.equal(1, calls(at, "keys"))
    at.cli("config", "resetstat")
    local r = at.neap { "run", "redis/flush-prefix", "--prefix", "cache:none:", "--no-input" }
    assert.is_true(calls(at, "scan") >= KEYS / A_BATCH, r.all)     -- and here it waits for one batch
    assert.equal(0, calls(at, "keys"))
    suite.write(at.dir .. "/keys.lua", [[runbook "Keys" { why = "x" } local cache = target.redis "redis"
      step "Look" { verify = function () note("%d", #cache:read("KEYS", "*")) end }]])
    r = at.neap { "run", at.dir .. "/keys.lua" }
    assert.equal(77, r.code, r.all)
    assert.matches("KEYS", r.all, 1, true)
    assert.equal(0, calls(at, "keys"))
  end)
end)
