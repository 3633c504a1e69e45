-- postgres/repair-ownership on a real server: an old volume whose objects, of every kind, belong to somebody else.

local estates = require "tests.support.estate"
local servers = require "tests.support.servers"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local OTHERS <const> = [[select count(*) from (
  select relowner from pg_class where relnamespace = 'public'::regnamespace union all select proowner from pg_proc where pronamespace = 'public'::regnamespace and proname !~ 'trgm|similarity|limit'
  union all select typowner from pg_type where typnamespace = 'public'::regnamespace and typname !~ 'trgm' union all select datdba from pg_database where datname = current_database()) o(who)
  where pg_get_userbyid(who) <> '%s']]

describe("postgres/repair-ownership", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function run(ward, ...) return { "run", table.unpack(ward.repair("--no-input", ...)) } end

  local function intents(ward)
    local count = 0
    for _, record in ipairs(ward.records()) do count = count + (record.kind == "intent" and 1 or 0) end
    return count
  end

  it("makes the role, transfers every object as the plan said, proves it by a login, and undo gives everything back", function ()
    local ward = estates.open(pg, { role = "admin" })
    local before = ward.state_of()
    assert.are_not.equal(0, ward.heir_sql("select 1").code)                     -- P1000
    pg.sql(("create role %s login password 'something else'"):format(ward.heir))
    local page, code = ward.page(ward.repair())
    assert.equal(2, code, page)
    transcript.compare("plan_repair_ownership", (page:gsub(ward.heir, "HEIR"):gsub(ward.legacy, "LEGACY"):gsub("\n[^\n]*─┼─[^\n]*", "")))
    pg.sql("drop role " .. ward.heir)
    ward.held(ward.repair())
    assert.equal("0", pg.sql(OTHERS:format(ward.heir), ward.database))
    local r = ward.heir_sql [[alter table t add x int; insert into t (mood) values ('bad'); create table more (); drop table more; select f(1) + biggest(id) from t limit 1]]
    assert.equal(0, r.code, r.err)
    pg.sql("create table later (id int)", ward.database)                        -- by the maker: default privileges
    assert.equal(0, ward.heir_sql("insert into later values (1)").code)
    pg.sql("drop table later", ward.database)
    assert.is_nil(pg.log():find("heir-5d0c", 1, true))
    ward.ends(0, { "plan", table.unpack(ward.repair()) })
    local run_id = ward.latest()
    ward.ends(0, run(ward))
    assert.equal(0, intents(ward))
    assert.equal(0, ward.heir_sql("alter table t drop x").code)
    ward.ends(0, { "undo", run_id, "--no-input" })
    assert.equal(before, ward.state_of())
    assert.equal("0", pg.sql(("select count(*) from pg_roles where rolname = '%s'"):format(ward.heir)))
  end)

  it("grants only what is missing where the role is not to own, and revokes exactly that", function ()
    local ward = estates.open(pg, { role = "admin" })
    pg.sql(("create role %s login; grant select on t to %s; grant all on v to %s"):format(ward.heir, ward.heir, ward.heir), ward.database)
    local before = ward.state_of()
    ward.held(ward.repair("--own=no"))
    local granted = {}
    for _, record in ipairs(ward.records()) do
      if record.kind == "intent" then granted[record.body.text] = true end
    end
    assert.is_true(granted[("GRANT INSERT, UPDATE, DELETE ON TABLE public.t TO \"%s\""):format(ward.heir)])
    assert.is_nil(granted[("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.v TO \"%s\""):format(ward.heir)])
    assert.equal(0, ward.heir_sql("insert into t (mood) values ('bad'); select nextval('alone')").code)
    assert.matches("must be owner of table t", ward.heir_sql("alter table t add y int").err, 1, true)
    ward.ends(0, { "undo", ward.latest(), "--no-input" })
    assert.equal(before, ward.state_of())
  end)

  it("gives an existing role the password of the inventory", function ()
    local ward = estates.open(pg, { role = "admin" })
    pg.sql(("create role %s login password 'something else'"):format(ward.heir))
    assert.matches("password authentication failed", ward.heir_sql("select 1").err, 1, true)
    ward.ends(0, run(ward))
    assert.equal(0, ward.heir_sql("select 1").code)
    for _, record in ipairs(ward.records()) do
      assert.is_nil(tostring(record.raw or "").find(tostring(record.body and record.body.text or ""), "SCRAM", 1, true))
    end
  end)

  it("says what it may not do before it does anything", function ()
    local ward = estates.open(pg, { role = "owner" })
    local before = ward.state_of()
    local said = ward.ends(1, run(ward))
    assert.matches(("owner is no superuser and no member of %s, to whom"):format(ward.legacy), said, 1, true)
    assert.matches("there is a schema nowhere", ward.ends(1, run(ward, "--schemas", "nowhere")), 1, true)
    assert.matches('"EVERYTHING" is no privilege on a table', ward.ends(64, run(ward, "--privileges", "EVERYTHING")), 1, true)
    assert.equal(before, ward.state_of())
    local nobody = estates.open(pg, { role = "admin" })
    assert.matches('the inventory has no password for the role "stranger"', nobody.ends(78, { "run", "postgres/repair-ownership", "--role", "stranger", "--no-input" }), 1, true)
    assert.equal("0", pg.sql "select count(*) from pg_roles where rolname = 'stranger'")
  end)

  it("does not queue for a table that somebody has, and takes back what it had done", function ()
    local ward = estates.open(pg, { role = "admin" })
    local before = ward.state_of()
    local holder <close> = ward.session("begin; select 'held' from t limit 1;", "held")
    assert(holder)
    local said = ward.ends(1, run(ward, "--lock", "300ms"))
    assert.matches("the lock was not to be had within 300ms", said, 1, true)
    assert.equal(before, ward.state_of())
    assert.equal("0", pg.sql(("select count(*) from pg_roles where rolname = '%s'"):format(ward.heir)))
  end)

  it("killed while it waits for a table: another user is refused, resume goes on where it was, undo gives everything back #kill", function ()
    local ward = estates.open(pg, { role = "admin" })
    local before = ward.state_of()
    local holder = ward.session("begin; select 'held' from t limit 1;", "held")
    local process = ward.start(run(ward, "--lock", "60s"))
    ward.await("select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.query like 'ALTER TABLE public.t %'", "1")
    process:kill(9)
    process:finish()
    wards.await_unlocked(pg, ward.database)
    local id, state = ward.latest(), ward.state
    ward.state = ward.dir .. "/other"
    assert.matches("neap resume " .. id, ward.ends(75, run(ward)), 1, true)
    ward.state = state
    getmetatable(holder).__close(holder)
    ward.ends(0, { "resume", id, "--no-input" })
    assert.equal("0", pg.sql(OTHERS:format(ward.heir), ward.database))
    ward.ends(0, { "undo", id, "--no-input" })
    assert.equal(before, ward.state_of())
  end)
end)
