-- Evidence, anchors and indexes that somebody wrote by hand: each lie is found, and said in words.

local journal = require "native.journal"
local runs = require "tests.support.runs"
local suite = require "tests.support.suite"
local task = require "native.task"

local function anchor(state, run) return state .. "/runs/" .. run .. "/anchor" end

local function found(text, ...)
  local err = runs.refused("invalid", ...)
  assert.matches(text, err.message, 1, true)
  return err
end

describe("an anchor", function()
  it("that a power cut left blank says nothing, and the chain still counts", function()
    local state = runs.state()
    runs.write(state, "r1", 2)
    for _, blank in ipairs { "", ("\0"):rep(40), ("\0"):rep(200) } do
      runs.cut(anchor(state, "r1"), 0)
      runs.overwrite(anchor(state, "r1"), blank)
      assert.equal(3, assert(journal.verify(state, "r1")).records)
    end
  end)

  it("in any other form is damaged", function()
    local state = runs.state()
    runs.write(state, "r1", 2)
    local line = suite.read(anchor(state, "r1"))
    local lies = {
      "x", line .. "x", line:sub(1, -2), ":" .. line:sub(2), " " .. line:sub(2), line:sub(1, 18) .. "x" .. line:sub(20),
      line:gsub("(.*) ", "%1x"), line:sub(1, -2) .. " ", line:sub(1, 19) .. "G" .. line:sub(21), line:sub(1, 20) .. "g" .. line:sub(22),
      (line:gsub("%-\n", "0\n")), (line:gsub(" %-", " 0", 1)), line:sub(1, 19) .. "/" .. line:sub(21),
    }
    for _, lie in ipairs(lies) do
      runs.cut(anchor(state, "r1"), 0)
      runs.overwrite(anchor(state, "r1"), lie)
      found("anchor", journal.verify(state, "r1"))
    end
    os.remove(anchor(state, "r1"))
    found("cannot be read", journal.verify(state, "r1"))
  end)

  it("of the sealed file is no anchor of the open one", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "held")
    local sealed = suite.read(anchor(state, "r1"))
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      j:append("resume", "", {})
      j:flush()
    end)
    runs.overwrite(anchor(state, "r1"), sealed)
    found("was sealed, but its evidence is open", journal.verify(state, "r1"))
  end)
end)

