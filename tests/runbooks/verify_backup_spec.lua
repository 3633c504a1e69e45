-- postgres/verify-backup: a drill on the four set-ups, its proof, what is refused (cut at a hundred places, a flipped byte, rows that are
-- missing), the application's own questions, and a scratch database that is gone whatever happened.

local clients = { postgres = require "client.postgres", folder = require "client.folder" }
local guide = require "tests.support.guide"
local kept = require "tests.support.kept"
local neap = require "tests.support.neap"
local secret = require "native.secret"
local servers = require "tests.support.servers"
local setups = require "tests.support.setups"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"
local wards = require "tests.support.ward"

local BACKUP <const> = { "run", "postgres/backup", "--no-input", "--name", "night.dump", "--globals=no" }
local VERIFY <const> = { "postgres/verify-backup", "--dump", "night.dump" }

describe("postgres/verify-backup", function ()
  local function scratches(at) return at.pg.sql "select count(*) from pg_database where datname like 'drill%'" end
  local function proof(at) return text.parse(suite.read(at.backups .. "/night.dump.proof")) end

  for _, name in ipairs(setups.names) do
    it("restores, compares, writes down that it came back, and leaves no scratch: " .. name, function ()
      local at, why = setups.open(name)
      if not at then return pending(why) end
      at.ends(0, BACKUP)
      assert.is_true(at.held(VERIFY, { "--no-input" }) >= 4)
      local written = assert(proof(at))
      assert.equal(text.sha256(suite.read(at.backups .. "/night.dump")), written.sha256)
      assert.is_true(written.seconds >= 1)
      assert.equal("0", scratches(at))
      assert.equal(0, at.neap({ "plan", table.unpack(VERIFY) }).code)
      at.ends(0, { "run", "--no-input", table.unpack(VERIFY) })
      for _, r in ipairs(at.records()) do assert.is_true(r.kind ~= "intent", r.body.text) end
      assert.matches("nothing of this run can be undone", at.ends(0, { "undo", at.latest() }), 1, true)
    end)
  end

  local function direct(options)
    local at, why = setups.open("direct", options)
    if not at then
      pending(why)
      return nil
    end
    at.ends(0, BACKUP)
    return at
  end

  local function run(at, ...) return at.neap { "run", "--no-input", "postgres/verify-backup", ... } end

  it("plans as its page says", function ()
    local at = direct()
    if not at then return end
    local r = at.neap { "plan", table.unpack(VERIFY) }
    assert.equal(2, r.code, r.all)
    local page = kept.plain(r.out, { [at.database] = "DATABASE", [at.backups] = "BACKUPS" }):gsub("taken %d+T%d+Z", "taken STAMP"):gsub("%d[%d.]* [KMG]iB", "N KiB")
    transcript.compare("plan_verify_backup", page)
  end)

  it("takes the newest of the database, asks the application's questions, and how old the newest is", function ()
    local at = direct()
    if not at then return end
    suite.write(at.backups .. "/half.sql", "SELECT count(*) = 1000\n  FROM t WHERE id % 2 = 1;\n")
    local r = run(at, "--queries", "half.sql,SELECT count(*) > 0 FROM \"Session\"", "--fresh", "26h")
    assert.equal(0, r.code, r.all)
    r = run(at, "--again", "0s", "--queries", "SELECT count(*) = 7 FROM t")
    assert.equal(1, r.code, r.all)
    assert.matches("not so: SELECT count(*) = 7 FROM t", r.all, 1, true)
    assert.equal("0", scratches(at))
    assert.matches("the newest backup is younger than 1ms", run(at, "--fresh", "1ms").all, 1, true)
    assert.matches("WAL was archived within 20m", run(at, "--archived", "20m").all, 1, true)
    assert.matches("there is no backup of \"other\" in the catalogue", run(at, "--database", "other").all, 1, true)
    assert.matches("nosuch.dump is in the catalogue", run(at, "--dump", "nosuch.dump").all, 1, true)
  end)

  it("finds rows and definitions that are missing although the restore ended well", function ()
    local at = direct()
    if not at then return end
    local path = at.backups .. "/night.dump.manifest"
    local whole = assert(text.parse(suite.read(path)))
    for field, wrong in pairs { counts = 1001, shape = "another" } do
      local manifest = assert(text.parse(suite.read(path)))
      manifest[field]["public.t"] = wrong
      suite.write(path, text.json(manifest))
      local r = run(at)
      assert.equal(1, r.code, r.all)
      assert.matches("public.t", r.all, 1, true)
      assert.equal("0", scratches(at))
      assert.is_nil(io.open(at.backups .. "/night.dump.proof"))
      suite.write(path, text.json(whole))
    end
    assert.equal(0, run(at).code)
  end)

  -- The dump is put into the catalogue as it is now, as if it had been made so.
  local function as_if_made(at, bytes)
    local path = at.backups .. "/night.dump.manifest"
    local manifest = assert(text.parse(suite.read(path)))
    manifest.bytes, manifest.sha256 = #bytes, text.sha256(bytes)
    suite.write(at.backups .. "/night.dump", bytes)
    suite.write(path, text.json(manifest))
  end

  it("never says that a dump came back that was cut or in which a byte was flipped", function ()
    local at = direct()
    if not at then return end
    local bytes = suite.read(at.backups .. "/night.dump")
    local function refused(changed, words)
      suite.write(at.backups .. "/night.dump", changed)
      local r = run(at)
      assert.equal(1, r.code, r.all)
      assert.matches(words, r.all, 1, true)
    end
    refused(bytes:sub(1, -2), "it has the bytes that were made")
    refused(bytes:sub(1, 99) .. string.char(bytes:byte(100) ~ 1) .. bytes:sub(101), "it has the bytes that were made")
    for _, share in ipairs { 0.1, 0.6, 0.99 } do              -- whoever made it believes it is whole: the restore does not
      as_if_made(at, bytes:sub(1, math.floor(#bytes * share)))
      local r = run(at)
      assert.equal(1, r.code, r.all)
      assert.equal("0", scratches(at))
    end
    assert.is_nil(io.open(at.backups .. "/night.dump.proof"))
  end)

  local function bound(at)
    local dir = at.backups
    local db = clients.postgres.bind("db", { url = ("postgresql://owner@127.0.0.1:%d/%s"):format(at.pg.port, at.database), tools_path = at.pg.bin,
      password = assert(secret.of(servers.passwords.owner, "password")) }, { application = "neap:spec:abcdef012345", environment = "test" })
    return db, clients.folder.bind("backups", { path = dir }, {})
  end

  it("refuses a dump that is cut at any of a hundred places, in every format, and the database stays empty", function ()
    local at = direct()
    if not at then return end
    local target = at.pg.database()
    T.run(function ()
      local db, folder = bound(at)
      local closing <close> = setmetatable({}, { __close = function () clients.postgres.close(db) end })
      assert(closing)
      local cuts = 0
      for format, many in pairs { custom = 50, directory = 25, plain = 25 } do
        local dump <close> = db.methods.dump(db, { format = format })
        folder:copy_in(dump, "whole")
        local bytes = suite.read(at.backups .. "/whole")
        for i = 1, many do
          local at_byte = i == many and #bytes - (format == "plain" and 30 or 1) or (#bytes - 40) * i // many
          suite.write(at.backups .. "/cut", bytes:sub(1, at_byte))
          local ok, err
          if i % 5 == 0 then ok, err = pcall(db.methods.restore, db, { from = { folder, "cut" }, into = target })
          else ok, err = pcall(db.methods.read_dump, db, { folder, "cut" }) end
          assert.is_false(ok, ("%s cut at %d of %d"):format(format, at_byte, #bytes))
          assert.is_true(err.code == "invalid" or err.code == "remote", tostring(err))
          cuts = cuts + 1
        end
        local there = db.methods.on(db, target)
        assert.is_true(there.methods.is_empty(there), format)
        assert.equal(format, db.methods.read_dump(db, { folder, "whole" }).format)
      end
      assert.equal(100, cuts)
    end)
  end)

  it("has nothing left after kill -9: refused to another user, resumed, and no scratch #kill", function ()
    local at = direct()
    if not at then return end
    local gate = suite.temp() .. "/go"
    assert(os.execute(("mkfifo '%s'"):format(gate)))
    local script = ("case \"$*\" in *version*) exec REAL \"$@\";; esac; echo $$ >'GATE.pid.part'; mv 'GATE.pid.part' 'GATE.pid'; read word <'GATE'; cat >/dev/null; exit 1"):gsub("GATE", gate)
    at.bind { db = ('tools_path = "%s"'):format(guide.tools(at, "pg_restore", script)) }
    local running = at.start { "run", "--no-input", table.unpack(VERIFY) }
    running:shut()
    stages.await(function () return io.open(gate .. ".pid") end, "pg_restore"):close()
    assert.equal("1", scratches(at))
    running:kill(9)
    running:finish()
    wards.await_unlocked(at.pg, at.database)
    local id = at.latest()
    suite.write(at.dir .. "/copy.lua", suite.read "runbooks/postgres/verify-backup.lua")
    assert(os.execute(("chmod a+x '%s' && chmod a+r '%s/copy.lua' '%s'"):format(at.dir, at.dir, at.inventory)))
    local refused = neap({ "run", at.dir .. "/copy.lua", "--no-input", "--dump", "night.dump", "--env", "direct", "--inventory", at.inventory },
      { env = at.env, user = T.uid() == 0 and "nobody" or nil, cwd = "/" })
    assert.equal(75, refused.code, refused.out .. refused.err)
    assert.matches("neap resume " .. id, refused.out .. refused.err, 1, true)
    at.bind { db = ('tools_path = "%s"'):format(at.pg.bin) }
    local fifo = io.open(gate, "w")                            -- what was left working ends, and restored nothing
    fifo:write "on\n"
    fifo:close()
    at.ends(0, { "resume", id, "--no-input" })
    assert.equal("0", scratches(at))
    assert.is_truthy(proof(at))
  end)

  it("takes its scratch away when the restore fails", function ()
    local at = direct()
    if not at then return end
    at.bind { db = ('tools_path = "%s"'):format(guide.tools(at, "pg_restore", 'case "$*" in *version*) exec REAL "$@";; esac; cat >/dev/null; echo "pg_restore: error: no" >&2; exit 1')) }
    local r = run(at)
    assert.equal(1, r.code, r.all)
    assert.matches("ended with status 1: pg_restore: error: no", r.all, 1, true)
    assert.equal("0", scratches(at))
  end)
end)
