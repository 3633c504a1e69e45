-- The preview of every shipped runbook, against each of the four set-ups: it says what it would do, and no server saw a write.
--
-- The list is the folder of runbooks itself. A runbook that support/setups/asked.lua does not know fails, so that a new one
-- cannot be left out; and one that predicts nothing where something is to be done fails too, or this would prove little.
--
-- They are looked at together: before the first and after the last. Only when something was written is each looked at alone, to say which it was.

local asked = require "tests.support.setups.asked"
local child = require "tests.support.child"
local lookers = require "tests.support.setups.look"
local setups = require "tests.support.setups"

local function post(at, words)
  local run = { "/bin/busybox", "wget", "-q", "-O", "/dev/null", "--post-data", words, at.env.CHAT_URL }
  child.must { argv = at.enter and at.enter(run) or run }
end

local function preview(at, runbook) return at.neap(asked.line("plan", runbook, at)) end

-- Every preview by the name of its runbook, and what was written meanwhile.
local function previews(at)
  local results = {}
  local found = lookers.of(at).during(function ()
    for _, runbook in ipairs(asked.shipped()) do results[runbook] = preview(at, runbook) end
  end)
  return results, found
end

-- By whom.
local function culprits(at, found)
  for _, runbook in ipairs(asked.shipped()) do
    for _, what in ipairs(lookers.of(at).during(function () preview(at, runbook) end)) do found[#found + 1] = runbook .. ": " .. what end
  end
  return found
end

describe("the preview of a shipped runbook", function ()
  for _, name in ipairs(setups.names) do
    describe("on " .. name, function ()
      local at, why, results, found

      setup(function ()
        at, why = setups.open(name)
        if not at then return end
        asked.furnish(at)
        asked.archive(at)
        results, found = previews(at)
      end)

      for _, runbook in ipairs(asked.shipped()) do
        it("says what it would do: " .. runbook, function ()
          if not at then return pending(why) end
          local r = results[runbook]
          assert.equal(asked.of(runbook).exit, r.code, r.all)
          assert.matches("Nothing was written", r.out, 1, true)
        end)
      end

      it("writes nothing", function ()
        if not at then return pending(why) end
        if #found > 0 then found = culprits(at, found) end
        assert.same({}, found)
      end)

      it("is looked at by eyes that see each kind of write", function ()
        if not at then return pending(why) end
        local seen = table.concat(lookers.of(at).during(function ()
          at.pg.sql("insert into kept values (1); begin; insert into kept values (2); rollback", at.database)
          at.redis.cli("set", "a", "1")
          os.execute("touch " .. at.backups .. "/x")
          at.app.stop()
          if at.engine then at.app.start() end
          os.execute(("PATH=/nowhere '%s/tool' migrate deploy 2>/dev/null"):format(at.dir))      -- it notes the call, and finds nothing to become
          post(at, "x")
        end), "\n")
        local kinds = { "rows: ", "next transaction: ", "the write%-ahead log: .*Heap/INSERT", "sent to Redis: ", "files, after: [^\n]*/x ", "the migration tool: migrate deploy", "posted: x",
          at.engine and "a container: start" or "application: it runs: true → false" }
        for _, kind in ipairs(kinds) do assert.matches(kind, seen) end
        assert.same({}, lookers.of(at).during(function () end))
      end)
    end)
  end
end)
