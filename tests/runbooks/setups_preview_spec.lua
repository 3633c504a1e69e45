-- The preview of every shipped runbook, against each of the four set-ups: it says what it would do, and no server saw a write.
--
-- The list is the folder of runbooks itself. A runbook that support/setups/asked.lua does not know fails, so that a new one
-- cannot be left out; and one that predicts nothing where something is to be done fails too, or this would prove little.

local asked = require "tests.support.setups.asked"
local child = require "tests.support.child"
local lookers = require "tests.support.setups.look"
local setups = require "tests.support.setups"

local function post(at, words)
  local run = { "/bin/busybox", "wget", "-q", "-O", "/dev/null", "--post-data", words, at.env.CHAT_URL }
  child.must { argv = at.enter and at.enter(run) or run }
end

describe("the preview of a shipped runbook", function ()
  for _, name in ipairs(setups.names) do
    describe("on " .. name, function ()
      local at, why, look

      setup(function ()
        at, why = setups.open(name)
        if not at then return end
        asked.furnish(at)
        look = lookers.of(at)
      end)

      for _, runbook in ipairs(asked.shipped()) do
        it("writes nothing: " .. runbook, function ()
          if not at then return pending(why) end
          local r
          local found = look.during(function () r = at.neap(asked.line("plan", runbook, at)) end)
          assert.same({}, found)
          local role = asked.of(runbook).role
          if role and not at.has(role) then
            assert.equal(78, r.code, r.all)
            return assert.matches(('"%s"'):format(role), r.all, 1, true)
          end
          assert.equal(asked.of(runbook).exit, r.code, r.all)
          assert.matches("Nothing was written", r.out, 1, true)
        end)
      end

      it("is looked at by eyes that see each kind of write", function ()
        if not at then return pending(why) end
        local place = setups.open(name)
        local function sees(what, fn)
          assert.matches(what, table.concat(lookers.of(place).during(fn), "\n"), 1, true)
        end
        sees("rows", function () place.pg.sql("insert into kept values (1)", place.database) end)
        sees("next transaction", function () place.pg.sql("begin; insert into kept values (2); rollback", place.database) end)
        sees("sent to Redis", function () place.redis.cli("set", "a", "1") end)
        sees("files", function () os.execute("touch " .. place.backups .. "/x") end)
        sees("application", place.app.stop)
        if place.engine then sees("a container: start", place.app.start) end
        sees("the migration tool: migrate deploy", function () os.execute(place.dir .. "/tool migrate deploy") end)
        sees("posted: x", function () post(place, "x") end)
        assert.same({}, lookers.of(setups.open(name)).during(function () end))
      end)
    end)
  end
end)
