-- ward.lua: what the specs of the upkeep and incident runbooks share: a database with something wrong in it, sessions that stand in the
-- way, and the built binary run against it.
--
--   local ward = require("tests.support.ward").open(pg, { role = "admin" })
--   ward.neap { "run", "postgres/vacuum" }    ward.plan { "postgres/vacuum" }    ward.records()    ward.held({ "postgres/vacuum" }, …)
--   local holder <close> = ward.session("begin; lock table t; select 'held';", "held")

local child = require "tests.support.child"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local text = require "native.text"

local M = {}

local here = os.getenv("PWD")

local INVENTORY <const> = 'environment "demo" { %s db = postgres { url = "postgresql://%s@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" }, tls = "off" } }'

--- A table with dead rows, indexes of every kind that matters, and sessions of three users. What was counted is told before the next question: a
--- session tells it when it has ended, which is after psql has.
M.schema = [[
  create table t (id int primary key, a text, u int unique); insert into t select i, repeat('x', 100), i from generate_series(1, 2000) i;
  create index ta on t (a); create table kept (id int primary key); create table "Session" (id int primary key, "userId" text not null, token text, at timestamptz default now(),
    note text, size int generated always as (length(token)) stored);
  insert into "Session" (id, "userId", token, note) select i, 'u' || i % 3, E'to''k\n"' || i, case when i % 2 = 0 then null else '' end from generate_series(1, 30) i;
  delete from t where id % 2 = 0; alter table t owner to owner; alter table kept owner to owner; alter table "Session" owner to owner;
  select pg_stat_force_next_flush();]]

--- Wait until nobody has the lock of a database: the session of a run that was killed ends a moment after it, and until then whoever comes is told
--- that the run works, and not that it died.
---@param pg table server
---@param database string
function M.await_unlocked(pg, database)
  local locks = ("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = '%s')"):format(database)
  stages.await(function () return pg.sql(locks) == "0" end, "the end of the session that locks " .. database)
end

--- session(), await() and await_nobody() of a ward, or of a place whose server has a socket here.
---@param ward table
---@param pg table server
---@param user? string
function M.sessions(ward, pg, user)
  --- A psql session that stays as it is until it is closed.
  function ward.session(statements, seen, application)
    local process = child.start {
      argv = { pg.bin .. "/psql", "-X", "-A", "-t", "-h", pg.dir, "-p", tostring(pg.port), "-U", user or "owner", "-d", ward.database },
      env = { PGPASSWORD = servers.passwords[user or "owner"], PATH = os.getenv("PATH"), PGAPPNAME = application or "holder" },
    }
    process:write(statements .. "\n")
    if seen then process:expect(seen) end
    return setmetatable({ process = process }, { __close = function ()
      process:kill(15)
      process:finish()
    end })
  end

  --- Nobody is connected to the database, none of our own questions either: psql ends before its session does.
  function ward.await_nobody()
    local nobody = ("select count(*) from pg_stat_activity where datname = '%s' and backend_type = 'client backend'"):format(ward.database)
    stages.await(function () return pg.sql(nobody) == "0" end, "nobody in " .. ward.database)
  end

  --- Poll until the query answers this.
  function ward.await(query, answer)
    local until_ms = T.now_ms() + 60000
    while pg.sql(query, ward.database) ~= answer do
      if T.now_ms() > until_ms then error("did not come: " .. query .. " = " .. answer, 2) end
      T.pause(10)
    end
  end
end

--- What is done with neap where there is `start(words)` and `state` (`limit_ms`: how long it may take): neap, ends, plan, latest, records, said, held.
---@param ward table
function M.operate(ward)
  --- Run neap to its end; `all` is everything it said.
  function ward.neap(words)
    local process = ward.start(words)
    process:shut()
    local r = process:finish(ward.limit_ms or 120000)
    r.all = r.out .. r.err
    return r
  end

  --- It must end with this code.
  function ward.ends(code, words)
    local r = ward.neap(words)
    if r.code ~= code then error(("exit %s instead of %d: %s"):format(r.code, code, r.all), 2) end
    return r.all
  end

  --- A plan as data.
  function ward.plan(words)
    local r = ward.neap { "plan", "--json", table.unpack(words) }
    local ok, plan = pcall(text.parse, r.out)
    assert(ok and plan.steps, r.all)
    return plan
  end

  --- The id of the newest run, and its records.
  function ward.latest() return journal.index.list(ward.state)[1].run end
  function ward.records(run) return journal.read(ward.state, run or ward.latest(), 0) end

  --- Every note of the newest run.
  function ward.said()
    local list = {}
    for _, record in ipairs(ward.records()) do
      if record.kind == "note" then list[#list + 1] = record.body.text end
    end
    return table.concat(list, "\n")
  end

  --- Plan, then run: what the run wrote is what the plan said. How many writes.
  function ward.held(words, more)
    local plan = ward.plan(words)
    local run = { "run", table.unpack(words) }
    table.move(more or {}, 1, #(more or {}), #run + 1, run)
    ward.ends(0, run)
    local id = ward.latest()
    local wrong, writes = kept.compare(plan, ward.records(id), id)
    if #wrong > 0 then error(table.concat(wrong, "\n"), 2) end
    return writes
  end
end

--- A ward of its own. options: role (owner), schema (M.schema), settings (of the environment).
---@param pg table server
---@param options? table
---@return table ward
function M.open(pg, options)
  options = options or {}
  local dir, role = suite.temp(), options.role or "owner"
  local ward = { dir = dir, state = suite.memory() .. "/state", database = pg.database(), env = { PASSWORD = servers.passwords[role] } }
  pg.sql(options.schema or M.schema, ward.database)
  suite.write(dir .. "/inventory.lua", INVENTORY:format(options.settings or "", role, pg.port, ward.database))
  os.execute(("ln -s '%s/runbooks' '%s/runbooks'"):format(here, dir))
  M.sessions(ward, pg)

  --- The words of a command line.
  function ward.words(words)
    local all = table.move(words, 1, #words, 1, {})
    table.move({ "--state", ward.state, "--width", "1000" }, 1, 4, #all + 1, all)
    if words[1] ~= "show" and words[1] ~= "gc" then table.move({ "--inventory", dir .. "/inventory.lua" }, 1, 2, #all + 1, all) end
    if words[1] == "run" or words[1] == "plan" then table.move({ "--env", "demo" }, 1, 2, #all + 1, all) end
    return all
  end

  function ward.start(words, tty) return servers.neap.start(ward.words(words), { env = ward.env, cwd = dir, tty = tty }) end

  M.operate(ward)

  --- The plan's page as it is pinned.
  function ward.page(words)
    local r = ward.neap { "plan", table.unpack(words) }
    return kept.plain(r.out, { [ward.database] = "DATABASE" }), r.code
  end

  return ward
end

return M
