-- Who waits for whom while something else works: said once, at once, and when it is over.
local postgres = require "client.postgres"
local servers = require "tests.support.servers"
local task = require "native.task"
local wards = require "tests.support.ward"

describe("a database that is watched", function ()
  local pg, ward
  setup(function () pg = servers.postgres() end)
  before_each(function () ward = wards.open(pg) end)

  -- What is said while fn runs, and what it returned.
  local function during(fn)
    local said, results = {}, nil
    T.run(function ()
      local db = postgres.bind("db", { url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, ward.database), password = servers.passwords.owner, tls = "off" },
        { application = "neap:spec:1", speaker = function () return function (severity, text, role) said[#said + 1] = ("%s %s: %s"):format(severity, role, text) end end })
      results = table.pack(pcall(db.methods.watched, db, function () return fn(said) end, { longer = "200ms" }))
      postgres.close(db)
    end)
    return said, results
  end

  it("says who waits for what behind whom, and how long it was", function ()
    local waiter
    local said, results = during(function (so_far)
      local function until_there(n)
        local ends = task.now_ms() + 60000
        while #so_far < n and task.now_ms() < ends do task.sleep(20) end
      end
      do
        local holder <close> = ward.session("begin; lock table kept; select 'held';", "held", "holder")
        assert.is_table(holder)
        waiter = ward.session("insert into kept values (7); select 'in';", nil, "writer")
        until_there(1)
      end
      until_there(2)
      return "done", 7
    end)
    waiter.process:kill(15)
    waiter.process:finish()
    assert.same({ true, "done", 7, n = 3 }, results)
    assert.equal(2, #said, table.concat(said, "\n"))
    assert.matches("^warning db: pid %d+, writer of owner waits for RowExclusiveLock of public.kept behind pid %d+, holder of owner, idle in transaction$", said[1])
    assert.matches("^warning db: pid %d+, writer of owner waited [%d.]+ m?s for RowExclusiveLock of public.kept$", said[2])
  end)

  it("says nothing where nobody waits, and fails as what it watches fails", function ()
    local said, results = during(function () error({ code = "check", message = "no" }, 0) end)
    assert.same({}, said)
    assert.is_false(results[1])
    assert.equal("no", results[2].message)
  end)
end)
