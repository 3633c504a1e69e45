-- A run that has done all it had to do, and cannot give its database back: the words it left there would keep everybody else away.

local journal = require "native.journal"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

local INVENTORY <const> = [[
environment "demo" {
  db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" }, tls = "off" },
  gate = command { argv = { "sh", "-c", "while [ ! -e '%s/open' ]; do sleep 0.02; done" } },
}]]

local BOOK <const> = [[
runbook "Keep" { why = "to be given back" }
local db, gate = target.postgres "db", target.command "gate"
step "Write" { act = function () db:exec "insert into kept values (1)" end, done = function () return db:has "select from kept" end }
step "Wait" { act = function () gate:run {} end, verify = function () check(true, "the gate is open") end }
]]

describe("a run that ends while its database is away", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  -- A run that has written and waits before its end; `finish` lets it end.
  local function waiting()
    local ward = wards.open(pg)
    local proxy = T.proxy { port = pg.port }
    suite.after(function () proxy:close() end)
    suite.write(ward.dir .. "/inventory.lua", INVENTORY:format(proxy:port(), ward.database, ward.dir))
    suite.write(ward.dir .. "/book.lua", BOOK)
    local run = ward.start { "run", ward.dir .. "/book.lua", "--no-input" }
    run:shut()
    ward.await("select count(*) from kept", "1")
    stages.await(function ()
      for _, record in ipairs(ward.records()) do
        if record.kind == "step" and record.step == "wait" then return true end
      end
    end, "the second step")
    return ward, proxy, function ()
      suite.write(ward.dir .. "/open", "")
      return run:finish(120000)
    end
  end

  local function holds(ward)
    return pg.sql("select count(*) from pg_description where description like 'neap.hold%'", ward.database)
  end

  for _, lost in ipairs { "request", "answer" } do
    it("asks again until it is given back: its first " .. lost .. " is lost", function ()
      local ward, proxy, finish = waiting()
      assert.equal("1", holds(ward))
      proxy:set { when = "lo_unlink", lose = lost }
      local r = finish()
      assert.equal(0, r.code, r.out .. r.err)
      assert.equal(1, proxy:count().lost)
      assert.equal("0", holds(ward))
    end)
  end

  it("says so when it cannot, and a resume gives it back", function ()
    local ward, proxy, finish = waiting()
    local id = ward.latest()
    pg.sql(("alter database %s allow_connections false"):format(ward.database))
    proxy:cut()
    local r = finish()
    pg.sql(("alter database %s allow_connections true"):format(ward.database))
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches(("a target still says that this run keeps it; neap resume %s takes that away"):format(id), r.out .. r.err, 1, true)
    assert.matches(("kept by a run that still owes something: run %s"):format(id), ward.ends(75, { "run", ward.dir .. "/book.lua", "--no-input" }), 1, true)
    ward.ends(0, { "resume", id, "--no-input" })
    assert.equal("0", holds(ward))
    ward.ends(0, { "run", ward.dir .. "/book.lua", "--no-input" })
    assert.matches("there is nothing to resume", ward.ends(64, { "resume", id, "--no-input" }), 1, true)
    assert.is_truthy(journal.verify(ward.state, id))
  end)
end)
