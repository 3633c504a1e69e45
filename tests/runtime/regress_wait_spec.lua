--- Waiting and stopping meet: an answer and a deadline in one turn, a cancel while a task computes, a task that never
-- has to wait.

local native = require("native.pg")
local servers = require("tests.support.servers")
local task = require("native.task")

local function busy(ms)
  local ends = task.now_ms() + ms
  while task.now_ms() < ends do end
end

describe("a wait", function()
  it("that was answered is not undone by a deadline of the same turn", function()
    T.run(function()
      local waiter = task.spawn(function()
        local mark = task.deadline(20)
        task.sleep(5)
        task.restore(mark)
        return "slept"
      end)
      task.sleep(0)
      busy(40)                                     -- both timers are due when the loop turns again
      assert.same({ true, "slept" }, { waiter:join() })
    end)
  end)

  it("whose answer came while the process stood still gets it, though its deadline has passed too", function()
    local server = servers.postgres()
    T.run(function()
      local db <close> = assert(native.new { url = server.url("app"), application = "neap:wait:1" })
      local eye <close> = assert(native.new { url = server.url("app"), fenced = true })
      assert(db:open())
      assert(eye:open())
      local over = false
      local asker = task.spawn(function()
        local mark = task.deadline(1000)
        local ok, rows = pcall(db.exec, db, "SELECT 'slept' FROM pg_sleep(0.5)")
        task.restore(mark)
        over = true
        return ok, ok and type(rows) or rows.code
      end)
      repeat                                         -- a write asks for its number before it is sent
        task.sleep(5)
        local sent = eye:value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'neap:wait:1' AND query LIKE '%pg_sleep(0.5)%'")
      until over or sent == 1
      T.pause(1500)
      assert.same({ true, true, "table" }, { asker:join() })
    end)
  end)

  it("is stopped once while its task computes, and what unwinds is left in peace", function()
    T.run(function()
      local stopped = task.spawn(function()
        task.sleep(0)
        local ok, err = pcall(function() busy(60000) end)
        busy(50)
        return ok, err.code
      end)
      task.sleep(0)                                -- its pause is over, but it has not run yet
      stopped:cancel("enough")
      assert.same({ true, false, "cancelled" }, { stopped:join() })
    end)
  end)

  it("that is always answered at once lets others have their turn", function()
    T.run(function()
      local done = task.spawn(function() end)
      done:join()
      local greedy = task.spawn(pcall, function()
        while true do done:join() end
      end)
      task.sleep(30)
      greedy:cancel("enough")
      local _, ok, err = greedy:join()
      assert.same({ false, "cancelled" }, { ok, err.code })
    end)
  end)

  it("that computes past its deadline is told so once", function()
    T.run(function()
      local late = task.spawn(function()
        local mark = task.deadline(10)
        local ok, err = pcall(busy, 60000)
        busy(50)
        task.restore(mark)
        return ok, err.code
      end)
      assert.same({ true, false, "timeout" }, { late:join() })
    end)
  end)
end)
