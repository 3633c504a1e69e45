-- service/maintenance-window on real servers: what it does when all goes well, and that whatever fails, and wherever it is killed, the window is closed and
-- announced and the service ends as it must.

local child = require "tests.support.child"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

-- The operation of the tests: a column that is added and can be taken away. `bad` fails after it, `slow` takes, once it is there, as long as a row
-- stands in its way (GATE).
local OPERATION <const> = [[
runbook "Add a column" { why = "An operation for a window." }
local db = target.postgres "db"
local p = params { column = { "the column", kind = "name" }, bad = { "fail after it", kind = "boolean", default = false }, slow = { "wait for the gate", kind = "boolean", default = false } }
local function there () return db:has("SELECT 1 FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = $1 AND NOT attisdropped", p.column) end
step "Add the column {column}" {
  done = there,
  act  = function ()
    db:exec('ALTER TABLE t ADD COLUMN "' .. p.column .. '" int')
    if p.slow then db:exec "CREATE TABLE slow AS SELECT held()::text" end
  end,
  undo = function () if there() then db:exec('ALTER TABLE t DROP COLUMN "' .. p.column .. '"') end end,
}
step "Look at it" { verify = function () check(not (there() and p.bad), "the operation is good") end }
]]

local GATE <const> = [[create table gate (id int); insert into gate values (1); create function held() returns void language plpgsql volatile
  as 'begin while exists (select from gate) loop perform pg_sleep(0.02); end loop; end';]]

local BEGINS <const>, OVER <const>, FAILED <const> = "window begins", "is over: the service is back and well", "over, and not as planned: the service is "

-- The commands of the application behind a script that may stand in the way: `before` is shell, run before each start or stop.
local SCRIPT <const> = "#!/bin/sh\nhere=%s app=%s\n%s\nexec $app/%s\n"

local function exists(path)
  local file <close> = io.open(path)
  return file ~= nil
end

local function await(fn, what)
  local until_ms = T.now_ms() + 60000
  while not fn() do
    if T.now_ms() > until_ms then error("did not come: " .. what, 2) end
    T.pause(20)
  end
end

-- A place on a set-up, with the operation, and the words to run it.
local function open(name, options)
  local at, why = setups.open(name, options)
  if not at then return nil, why end
  at.operation = suite.write(at.dir .. "/operation.lua", OPERATION)
  local given = { operation = at.operation, column = "seen", tested = "7f3a91c0", rollback = "none needed", flat = "200ms", silent = "1m", times = "2", healthy = "1m" }

  --- The runbook's name and its parameters: the usual ones, and others instead.
  function at.window(more)
    local all, words = {}, { "service/maintenance-window" }
    for _, list in ipairs { given, more or {} } do
      for param, value in pairs(list) do all[param] = value end
    end
    for param, value in pairs(all) do words[#words + 1] = ("--%s=%s"):format(param, value) end
    return words
  end

  function at.begin(more) return at.start { "run", "--no-input", table.unpack(at.window(more)) } end
  function at.go(more) return at.neap { "run", "--no-input", table.unpack(at.window(more)) } end

  function at.has_column() return at.pg.sql("select count(*) from pg_attribute where attrelid = 't'::regclass and attname = 'seen'", at.database) == "1" end

  --- What people were told, in order.
  function at.heard()
    local list = {}
    for i, line in ipairs(at.said()) do
      list[i] = line:find(BEGINS, 1, true) and "begins" or line:find(OVER, 1, true) and "over" or line:find(FAILED .. "back", 1, true) and "failed, well"
        or line:find(FAILED .. "NOT", 1, true) and "failed, NOT WELL" or line
    end
    return list
  end

  --- The inventory, changed.
  function at.change(pattern, replacement)
    local text, n = suite.read(at.inventory):gsub(pattern, replacement)
    assert(n > 0, "nothing to change: " .. pattern)
    suite.write(at.inventory, text)
  end

  --- Put a script before the command `verb` of the application (direct): shell that knows $here and $app.
  function at.before(verb, shell)
    local app = suite.read(at.inventory):match('{ "([^"]+)/' .. verb .. '" }')
    T.mode(suite.write(("%s/%s"):format(at.dir, verb), SCRIPT:format(at.dir, app, shell, verb)), tonumber("755", 8))
    at.change('{ "[^"]+/' .. verb .. '" }', ('{ "%s/%s" }'):format(at.dir, verb))
  end

  --- A psql session of the owner that stays as it is until it is closed.
  function at.session(statements, seen, application)
    local process = child.start {
      argv = { at.pg.bin .. "/psql", "-X", "-A", "-t", "-h", at.pg.dir, "-p", tostring(at.pg.port), "-U", "owner", "-d", at.database },
      env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv("PATH"), PGAPPNAME = application or "holder" },
    }
    process:write(statements .. "\n")
    process:expect(seen)
    return setmetatable({ process = process }, { __close = function ()
      process:kill(15)
      process:finish()
    end })
  end

  --- Somebody else, with a journal of their own, is told this code.
  function at.elsewhere(code, words)
    local all, user, state = at.words(words), T.uid() == 0 and "nobody" or nil, suite.temp()
    if user then T.owner(state, user) end
    for i, word in ipairs(all) do
      if word == at.state then all[i] = state end
    end
    local app = suite.read(at.inventory):match('status = { "([^"]+)/is%-up" }')
    child.must { argv = { "sh", "-c", 'mkdir -p "$1/share" && cp -R "$2/runbooks" "$1/share" && chmod -R a+rX "$1/share" && chmod a+rx "$1" "$3" && chmod a+r "$4" "$5"', "sh", at.dir,
      os.getenv("PWD"), app, at.inventory, at.operation } }
    local env = { NEAP_SHARE = at.dir .. "/share" }
    for variable, value in pairs(at.env) do env[variable] = value end
    local r = servers.neap.run(all, { env = env, cwd = "/", user = user })
    if r.code ~= code then error(("exit %s instead of %d: %s"):format(r.code, code, r.out .. r.err), 2) end
    return r.out .. r.err
  end

  --- Has the newest run begun this step?
  function at.is_in(step)
    local ok, records = pcall(at.records)
    for _, r in ipairs(ok and records or {}) do
      if r.kind == "step" and r.step == step and r.body.state == "begin" then return true end
    end
    return false
  end

  return at
