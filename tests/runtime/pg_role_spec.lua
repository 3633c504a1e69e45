--- client.postgres_roles on a real server: roles whose password is nowhere but in the role.

local client = require("client.postgres")
local guard = require("native.guard")
local secret = require("native.secret")
local servers = require("tests.support.servers")

local PASSWORD <const> = "jar'vis-in-no-log-\\4f1c\"ü"

describe("client.postgres_roles", function ()
  local server
  setup(function () server = servers.postgres() end)

  local function with(roles, fn)
    T.run(function ()
      local spec = { url = ("postgresql://admin@127.0.0.1:%d/postgres"):format(server.port), password = assert(secret.of(servers.passwords.admin, "password of admin")), roles = roles }
      local object = client.bind("db", spec, { application = "neap:spec:1", environment = "test" })
      local closing <close> = setmetatable({}, { __close = function () client.close(object) end })
      assert(closing)
      fn(setmetatable({}, { __index = function (_, name) return function (_, ...) return object.methods[name](object, ...) end end }))
    end)
  end

  local function known() return assert(secret.of(PASSWORD, "db.roles.x")) end

  it("makes a role that can log in, and neither the server's log nor its catalogue holds the password", function ()
    with({ ['odd "role'] = known() }, function (db)
      db:create_role('odd "role', { login = true, createdb = true })
      assert.is_true(db:login 'odd "role')
      assert.is_true(db:value("select rolcanlogin and rolcreatedb and not rolsuper from pg_roles where rolname = $1", 'odd "role'))
      assert.matches("^SCRAM%-SHA%-256%$4096:", server.sql [[select rolpassword from pg_authid where rolname = 'odd "role']])
      db:drop_role 'odd "role'
    end)
    assert.matches('CREATE ROLE "odd ""role" LOGIN CREATEDB PASSWORD \'SCRAM%-SHA%-256', server.log())
    assert.is_nil(server.log():find("in-no-log", 1, true))
  end)

  it("gives a role another password, and says no to the old one in the server's words", function ()
    with({ changed = known() }, function (db)
      server.sql "create role changed login password 'before'"
      local ok, why = db:login "changed"
      assert.is_false(ok)
      assert.matches('password authentication failed for user "changed"', why, 1, true)
      db:set_password "changed"
      assert.is_true(db:login "changed")
      db:exec "drop role changed"
    end)
  end)

  it("makes a role that cannot log in without any password", function ()
    with(nil, function (db)
      db:create_role "plain"
      assert.is_false(db:value "select rolcanlogin from pg_roles where rolname = 'plain'")
      local ok, err = pcall(db.create_role, db, "other", { login = true })
      assert.is_false(ok)
      assert.equal('the inventory has no password for the role "other"', err.message)
      assert.equal('Give "db" roles = { other = secret { env = "NAME" } }.', err.hint)
      db:exec "drop role plain"
    end)
  end)

  it("shows the secret's name where the password would stand, in a preview and in an error", function ()
    with({ x = known(), owner = known() }, function (db)
      guard.mode("plan")
      db:create_role("x", { login = true })
      local shown = guard.predictions()[1]
      guard.clear()
      guard.mode("run")
      assert.equal('CREATE ROLE "x" LOGIN PASSWORD ‹secret db.roles.x›', shown.text)
      assert.equal("pg.role", shown.primitive)
      assert.equal("0", server.sql "select count(*) from pg_roles where rolname = 'x'")
      local ok, err = pcall(db.create_role, db, "owner", { login = true })
      assert.is_false(ok)
      assert.matches('role "owner" already exists', err.message, 1, true)
      assert.matches('PASSWORD ‹secret db.roles.', err.hint, 1, true)
      assert.is_nil(err.hint:find("SCRAM", 1, true))
    end)
  end)

  it("says that a role cannot log in where the server is not to be reached at all by raising", function ()
    with({ x = known() }, function (db)
      local ok, err = pcall(function () return client.bind("db", { url = "postgresql://x@127.0.0.1:1/x", roles = { x = known() } }, {}).methods.login(
        client.bind("db", { url = "postgresql://x@127.0.0.1:1/x", roles = { x = known() } }, { application = "neap:spec:1" }), "x") end)
      assert(db)
      assert.is_false(ok)
      assert.equal("unreachable", err.code)
    end)
  end)
end)
