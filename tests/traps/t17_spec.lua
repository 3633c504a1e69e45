-- T17: copying /data/appendonly.aof. Since Redis 7 there is no such file: the append-only file is a set in a directory (appenddirname),
-- a base, what was appended since, and a manifest that names them. The copy fails, or, where an old file was left behind by an upgrade, copies
-- what is years old.

local keep = require "tests.support.keep"
local suite = require "tests.support.suite"

describe("trap T17, the append-only file that is a set", function ()
  local function sorted(list)
    table.sort(list)
    return list
  end

  local function appending(more)
    local at = keep.open { arguments = { "--save", "", "--appendonly", "yes", "--appendfilename", "shop.aof", table.unpack(more or {}) } }
    for i = 1, 20 do at.cli("set", "auth:refresh:" .. i, "x") end
    return at
  end

  it("is not there by the guide's name", function ()
    local at <close> = appending()
    assert.is_nil((os.execute(("cp '%s/appendonly.aof' '%s/copy' 2>/dev/null"):format(at.data, at.dir))))
    assert.same({ "shop.aof.1.base.rdb", "shop.aof.1.incr.aof", "shop.aof.manifest" }, sorted(T.entries(at.data .. "/appendonlydir")))
  end)

  it("is copied by redis/backup as its manifest names it, and a server starts from the copy", function ()
    local at <close> = appending()
    at.cli "bgrewriteaof"
    at.await("aof_rewrite_in_progress", "0")
    at.cli("set", "auth:refresh:21", "since the rewrite")
    local r = at.neap { "run", "redis/backup", "--name", "night", "--no-input" }
    assert.equal(0, r.code, r.all)
    assert.same({ "night.rdb", "night.shop.aof.2.base.rdb", "night.shop.aof.2.incr.aof", "night.shop.aof.manifest" }, sorted(T.entries(at.backups)))
    at.stop "kill"
    os.execute(("rm -r '%s/appendonlydir' && cp -r '%s' '%s/appendonlydir'"):format(at.data, at.backups, at.data))
    at.start { "--appendfilename", "night.shop.aof" }
    for i = 1, 21 do assert.equal("1", at.cli("exists", "auth:refresh:" .. i)) end
  end)

  it("is not copied half: a rewrite meanwhile makes the copy anew", function ()
    local at <close> = appending()
    -- the base vanishes behind the manifest that was read, as a rewrite makes it vanish
    local files = require "ops.redis_files"
    local manifest = "file shop.aof.1.base.rdb seq 1 type b\nfile shop.aof.1.incr.aof seq 1 type i\n"
    local reads, copied = { manifest, (manifest:gsub("1", "2")) }, {}
    local cache = { read = function (_, _, _, name) return { name, name == "appenddirname" and "appendonlydir" or "shop.aof" } end }
    local data = { has = function (_, name) return name:find("manifest", 1, true) ~= nil end, read = function () return table.remove(reads, 1) end }
    local ok, err = pcall(files.copy_set, cache, data, { write = function (_, name) copied[#copied + 1] = name end }, "night")
    assert.is_false(ok)
    assert.matches("rewrote its append-only file while it was copied", err.message, 1, true)
    assert.same({}, copied)                                    -- without its manifest it is no set
    assert.equal(2, #files.manifest(suite.read(at.data .. "/appendonlydir/shop.aof.manifest")))
  end)
end)
