-- T16: BGSAVE, then copying dump.rdb at once. BGSAVE answers before anything is saved: what is copied is the old snapshot, byte for byte.
-- When the save fails, the old one stays for ever, and LASTSAVE with it: a script that waits for LASTSAVE to move waits for ever.

local keep = require "tests.support.keep"
local suite = require "tests.support.suite"

describe("trap T16, a snapshot copied before it is there", function ()
  -- A server whose saves take as long as it has keys.
  local function slow(keys, ms)
    local at = keep.open { file = { 'save ""' } }
    at.cli("set", "old", "1")
    at.cli "save"
    for i = 1, keys do at.cli("set", "auth:refresh:" .. i, "x") end
    at.cli("config", "set", "rdb-key-save-delay", ms * 1000)
    return at
  end

  it("copies the old one, byte for byte, by the guide's way", function ()
    local at <close> = slow(5, 20000)
    local old = suite.read(at.data .. "/dump.rdb")
    at.cli "bgsave"
    os.execute(("cp '%s/dump.rdb' '%s/copy.rdb'"):format(at.data, at.dir))
    assert.equal(old, suite.read(at.dir .. "/copy.rdb"))
    assert.equal("1", at.info "rdb_bgsave_in_progress")
    at.stop()                                                  -- which ends the save; a crash would leave it at work
  end)

  it("is waited for by redis/backup, which proves by the snapshot's own date that it is the new one", function ()
    local at <close> = slow(5, 100)
    local old = suite.read(at.data .. "/dump.rdb")
    local r = at.neap { "run", "redis/backup", "--name", "night", "--no-input" }
    assert.equal(0, r.code, r.all)
    local copy = suite.read(at.backups .. "/night.rdb")
    assert.is_true(copy ~= old)
    assert.matches("auth:refresh:5", copy, 1, true)
    assert.equal(suite.read(at.data .. "/dump.rdb"), copy)
  end)

  it("is refused by redis/backup when the save fails, while LASTSAVE stands still", function ()
    local at <close> = keep.open { file = { 'save ""' } }
    at.cli("set", "a", "1")
    os.execute(("mkdir '%s/dump.rdb'"):format(at.data))        -- what the snapshot would be renamed to
    local before = at.cli "lastsave"
    at.cli "bgsave"
    at.await("rdb_last_bgsave_status", "err")
    assert.equal(before, at.cli "lastsave")
    os.execute(("rmdir '%s/dump.rdb'"):format(at.data))
    at.cli "save"
    os.execute(("rm '%s/dump.rdb' && mkdir '%s/dump.rdb'"):format(at.data, at.data))
    local r = at.neap { "run", "redis/backup", "--name", "night", "--no-input" }
    assert.equal(1, r.code, r.all)
    assert.matches("the last snapshot failed", r.all, 1, true)
    assert.is_nil((T.entries(at.backups) or {})[1])
  end)

  it("is refused by redis/backup when the folder is not the server's", function ()
    local at <close> = keep.open { file = { 'save ""' } }
    at.cli("set", "a", "1")
    at.cli "save"
    os.execute(("mkdir '%s/other' && cp '%s/dump.rdb' '%s/other/'"):format(at.dir, at.data, at.dir))
    local path = at.dir .. "/inventory.lua"
    suite.write(path, (suite.read(path):gsub('/data"', '/other"')))
    T.pause(1100)                                              -- the snapshot's date has seconds
    local r = at.neap { "run", "redis/backup", "--name", "night", "--no-input" }
    assert.equal(1, r.code, r.all)
    assert.matches("the snapshot in the server's directory is the new one", r.all, 1, true)
    assert.is_nil((T.entries(at.backups) or {})[1])
  end)
end)
