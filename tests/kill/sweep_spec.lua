-- kill -9 at the system calls of a five-step runbook: whatever call it was, resume brings the database to the one right
-- state, does nothing twice, and loses nothing that was shown.

local faults = require "tests.support.faults"
local journal = require "native.journal"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local BOOK <const> = [[
runbook "Five ways to write" { why = "Each kind of write once." }
local db, tool = target.postgres "db", target.command "tool"

step "Insert a row" {
  done = function () return db:has("SELECT 1 FROM effect WHERE what = $1", "exec") end,
  act  = function () db:exec("INSERT INTO effect (what) VALUES ($1)", "exec") end,
}
step "Build an index beside the writers" {
  done = function () return db:has("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('effect_what') AND indisvalid") end,
  act  = function () db:exec("CREATE INDEX CONCURRENTLY effect_what ON effect (what)") end,
}
step "Two rows or none" {
  act = function ()
    db:transaction(function (tx)
      tx:exec("INSERT INTO effect (what) VALUES ('first')")
      tx:exec("INSERT INTO effect (what) VALUES ('second')")
    end)
  end,
  verify = function () check.same(db:value("SELECT count(*) FROM effect WHERE what IN ('first', 'second')"), 2, "both rows are there") end,
}
step "Create a database" {
  done = function () return db:exists(SIDE) end,
  act  = function () db:create_database(SIDE) end,
}
step "Run a program" {
  done = function () return db:has("SELECT 1 FROM effect WHERE what = 'program'") end,
  act  = function () tool:run {} end,
}
]]

local INVENTORY <const> = [[
environment "demo" {
  db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "OWNER_PASSWORD" } },
  tool = command { argv = { "%s/psql", "-X", "-q", "-h", "127.0.0.1", "-p", "%d", "-d", "%s", "-U", "owner", "-c", "INSERT INTO effect (what) VALUES ('program')" },
    env = { PGPASSWORD = secret { env = "OWNER_PASSWORD" }, PGAPPNAME = "tool" } },
}
]]

-- What the log says of each step when it wrote.
local MARKS <const> = {
  "INSERT INTO effect (what) VALUES ($1)", "CREATE INDEX CONCURRENTLY effect_what", "INSERT INTO effect (what) VALUES ('second')", "CREATE DATABASE",
  "INSERT INTO effect (what) VALUES ('program')",
}