describe("an evidence file", function()
  it("with a header between two forms is damaged", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    local path = runs.evidence(state, "r1")
    for _, bytes in ipairs { { 1, 2 }, { 2, 1 }, { 3, 3 } } do
      runs.patch(path, 18, bytes[1])
      runs.patch(path, 19, bytes[2])
      found("header", journal.verify(state, "r1"))
    end
    runs.overwrite(path, ("x"):rep(200))
    found("is not the evidence of a run", journal.verify(state, "r1"))
    runs.cut(path, 10)
    found("is not the evidence of a run", journal.verify(state, "r1"))
  end)

  it("with values of another type, a stray zero or no hash is damaged", function()
    for _, lie in ipairs {
      "seq = 9 WHERE seq = 3", "at = 'x'", "kind = x'00'", "step = 7", "body = x'7b7d'", "hash = 'x'", "hash = x'00'",
      "kind = kind || char(0) || 'x'", "step = step || char(0)", "body = body || ' '",
    } do
      local state = runs.state()
      runs.write(state, "r1", 2, "ok")
      T.sql(runs.evidence(state, "r1"), "UPDATE record SET " .. lie)
      found("damaged or missing", journal.verify(state, "r1"))
      runs.refused("invalid", journal.resume(state, "r1"))
    end
  end)

  it("without its tables is refused by everything that reads", function()
    for _, drop in ipairs { "DROP TABLE record", "DROP TABLE seal", "ALTER TABLE record DROP COLUMN hash", "DELETE FROM record" } do
      local state = runs.state()
      runs.write(state, "r1", 2, "ok")
      T.sql(runs.evidence(state, "r1"), drop)
      assert.is_nil((journal.verify(state, "r1")))
      assert.is_nil((journal.resume(state, "r1")))
      assert(journal.index.rebuild(state))
      assert.is_table(journal.index.find(state, "r1")[1])
    end
  end)

  it("larger than one piece of the hash is proved to its last byte", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      for i = 1, 40 do
        j:append("note", "", { i = i, text = ("x"):rep(60000) })
        j:flush()
      end
      assert(j:seal("ok"))
    end)
    local path = runs.evidence(state, "r1")
    assert(journal.verify(state, "r1"))
    local bytes = suite.read(path)
    assert.is_true(#bytes > 2000000)
    runs.patch(path, #bytes - 3, bytes:byte(#bytes - 2) ~ 1)
    runs.refused("invalid", journal.verify(state, "r1"))
    runs.patch(path, #bytes - 3, bytes:byte(#bytes - 2))
    assert(journal.verify(state, "r1"))
  end)

  it("whose log was given up before the header said so is open and whole", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    T.sql(runs.evidence(state, "r1"), "PRAGMA journal_mode=WAL")
    for _, tail in ipairs { "-wal", "-shm" } do os.remove(runs.evidence(state, "r1") .. tail) end
    found("was sealed, but its evidence is open", journal.verify(state, "r1"))
    runs.cut(anchor(state, "r1"), 0)
    found("the index knows run", journal.verify(state, "r1"))
    os.remove(state .. "/index.db")
    assert(journal.index.rebuild(state))
    assert.equal(3, assert(journal.verify(state, "r1")).records)
  end)
end)

describe("an index", function()
  it("that knows another file, or other records, speaks against the evidence", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    local path = state .. "/index.db"
    T.sql(path, "UPDATE run SET records = 7")
    found("the index knows 7", journal.verify(state, "r1"))
    T.sql(path, "UPDATE run SET records = 3, hash = '" .. ("0"):rep(64) .. "'")
    found("not the file the index knows", journal.verify(state, "r1"))
    T.sql(path, "UPDATE run SET hash = 'short'")
    assert(journal.verify(state, "r1"))
    T.sql(path, "UPDATE run SET run = 'r10'")
    assert(journal.verify(state, "r1"))
  end)

  it("of a newer neap, or with other tables, is refused", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    local path = state .. "/index.db"
    T.sql(path, "PRAGMA user_version=9")
    local err = found("newer neap", journal.index.list(state))
    assert.matches("Use that version", err.hint, 1, true)
    found("newer neap", journal.index.put(state, { run = "r2", status = "ok" }))
    T.sql(path, "PRAGMA user_version=1; ALTER TABLE run RENAME TO other")
    assert.is_nil((journal.index.list(state)))
    assert.is_nil((journal.index.put(state, { run = "r2", status = "ok" })))
    T.sql(path, "PRAGMA user_version=0")
    assert.same({}, journal.index.list(state))
    T.sql(path, "PRAGMA user_version=1; ALTER TABLE other RENAME TO run; CREATE TRIGGER no BEFORE INSERT ON run BEGIN SELECT raise(ABORT, 'no'); END")
    assert.is_nil((journal.index.put(state, { run = "r2", status = "ok" })))
    assert.is_nil((journal.index.rebuild(state)))
  end)

  it("takes no name that is no run, and tells a state directory that cannot be made", function()
    local state = runs.state()
    runs.refused("usage", journal.index.put(state, { run = "../x", status = "ok" }))
    assert.equal(0, assert(journal.index.rebuild(state)))
    runs.refused("usage", journal.verify(state, "../x"))
    suite.write(state .. "/file", "x")
    for _, path in ipairs { state .. "/file/deep", state .. "/file/deep/er", "" } do
      assert.is_nil((journal.index.put(path, { run = "r1", status = "ok" })))
      assert.is_nil((journal.index.rebuild(path)))
      assert.is_nil((journal.verify(path, "r1")))
    end
  end)
end)

describe("a journal that is left", function()
  it("lets nothing follow its seal, and seals once", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      assert(j:seal("ok"))
      runs.raised(j.append, j, "note", "", {})
      assert.equal("journal", select(2, j:seal("ok")).code)
    end)
  end)

  it("leaves no task and no handle when it is closed while it seals", function()
    local state = runs.state()
    T.run(function()
      local j = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      local sealing = task.spawn(function() return j:seal("ok") end)
      local again = task.spawn(function() return j:seal("ok") end)
      local closing = task.spawn(function() j:close() end)
      sealing:join()
      again:join()
      closing:join()
    end)
    assert.is_true(#journal.read(state, "r1", 0) >= 2)
  end)

  it("stops telling a view that closes it", function()
    local state = runs.state()
    local told = 0
    T.run(function()
      local j = assert(journal.create(state, "r1"))
      journal.on_durable(function(list)
        told = told + #list
        j:close()
      end)
      j:append("note", "", {})
      j:append("note", "", {})
      pcall(j.flush, j)
      j:close()
    end)
    journal.on_durable(nil)
    assert.is_true(told >= 1)
  end)

  it("keeps every record when its log is started over", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      for i = 1, 60 do
        j:append("note", "", { i = i, text = ("x"):rep(50000) })
        j:flush()
      end
      assert(j:seal("ok"))
    end)
    assert.equal(60, assert(journal.verify(state, "r1")).records)
  end)
end)

describe("evidence that was given away", function()
  it("is refused, closed or open", function()
    if T.uid() ~= 0 then return pending("giving a file away needs root") end
    local state = runs.state()
    runs.write(state, "r1", 1, "ok")
    T.owner(runs.evidence(state, "r1"), "nobody")
    local err = runs.refused("journal", journal.verify(state, "r1"))
    assert.matches("another user", err.message, 1, true)
    T.run(function()
      local j <close> = assert(journal.create(state, "r2"))
      runs.append(j, 1)
      T.owner(runs.evidence(state, "r2"), "nobody")
      j:append("note", "", {})
      assert.matches("another user", runs.raised(j.flush, j).message, 1, true)
    end)
  end)
end)

-- A signal is recorded whenever it comes, while a run is being sealed too; who then waited for that record waited for ever.
describe("what is appended while the journal is sealed", function()
  local function late(harm)
    local state = runs.state()
    return T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      if harm then T.fault("pwrite", "/state", 1, "EIO", true) end
      local sealing = task.spawn(function() return j:seal("ok") end)
      -- On a busy machine the seal may be over by now: then nothing can be appended any more, which is the same answer.
      local waiting = task.spawn(function()
        return pcall(function()
          j:append("signal", "", { name = "interrupt" })
          j:flush()
        end)
      end)
      local _, sealed = sealing:join()
      T.fault()
      local _, flushed, err = waiting:join()
      pcall(j.flush, j)                                  -- answered, whatever the answer
      return sealed, flushed, err.code
    end)
  end

  it("is refused to who waits for it, and to who asks afterwards", function()
    assert.same({ true, false, "journal" }, { late(false) })
  end)

  it("is refused when sealing failed, too", function()
    assert.same({ nil, false, "journal" }, { late(true) })
  end)
end)

describe("a disk that stays full", function()
  it("ends the run when the reserve is spent too", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      T.fault("pwrite", "/state", 1, "ENOSPC", true)
      j:append("note", "", { text = ("x"):rep(300000) })
      local err = runs.raised(j.flush, j)
      assert.matches("no reserve", err.message, 1, true)
      assert.is_nil((j:seal("failed")))
      T.fault()
    end)
    assert.equal(2, assert(journal.verify(state, "r1")).records)
  end)
end)
