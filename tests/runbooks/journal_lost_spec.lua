-- A run whose journal is taken away under it: the built binary on a real server. It stops before the next act, undoes nothing
-- that it could not record, says so, exits 74, and keeps the target until it is settled.
--
-- The harm is done by a step of the runbook itself, so that it always comes at the same place: one act was recorded, the
-- second is under way, the third must not begin.

local servers = require "tests.support.servers"
local runs = require "tests.support.runs"
local suite = require "tests.support.suite"

local BOOK <const> = [[
runbook "Insert, be harmed, insert" { why = "A test of a journal that is lost.", on_failure = "undo" }
local db, tool = target.postgres "db", target.command "tool"
local function row (id)
  return {
    done = function () return db:has("SELECT 1 FROM t WHERE id = $1", id) end,
    act  = function () db:exec("INSERT INTO t VALUES ($1)", id) end,
    undo = function () db:exec("DELETE FROM t WHERE id = $1", id) end,
  }
end
step "One" (row(1))
step "Harm" {
  done = function () return tool:read { "harmed" }:out() == "yes\n" end,
  act  = function () tool:run { "harm" } end,
  undo = function () tool:run { "undo" } end,
  after = function () tool:run { "after" } end,
}
%sstep "Two" (row(2))
]]

-- A full disk is noticed when the space that the journal keeps in reserve is used up.
local TALK <const> = 'step "Talk" { verify = function () for i = 1, 2000 do note("%d %s", i, ("x"):rep(2000)) end end }\n'

