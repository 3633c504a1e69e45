-- Runbooks that try to write in a preview. None of them does, and the plan says what was refused or withheld.
--
-- Each trick is a runbook of its own, planned by the binary against a server on which every write is seen, a folder, and a
-- program that leaves a trace when it runs.

local evidence = require "tests.support.evidence"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"
local probes = dofile("tests/runtime/probes.lua")

-- Every verb of every kind of target that writes, once.
local WRITES <const> = {
  'db:exec("INSERT INTO t VALUES (7)")', 'db:exec("SELECT evil()")', 'db:exec("VACUUM t")', 'db:transaction(function (tx) tx:exec "DELETE FROM t" end)',
  'db:create_database "made"', 'db:drop_database "victim"', 'db:terminate { database = "victim" }', 'db:copy_in("COPY t FROM STDIN", files:path "keep")',
  'db:on("victim"):exec("CREATE TABLE made (id int)")', 'db:copy_out("SELECT 1", files:path "made")', 'files:write("made", "x")', 'files:write("keep", "x")',
  'files:remove "keep"', 'files:open("made", "w")', 'tool:run { "ran" }', 'tool:run({ "ran" }, { env = { URL = db:url() } })',
}

-- Where a runbook's code is called outside act. Each gives a step that calls `write()` there.
local PLACES <const> = {
  needs = "needs = function () write() end",
  ["needs of a change"] = "needs = function () write() end, act = nothing, verify = yes",
  done = "done = function () write() return true end, act = nothing",
  verify = "verify = function () write() end",
  each = "each = function () write() return { 'a' } end, act = nothing, verify = yes",
  ["a run parameter's iterator"] = "verify = function () for _ in write do end end",
  ["a note's argument"] = "verify = function () note('%s', write()) end",
  ["__tostring of what is noted"] = "verify = function () note('%s', setmetatable({}, { __tostring = function () write() return 'x' end })) end",
  ["__index of what is compared"] = "verify = function () check.same(setmetatable({}, { __index = write }).x, 1, 'same') end",
  ["__lt of what is compared"] = "verify = function () check.at_least(setmetatable({}, { __lt = write, __le = write }), 1, 'more') end",
  ["__pairs of what is reported"] = "verify = function () for _ in pairs(setmetatable({}, { __pairs = write })) do end end",
  ["__close"] = "verify = function () local x <close> = setmetatable({}, { __close = write }) end",
  ["__close while an error passes"] = "verify = function () local x <close> = setmetatable({}, { __close = write }) error 'on' end",
  ["a comparator"] = "verify = function () table.sort({ 1, 2, 3 }, function (a, b) write() return a < b end) end",
  ["a replacement"] = "verify = function () return ('x'):gsub('x', write) end",
  ["__concat"] = "verify = function () return setmetatable({}, { __concat = write }) .. 'x' end",
  ["wait_until"] = "verify = function () wait_until(function () write() return true end, { within = '1s' }) end",
  ["pcall"] = "verify = function () pcall(write) pcall(pcall, write) return true end",
  ["the handler of xpcall"] = "verify = function () xpcall(error, function () write() end) return true end",
  ["try"] = "verify = function () try(write) return true end",
  ["a function handed to transaction"] = "verify = function () db:transaction(function () write() end) return true end",
  ["the error's own __tostring"] = "verify = function () error(setmetatable({}, { __tostring = function () write() return 'x' end })) end",
  ["the error's own __index"] = "verify = function () error(setmetatable({}, { __index = function () write() end })) end",
  ["an item's __tostring"] = "each = function () return { setmetatable({}, { __tostring = function () write() return 'x' end }) } end, act = nothing, verify = yes",
  ["the list's own __index"] = "each = function () return setmetatable({}, { __index = function () write() end }) end, act = nothing, verify = yes",
  ["the act's returned value"] = "act = function () return setmetatable({}, { __index = write, __pairs = write, __tostring = write }) end, verify = yes",
}

-- How a plan says that it was stopped: by the guard, because Lua cannot wait there, or because nothing of the runbook's may run there.
local SAYS <const> = { "refused", "cannot be called inside a callback", "with a metatable", "cannot be shown" }

local HEAD <const> = [[
runbook "Trick" { why = "it tries to write in a preview" }
local db, files, tool = target.postgres "db", target.folder "files", target.command "tool"
local function nothing () end
local function yes () return true end
]]

