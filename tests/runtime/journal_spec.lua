-- The journal: evidence that survives, that nobody else can reach, and in which every change is found.

local journal = require "native.journal"
local runs = require "tests.support.runs"
local suite = require "tests.support.suite"
local task = require "native.task"
local value = require "native.value"

local STATE_MODE = tonumber("700", 8)

describe("native.journal", function()
  it("keeps records in order and gives them back as they were", function()
    local state = runs.state()
    runs.write(state, "r1", 3)
    local records = assert(journal.read(state, "r1", 0))
    assert.equal(4, #records)
    assert.same(runs.body, records[1].body)
    assert.same({ 1, 2, 3, 4 }, { records[1].seq, records[2].seq, records[3].seq, records[4].seq })
    assert.equal("step-1", records[4].step)
    assert.equal("note", records[4].kind)
    assert.equal(2, #journal.read(state, "r1", 2))
    assert.equal(4, assert(journal.verify(state, "r1")).records)
  end)

  it("makes directories 0700 and files 0600 whatever the umask says", function()
    local state = runs.state()
    runs.write(state, "r1", 1)
    local listing = io.popen(("find '%s' -printf '%%y %%m\\n' | sort -u"):format(state))
    assert.equal("d 700\nf 600\n", listing:read("a"))
    listing:close()
  end)

  it("lets tasks that flush together share a commit", function()
    local state = runs.state()
    local commits, records = 0, 0
    journal.on_durable(function(list)
      commits, records = commits + 1, records + #list
    end)
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      local tasks = {}
      for i = 1, 50 do
        tasks[i] = task.spawn(function()
          j:append("note", "", { i = i })
          j:flush()
        end)
      end
      for _, one in ipairs(tasks) do assert(one:join()) end
    end)
    journal.on_durable(nil)
    assert.equal(50, records)
    assert.is_true(commits <= 3)
  end)

  it("commits what nobody flushes within a moment", function()
    local state = runs.state()
    local seen = 0
    journal.on_durable(function(list) seen = seen + #list end)
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      j:append("note", "", { text = "nobody waits for me" })
      local until_ms = T.now_ms() + 60000
      while seen == 0 and T.now_ms() < until_ms do task.sleep(1) end
      assert.equal(1, seen)                          -- before its end, which would commit it too
    end)
    journal.on_durable(nil)
    assert.equal(1, #journal.read(state, "r1", 0))
  end)

  it("lets who waited go on before it tells a view, and tells what is left at once when asked, and at its end", function()
    local told = 0
    journal.on_durable(function(list) told = told + #list end)
    T.run(function()
      local j <close> = assert(journal.create(runs.state(), "r1"))
      local function record()
        j:append("note", "", {})
        j:flush()
        return told
      end
      assert.equal(0, record())
      j:tell()
      assert.equal(1, told)
      assert.equal(1, record())
      task.sleep(0)
      assert.equal(2, told)
      assert.equal(2, record())
    end)
    journal.on_durable(nil)
    assert.equal(3, told)
  end)

  it("tells a view what reading tells: no secret, and of what it keeps as it came nothing else", function()
    local state, seen = runs.state(), {}
    local secret = assert(require("native.secret").of("hunter2hunter2", "pin"))
    local bodies = {
      {}, { text = "a\0\u{85}é", n = 1, f = 2.0, big = math.mininteger, yes = true, no = false }, { bytes = "\255" }, { ["$bytes"] = "00ff" },
      { null = value.null, n = 1 }, { list = { 1, value.null }, deep = { x = {} } }, { pin = "it is hunter2hunter2" }, { pin = secret },
    }
    journal.on_durable(function(list) table.move(list, 1, #list, #seen + 1, seen) end)
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      for _, body in ipairs(bodies) do j:append("note", "", body) end
      j:flush()
    end)
    journal.on_durable(nil)
    assert.same(journal.read(state, "r1", 0), seen)
    assert.same({ "a\0\u{85}é", 2.0, "it is ‹secret pin›" }, { seen[2].body.text, seen[2].body.f, seen[7].body.pin })
    assert.equal("float", math.type(seen[2].body.f))
  end)

  it("tells a view the very tables of a body that was given away whole, unless a secret was in one", function()
    local state, seen = runs.state(), {}
    assert(require("native.secret").of("hunter2hunter2", "pin"))
    local steps, words = { { id = "a" }, { id = "b" } }, { "it is hunter2hunter2" }
    journal.on_durable(function(list) table.move(list, 1, #list, #seen + 1, seen) end)
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      j:append("plan", "", { steps = steps }, true)
      j:append("plan", "", { steps = words }, true)
      j:append("plan", "", { steps = steps })
      j:flush()
    end)
    journal.on_durable(nil)
    assert.is_true(rawequal(steps, seen[1].body.steps))
    assert.same({ "it is ‹secret pin›" }, seen[2].body.steps)
    assert.is_false(rawequal(steps, seen[3].body.steps))
    assert.same(journal.read(state, "r1", 0), seen)
  end)

  it("goes on when a view of it fails", function()
    local state = runs.state()
    journal.on_durable(function() error("the screen is gone") end)
    runs.write(state, "r1", 2, "ok")
    journal.on_durable(nil)
    assert.equal(3, assert(journal.verify(state, "r1")).records)
  end)

  it("can be read while it is written", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 2)
      assert.equal(3, #journal.read(state, "r1", 0))
      j:append("note", "", { text = "later" })
      j:flush()
      assert.equal(1, #journal.read(state, "r1", 3))
      assert.equal(4, assert(journal.verify(state, "r1")).records)
    end)
  end)

  it("seals into one plain file that the index knows", function()
    local state = runs.state()
    runs.write(state, "r1", 3, "failed")
    local listing = io.popen(("ls '%s/runs/r1'"):format(state))
    assert.equal("anchor\nevidence.db\n", listing:read("a"))
    listing:close()
    local row = assert(journal.index.find(state, "r1"))[1]
    assert.equal("failed", row.status)
    assert.equal(64, #row.hash)
    assert.equal(assert(journal.verify(state, "r1")).head, row.head)
    assert.same({ "pg:1/app", "file:/srv" }, row.targets)
  end)

  it("resumes open and sealed runs and continues their chain", function()
    local state = runs.state()
    runs.write(state, "open", 2)
    runs.write(state, "sealed", 2, "held")
    for _, run in ipairs { "open", "sealed" } do
      T.run(function()
        local j <close> = assert(journal.resume(state, run))
        assert.equal(4, j:append("resume", "", { user = "bert" }))
        j:flush()
        assert.equal(4, assert(journal.verify(state, run)).records)
        assert(j:seal("ok"))
      end)
      assert.equal(4, assert(journal.verify(state, run)).records)
      assert.equal("ok", journal.index.find(state, run)[1].status)
    end
  end)

  -- To leave the log of who was killed takes a lock that a reader's is in the way of, and SQLite does not wait for it by itself.
  it("resumes an open run while somebody reads it all the time", function()
    local state = runs.state()
    runs.write(state, "r1", 2)
    local reader = T.start { argv = { ("/proc/%d/exe"):format(T.pid()), "-e", ([[
      local journal = require "native.journal"
      io.stdout:write("ready\n"):flush()
      while true do assert(journal.read(%q, "r1", 0)) end]]):format(state) } }
    assert.same({ "out", "ready\n" }, { reader:read(60000) })
    T.run(function()
      for _ = 1, 40 do
        local j <close> = assert(journal.resume(state, "r1"))
        j:append("resume", "", {})
        j:flush()
      end
    end)
    reader:kill(9)
    reader:wait(60000)
    reader:close()
    assert.equal(43, assert(journal.verify(state, "r1")).records)
  end)

  it("lists a resumed run as running until it is sealed again", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "failed")
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      local rows = assert(journal.index.list(state, { unfinished = true }))
      assert.equal("r1", rows[1].run)
      assert.equal("", rows[1].hash)
      j:flush()
    end)
    assert.equal(3, assert(journal.verify(state, "r1")).records)
  end)

  it("refuses a second writer", function()
    local state = runs.state()
    local child = T.start { argv = { ("/proc/%d/exe"):format(T.pid()), "-e", ([[
      local journal = require "native.journal"
      T.run(function()
        local j <close> = assert(journal.create(%q, "r1"))
        j:append("note", "", {})
        j:flush()
        io.stdout:write("ready\n"):flush()
        io.stdin:read("l")
      end)]]):format(state) } }
    local from, line = child:read(60000)
    assert.same({ "out", "ready\n" }, { from, line })
    local err = runs.refused("busy", journal.resume(state, "r1"))
    assert.matches("neap watch r1", err.hint, 1, true)
    assert.equal(1, #journal.read(state, "r1", 0))
    child:write("\n")
    assert.equal(0, child:wait(60000))
    child:close()
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      assert.equal(2, j:append("note", "", {}))
      assert.equal("usage", runs.raised(journal.create, state, "r2").code)
    end)
  end)

  it("refuses what is no run, no state, or already there", function()
    local state = runs.state()
    for _, name in ipairs { "../r1", "", "a/b", "R1", ".", "-x", ("x"):rep(65) } do
      runs.refused("usage", journal.create(state, name))
      runs.refused("usage", journal.read(state, name, 0))
    end
    runs.write(state, "r1", 1)
    runs.refused("journal", journal.create(state, "r1"))
    runs.refused("invalid", journal.read(state, "nothing", 0))
    runs.refused("invalid", journal.resume(state, "nothing"))
    runs.refused("journal", journal.read(state .. "/elsewhere", "r1", 0))
    assert.same({}, journal.index.list(state .. "/elsewhere"))
  end)

  it("refuses bodies that are no plain data and keeps its numbering", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.raised(j.append, j, "note", "", { f = print })
      runs.raised(j.append, j, "note", "", "text")
      assert.equal(1, j:append("note", "", nil))
      j:flush()
      assert.same({}, journal.read(state, "r1", 0)[1].body)
    end)
  end)

  -- Tasks that are ready run one after another, so what the second does meets the first while it waits, however quick the disk is.
  it("tells who waits when it is closed, and lets a stopped task go after the commit", function()
    local state = runs.state()
    T.run(function()
      local j = assert(journal.create(state, "r1"))
      local function wait()
        j:append("note", "", {})
        j:flush()
      end
      local stopped = task.spawn(wait)
      local stopper = task.spawn(function() stopped:cancel("enough") end)
      assert(stopper:join())
      local ok, err = stopped:join()
      assert.is_false(ok)
      assert.equal("cancelled", err.code)
      assert.equal(1, #journal.read(state, "r1", 0))
      local left = task.spawn(wait)
      local closer = task.spawn(function() j:close() end)
      assert(closer:join())
      ok, err = left:join()
      assert.is_false(ok)
      assert.equal("journal", err.code)
    end)
  end)

  it("is closed for good once closed", function()
    local state = runs.state()
    T.run(function()
      local j = assert(journal.create(state, "r1"))
      j:close()
      j:close()
      assert.equal("journal", runs.raised(j.append, j, "note", "", {}).code)
      assert.equal("journal", runs.raised(j.flush, j).code)
    end)
  end)
end)

describe("the proof", function()
  it("finds every flipped byte of a sealed file #bulk", function()
    local state = runs.state()
    runs.write(state, "r1", 3, "ok")
    local path = runs.evidence(state, "r1")
    local bytes = suite.read(path)
    local missed = {}
    for offset = 0, #bytes - 1 do
      local byte = bytes:byte(offset + 1)
      runs.patch(path, offset, byte ~ (1 << (offset % 8)))
      if journal.verify(state, "r1") then missed[#missed + 1] = offset end
      runs.patch(path, offset, byte)
    end
    assert.same({}, missed)
    assert(journal.verify(state, "r1"))
  end)

  it("finds a changed file after the index was rebuilt", function()
    local state = runs.state()
    runs.write(state, "r1", 3, "ok")
    local path = runs.evidence(state, "r1")
    local bytes = suite.read(path)
    local missed = {}
    for offset = 0, #bytes - 1, 211 do
      local byte = bytes:byte(offset + 1)
      runs.patch(path, offset, byte ~ 1)
      os.remove(state .. "/index.db")
      assert(journal.index.rebuild(state))
      if journal.verify(state, "r1") then missed[#missed + 1] = offset end
      runs.patch(path, offset, byte)
    end
    assert.same({}, missed)
  end)

  it("finds every flipped byte of the anchor", function()
    local state = runs.state()
    for _, status in ipairs { "open", "ok" } do
      runs.write(state, status, 2, status == "ok" and status or nil)
      local path = state .. "/runs/" .. status .. "/anchor"
      local bytes = suite.read(path)
      for offset = 0, #bytes - 1 do
        local byte = bytes:byte(offset + 1)
        runs.patch(path, offset, byte ~ 1)
        assert.equal("invalid", select(2, journal.verify(state, status)).code, "byte " .. offset)
        runs.patch(path, offset, byte)
      end
      assert(journal.verify(state, status))
    end
  end)

  it("finds every flipped byte of the records of an open run", function()
    local state = runs.state()
    runs.write(state, "r1", 2)
    local path = runs.evidence(state, "r1") .. "-wal"
    local bytes = suite.read(path)
    local used = #(bytes:gsub("\0+$", ""))
    assert.is_true(used > 0)
    local missed = {}
    for offset = 0, used - 1 do
      local byte = bytes:byte(offset + 1)
      if byte ~= 0 or offset % 97 == 0 then
        os.remove(runs.evidence(state, "r1") .. "-shm")
        runs.patch(path, offset, byte ~ (1 << (offset % 8)))
        if journal.verify(state, "r1") then missed[#missed + 1] = offset end
        runs.patch(path, offset, byte)
      end
    end
    os.remove(runs.evidence(state, "r1") .. "-shm")
    assert(journal.verify(state, "r1"))
    assert.same({}, missed)
  end)

  it("finds a cut tail, of the file, of the records, of the log", function()
    local state = runs.state()
    runs.write(state, "sealed", 40, "ok")
    local path = runs.evidence(state, "sealed")
    local bytes = suite.read(path)
    for length = 0, #bytes - 1, 509 do
      runs.cut(path, length)
      assert.is_nil(journal.verify(state, "sealed"), "cut to " .. length)
      runs.cut(path, 0)
      runs.overwrite(path, bytes)
    end
    runs.cut(path, #bytes - 1)
    assert.is_nil(journal.verify(state, "sealed"))
    runs.write(state, "open", 40)
    local log = runs.evidence(state, "open") .. "-wal"
    os.remove(runs.evidence(state, "open") .. "-shm")
    runs.cut(log, 4096)
    local err = runs.refused("invalid", journal.verify(state, "open"))
    assert.matches("had been written", err.message, 1, true)
    runs.refused("invalid", journal.resume(state, "open"))
  end)

  it("tells one run's evidence from another's", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    runs.write(state, "r2", 2, "ok")
    for _, name in ipairs { "evidence.db", "anchor" } do
      runs.overwrite(state .. "/runs/r2/" .. name, suite.read(state .. "/runs/r1/" .. name))
    end
    os.remove(state .. "/index.db")
    runs.refused("invalid", journal.verify(state, "r2"))
  end)

  it("says when the evidence comes from a newer neap", function()
    local state = runs.state()
    runs.write(state, "r1", 2, "ok")
    runs.patch(runs.evidence(state, "r1"), 63, 9)
    local err = runs.refused("invalid", journal.read(state, "r1", 0))
    assert.matches("newer neap", err.message, 1, true)
  end)
end)

describe("the state directory", function()
  it("is refused when others can reach it", function()
    local state = suite.temp()
    T.mode(state, tonumber("750", 8))
    local err = runs.refused("journal", journal.create(state, "r1"))
    assert.matches("chmod 700", err.hint, 1, true)
    runs.refused("journal", journal.index.list(state))
    T.mode(state, STATE_MODE)
    runs.write(state, "r1", 1)
    T.mode(state .. "/runs", tonumber("755", 8))
    runs.refused("journal", journal.read(state, "r1", 0))
    T.mode(state .. "/runs", STATE_MODE)
    T.mode(state .. "/runs/r1", tonumber("711", 8))
    runs.refused("journal", journal.read(state, "r1", 0))
  end)

  it("is refused when it belongs to somebody else", function()
    if T.uid() ~= 0 then return pending("giving a directory away needs root") end
    local state = suite.temp()
    T.owner(state, "nobody")
    local err = runs.refused("journal", journal.create(state, "r1"))
    assert.matches("another user", err.message, 1, true)
  end)

  it("is refused as a symbolic link, and so is everything in it", function()
    local place = suite.temp()
    runs.write(place .. "/real", "r1", 1, "ok")
    local function link(to, from) assert(os.execute(("ln -s '%s' '%s'"):format(to, from))) end
    link(place .. "/real", place .. "/link")
    runs.refused("journal", journal.create(place .. "/link", "r2"))
    runs.refused("journal", journal.read(place .. "/link/", "r1", 0))
    link("r1", place .. "/real/runs/r3")
    runs.refused("journal", journal.read(place .. "/real", "r3", 0))
    os.execute(("cd '%s/real/runs/r1' && mv evidence.db other && ln -s other evidence.db"):format(place))
    runs.refused("journal", journal.read(place .. "/real", "r1", 0))
    os.execute(("cd '%s/real' && mv index.db other && ln -s other index.db"):format(place))
    runs.refused("journal", journal.index.list(place .. "/real"))
  end)

  it("refuses evidence that others can reach or that has two names", function()
    local state = runs.state()
    runs.write(state, "r1", 1, "ok")
    local path = runs.evidence(state, "r1")
    for _, mode in ipairs { "640", "604", "400", "700" } do
      T.mode(path, tonumber(mode, 8))
      runs.refused("journal", journal.verify(state, "r1"))
    end
    T.mode(path, tonumber("600", 8))
    assert(journal.verify(state, "r1"))
    os.execute(("ln '%s' '%s.2'"):format(path, path))
    runs.refused("journal", journal.verify(state, "r1"))
  end)
end)

describe("the index of runs", function()
  local function all_rows(state) return assert(journal.index.list(state)) end

  it("says the same after a rebuild", function()
    local state = runs.state()
    runs.write(state, "r1", 3, "ok")
    runs.write(state, "r2", 2, "unknown")
    runs.write(state, "r3", 1, "failed")
    local started = journal.read(state, "r4", 0) and 0
    assert.is_nil(started)
    T.run(function()
      local j <close> = assert(journal.create(state, "r4"))
      runs.append(j, 1)
    end)
    local first = journal.read(state, "r4", 0)[1]
    assert(journal.index.put(state, {
      run = "r4", runbook = "Restore", environment = "demo", user = "anna", host = "iris", status = "running",
      targets = { "pg:1/app", "file:/srv" }, started_ms = first.at,
    }))
    local before = all_rows(state)
    assert.equal(4, #before)
    assert.equal(4, journal.index.rebuild(state))
    assert.same(before, all_rows(state))
    os.remove(state .. "/index.db")
    assert.same({}, all_rows(state))
    assert.equal(4, journal.index.rebuild(state))
    assert.same(before, all_rows(state))
  end)

  it("says of a sealed run what its evidence says, listed from its beginning or only now", function()
    local state = runs.state()
    for run, listed in pairs { early = true, late = false } do
      T.run(function()
        local j <close> = assert(journal.create(state, run))
        runs.append(j, 1)
        local first = journal.read(state, run, 0)[1]
        if listed then
          assert(journal.index.put(state, { run = run, runbook = "Restore", environment = "demo", user = "anna", host = "iris", status = "running",
            targets = { "pg:1/app", "file:/srv" }, started_ms = first.at }))
        end
        assert(j:seal("failed"))
      end)
    end
    local before = all_rows(state)
    assert.same({ "failed", "failed" }, { before[1].status, before[2].status })
    assert.is_true(before[1].ended_ms > 0 and before[1].hash ~= "" and before[2].hash ~= "")
    assert.equal(2, journal.index.rebuild(state))
    assert.same(before, all_rows(state))
  end)

  it("remembers how a run in debt ended, and forgets it once resumed", function()
    local state = runs.state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      j:append("end", "", { status = "held" })
      j:flush()
    end)
    assert(journal.index.rebuild(state))
    assert.equal("held", all_rows(state)[1].status)
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      j:append("resume", "", {})
      j:flush()
    end)
    assert(journal.index.rebuild(state))
    assert.equal("running", all_rows(state)[1].status)
  end)

  it("can be rebuilt from nothing but noise, and lists what is damaged", function()
    local state = runs.state()
    runs.write(state, "r1", 1, "ok")
    runs.write(state, "r2", 1, "ok")
    suite.write(state .. "/index.db", ("noise"):rep(2000))
    local err = runs.refused("invalid", journal.index.list(state))
    assert.matches("rebuilt from the evidence", err.hint, 1, true)
    runs.cut(runs.evidence(state, "r2"), 700)
    assert.equal(2, journal.index.rebuild(state))
    assert.equal("ok", journal.index.find(state, "r1")[1].status)
    assert.equal("damaged", journal.index.find(state, "r2")[1].status)
  end)

  it("finds runs by prefix and forgets them one by one", function()
    local state = runs.state()
    for i, run in ipairs { "7f3a01", "7f3a02", "80ff00" } do
      assert(journal.index.put(state, { run = run, status = "ok", started_ms = i }))
    end
    assert.equal(2, #journal.index.find(state, "7f3a"))
    assert.equal(1, #journal.index.find(state, "8"))
    assert.equal(0, #journal.index.find(state, "9"))
    runs.refused("usage", journal.index.find(state, "%"))
    assert.equal("80ff00", journal.index.list(state, { limit = 1 })[1].run)
    assert(journal.index.remove(state, "7f3a01"))
    assert.equal(1, #journal.index.find(state, "7f3a"))
  end)

  it("finds unfinished runs among 10,000 at the price of finding them among none", function()
    local state = runs.state()
    assert(journal.index.put(state, { run = "r1", status = "running", started_ms = 1000000000 }))
    local path = state .. "/index.db"
    local plan, few = T.index_cost(path, true)
    assert.matches("USING INDEX run_unfinished", plan, 1, true)
    local _, few_newest = T.index_cost(path, false, 1)
    T.fill_index(path, 10000)
    local _, many = T.index_cost(path, true)
    local newest_plan, many_newest = T.index_cost(path, false, 1)
    assert.equal(few, many)
    assert.matches("USING INDEX run_by_start", newest_plan, 1, true)
    assert.is_true(many_newest <= few_newest + 10)
    assert.equal("r1", journal.index.list(state, { unfinished = true })[1].run)
  end)
end)