local TOOL <const> = [[
#!/bin/sh
dir=%s state=%s
evidence=$(ls -d "$state"/runs/*/evidence.db 2>/dev/null)
case $1 in
harmed) [ -e "$dir/harmed" ] && echo yes || echo no ;;
harm) touch "$dir/harmed"; %s ;;
*) echo "$1" >>"$dir/paid" ;;
esac
]]

-- What is done to the evidence file, and what makes it good again.
local HARMS <const> = {
  ["deleted"] = { 'mv "$evidence" "$dir/away"', 'mv "$dir/away" "$evidence"' },
  ["replaced by a copy"] = { 'cp -p "$evidence" "$dir/copy"; mv "$evidence" "$dir/away"; mv "$dir/copy" "$evidence"', 'mv "$dir/away" "$evidence"' },
  ["made read-only"] = { 'chmod 400 "$evidence"', 'chmod 600 "$evidence"' },
  ["moved away with its directory"] = { 'mv "$state/runs" "$state/moved"', 'rm -rf "$state/runs"; mv "$state/moved" "$state/runs"' },
  ["on a full disk"] = { 'dd if=/dev/zero of="$state/filler" bs=4k 2>/dev/null; :', 'rm "$state/filler"', disk = "48m" },
}

describe("a run whose journal is", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  local function place(harm, state, talk)
    local at = { dir = suite.temp(), database = pg.database() }
    at.state = state or at.dir .. "/state"
    pg.sql("create table t (id int primary key); alter table t owner to owner", at.database)
    suite.write(at.dir .. "/book.lua", (BOOK:gsub("%%s", function () return talk or "" end)))
    suite.write(at.dir .. "/tool", TOOL:format(at.dir, at.state, harm))
    T.mode(at.dir .. "/tool", tonumber("755", 8))
    suite.write(at.dir .. "/inventory.lua", ([[environment "demo" { db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" } },
      tool = command { argv = { "%s/tool" } } }]]):format(pg.port, at.database, at.dir))
    function at.neap(words, options)
      options = options or {}
      options.env = { PASSWORD = servers.passwords.owner }
      options.cwd = at.dir
      table.move({ "--state", options.state or at.state }, 1, 2, #words + 1, words)
      if words[1] ~= "journal" then table.move({ "--inventory", at.dir .. "/inventory.lua" }, 1, 2, #words + 1, words) end
      local r = servers.neap(words, options)
      r.all = r.out .. r.err
      return r
    end
    function at.run(options) return at.neap({ "run", "./book.lua", "--env", "demo", "--no-input" }, options) end
    function at.rows() return pg.sql("select string_agg(id::text, ',' order by id) from t", at.database) end
    function at.paid()
      local file = io.open(at.dir .. "/paid")
      if not file then return "" end
      local text = file:read("a")
      file:close()
      return text
    end
    function at.sh(command) assert(os.execute(("dir='%s' state='%s' evidence=$(ls '%s'/runs/*/evidence.db 2>/dev/null || ls -d '%s'/runs/* 2>/dev/null | sed 's,$,/evidence.db,' 2>/dev/null); %s")
      :format(at.dir, at.state, at.state, at.state, command))) end
    return at
  end

  local function tmpfs(size, fn)
    if T.uid() ~= 0 then return pending("mounting a tmpfs needs root") end
    local dir = suite.temp()
    if not os.execute(("mount -t tmpfs -o size=%s,mode=700 none '%s'"):format(size, dir)) then return pending("no tmpfs can be mounted") end
    local ok, err = xpcall(fn, debug.traceback, dir)
    os.execute(("umount -l '%s'"):format(dir))
    assert(ok, err)
  end

  local function try(harm, state)
    local at = place(harm[1], state, harm.disk and TALK)
    local r = at.run()
    assert.equal(74, r.code, r.all)
    assert.equal("1", at.rows())
    assert.equal("", at.paid())
    local id = r.all:match("run (%x%x%x%x+)")
    assert.matches("the journal can no longer be written: ", (r.all:gsub("%s+", " ")), 1, true)
    assert.matches("neap resume " .. id, (r.all:gsub("%s+", " ")), 1, true)
    assert.matches("nothing was undone", (r.all:gsub("%s+", " ")), 1, true)
    local other = at.run { state = at.dir .. "/other" }
    assert.equal(75, other.code, other.all)
    assert.matches("neap resume " .. id, (other.all:gsub("%s+", " ")), 1, true)
    at.sh(harm[2])
    local resumed = at.neap { "resume", id, "--no-input" }
    assert.equal(0, resumed.code, resumed.all)
    assert.equal("1,2", at.rows())
    assert.equal("after\n", at.paid())
    assert.equal(0, at.neap({ "journal", "verify", id }).code)
    assert.equal(0, at.run().code)
  end

  local names = {}
  for name in pairs(HARMS) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local harm = HARMS[name]
    it(name .. " stops before the next act, and keeps the target until it is settled", function ()
      if harm.disk then return tmpfs(harm.disk, function (dir) try(harm, dir .. "/state") end) end
      try(harm)
    end)
  end

  it("gone for good keeps the target too, and says what to do", function ()
    local at = place('rm -rf "$state/runs"')
    local r = at.run()
    assert.equal(74, r.code, r.all)
    assert.equal("1", at.rows())
    local id = r.all:match("run (%x%x%x%x+)")
    local resumed = at.neap { "resume", id, "--no-input" }
    assert.are_not.equal(0, resumed.code, resumed.all)
    assert.equal(75, at.run().code)
  end)

  it("not writable from the start does not begin", function ()
    local at = place("true")
    local user = T.uid() == 0 and "nobody" or nil
    T.mode(at.dir, tonumber("555", 8))
    for _, path in ipairs { "inventory.lua", "book.lua" } do T.mode(at.dir .. "/" .. path, tonumber("444", 8)) end
    local r = at.run { user = user }
    T.mode(at.dir, tonumber("755", 8))
    assert.equal(74, r.code, r.all)
    assert.equal("", at.rows())
    assert.matches("state", r.all, 1, true)
    assert.equal("0", pg.sql("select count(*) from pg_locks where locktype = 'advisory'", at.database))
    suite.write(at.dir .. "/state", "a file")
    r = at.run()
    assert.equal(74, r.code, r.all)
    assert.equal("", at.rows())
  end)

  it("on a disk too small for it does not begin", function ()
    tmpfs("256k", function (dir)
      local at = place("true", dir .. "/state")
      local r = at.run()
      assert.equal(74, r.code, r.all)
      assert.equal("", at.rows())
    end)
  end)
end)

describe("evidence of a real run", function ()
  local pg, dir, id, evidence, clean
  setup(function ()
    pg = servers.postgres()
    dir = suite.temp()
    local database = pg.database()
    pg.sql("create table t (id int primary key); alter table t owner to owner", database)
    suite.write(dir .. "/book.lua", (BOOK:gsub("%%s", "")))
    suite.write(dir .. "/tool", TOOL:format(dir, dir .. "/state", "true"))
    T.mode(dir .. "/tool", tonumber("755", 8))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" { db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" } },
      tool = command { argv = { "%s/tool" } } }]]):format(pg.port, database, dir))
  end)

  local function neap(words)
    table.move({ "--state", dir .. "/state" }, 1, 2, #words + 1, words)
    return servers.neap(words, { env = { PASSWORD = servers.passwords.owner }, cwd = dir })
  end

  local function made()
    if id then return end
    local r = neap { "run", "./book.lua", "--env", "demo", "--no-input", "--inventory", dir .. "/inventory.lua" }
    assert.equal(0, r.code, r.out .. r.err)
    id = (r.out .. r.err):match("run (%x%x%x%x+)")
    evidence = runs.evidence(dir .. "/state", id)
    clean = suite.read(evidence)
    assert.equal(0, neap({ "journal", "verify", id }).code)
  end

  it("with one byte changed anywhere is found out", function ()
    made()
    local missed, positions = {}, {}
    for i = 0, 15 do positions[#positions + 1] = math.floor((#clean - 1) * i / 15) end
    for at in clean:gmatch "()INSERT INTO t" do positions[#positions + 1] = at end
    for at in clean:gmatch "()\"status\"" do positions[#positions + 1] = at + 1 end
    for i, at in ipairs(positions) do
      if i <= 26 then
        runs.patch(evidence, at, clean:byte(at + 1) ~ 1)
        local r = neap { "journal", "verify", id }
        if r.code ~= 65 then missed[#missed + 1] = ("%d: exit %s"):format(at, r.code) end
        runs.patch(evidence, at, clean:byte(at + 1))
      end
    end
    assert.same({}, missed)
    assert.equal(0, neap({ "journal", "verify", id }).code)
  end)

  it("with its tail cut off is found out", function ()
    made()
    for _, length in ipairs { #clean - 1, #clean - 4096, #clean // 2, 4096, 0 } do
      runs.cut(evidence, length)
      assert.equal(65, neap({ "journal", "verify", id }).code, length)
      runs.overwrite(evidence, clean)
    end
    assert.equal(0, neap({ "journal", "verify", id }).code)
  end)

  it("brings a lost index back", function ()
    made()
    local before = neap { "history", "--json" }
    assert.equal(0, before.code)
    for _, name in ipairs { "index.db", "index.db-journal", "index.db-wal", "index.db-shm" } do os.remove(dir .. "/state/" .. name) end
    local run = before.out:match('"run":"(%x+)"')
    assert.matches("neap journal rebuild,%s+then again with " .. run, neap({ "resume", run:sub(1, 4) }).err)
    local r = neap { "journal", "rebuild" }
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("1 run in the index", r.out, 1, true)
    local function without_start(out) return (out:gsub('"started_ms":%d+', "")) end
    assert.equal(without_start(before.out), without_start(neap({ "history", "--json" }).out))
    assert.equal(0, neap({ "journal", "verify" }).code)
  end)
end)
