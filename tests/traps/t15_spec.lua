-- T15: turning the append-only file on by restarting Redis with --appendonly yes. Redis then loads the append-only file and nothing
-- else; there is none yet, so it begins with no keys at all beside a good dump.rdb, and the next save overwrites that one too. It must be
-- turned on while the server runs, which writes the file from memory; only then may the start command say so.

local keep = require "tests.support.keep"

describe("trap T15, --appendonly yes at a restart", function ()
  local function three_keys(at)
    for i = 1, 3 do at.cli("set", "auth:refresh:" .. i, "x") end
    at.cli "save"
  end

  it("loses every key by the guide's way, with the snapshot there", function ()
    local at <close> = keep.open()
    three_keys(at)
    at.stop "kill"
    at.start()
    assert.equal("3", at.cli "dbsize")                     -- the snapshot is good
    at.stop "kill"
    at.start { "--appendonly", "yes", "--appendfsync", "everysec" }
    assert.equal("0", at.cli "dbsize")
  end)

  it("is done by redis/enable-aof in the order that keeps them, also through kill -9 of the server", function ()
    local at <close> = keep.open { file = { 'save 3600 1' } }
    three_keys(at)
    local r = at.neap { "run", "redis/enable-aof", "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.matches("3 keys: after the next restart run this again with --keys 3", r.all, 1, true)
    at.cli("set", "auth:refresh:4", "written after the last snapshot")
    at.await("aof_pending_bio_fsync", "0")
    at.stop "kill"
    at.start()
    assert.equal("4", at.cli "dbsize")
    r = at.neap { "run", "redis/enable-aof", "--no-input", "--keys", "3" }
    assert.equal(0, r.code, r.all)
    assert.matches("already so", r.all, 1, true)
  end)

  it("is found out afterwards: a server that began with nothing has fewer keys than were noted", function ()
    local at <close> = keep.open()
    three_keys(at)
    at.stop "kill"
    at.start { "--appendonly", "yes" }
    local r = at.neap { "run", "redis/enable-aof", "--no-input", "--keys", "3" }
    assert.equal(1, r.code, r.all)
    assert.matches("there are at least 3 keys", r.all, 1, true)
    assert.matches("it is 0", r.all, 1, true)
  end)
end)
