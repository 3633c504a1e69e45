-- The four set-ups are what they say: every role answers, what is done to one place is not seen by the next.

local setups = require "tests.support.setups"

describe("the set-up", function ()
  for _, name in ipairs(setups.names) do
    describe(name, function ()
      local function with(what, fn)
        it(what, function ()
          local at, why = setups.open(name)
          if not at then return pending(why) end
          fn(at)
        end)
      end

      with("has roles of the same names, and each of them answers", function (at)
        local said = at.ends(0, { "doctor", "--env", name })
        for _, role in ipairs { "db", "redis", "data", "backups", "migrations", "migrate", "check", "app", "site", "chat" } do
          assert.is_true(at.has(role), role)
          assert.matches("%f[%w]" .. role .. "%f[%W]", said)
        end
        assert.equal(name == "docker" or name == "compose", at.has "dbc")
        assert.matches("PostgreSQL", at.ends(0, { "run", "postgres/health", "--no-input" }))
        assert.matches("role:master", at.redis.cli("info", "replication"))
      end)

      with("has a place for each test", function (at)
        assert.equal("1000", at.pg.sql("select count(*) from t", at.database))
        at.redis.cli("set", "a", "1")
        at.app.stop()
        assert.is_false(at.app.running())
        os.execute("touch " .. at.backups .. "/x " .. at.data .. "/x")
        local other = setups.open(name)
        assert.are_not.equal(at.database, other.database)
        assert.equal("0", other.redis.cli "dbsize")
        assert.is_true(other.app.running())
        assert.same({ {}, {} }, { T.entries(other.backups), T.entries(other.data) })
      end)
    end)
  end
end)