describe("kill -9 at a system call of five steps that write", function ()
  local pg, database, dir
  setup(function ()
    pg = servers.postgres()
    database = pg.database()
    pg.sql("create table effect (id serial primary key, what text not null)", database, "owner")
  end)

  before_each(function ()
    dir = suite.memory()
    suite.write(dir .. "/five.lua", (BOOK:gsub("SIDE", ("%q"):format(database .. "_side"))))
    suite.write(dir .. "/inventory.lua", INVENTORY:format(pg.port, database, pg.bin, pg.port, database))
  end)

  -- The world before the run.
  local function reset()
    pg.sql(("drop database if exists %s_side"):format(database))
    pg.sql("truncate effect restart identity; drop index if exists effect_what; select lo_unlink(oid) from pg_largeobject_metadata", database)
  end

  local count, asked = 0, 0
  local function arguments(verb, what)
    return { verb, what, "--no-input", "--json", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state" .. count }
  end

  local function run_arguments()
    count = count + 1
    local list = arguments("run", dir .. "/five.lua")
    table.move({ "--env", "demo" }, 1, 2, #list + 1, list)
    return list
  end

  local function neap(list)
    return servers.neap(list, { env = { OWNER_PASSWORD = servers.passwords.owner }, timeout = 90000 })
  end

  local function log_size()
    local file <close> = assert(io.open(pg.dir .. "/pg.log"))
    return file:seek("end")
  end

  local function log_from(at)
    local file <close> = assert(io.open(pg.dir .. "/pg.log"))
    file:seek("set", at)
    return file:read("a")
  end

  -- The last thing that was shown, and the journal.
  local function last_shown(out)
    local last = 0
    for line in out:gmatch("[^\n]+") do last = math.max(last, tonumber(line:match('"seq":(%d+)')) or 0) end
    return last
  end

  local function only_run()
    local names = T.entries(dir .. "/state" .. count .. "/runs") or {}
    assert.is_true(#names <= 1)
    return names[1]
  end

  -- Ids of the steps that ended well, in order of number.
  local function completed(records)
    local list = {}
    for _, r in ipairs(records) do
      if r.kind == "step" and r.body.state == "end" and r.body.status == "ok" then list[r.body.number] = true end
    end
    return list
  end

  local function open_intents(records)
    local open = {}
    for _, r in ipairs(records) do
      if r.kind == "intent" then open[r.seq] = true end
      if r.kind == "outcome" then open[r.body.intent] = nil end
    end
    return open
  end

  local function world()
    local one = pg.sql("select string_agg(what, ' ' order by what) from effect", database)
    local index = pg.sql("select indisvalid from pg_index where indexrelid = to_regclass('effect_what')", database)
    local side = pg.sql(("select count(*) from pg_database where datname = '%s_side'"):format(database))
    local hold = pg.sql([[select (select count(*) from pg_db_role_setting where array_to_string(setconfig, ' ') like '%neap.hold%')
      + (select count(*) from pg_description where description like 'neap.hold%')]], database)
    local ends, locks = T.now_ms() + 60000                          -- the server needs a moment to notice that a session is over
    repeat
      locks = pg.sql("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())", database)
    until locks == "0" or T.now_ms() > ends
    return ("%s | index %s | side %s | hold %s | locks %s"):format(one, index, side, hold, locks)
  end

  local RIGHT <const> = "exec first program second | index t | side 1 | hold 0 | locks 0"

  local function state_directory() return dir .. "/state" .. count end

  -- Before anything is asked of the resumed run, what it found in doubt has an outcome of its own.
  local function check_doubt(records, before, what)
    for seq in pairs(open_intents(before)) do
      local outcome
      for _, r in ipairs(records) do
        if r.kind == "outcome" and r.body.intent == seq then outcome = outcome or r end
      end
      assert(outcome and outcome.body.found, what .. ": nobody asked what became of intent " .. seq)
    end
  end

  -- In the moment between "its pid is recorded" and "it is let go" nobody but a human can tell: an operator looked, and says "again".
  local function answer(run, what)
    assert.equal("0", pg.sql("select count(*) from effect where what = 'program'", database), what)
    local list = arguments("resume", run)
    for i = #list, 1, -1 do
      if list[i] == "--no-input" or list[i] == "--json" then table.remove(list, i) end
    end
    local running = servers.neap.start(list, { tty = true, env = { OWNER_PASSWORD = servers.passwords.owner } })
    running:expect("again or abort")
    running:write("again\n")
    local r = running:finish(60000)
    assert.equal(0, r.code, what .. "\n" .. r.out)
  end

  local function resume(run, before, what)
    local last = before[#before]
    local over = last.kind == "end" and last.body.status == "ok"
    local r = neap(arguments("resume", run))
    if over and r.code == 64 then return end          -- the seal was on as well
    if r.code == 75 then
      assert.matches("began and nobody can say whether it was done", r.out, 1, true)
      assert.matches("nobody knows", r.out, 1, true)
      asked = asked + 1
      return answer(run, what)
    end
    assert.equal(0, r.code, what .. "\n" .. r.out .. r.err)
  end

  local function try(point)
    reset()
    local what = "killed at " .. point.name
    local running = faults.start(run_arguments(), { home = dir }, point)
    local killed = running:finish(90000)
    if killed.code == 0 then return false end
    local run = only_run()
    local before = run and journal.read(state_directory(), run, 0) or {}
    assert.is_true(last_shown(killed.out) <= #before, what .. ": a record that was shown is lost")
    if #before == 0 then
      assert.equal(" | index  | side 0 | hold 0 | locks 0", world(), what)
      return true
    end
    local done, from = completed(before), log_size()
    resume(run, before, what)
    assert.equal(RIGHT, world(), what)
    local log = log_from(from)
    for number in pairs(done) do
      assert.is_nil(log:find(MARKS[number], 1, true), ("%s: step %d was completed and ran again"):format(what, number))
    end
    assert(journal.verify(state_directory(), run))
    local records = journal.read(state_directory(), run, 0)
    check_doubt(records, before, what)
    for i, r in ipairs(before) do assert.equal(r.seq, records[i].seq, what) end
    return true
  end

  local function sweep(most)
    local why = faults.missing()
    if why then return pending(why) end
    reset()
    local result, calls = faults.record(run_arguments(), { home = dir })
    assert.equal(0, result.code, result.out .. result.err)
    assert.equal(RIGHT, world())
    asked = 0
    local struck, points = 0, faults.points(calls)
    for _, point in ipairs(faults.spread(points, most or #points, 20)) do
      if try(point) then struck = struck + 1 end
      T.remove_tree(state_directory())
    end
    assert.is_true(asked <= 6, asked .. " times a human was asked")
    assert.is_true(struck * 10 >= 9 * math.min(most or #points, #points), "the faults hardly ever struck")
  end

  it("leaves what resume can finish, at points spread over the run #kill", function () sweep(32) end)
  it("leaves what resume can finish, at every one #kill #long", function () sweep() end)
end)