end

local function with(name, what, fn, options)
  it(what, function ()
    local at, why = open(name, options)
    if not at then return pending(why) end
    fn(at)
  end)
end

-- As it must be when a window has failed: the service runs, nothing is owed, and the operation is taken back.
local function check_failed(at, r, sentence, heard)
  assert.equal(1, r.code, r.all)
  assert.matches(sentence, r.all, 1, true)
  assert.is_true(at.app.running())
  local last = at.records()[#at.records()]
  assert.same({ "end", "failed" }, { last.kind, last.body.status })
  assert.is_nil(last.body.owes)
  assert.is_false(at.has_column())
  assert.same(heard, at.heard())
end

-- As it must be when all went well.
local function check_well(at, r)
  assert.equal(0, r.code, r.all)
  assert.is_true(at.app.running())
  assert.is_true(at.has_column())
end

-- As it was before it: the service runs again, and nobody is told anything more.
local function check_taken_back(at)
  local heard = at.heard()
  at.ends(0, { "undo", at.latest(), "--no-input" })
  assert.is_true(at.app.running())
  assert.is_false(at.has_column())
  assert.same(heard, at.heard())
end

local AS_PLANNED <const> = { "begins", "failed, well" }

describe("service/maintenance-window", function ()
  with("direct", "shows every step and those of the operation, and does what it showed, and takes it back", function (at)
    local r = at.neap { "plan", table.unpack(at.window()) }
    assert.equal(2, r.code, r.all)
    local page = kept.plain(r.out, { [at.database] = "DATABASE", [at.operation] = "OPERATION", [at.dir] = "DIR" }):gsub("/tmp/[^ ]+/(%l+)%f[ \n]", "APP/%1")
    page = page:gsub("%d%d%d%d%d%d%d%dT%d%d%d%d%d%dZ", "STAMP"):gsub("127%.0%.0%.1:%d+", "127.0.0.1:PORT"):gsub("service:[^/]+/", "service:HOST/")
      :gsub("file of %d+ bytes", "file of N bytes"):gsub("pg_dump [%d.]+ here, PostgreSQL [%d.]+", "pg_dump VERSION here, PostgreSQL VERSION")
    transcript.compare("plan_maintenance_window", page)
    assert.same({}, at.said())
    assert.is_true(at.held(at.window(), { "--no-input" }) > 0)
    check_well(at, { code = 0 })
    assert.same({ "begins", "over" }, at.heard())
    assert.matches("operation: " .. at.operation, at.said()[1], 1, true)
    assert.is_true(#T.entries(at.backups) > 0)
    check_taken_back(at)
  end)

  for _, name in ipairs { "compose", "plain", "docker" } do
    with(name, "holds the window on the set-up " .. name .. (name == "compose" and "" or " #long"), function (at)
      check_well(at, at.go())
      assert.same({ "begins", "over" }, at.heard())
    end)
  end

  describe("when it fails", function ()
    with("direct", "before anything is said, says and stops nothing", function (at)
      local r = at.go { bad = "yes", page = "no such words" }
      assert.equal(1, r.code, r.all)
      assert.matches("the service is well, so that its health afterwards says something", r.all, 1, true)
      at.app.stop()
      assert.equal(1, at.go().code)
      assert.is_false(at.app.running())
      at.app.start()
      assert.matches("missing: --column", at.neap({ "run", "--no-input", "service/maintenance-window", "--operation", at.operation, "--tested", "x", "--rollback", "x" }).all, 1, true)
      r = at.neap { "run", "--no-input", "service/maintenance-window", "--operation", at.operation, "--column", "seen" }
      assert.equal(75, r.code, r.all)
      assert.matches("Say where", r.all, 1, true)
      assert.same({}, at.heard())
      assert.is_true(at.app.running())
    end)

    with("direct", "in step 1, because nobody can be told and somebody must be, it does not begin", function (at)
      at.env.CHAT_URL = at.env.CHAT_URL .. "-is-gone"
      at.change('format = "slack"', 'format = "slack", must = true')
      check_failed(at, at.go(), "answered 404", {})
    end)

    with("direct", "in step 2, the dump, it stops nothing and says that it is over", function (at)
      at.pg.sql("create table theirs (a int); insert into theirs values (1); revoke all on theirs from public", at.database)
      local r = at.go()
      assert.equal(1, r.code, r.all)
      check_failed(at, r, "theirs", #at.heard() > 0 and AS_PLANNED or {})
    end)

    with("direct", "in step 3, because somebody still writes, it starts the service again", function (at)
      local writer <close> = at.session("select 'here';", "here", "somebody")
      check_failed(at, at.go { silent = "3s" }, "somebody still works in the database", AS_PLANNED)
      assert(writer)
    end)

    with("direct", "in step 4, the operation, takes it back and starts the service", function (at)
      check_failed(at, at.go { bad = "yes" }, "the operation is good", AS_PLANNED)
    end)

    with("direct", "in step 5, because the service does not start, takes the operation back and starts it as it was", function (at)
      at.before("up", "[ -e $here/once ] || { touch $here/once; echo 'no room' >&2; exit 1; }")
      check_failed(at, at.go(), "no room", AS_PLANNED)
    end)

    with("direct", "in step 6, because it is not well, stops it again, takes the operation back and starts it as it was", function (at)
      at.before("up", "if [ -e $here/once ]; then echo fine >$app/www/health; else touch $here/once; echo broken >$app/www/health; fi")
      check_failed(at, at.go { page = "fine", healthy = "6s" }, "not so within 6s", AS_PLANNED)
    end)

    with("direct", "in step 7, because nobody can be told, is over all the same, and its record says so", function (at)
      local web = servers.http()
      at.env.CHAT_URL = web.url .. "/flaky?bad=2&name=window" .. T.pid()
      local r = at.go()
      check_well(at, r)
      assert.matches("nobody could be told", r.all, 1, true)
      local told = {}
      for _, record in ipairs(at.records()) do
        if record.kind == "told" then told[#told + 1] = record.body.state end
      end
      assert.same({ "telling", "told", "telling", "nobody" }, told)
    end)

    with("direct", "and the service cannot be started, says that it is not well and stays open until somebody mends it", function (at)
      at.before("up", "[ -e $here/mended ] || exit 1")
      local r = at.go { bad = "yes" }
      assert.equal(1, r.code, r.all)
      assert.same({ "begins", "failed, NOT WELL" }, at.heard())
      assert.is_false(at.app.running())
      local run = at.latest()
      assert.matches("neap resume " .. run, at.ends(75, { "run", "--no-input", table.unpack(at.window()) }), 1, true)
      suite.write(at.dir .. "/mended", "")
      at.neap { "undo", run, "--no-input" }
      assert.is_true(at.app.running())
      assert.is_false(at.has_column())
    end)
  end)
end)

-- Killed in a step: what stands in the way so that it can be, how one knows that it is in it, and what is mended before the resume.
local KILLS <const> = {
  { "1, the announcement", "", function (at)
    local web = servers.http()
    local before = web.counts()["POST /never"] or 0
    at.env.CHAT_URL = web.url .. "/never"
    return function () return (web.counts()["POST /never"] or 0) > before end, function () at.env.CHAT_URL = web.url .. "/ok" end
  end },
  { "2, the dump", " #kill #long", function (at)
    local holder = at.session("begin; lock table t; select 'held';", "held")
    return function () return at.pg.sql("select count(*) from pg_locks where not granted", at.database) ~= "0" end, function () getmetatable(holder).__close(holder) end
  end },
  { "3, while the service stops", "", function (at)
    os.execute("mkfifo " .. at.dir .. "/go")
    at.before("down", "[ -e $here/once ] || { touch $here/once; cat $here/go >/dev/null; }")
    return function () return exists(at.dir .. "/once") end, function () os.execute("echo >" .. at.dir .. "/go") end
  end },
  { "3, while it is proved that nothing writes", " #kill", function (at)
    at.flat = "2s"
    return function () return not at.app.running() end, function () end
  end },
  { "4, the operation", "", function (at)
    at.slow = "yes"
    at.pg.sql(GATE, at.database, "owner")
    return function () return at.pg.sql("select count(*) from pg_stat_activity where query like 'CREATE TABLE slow%' and state = 'active'") == "1" end,
      function () at.pg.sql("delete from gate", at.database, "owner") end
  end },
  { "5, while the service starts", " #kill #long", function (at)
    os.execute("mkfifo " .. at.dir .. "/go")
    at.before("up", "[ -e $here/once ] || { touch $here/once; cat $here/go >/dev/null; }")
    return function () return exists(at.dir .. "/once") end, function () os.execute("echo >" .. at.dir .. "/go") end
  end },
  { "6, while its health is asked", " #kill #long", function (at)
    at.before("up", "[ -e $here/once ] || { touch $here/once; echo broken >$app/www/health; }")
    at.page = "fine"
    return function () return at.is_in "see-that-it-is-well-times-times-in-a-row" end,
      function () os.execute("echo fine >" .. suite.read(at.inventory):match('{ "([^"]+)/is%-up" }') .. "/www/health") end
  end },
  { "7, the last announcement", " #kill #long", function (at)
    local web = servers.http()
    local before = web.counts()["POST /slow"] or 0
    at.env.CHAT_URL = web.url .. "/slow?ms=1500"
    return function () return (web.counts()["POST /slow"] or 0) > before + 1 end, function () at.env.CHAT_URL = web.url .. "/ok" end
  end },
}

describe("service/maintenance-window, killed in step", function ()
  for _, kill in ipairs(KILLS) do
    with("direct", kill[1] .. ", keeps everybody else away, and is held to its end by a resume" .. kill[2], function (at)
      local is_there, mend = kill[3](at)
      local process = at.begin { slow = at.slow, flat = at.flat, page = at.page }
      process:shut()
      await(is_there, kill[1])
      process:kill(9)
      process:finish()
      wards.await_unlocked(at.pg, at.database)
      local run = at.latest()
      assert.matches("neap resume " .. run, at.elsewhere(75, { "run", "--no-input", table.unpack(at.window()) }), 1, true)
      mend()
      check_well(at, at.neap { "resume", run, "--no-input" })
      local told = {}
      for _, record in ipairs(at.records(run)) do
        if record.kind == "told" and record.body.state ~= "telling" then told[#told + 1] = record.body.text:match "begins" or record.body.text:match "over" end
      end
      assert.same({ "begins", "over" }, told)
      if kill[1]:find "^4" then check_taken_back(at) end
    end)
  end
end)
