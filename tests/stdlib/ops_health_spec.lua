-- The health words on a fake server: what a real one answers is asked in tests/runbooks/health_spec.lua.
-- luacheck: no self

local health = require "ops.health"
local raise = require "core.raise"

-- Answers by the first pattern that a question contains.
local function server_of(answers)
  local db = { asked = {} }
  function db:rows(sql, ...)
    db.asked[#db.asked + 1] = { sql, ... }
    for _, pair in ipairs(answers) do
      if sql:find(pair[1], 1, true) then
        if raise.is(pair[2]) then error(pair[2], 0) end
        return pair[2]
      end
    end
    return {}
  end
  function db:value() return "Counted since today." end
  return db
end

local function last(db) return db.asked[#db.asked][1] end

describe("ops.health", function ()
  it("gives every answer as a title, columns and rows in their order", function ()
    local answer = health.connections(server_of { { "max_connections", { { left = 4, connections = 1, reserved = 3, max_connections = 8 } } } })
    assert.same({ "connections", "max_connections", "reserved", "left" }, answer.columns)
    assert.same({ { 1, 8, 3, 4 } }, answer.rows)
  end)

  it("asks for the mean time under the name the view has", function ()
    for modern, column in pairs { [true] = "mean_exec_time", [false] = "mean_time" } do
      local db = server_of { { "pg_extension", { { view = "stats.pg_stat_statements", modern = modern } } } }
      health.slow(db)
      assert.matches("s%." .. column .. "::numeric", last(db))
      assert.matches("FROM stats%.pg_stat_statements", last(db))
    end
  end)

  it("says that pg_stat_statements is not installed, or not loaded", function ()
    assert.matches("not installed", health.slow(server_of {}).remark)
    local db = server_of { { "pg_extension", { { view = "v", modern = true } } }, { "FROM v s", raise.new("remote", "must be loaded", nil, { sqlstate = "55000" }) } }
    assert.matches("shared_preload_libraries lacks", health.slow(db).remark)
  end)

  it("hands on every other refusal of pg_stat_statements", function ()
    local db = server_of { { "pg_extension", { { view = "v", modern = true } } }, { "FROM v s", raise.new("remote", "denied", nil, { sqlstate = "42501" }) } }
    assert.is_false(pcall(health.slow, db))
  end)

  it("puts every waiting session under the one that blocks it", function ()
    local db = server_of {
      { "pg_blocking_pids", { { pid = 2, blocker = 1 }, { pid = 4, blocker = 1 }, { pid = 3, blocker = 2 } } },
      { "pg_stat_activity", { { pid = 1, state = "idle in transaction" }, { pid = 2, wants = "ExclusiveLock on a" }, { pid = 3 }, { pid = 4 } } },
    }
    local pids = {}
    for i, row in ipairs(health.locks(db).rows) do pids[i] = row[1] end
    assert.same({ "1", "  2", "    3", "  4" }, pids)
    assert.equal("idle in transaction", health.locks(db).rows[1][2])
  end)

  it("shows a circle of waiting sessions once and ends", function ()
    local db = server_of { { "pg_blocking_pids", { { pid = 2, blocker = 1 }, { pid = 1, blocker = 2 } } }, { "pg_stat_activity", {} } }
    assert.equal(3, #health.locks(db).rows)
  end)

  it("turns what the server will not say into a remark, and a lost server into an error", function ()
    local answer = health.ask(server_of { { "pg_stat_activity", raise.new("remote", "permission denied", nil, { sqlstate = "42501" }) } }, "connections")
    assert.equal("The server would not say: permission denied", answer.remark)
    assert.same({}, answer.rows)
    assert.is_false(pcall(health.ask, server_of { { "pg_stat_activity", raise.new("unreachable", "gone") } }, "connections"))
  end)

  it("hands limits and durations on", function ()
    local db = server_of {}
    health.ask(db, "sizes", { limit = 3 })
    assert.equal(3, db.asked[1][2])
    local answer = health.ask(db, "long", { longer = "90s" })
    assert.equal(90000, db.asked[2][2])
    assert.equal("Running for longer than 90s", answer.title)
  end)

  it("asks nothing that the read fence would refuse", function ()
    local sql = require "native.sql"
    local db = server_of { { "pg_extension", { { view = "public.pg_stat_statements", modern = true } } }, { "pg_blocking_pids", { { pid = 2, blocker = 1 } } } }
    function db:value(text) return self:rows(text) and "" end
    for _, question in ipairs(health.questions) do health.ask(db, question[1]) end
    assert.is_true(#db.asked > #health.questions)
    for _, asked in ipairs(db.asked) do
      local found = assert(sql.read(asked[1]))
      assert.is_true(found.reads, found.why)
    end
  end)

  it("has a word for every question", function ()
    for _, question in ipairs(health.questions) do
      assert.is_function(health[question[1]])
      assert.is_table(health.ask(server_of {}, question[1]).rows)
    end
  end)
end)
