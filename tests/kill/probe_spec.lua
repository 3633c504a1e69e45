-- What became of a write whose run died: every primitive that writes, each answer it can give, through the guardians that
-- resume asks. The intents are those of real writes; the world is then put into the state in question.

local clients = { postgres = require "client.postgres", folder = require "client.folder", command = require "client.command" }
local secret = require "native.secret"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local system = require "native.system"
local task = require "native.task"
local text = require "native.text"

local NOW <const> = { within_ms = 0 }

-- The bodies of the intents since the last time they were forgotten, each with what was recorded about its start.
local function intents()
  local list = {}
  for _, r in ipairs(T.records()) do
    local body = assert(text.parse(r.body))
    if r.kind == "intent" then list[#list + 1] = body end
    if r.kind == "started" then list[#list].pid, list[#list].started = body.pid, body.started end
  end
  T.forget_records()
  return list
end

describe("the probe of", function ()
  local pg, database, names = nil, nil, 0
  setup(function ()
    pg = servers.postgres()
    database = pg.database()
    pg.sql("create table item (id int)", database, "owner")
  end)

  local function bind()
    return clients.postgres.bind("db", { url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, database),
      password = assert(secret.of(servers.passwords.owner, "password")) }, { application = "neap:spec:1", environment = "test" })
  end

  -- Do the writes with a connection of their own, which is gone afterwards as a dead run's is.
  local function intents_of(fn)
    local db <close> = setmetatable({ object = bind() }, { __close = function (self) clients.postgres.close(self.object) end })
    T.forget_records()
    pcall(fn, setmetatable({}, { __index = function (_, name) return function (_, ...) return db.object.methods[name](db.object, ...) end end }))
    return intents()
  end

  -- Asked by another object, as resume does. Backends that end are given a moment.
  local function ask(intent, patience)
    local object <close> = setmetatable(bind(), { __close = function (o) clients.postgres.close(o) end })
    return object.guardians.probe(object, intent, patience or { within_ms = 60000 })
  end

  local function new_name()
    names = names + 1
    return ("probe/%d"):format(names)
  end

  describe("a statement", function ()
    it("says done when it was committed", function ()
      T.run(function ()
        local made = intents_of(function (db) db:exec "insert into item values (1)" end)
        assert.equal("pg.exec", made[1].primitive)
        assert.equal("done", ask(made[1]))
      end)
    end)

    it("says not begun when it was rolled back", function ()
      T.run(function ()
        assert.equal("not begun", ask(intents_of(function (db) db:exec "insert into item select 1 / 0" end)[1]))
      end)
    end)

    it("says running while its backend works, and ends that backend when told to", function ()
      T.run(function ()
        local object <close> = setmetatable(bind(), { __close = function (o) clients.postgres.close(o) end })
        T.forget_records()
        local writer = task.spawn(function () return pcall(object.methods.exec, object, "insert into item select 2 from pg_sleep(60)") end)
        while #T.records() == 0 do task.sleep(10) end
        while pg.sql "select count(*) from pg_stat_activity where state = 'active' and query like 'insert into item select 2%'" == "0" do task.sleep(10) end
        local made = intents()[1]
        assert.equal("running", ask(made, NOW))
        assert.equal("not begun", ask(made, { within_ms = 60000, end_it = true }))
        writer:join()
        T.forget_records()
      end)
    end)

    it("has no answer when another server, or another timeline, is asked", function ()
      T.run(function ()
        local made = intents_of(function (db) db:exec "insert into item values (3)" end)[1]
        made.system = "1"
        local ok, err = pcall(ask, made)
        assert.same({ false, "another server answers at this address" }, { ok, err.message })
        made.system, made.timeline = nil, 7
        ok, err = pcall(ask, made)
        assert.is_false(ok)
        assert.matches("timeline", err.message, 1, true)
      end)
    end)
  end)

  describe("a transaction", function ()
    it("says of itself and of its statements what became of it", function ()
      T.run(function ()
        local function pair(tx) tx:exec "insert into item values (4)"; tx:exec "insert into item values (5)" end
        for _, one in ipairs(intents_of(function (db) db:transaction(pair) end)) do assert.equal("done", ask(one)) end
        local undone = intents_of(function (db) db:transaction(function (tx) pair(tx); error "no" end) end)
        assert.same({ "pg.begin", "pg.exec", "pg.exec" }, { undone[1].primitive, undone[2].primitive, undone[3].primitive })
        for _, one in ipairs(undone) do assert.equal("not begun", ask(one)) end
      end)
    end)
  end)

  describe("rows copied in", function ()
    it("says done when they were committed, and not begun when they were not", function ()
      T.run(function ()
        local function copy(rows)
          return intents_of(function (db)
            db:copy_in("copy item from stdin", suite.write(suite.temp() .. "/rows", rows))
          end)[1]
        end
        local made = copy "7\n8\n"
        assert.equal("pg.copy_in", made.primitive)
        assert.equal("done", ask(made))
        assert.equal("not begun", ask(copy "7\nx\n"))
      end)
    end)
  end)

  describe("a statement that must be alone", function ()
    it("tells an index that was built from one that was not, and from half of one", function ()
      T.run(function ()
        pg.sql("create table twice (\"a b\" int); insert into twice values (1), (1)", database, "owner")
        local made = intents_of(function (db) db:exec 'CREATE INDEX CONCURRENTLY "Odd one" ON public.twice ("a b")' end)[1]
        assert.is_nil(made.xid)
        assert.equal("done", ask(made))
        pg.sql('drop index "Odd one"', database)
        assert.equal("not begun", ask(made))
        assert.equal("half", ask(intents_of(function (db) db:exec 'create unique index concurrently if not exists twice_once on twice ("a b")' end)[1]))
      end)
    end)

    it("has no answer for what leaves no trace", function ()
      T.run(function ()
        local made = intents_of(function (db) db:exec "vacuum item" end)[1]
        assert.is_nil(ask(made))
      end)
    end)
  end)

  describe("a database", function ()
    it("that is made tells done from not begun", function ()
      T.run(function ()
        local name = new_name()
        local made = intents_of(function (db) db:create_database(name) end)[1]
        assert.equal("pg.create", made.primitive)
        assert.equal("done", ask(made))
        pg.sql(('drop database "%s"'):format(name))
        assert.equal("not begun", ask(made))
      end)
    end)

    it("that is dropped tells done from not begun, and from half", function ()
      T.run(function ()
        local name = new_name()
        pg.sql(('create database "%s" owner owner'):format(name))
        local made = intents_of(function (db) db:drop_database(name) end)[1]
        assert.equal("pg.drop", made.primitive)
        assert.equal("done", ask(made))
        pg.sql(('create database "%s" owner owner'):format(name))
        assert.equal("not begun", ask(made))
        pg.sql(("update pg_database set datconnlimit = -2 where datname = '%s'"):format(name))
        assert.equal("half", ask(made))
        pg.sql(('drop database "%s"'):format(name))
      end)
    end)

    it("whose sessions were ended tells whether any are left", function ()
      T.run(function ()
        local name = new_name()
        pg.sql(('create database "%s" owner owner'):format(name))
        local made = intents_of(function (db) db:terminate { database = name } end)[1]
        assert.equal("pg.terminate", made.primitive)
        assert.equal("done", ask(made))
        made.xid = nil                               -- as if its end were not known
        assert.equal("done", ask(made))
        local other = bind().methods.on(bind(), name)
        assert.equal(1, other.methods.value(other, "select 1"))
        assert.equal("half", ask(made))
        clients.postgres.close(other.parent or other)
        clients.postgres.close(other)
        pg.sql(('drop database "%s" with (force)'):format(name))
      end)
    end)
  end)

  describe("files", function ()
    local dir, folder
    before_each(function ()
      dir = suite.temp()
      folder = clients.folder.bind("out", { path = dir })
    end)

    local function made(fn)
      T.forget_records()
      fn()
      return intents()[1]
    end

    local function probe(intent) return folder.guardians.probe(folder, intent, NOW) end

    it("tells a written one from one that is not; half of one has no name yet, and is not begun", function ()
      T.run(function ()
        local intent = made(function () folder.methods.write(folder, "a", "abc") end)
        assert.equal("done", probe(intent))
        suite.write(dir .. "/a", "other")
        assert.equal("not begun", probe(intent))
        suite.write(dir .. "/a.part", "a")
        assert.equal("not begun", probe(intent))
      end)
    end)

    it("tells a removed one from one that is still there", function ()
      T.run(function ()
        suite.write(dir .. "/a", "abc")
        local intent = made(function () folder.methods.remove(folder, "a") end)
        assert.equal("done", probe(intent))
        suite.write(dir .. "/a", "abc")
        assert.equal("not begun", probe(intent))
      end)
    end)

    it("tells a directory that was made from one that was not", function ()
      T.run(function ()
        local intent = made(function () assert(require("native.file").mkdir(dir .. "/d/e")) end)
        assert.equal("file.mkdir", intent.primitive)
        assert.equal("done", probe(intent))
        T.remove_tree(dir .. "/d")
        assert.equal("not begun", probe(intent))
      end)
    end)
  end)

  describe("a program", function ()
    local tool
    before_each(function () tool = clients.command.bind("tool", { argv = { "/bin/sh", "-c" } }) end)

    local function made(script)
      T.forget_records()
      tool.methods.run(tool, { script })
      return intents()[1]
    end

    it("says not begun when no pid was recorded, because it is let go only after that", function ()
      T.run(function ()
        local intent = made "true"
        assert.is_true(intent.pid > 1 and intent.started > 0)
        intent.pid = nil
        assert.equal("not begun", tool.guardians.probe(tool, intent, NOW))
      end)
    end)

    it("has no answer when it has ended", function ()
      T.run(function () assert.is_nil(tool.guardians.probe(tool, made "exit 0", NOW)) end)
    end)

    -- A program started beside us, as a dead run's is, with something of its own that outlives it.
    local function orphan(script)
      local running = T.start { argv = { "/bin/sh", "-c", script } }
      local seen = ""
      while not seen:find "\n" do seen = seen .. select(2, running:read(5000)) end
      return running, { pid = running:pid(), started = system.started(running:pid()) }, math.tointeger(tonumber(seen:match "%d+"))
    end

    it("says running while it works, and ends it when told to", function ()
      T.run(function ()
        local running, intent = orphan "echo 1; exec sleep 60"
        assert.equal("running", tool.guardians.probe(tool, intent, NOW))
        local late = { pid = intent.pid, started = intent.started + 1 }
        assert.is_nil(tool.guardians.probe(tool, late, NOW))      -- another process of that number is not ours
        assert.is_nil(tool.guardians.probe(tool, intent, { within_ms = 60000, end_it = true }))
        local _, _, signal = running:wait(60000)
        assert.equal(15, signal)
        running:close()
      end)
    end)

    it("says running while something that it started works, though it is gone itself", function ()
      T.run(function ()
        local running, intent, pid = orphan "sleep 60 >/dev/null 2>&1 & echo $!; read x"
        running:shut()
        running:wait(60000)
        assert.equal(0, system.started(intent.pid))
        assert.equal("running", tool.guardians.probe(tool, intent, NOW))
        assert.is_nil(tool.guardians.probe(tool, intent, { within_ms = 60000, end_it = true }))
        assert.equal(0, system.started(pid))
        running:close()
      end)
    end)

    it("ends what does not want to end", function ()
      T.run(function ()
        local running, intent = orphan "trap '' TERM; echo 1; while :; do sleep 0.1; done"
        assert.is_nil(tool.guardians.probe(tool, intent, { within_ms = 300, end_it = true }))
        local _, _, signal = running:wait(60000)
        assert.equal(9, signal)
        running:close()
      end)
    end)
  end)
end)