describe("a trick", function ()
  local pg, database, dir, before
  setup(function ()
    pg = evidence.server()
    database = pg.database()
    pg.sql("create database victim owner owner")
    pg.sql(table.concat(probes.common, ";\n"), database)
    pg.sql([[create table t (id int primary key, v text); insert into t values (1, 'one'), (2, 'two'); alter table t owner to owner; create sequence s;
      create function evil() returns int language plpgsql volatile as 'begin insert into t values (99); return 99; end';
      create view hidden as select evil() as n; create view counted as select nextval('s') as n;
      create function quiet() returns int language plpgsql stable as 'begin perform evil(); return 1; end']], database)
    evidence.settle(pg)
  end)

  before_each(function ()
    dir = suite.memory()
    os.execute(("mkdir '%s/files' '%s/home' '%s/cwd'"):format(dir, dir, dir))
    suite.write(dir .. "/files/keep", "7\tseven\n")
    suite.write(dir .. "/tool", ('#!/bin/sh\n[ "$1" = look ] || echo "$*" >>"%s/files/ran"\n'):format(dir))
    T.mode(dir .. "/tool", tonumber("755", 8))
    before = nil
  end)

  local function plan(body, role, more)
    suite.write(dir .. "/trick.lua", body)
    suite.write(dir .. "/inventory.lua", ([[environment "demo" { db = postgres { url = "%s", password = secret { env = "PASSWORD" }%s },
      files = folder { path = "%s/files" }, tool = command { argv = { "%s/tool" } } }]]):format(
      pg.url(role or "owner", database):gsub(":[^:@/]*@", "@"), more or "", dir, dir))
    before = before or evidence.look(pg, { dir .. "/files", dir .. "/home", dir .. "/cwd" })
    local r = servers.neap({ "plan", dir .. "/trick.lua", "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--json" },
      { env = { PASSWORD = servers.passwords[role or "owner"], ADMIN_PASSWORD = servers.passwords.admin, HOME = dir .. "/home" }, cwd = dir .. "/cwd" })
    local ok, data = pcall(text.parse, r.out)
    return r, ok and data or nil
  end

  local function messages(step)
    local list = {}
    for _, line in ipairs(step.lines) do list[#list + 1] = line.text end
    return table.concat(list, "\n")
  end

  local places = {}
  for place in pairs(PLACES) do places[#places + 1] = place end
  table.sort(places)
  for _, place in ipairs(places) do
    it("in " .. place .. " writes nothing with any verb, and the plan says that it was refused", function ()
      local lines = { HEAD }
      for i, write in ipairs(WRITES) do
        lines[#lines + 1] = ('do local function write () return %s end\nstep "Write %d" { %s } end'):format(write, i, PLACES[place])
      end
      local r, data = plan(table.concat(lines, "\n"))
      before.same(place)
      assert(data and data.steps, r.out .. r.err)
      if place == "the act's returned value" then return end
      assert.equal(1, r.code, r.out .. r.err)
      local told = 0
      for i, step in ipairs(data.steps) do
        local said = messages(step)
        for _, words in ipairs(SAYS) do
          if said:find(words, 1, true) then
            told = told + 1
            break
          end
        end
        assert(step.failed or step.withheld or place == "the handler of xpcall", WRITES[i] .. ": " .. text.json(step))
      end
      assert(place == "the error's own __index" or told >= #WRITES - 1 or place == "each" and told > 0, "only " .. told .. " steps say why")
    end)
  end

  it("in a default or in a nested runbook's parameter writes nothing", function ()
    suite.write(dir .. "/child.lua", 'runbook "Child" { why = "x" } local p = params { x = { "x" } } step "Check" { verify = function () check(p.x, "x") end }')
    for i, write in ipairs(WRITES) do
      local bodies = { ('params { x = { "x", default = function () %s return "x" end } } step "Check" { verify = yes }'):format(write),
        ('step "Nested" { run = { "%s/child.lua", x = function () %s return "x" end } }'):format(dir, write) }
      local r = plan(HEAD .. bodies[i % 2 + 1])
      assert.equal(i % 2 == 0 and 77 or 1, r.code, write .. r.out .. r.err)
      assert.matches("refused", r.out .. r.err, 1, true)
    end
    before.same()
  end)

  -- Where the preview does call the code that writes.
  it("in act is shown with its text, is withheld, and writes nothing", function ()
    local lines = { HEAD }
    for i, write in ipairs(WRITES) do
      lines[#lines + 1] = ('step "Plain %d" { act = function () %s end, verify = yes }'):format(i, write)
      lines[#lines + 1] = ('step "Caught %d" { act = function () pcall(function () local r = %s return r:count() + #r end) end, verify = yes }'):format(i, write)
      lines[#lines + 1] = ('step "Waited %d" { act = function () %s wait_until(function () return db:value "SELECT count(*) FROM t" == 9 end, { within = "1m" }) end, verify = yes }'):format(i, write)
    end
    local begun = T.now_ms()
    local r, data = plan(table.concat(lines, "\n"))
    before.same()
    assert.is_true(T.now_ms() - begun < 60000)
    assert(data and data.steps, r.out .. r.err)
    for _, step in ipairs(data.steps) do
      assert.is_nil(step.failed, text.json(step))
      local first = step.lines[1] or {}
      assert(first.label == "predicted" or first.label == "unknown" and step.withheld, text.json(step))
    end
  end)

  local BODIES <const> = {
    ["a transaction kept from an earlier call"] = [[
      local kept = {}
      step "Keep" { act = function () db:transaction(function (tx) kept.tx = tx tx:exec "INSERT INTO t VALUES (7)" end) end, verify = function () kept.tx:exec "INSERT INTO t VALUES (8)" end }
      step "Use" { verify = function () kept.tx:exec "INSERT INTO t VALUES (8)" end }
      step "Again" { act = function () kept.tx:exec "INSERT INTO t VALUES (8)" return kept.tx:value "SELECT evil()" end, verify = yes }]],
    ["a bound method kept from act"] = [[
      local kept = {}
      step "Keep" { act = function () kept.exec, kept.run, kept.write = db.exec, tool.run, files.write end, verify = yes }
      step "Use" { verify = function () kept.exec(db, "DELETE FROM t") end }
      step "Use two" { verify = function () kept.run(tool, { "ran" }) end }
      step "Use three" { verify = function () kept.write(files, "made", "x") end }]],
    ["a stream kept from act"] = [[
      local kept = {}
      step "Keep" { act = function () kept.out = files:open("made", "w") end, verify = yes }
      step "Write" { act = function () kept.out:write "x" kept.out:close() end, verify = yes }
      step "Copy" { act = function () db:copy_out("SELECT 1", kept.out) end, verify = yes }
      step "Pipe" { act = function () files:open("keep", "r"):pipe(kept.out) end, verify = yes }]],
    ["a stream opened for reading"] = [[
      local function reading () return files:open("keep", "r") end
      step "Write" { verify = function () local s <close> = reading() assert(s:write "x") end }
      step "Copy" { verify = function () local s <close> = reading() db:copy_out("SELECT 1", s) end }
      step "Pipe" { verify = function () local s <close> = reading() assert(s:pipe(reading())) end }
      step "Other modes" { verify = function () files:open("keep", "r+") end }
      step "More modes" { verify = function () files:open("made", "a") end }]],
    ["another database, and one that is not there"] = [[
      step "Make" { act = function () db:create_database "made" db:on("made"):exec "CREATE TABLE x ()" db:on("made"):on("victim"):exec "CREATE TABLE x ()" end, verify = yes }
      step "Ask" { verify = function () return db:on("made"):value "SELECT evil()" end }
      step "Ask the victim" { verify = function () return db:on("victim"):value "SELECT lo_create(0)" end }]],
    ["what is hidden in a view or a function"] = [[
      step "View" { verify = function () db:rows "SELECT * FROM hidden" end }
      step "Sequence" { verify = function () for _ in db:each "SELECT * FROM counted" do end end }
      step "Stable" { verify = function () db:value "SELECT quiet()" end }
      step "Schema" { verify = function () db:value "SELECT public.evil()" end }
      step "Parameter" { verify = function () db:value("SELECT $1::text", "1'; DELETE FROM t; --") db:has("SELECT evil() WHERE $1", true) end }]],
    ["a secret as an argument"] = [[
      step "Look" { verify = function () tool:read { "look", db:url() } end }
      step "Input" { verify = function () tool:read({ "look" }, { stdin = db:url() }) end }]],
    ["tables of neap's own"] = [[
      step "Methods" { verify = function () getmetatable(db).__index = nothing end }
      step "Metatable" { verify = function () setmetatable(db, {}) end }
      step "Field" { verify = function () db.exec = nothing end }
      step "Library" { verify = function () string.rep = nothing end }
      step "Word" { verify = function () check.same = nothing end }
      step "Module" { verify = function () require("std.migrations").of = nothing error "assigned" end }]],
    ["a name that leads out of the folder"] = [[
      step "Up" { act = function () files:write("../cwd/made", "x") end, verify = yes }
      step "Down and up" { act = function () files:remove("x/../../cwd") end, verify = yes }
      step "Absolute" { act = function () files:write("/tmp/neap-made", "x") end, verify = yes }]],
  }

  local bodies = {}
  for what in pairs(BODIES) do bodies[#bodies + 1] = what end
  table.sort(bodies)
  for _, what in ipairs(bodies) do
    it("with " .. what .. " writes nothing", function ()
      local r, data = plan(HEAD .. BODIES[what])
      before.same(what)
      assert(data and data.steps, r.out .. r.err)
      for _, step in ipairs(data.steps) do
        local said = step.failed or step.label == "unknown" or step.label == "predicted" or what == "a secret as an argument" and step.title == "Input"
        assert(said, text.json(step))
      end
    end)
  end

  local VERBS <const> = { "value", "row", "rows", "has", "each", "copy_out" }
  for first, role in ipairs { "admin", "owner" } do
    it("of the probe list writes nothing through any reading verb of " .. role, function ()
      local before_all
      for round = 1, #VERBS do
        local lines, n = { HEAD }, 0
        for i, probe in ipairs(probes) do
          if not probe.setup and not probe.extension and probe.part ~= "tripwire" and not (probe.part == "session" and role == "admin") then
            n = n + 1
            local verb = VERBS[(i + round + first) % #VERBS + 1]
            local call = ("db:%s(%q)"):format(verb, probe.sql)
            if verb == "each" then call = ("for _ in db:each(%q) do end"):format(probe.sql) end
            if verb == "copy_out" then call = ("local s <close> = files:open('keep', 'r') db:copy_out(%q, s)"):format(probe.sql) end
            lines[#lines + 1] = ('step "Probe %d %s" { verify = function () %s return true end }'):format(i, verb, call)
          end
        end
        assert.is_true(n >= 85)
        local r, data = plan(table.concat(lines, "\n"), role)
        before_all = before_all or before
        assert(data and data.steps, r.out .. r.err)
        assert.equal(n, #data.steps)
        for _, step in ipairs(data.steps) do
          local probe = probes[tonumber(step.title:match("%d+"))]
          assert(probe.reads or step.failed, "was let through: " .. step.title .. ": " .. probe.sql)
        end
      end
      before_all.same()
    end)
  end

  it("with a preview role that may everything, a standby that is none, or settings in the URL writes nothing", function ()
    local body = HEAD .. [[
      step "Write" { verify = function () db:value "SELECT evil()" end }
      step "Hidden" { verify = function () db:rows "SELECT * FROM hidden" end }
      step "Large object" { verify = function () db:value "SELECT lo_create(0)" end }
      step "Statement" { verify = function () db:value "DELETE FROM t RETURNING id" end }
      step "Act" { act = function () db:exec "DELETE FROM t" end, verify = yes }]]
    local standby = pg.url("admin", database)
    for _, more in ipairs { ', preview = { user = "admin", password = secret { env = "ADMIN_PASSWORD" } }', (', standby = "%s"'):format(standby),
      (', preview = { user = "admin", password = secret { env = "ADMIN_PASSWORD" } }, standby = "%s"'):format(standby) } do
      local r, data = plan(body, nil, more)
      assert(data and data.steps, r.out .. r.err)
      for i = 1, 4 do assert.is_true(data.steps[i].failed, text.json(data.steps[i])) end
      assert.equal("predicted", data.steps[5].label)
    end
    before.same()
    for _, setting in ipairs { "default_transaction_read_only=off", "transaction_read_only=off", "session_replication_role=replica" } do
      local r = plan(body:gsub("\n%s*step \"Act\".*", ""), "admin", "")
      assert.equal(1, r.code)
      local path = dir .. "/inventory.lua"
      suite.write(path, (suite.read(path):gsub("/" .. database .. '"', "/" .. database .. "?options=-c%%20" .. setting:gsub("%%", "%%%%") .. '"')))
      r = servers.neap({ "plan", dir .. "/trick.lua", "--env", "demo", "--inventory", path, "--state", dir .. "/state" },
        { env = { PASSWORD = servers.passwords.admin, HOME = dir .. "/home" }, cwd = dir .. "/cwd" })
      assert.are_not.equal(0, r.code, r.out .. r.err)
    end
    before.same()
  end)

  it("by a role whose settings open the fence writes nothing", function ()
    pg.sql("create role loose login password 'loose-77'; alter role loose set default_transaction_read_only = off; alter role loose set standard_conforming_strings = off;"
      .. "alter role loose set search_path = evil_schema, public; grant all on t to loose; create schema evil_schema; grant usage on schema evil_schema to loose;"
      .. "create function evil_schema.count(int) returns bigint language plpgsql as 'begin insert into public.t values (98); return 1; end'", database)
    evidence.settle(pg)
    servers.passwords.loose = "loose-77"
    local r, data = plan(HEAD .. [[
      step "Backslash" { verify = function () db:value "SELECT '\\' , ' , lo_create(0) --'" end }
      step "Shadow" { verify = function () db:value "SELECT count(1)" end }
      step "Write" { verify = function () db:value "INSERT INTO t VALUES (9) RETURNING id" end }]], "loose")
    before.same()
    servers.passwords.loose = nil
    assert(data and data.steps, r.out .. r.err)
    assert.is_true(data.steps[2].failed, text.json(data.steps[2]))
    assert.is_true(data.steps[3].failed)
  end)
end)
