-- postgres/backup on the four set-ups: what the plan says, what the run leaves, the second run, undo, and what never becomes a backup: a source
-- that dies, a database that is not there, a full disk, a dump that is too small. Traps T5, T6, T10 and T20 have their own files.

local guide = require "tests.support.guide"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local neap = require "tests.support.neap"
local setups = require "tests.support.setups"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local ALL <const> = { "night.dump", "night.dump.globals", "night.dump.manifest" }
local NIGHT <const> = { "postgres/backup", "--name", "night.dump" }

describe("postgres/backup", function ()
  local function manifest(at, name) return assert(text.parse(suite.read(("%s/%s.manifest"):format(at.backups, name)))) end

  for _, name in ipairs(setups.names) do
    it("announces what it writes, keeps to it, and finds everything there the second time: " .. name, function ()
      local at, why = setups.open(name)
      if not at then return pending(why) end
      assert.equal(4, at.held(NIGHT, { "--no-input" }))
      local id = at.latest()
      assert.same(ALL, guide.names(at))
      local made = manifest(at, "night.dump")
      assert.equal(at.database, made.database)
      assert.same({ ["public.t"] = 1000, ["public.kept"] = 0, ["public.Session"] = 30 }, made.counts)
      assert.equal(text.sha256(suite.read(at.backups .. "/night.dump")), made.sha256)
      assert.matches("CREATE ROLE app", suite.read(at.backups .. "/night.dump.globals"), 1, true)
      assert.equal(0, at.neap({ "plan", table.unpack(NIGHT) }).code)
      at.ends(0, { "run", "--no-input", table.unpack(NIGHT) })
      for _, r in ipairs(at.records()) do assert.is_true(r.kind ~= "intent", r.body.text) end
      assert.same(made, manifest(at, "night.dump"))
      at.ends(0, { "undo", id, "--no-input" })
      assert.same({}, guide.names(at))
    end)
  end

  local function direct(options)
    local at, why = setups.open("direct", options)
    if not at then pending(why) end
    return at
  end

  it("plans as its page says", function ()
    local at = direct()
    if not at then return end
    local r = at.neap { "plan", table.unpack(NIGHT) }
    assert.equal(2, r.code, r.all)
    local page = kept.plain(r.out, { [at.database] = "DATABASE", [at.backups] = "BACKUPS" })
    page = page:gsub("%d+T%d+Z", "STAMP"):gsub("pg_dump [%d.]+ here", "pg_dump VERSION here"):gsub("PostgreSQL [%d.]+", "PostgreSQL VERSION")
    transcript.compare("plan_backup", (page:gsub("%d[%d.]* [KMG]iB", "N MiB")))
  end)

  it("makes every format, compression and choice of tables, named by the moment the run began", function ()
    local at = direct()
    if not at then return end
    for format, ending in pairs { custom = "%.dump", plain = "%.sql%.gz", directory = "%.tar%.zst" } do
      local compress = ({ custom = "none", plain = "gzip", directory = "zstd" })[format]
      at.ends(0, { "run", "postgres/backup", "--no-input", "--format", format, "--compress", compress, "--globals=no" })
      local found
      for _, name in ipairs(guide.names(at)) do
        if name:find("^" .. at.database .. "%-%d+T%d+Z" .. ending .. "$") then found = name end
      end
      assert.is_string(found, format)
      assert.equal(format, manifest(at, found).format)
      assert.equal(compress ~= "none" and compress or nil, manifest(at, found).compression)
    end
    at.ends(0, { "run", "postgres/backup", "--no-input", "--name", "some", "--tables", "public.t,public.Session" })
    assert.same({ ["public.t"] = 1000, ["public.Session"] = 30 }, manifest(at, "some").counts)
    assert.matches("no matching tables", at.ends(1, { "run", "postgres/backup", "--no-input", "--name", "none", "--tables", "public.t,public.gone" }), 1, true)
    assert.is_nil(table.concat(guide.names(at), " "):find("none", 1, true))
  end)

  it("writes over nothing: neither a backup nor a file that is in no catalogue", function ()
    local at = direct()
    if not at then return end
    suite.write(at.backups .. "/foreign.dump", "mine")
    assert.matches("there is a file \"foreign.dump\" already", at.ends(1, { "run", "postgres/backup", "--no-input", "--name", "foreign.dump" }), 1, true)
    assert.equal("mine", suite.read(at.backups .. "/foreign.dump"))
    assert.matches("what belongs to one", at.ends(1, { "run", "postgres/backup", "--no-input", "--name", "x.manifest" }), 1, true)
    assert.same({ "foreign.dump" }, guide.names(at))
  end)

  it("never calls a source that died, was killed or lied a backup", function ()
    local at = direct()
    if not at then return end
    for what, script in pairs {
      ["ended with status 1"] = 'case "$*" in *version*) exec REAL "$@";; esac; REAL "$@" | head -c 3000; exit 1',
      ["ended by signal 9"] = 'case "$*" in *version*) exec REAL "$@";; esac; REAL "$@" | head -c 3000; kill -9 $$',
      ["is not whole"] = 'case "$*" in *version*) exec REAL "$@";; esac; REAL "$@" | head -c 9000',       -- and ends well
      ["is no dump that pg_dump makes"] = 'case "$*" in *version*) exec REAL "$@";; esac; echo fine',
      ["is empty"] = 'case "$*" in *version*) exec REAL "$@";; esac; exit 0',
    } do
      at.bind { db = ('tools_path = "%s"'):format(guide.tools(at, "pg_dump", script)) }
      local r = at.neap { "run", "--no-input", table.unpack(NIGHT) }
      assert.equal(what:find "^is " and 65 or 1, r.code, r.all)
      assert.matches(what, r.all, 1, true)
      assert.same({}, guide.names(at))
    end
    at.bind { db = ('tools_path = "%s"'):format(at.pg.bin) }
    assert.matches("does not exist", at.ends(1, { "run", "--no-input", "--database", "nosuch", table.unpack(NIGHT) }), 1, true)
    assert.same({}, guide.names(at))
  end)

  it("never calls half of it a backup when its session is ended on the server", function ()
    local at = direct()
    if not at then return end
    at.pg.sql("create table big as select repeat(md5(i::text), 40) from generate_series(1, 60000) i; alter table big owner to owner", at.database)
    local running = at.start { "run", "--no-input", table.unpack(NIGHT) }
    running:shut()
    local ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'neap:%' and query like 'COPY%'"
    stages.await(function () return at.pg.sql(ended) ~= "0" end, "pg_dump at work")
    local r = running:finish(60000)
    assert.equal(1, r.code, r.out .. r.err)
    assert.same({}, guide.names(at))
  end)

  it("never calls what did not fit on the disk a backup", function ()
    local at = direct()
    if not at then return end
    if T.uid() ~= 0 or not os.execute(("mount -t tmpfs -o size=256k,mode=700 none '%s' 2>/dev/null"):format(at.backups)) then return pending("needs a tmpfs of its own") end
    suite.after(function () os.execute("umount '" .. at.backups .. "'") end)
    assert.matches("there is room for it", at.ends(1, { "run", "--no-input", table.unpack(NIGHT) }), 1, true)
    assert.same({}, guide.names(at))
    suite.write(at.backups .. "/old", "12345")              -- as if it had always been that small
    suite.write(at.backups .. "/old.manifest", text.json { state = "whole", name = "old", database = at.database, taken_at = "20260101T020000Z", format = "custom", bytes = 5,
      sha256 = text.sha256 "12345", counts = {}, shape = {} })
    at.pg.sql("create table big as select md5(i::text) from generate_series(1, 60000) i; alter table big owner to owner", at.database)
    assert.matches("no space left", at.ends(1, { "run", "--no-input", table.unpack(NIGHT) }):lower(), 1, true)
    assert.same({ "old", "old.manifest" }, guide.names(at))
  end)

  it("refuses what is much smaller than its forerunners, and takes it back", function ()
    local at = direct()
    if not at then return end
    at.ends(0, { "run", "--no-input", table.unpack(NIGHT) })
    at.pg.sql("truncate t", at.database)
    at.pg.sql("drop table t cascade", at.database)
    assert.matches("it is as large as earlier ones let expect", at.ends(1, { "run", "--no-input", "postgres/backup", "--name", "later.dump", "--floor", "99" }), 1, true)
    assert.same(ALL, guide.names(at))
    at.ends(0, { "run", "--no-input", "postgres/backup", "--name", "later.dump", "--floor", "0" })
  end)

  it("is refused to another user when it was killed, goes on, and is taken back by undo #kill", function ()
    local at = direct()
    if not at then return end
    local gate = suite.temp() .. "/go"
    assert(os.execute(("mkfifo '%s'"):format(gate)))
    local script = ("case \"$*\" in *version*) exec REAL \"$@\";; esac; echo $$ >'GATE.pid.part'; mv 'GATE.pid.part' 'GATE.pid'; read word <'GATE'; exec REAL \"$@\""):gsub("GATE", gate)
    at.bind { db = ('tools_path = "%s"'):format(guide.tools(at, "pg_dump", script)) }
    local running = at.start { "run", "--no-input", table.unpack(NIGHT) }
    running:shut()
    stages.await(function () return io.open(gate .. ".pid") end, "pg_dump"):close()
    running:kill(9)
    running:finish()
    wards.await_unlocked(at.pg, at.database)
    local id = at.latest()
    suite.write(at.dir .. "/copy.lua", suite.read "runbooks/postgres/backup.lua")
    assert(os.execute(("chmod a+x '%s' && chmod a+r '%s/copy.lua' '%s'"):format(at.dir, at.dir, at.inventory)))
    local refused = neap({ "run", at.dir .. "/copy.lua", "--no-input", "--name", "other.dump", "--env", "direct", "--inventory", at.inventory },
      { env = at.env, user = T.uid() == 0 and "nobody" or nil, cwd = "/" })
    assert.equal(75, refused.code, refused.out .. refused.err)
    assert.matches("neap resume " .. id, refused.out .. refused.err, 1, true)
    assert.is_nil((table.concat(guide.names(at), " "):find("night.dump ", 1, true)))
    at.bind { db = ('tools_path = "%s"'):format(at.pg.bin) }
    local fifo <close> = io.open(gate, "w")                    -- nobody reads what was left working
    fifo:write "on\n"
    fifo:flush()
    at.ends(0, { "resume", id, "--no-input" })
    assert.same(ALL, guide.names(at))
    at.ends(0, { "undo", id, "--no-input" })
    assert.same({}, guide.names(at))
    assert(journal.verify(at.state, id))
  end)
end)
