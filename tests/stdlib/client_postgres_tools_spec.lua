--- Where pg_dump, pg_restore and psql run: in the database's own container by its socket, on a host of a real sshd, here through the tunnel; and what
--- became of a restore whose run died, told by looking at the database.

local clients = { postgres = require "client.postgres", host = require "client.host", container = require "client.container", folder = require "client.folder" }
local child = require "tests.support.child"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"

local function close_all(list)
  for i = #list, 1, -1 do clients[list[i].kind].close(list[i]) end
end

-- Entries bound as an environment binds them.
local function bound(entries)
  local list, objects = {}, {}
  local context = { application = "neap:spec:abcdef012345", environment = "test" }
  function context.target(role) return objects[role] end
  for _, entry in ipairs(entries) do
    local object = clients[entry[1]].bind(entry[2], entry[3], context)
    objects[entry[2]], list[#list + 1] = object, clients[entry[1]].close and object or nil
  end
  return setmetatable(objects, { __close = function () close_all(list) end })
end

local function folder() return clients.folder.bind("backups", { path = suite.temp() }, {}) end

-- There and back again: the rows of one database in another.
local function goes_round(db, target)
  local backups = folder()
  local dump <close> = db.methods.dump(db, { format = "plain" })
  backups:copy_in(dump, "x", { compress = "gzip" })
  db.methods.restore(db, { from = { backups, "x" }, into = target })
  local there = db.methods.on(db, target)
  return there.methods.counts(there), db.methods.counts(db)
end

describe("the programs of PostgreSQL", function ()
  it("run in the container of the database", function ()
    local engine, why = servers.docker { netns = true }
    if not engine then return pending(why) end
    local box = engine.postgres { name = "tools-db-" .. T.pid() }
    local hermes = servers.sshd { name = "gate", address = "127.0.0.7", netns = engine.netns }
    local home = servers.ssh_home { gate = hermes }
    box.sql "create database shop; create database again_none; create database again_given"
    box.sql("create table item as select generate_series(1, 30) as id", "shop")
    T.run(function ()
      for _, password in ipairs { "none", "given" } do
        local all <close> = bound {
          { "host", "gate", { ssh = "gate", config = home.config } }, { "container", "dbc", { name = box.name, on = "gate", docker = "unix://" .. engine.socket } },
          { "postgres", "db", { on = "dbc", url = ("postgresql://postgres%s@localhost/shop"):format(password == "given" and ":" .. box.password or ""),
            password = password == "none" and assert(secret.of(box.password, "password")) or nil } },
        }
        local there, here = goes_round(all.db, "again_" .. password)
        assert.same({ ["public.item"] = 30 }, here)
        assert.same(here, there)
      end
    end)
  end)

  it("run on a host, and here through the tunnel to it", function ()
    local pg = servers.postgres()
    local hermes = servers.sshd { name = "hermes" }
    local home = servers.ssh_home { hermes = hermes }
    local database = pg.database()
    pg.sql("create table item as select generate_series(1, 30) as id; alter table item owner to owner", database)
    T.run(function ()
      for _, tools in ipairs { "hermes", "local" } do
        local target = pg.database()
        local all <close> = bound {
          { "host", "hermes", { ssh = "hermes", config = home.config } },
          { "postgres", "db", { on = "hermes", url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, database), tools = tools, tools_path = pg.bin,
            password = assert(secret.of(servers.passwords.owner, "password")) } },
        }
        local there, here = goes_round(all.db, target)
        assert.same({ ["public.item"] = 30 }, here, tools)
        assert.same(here, there, tools)
      end
    end)
  end)

  it("are refused when they are older than the server", function ()
    local pg = servers.postgres()
    local old = suite.write(suite.temp() .. "/pg_dump", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    T.mode(old, tonumber("755", 8))
    T.run(function ()
      local all <close> = bound { { "postgres", "db", { url = ("postgresql://owner@127.0.0.1:%d/postgres"):format(pg.port), tools_path = old:match("^(.*)/"),
        password = assert(secret.of(servers.passwords.owner, "password")) } } }
      local ok, err = pcall(all.db.methods.dump, all.db, {})
      assert.is_false(ok)
      assert.matches("pg_dump here is 9.6.24, the server is PostgreSQL", err.message, 1, true)
      assert.matches("tools", err.hint, 1, true)
    end)
  end)
end)

describe("the probe of a restore", function ()
  local pg, source
  setup(function ()
    pg = servers.postgres()
    source = pg.database()
    pg.sql("create table item as select generate_series(1, 30) as id; alter table item owner to owner", source)
  end)

  local function bind()
    return bound { { "postgres", "db", { url = ("postgresql://owner@127.0.0.1:%d/%s"):format(pg.port, source), tools_path = pg.bin,
      password = assert(secret.of(servers.passwords.owner, "password")) } } }
  end

  -- The intent of a restore that was made, with the process it was recorded for.
  local function intent_of(db, backups, target)
    T.forget_records()
    db.methods.restore(db, { from = { backups, "x" }, into = target })
    local found
    for _, r in ipairs(T.records()) do
      local body = assert(text.parse(r.body))
      if r.kind == "intent" and body.primitive == "process.run" then found = body end
      if r.kind == "started" and found then found.pid, found.started = body.pid, body.started end
    end
    T.forget_records()
    return found
  end

  it("says done when the rows are there, not begun when nothing is, whatever the database is called", function ()
    T.run(function ()
      for _, name in ipairs { "plain_name", "odd 'na=me\\", "back/slash" } do
        local quoted = '"' .. name .. '"'
        pg.sql(("create database %s owner owner"):format(quoted))
        local all <close> = bind()
        local backups = folder()
        local dump <close> = all.db.methods.dump(all.db, {})
        backups:copy_in(dump, "x")
        local intent = intent_of(all.db, backups, name)
        assert.equal("db", intent.target)
        assert.equal("done", all.db.guardians.probe(all.db, intent, { within_ms = 60000 }))
        all.db.methods.drop_database(all.db, name)
        assert.equal("not begun", all.db.guardians.probe(all.db, intent, { within_ms = 0 }))
        pg.sql(("create database %s owner owner"):format(quoted))
        assert.equal("not begun", all.db.guardians.probe(all.db, intent, { within_ms = 0 }))
        intent.pid = nil
        assert.equal("not begun", all.db.guardians.probe(all.db, intent, { within_ms = 0 }))
        all.db.methods.drop_database(all.db, name)
      end
    end)
  end)

  it("says running while its session is there", function ()
    T.run(function ()
      local all <close> = bind()
      local backups = folder()
      local dump <close> = all.db.methods.dump(all.db, {})
      backups:copy_in(dump, "x")
      local target = pg.database()
      local intent = intent_of(all.db, backups, target)
      local process = child.start {
        argv = { pg.bin .. "/psql", "-X", "-A", "-t", "-h", pg.dir, "-p", tostring(pg.port), "-U", "owner", "-d", target },
        env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv "PATH", PGAPPNAME = "neap:restore:abcdef012345" } }
      process:write "select 'there';\n"
      process:expect "there"
      assert.equal("running", all.db.guardians.probe(all.db, intent, { within_ms = 0 }))
      process:kill(15)
      process:finish()
      assert.equal("done", all.db.guardians.probe(all.db, intent, { within_ms = 60000 }))
    end)
  end)
end)
