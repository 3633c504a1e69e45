--- Ways around policy that were open: a write sent as a read inside a transaction, a never-rule met by other white space, a
-- comment or a quoted name, and rows changed where the bound on rows did not count.

local guard = require("native.guard")
local native = require("native.pg")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local system = require("native.system")
local text = require("native.text")

describe("policy", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql("CREATE TABLE item (id int, name text); GRANT ALL ON item TO owner; CREATE SEQUENCE counter; GRANT ALL ON counter TO owner", database)
  end)

  before_each(function()
    server.sql("TRUNCATE item; INSERT INTO item SELECT generate_series(1, 20)", database)
  end)

  local function connect(more)
    local all = { url = server.url("owner", database), application = "neap:policy:1" }
    for key, value in pairs(more or {}) do all[key] = value end
    local connection = assert(native.new(all))
    assert(connection:open())
    return connection
  end

  local function count() return tonumber(server.sql("SELECT count(*) FROM item", database)) end

  it("lets no volatile function through the reads of a transaction", function()
    T.run(function()
      local db <close> = connect()
      for _, sql in ipairs { "SELECT nextval('counter')", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE false",
        "SELECT query_to_xml('DELETE FROM item', true, false, '')" } do
        local tx <close> = assert(db:begin())
        for _, verb in ipairs { "value", "row", "rows", "has" } do
          local value, err = tx[verb](tx, sql)
          assert.same({ nil, "refused" }, { value, err.code })
        end
        assert.equal(20, tx:value("SELECT count(*) FROM item"))
        assert(tx:exec("DELETE FROM item WHERE id = 1"))
        assert.equal(19, tx:value("SELECT count(*) FROM item"))
        assert(tx:rollback() == nil)
      end
    end)
    assert.equal("f", server.sql("SELECT is_called FROM counter", database))
  end)

  it("counts rows wherever a statement changes them", function()
    T.run(function()
      local db <close> = connect { max_rows = 5 }
      for _, sql in ipairs { "WITH gone AS (DELETE FROM item RETURNING 1) SELECT count(*) FROM gone", "EXPLAIN ANALYZE DELETE FROM item",
        "CREATE TABLE kept AS WITH gone AS (DELETE FROM item RETURNING id) SELECT id FROM gone", "PREPARE quiet AS DELETE FROM item",
        "WITH gone AS (DELETE FROM item) INSERT INTO item VALUES (99)" } do
        local done, err = db:exec(sql)
        assert.same({ nil, "refused" }, { done, err and err.code }, sql)
        local tx <close> = assert(db:begin())
        done, err = tx:exec(sql)
        assert.same({ nil, "refused" }, { done, err and err.code }, sql)
      end
      assert(db:exec("EXPLAIN DELETE FROM item"))
      assert(db:exec("DELETE FROM item WHERE id < 3"))
    end)
    assert.equal(18, count())
  end)

  -- Rules cannot be taken back, so each world is a process of its own.
  local function in_a_world_with(rule, code)
    local script = suite.write(suite.temp() .. "/world.lua", ([[
      local guard, native, process = require("native.guard"), require("native.pg"), require("native.process")
      assert(guard.never(%q, "the spec says so"))
      local ok, err = pcall(T.run, function() %s end)
      io.write(tostring(ok), " ", type(err) == "table" and err.code or tostring(err))
    ]]):format(rule, code))
    local out = io.popen(("%s %s 2>&1"):format(text.shell { system.realpath("/proc/self/exe") }, text.shell { script }))
    local said = out:read("a")
    out:close()
    return said
  end

  it("meets a never-rule in whatever spelling", function()
    local url = server.url("owner", database)
    for _, sql in ipairs { "DROP TABLE item", "drop\n\ttable   item", "DROP/* x */TABLE item", "DROP -- x\n TABLE item", 'DROP TABLE "item"',
      'DROP TABLE U&"\\0069tem"', "DROP TABLE/*" .. ("x"):rep(40000) .. "*/item" } do
      local code = ("local db <close> = native.new{url=%q, application='neap:policy:2'} assert(db:open()) assert(db:exec(%q))"):format(url, sql)
      assert.equal("false refused", in_a_world_with("drop table item", code), sql:sub(1, 60))
    end
    assert.equal("false refused", in_a_world_with("echo gone", "process.run { argv = { 'sh', '-c', 'echo   gone' } }"))
    assert.equal("true nil", in_a_world_with("drop table item", "process.run { argv = { 'true' } }"))
    assert.equal(20, count())
    guard.clear()
  end)

  it("judges a database by its address where the inventory gives one beside a name", function()
    local place = suite.temp()
    suite.write(place .. "/inventory.lua", ([[
environment "here" { hosts = { "db.example" },
  db = postgres { url = "host=db.example hostaddr=127.0.0.1 port=%d user=owner dbname=%s", password = secret { file = "%s/password" } } }
]]):format(server.port, database, place))
    T.mode(suite.write(place .. "/password", servers.passwords.owner), tonumber("600", 8))
    suite.write(place .. "/add.lua", [[
runbook "Add" { why = "To be refused." }
local db = target.postgres "db"
step "Add a row" { act = function () db:exec "INSERT INTO item VALUES (99)" end, verify = function () return true end }
]])
    local r = servers.neap({ "run", place .. "/add.lua", "--env", "here", "--inventory", place .. "/inventory.lua" }, {})
    assert.equal(77, r.code, r.out .. r.err)
    assert.matches('"127.0.0.1" is not in this environment\'s list', r.out .. r.err, 1, true)
    assert.equal(20, count())
  end)
end)
