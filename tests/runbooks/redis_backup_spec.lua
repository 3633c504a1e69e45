-- redis/backup on a real server: what the plan says, what the run leaves, the second run, undo, and kill -9 on the way. Traps T16 and T17
-- have their own files.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local keep = require "tests.support.keep"
local kept = require "tests.support.kept"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

describe("redis/backup", function ()
  local function server()
    local at = keep.open { arguments = { "--save", "", "--appendonly", "yes" } }
    for i = 1, 20 do at.cli("set", "auth:refresh:" .. i, "x") end
    return at
  end

  local function names(at)
    local list = T.entries(at.backups)
    table.sort(list)
    return list
  end

  local ALL <const> = { "night.appendonly.aof.1.base.rdb", "night.appendonly.aof.1.incr.aof", "night.appendonly.aof.manifest", "night.rdb" }

  it("announces what it writes, keeps to it, and finds everything there the second time", function ()
    local at <close> = server()
    local words = { "plan", "redis/backup", "--name", "night", "--begun", "1" }
    local r
    local sent = at.watch(function () r = at.neap(words) end)
    assert.equal(2, r.code, r.all)
    assert.same({}, keep.writes(sent))
    assert.same({}, names(at))
    transcript.compare("plan_redis_backup", kept.plain(keep.plain(r.out, at), { [at.dir] = "DIR" }))
    local plan = text.parse(at.neap({ "plan", "redis/backup", "--name", "night", "--begun", "1", "--json" }).out)
    r = at.neap { "run", "redis/backup", "--name", "night", "--begun", "1", "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.matches("22 keys", r.all, 1, true)                  -- with neap's own lock and hold
    assert.same(ALL, names(at))
    local id = at.latest()
    local wrong = kept.compare(plan, journal.read(at.state, id, 0), id)
    assert.equal("", table.concat(wrong, "\n"))
    assert.equal(0, at.neap({ "plan", "redis/backup", "--name", "night", "--begun", "1" }).code)
    local before = suite.read(at.backups .. "/night.rdb")
    sent = at.watch(function () r = at.neap { "run", "redis/backup", "--name", "night", "--begun", "1", "--no-input" } end)
    assert.equal(0, r.code, r.all)
    for _, line in ipairs(sent) do assert.is_nil(line:find("BGSAVE", 1, true)) end
    assert.equal(before, suite.read(at.backups .. "/night.rdb"))
  end)

  it("names what it makes by the server's clock when nobody names it", function ()
    local at <close> = server()
    local r = at.neap { "run", "redis/backup", "--no-input" }
    assert.equal(0, r.code, r.all)
    local list = names(at)
    assert.equal(4, #list)
    for _, name in ipairs(list) do assert.matches("^redis%-%d%d%d%d%-%d%d%-%d%d%-%d%d%d%d%d%d%.", name) end
  end)

  it("is taken back by undo: no copy is left, and nothing of the server's is touched", function ()
    local at <close> = server()
    assert.equal(0, at.neap({ "run", "redis/backup", "--name", "night", "--no-input" }).code)
    suite.write(at.backups .. "/other.rdb", "x")
    local r = at.neap { "undo", at.latest(), "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.same({ "other.rdb" }, names(at))
    assert.equal("20", at.cli "dbsize")
    assert.truthy(suite.read(at.data .. "/dump.rdb"))
  end)

  it("finds a flipped byte in the copy", function ()
    local at <close> = server()
    assert.equal(0, at.neap({ "run", "redis/backup", "--name", "night", "--no-input" }).code)
    local path = at.backups .. "/night.rdb"
    local bytes = suite.read(path)
    local middle = #bytes - 12
    suite.write(path, bytes:sub(1, middle - 1) .. string.char(bytes:byte(middle) ~ 1) .. bytes:sub(middle + 1))
    local r = at.neap { "run", "redis/backup", "--name", "night", "--begun", "1", "--no-input" }
    assert.equal(1, r.code, r.all)
    assert.matches("its checksum is right", r.all, 1, true)
  end)

  it("ends in the same files when it was killed and resumed #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local resumed = keep.sweep(server, { "run", "redis/backup", "--name", "night", "--no-input" }, 6, function (at, what)
      assert.same(ALL, names(at), what)
      assert.matches("auth:refresh:20", suite.read(at.backups .. "/night.rdb"), 1, true, what)
    end)
    assert.is_true(resumed > 0)
  end)
end)
