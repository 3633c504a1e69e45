-- The journal: evidence that survives, that nobody else can reach, and in which every change is found.

local journal = require "native.journal"
local suite = require "tests.support.suite"
local task = require "native.task"

local STATE_MODE = tonumber("700", 8)
local RUN_BODY = {
  runbook = "Restore", environment = "demo", user = "anna", host = "iris",
  targets = { { role = "db", kind = "postgres", id = "pg:1/app" }, { role = "files", kind = "folder", id = "file:/srv" } },
}

local function new_state() return suite.temp() .. "/state" end
local function evidence(state, run) return state .. "/runs/" .. run .. "/evidence.db" end

local function read_file(path) return suite.read(path) end

local function write_file(path, bytes)
  local file = assert(io.open(path, "r+b"))
  assert(file:write(bytes))
  file:close()
end

local function cut_file(path, length)
  assert(os.execute(("truncate -s %d '%s'"):format(length, path)))
end

local function patch(path, offset, byte)
  local file = assert(io.open(path, "r+b"))
  file:seek("set", offset)
  file:write(string.char(byte))
  file:close()
end

local function append_some(j, count)
  j:append("run", "", RUN_BODY)
  for i = 1, count do j:append("note", "step-1", { text = "line " .. i }) end
  j:flush()
end

--- A run of `count` notes, sealed with the status, or left open when there is none.
local function write_run(state, run, count, status)
  T.run(function()
    local j <close> = assert(journal.create(state, run))
    append_some(j, count)
    if status then assert(j:seal(status)) end
  end)
end

local function must_fail(code, value, err)
  assert.is_nil(value)
  assert.equal(code, err.code)
  return err
end

--- What the function raises inside a task.
local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return err
end

describe("native.journal", function()
  it("keeps records in order and gives them back as they were", function()
    local state = new_state()
    write_run(state, "r1", 3)
    local records = assert(journal.read(state, "r1", 0))
    assert.equal(4, #records)
    assert.same(RUN_BODY, records[1].body)
    assert.same({ 1, 2, 3, 4 }, { records[1].seq, records[2].seq, records[3].seq, records[4].seq })
    assert.equal("step-1", records[4].step)
    assert.equal("note", records[4].kind)
    assert.equal(2, #journal.read(state, "r1", 2))
    assert.equal(4, assert(journal.verify(state, "r1")).records)
  end)

  it("makes directories 0700 and files 0600 whatever the umask says", function()
    local state = new_state()
    write_run(state, "r1", 1)
    local listing = io.popen(("find '%s' -printf '%%y %%m\\n' | sort -u"):format(state))
    assert.equal("d 700\nf 600\n", listing:read("a"))
    listing:close()
  end)

  it("lets tasks that flush together share a commit", function()
    local state = new_state()
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
    local state = new_state()
    local seen = 0
    journal.on_durable(function(list) seen = seen + #list end)
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      j:append("note", "", { text = "nobody waits for me" })
      local tries = 0
      while seen == 0 and tries < 500 do
        task.sleep(1)
        tries = tries + 1
      end
    end)
    journal.on_durable(nil)
    assert.equal(1, seen)
    assert.equal(1, #journal.read(state, "r1", 0))
  end)

  it("goes on when a view of it fails", function()
    local state = new_state()
    journal.on_durable(function() error("the screen is gone") end)
    write_run(state, "r1", 2, "ok")
    journal.on_durable(nil)
    assert.equal(3, assert(journal.verify(state, "r1")).records)
  end)

  it("can be read while it is written", function()
    local state = new_state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      append_some(j, 2)
      assert.equal(3, #journal.read(state, "r1", 0))
      j:append("note", "", { text = "later" })
      j:flush()
      assert.equal(1, #journal.read(state, "r1", 3))
      assert.equal(4, assert(journal.verify(state, "r1")).records)
    end)
  end)

  it("seals into one plain file that the index knows", function()
    local state = new_state()
    write_run(state, "r1", 3, "failed")
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
    local state = new_state()
    write_run(state, "open", 2)
    write_run(state, "sealed", 2, "held")
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

  it("lists a resumed run as running until it is sealed again", function()
    local state = new_state()
    write_run(state, "r1", 2, "failed")
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
    local state = new_state()
    local child = T.start { argv = { "/proc/self/exe", "-e", ([[
      local journal = require "native.journal"
      T.run(function()
        local j <close> = assert(journal.create(%q, "r1"))
        j:append("note", "", {})
        j:flush()
        io.stdout:write("ready\n"):flush()
        io.stdin:read("l")
      end)]]):format(state) } }
    local from, line = child:read(20000)
    assert.same({ "out", "ready\n" }, { from, line })
    local err = must_fail("busy", journal.resume(state, "r1"))
    assert.matches("neap watch r1", err.hint, 1, true)
    assert.equal(1, #journal.read(state, "r1", 0))
    child:write("\n")
    assert.equal(0, child:wait(20000))
    child:close()
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      assert.equal(2, j:append("note", "", {}))
      assert.equal("usage", raised(journal.create, state, "r2").code)
    end)
  end)

  it("refuses what is no run, no state, or already there", function()
    local state = new_state()
    for _, name in ipairs { "../r1", "", "a/b", "R1", ".", "-x", ("x"):rep(65) } do
      must_fail("usage", journal.create(state, name))
      must_fail("usage", journal.read(state, name, 0))
    end
    write_run(state, "r1", 1)
    must_fail("journal", journal.create(state, "r1"))
    must_fail("invalid", journal.read(state, "nothing", 0))
    must_fail("invalid", journal.resume(state, "nothing"))
    must_fail("journal", journal.read(state .. "/elsewhere", "r1", 0))
    assert.same({}, journal.index.list(state .. "/elsewhere"))
  end)

  it("refuses bodies that are no plain data and keeps its numbering", function()
    local state = new_state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      raised(j.append, j, "note", "", { f = print })
      raised(j.append, j, "note", "", "text")
      assert.equal(1, j:append("note", "", nil))
      j:flush()
      assert.same({}, journal.read(state, "r1", 0)[1].body)
    end)
  end)

  it("is closed for good once closed", function()
    local state = new_state()
    T.run(function()
      local j = assert(journal.create(state, "r1"))
      j:close()
      j:close()
      assert.equal("journal", raised(j.append, j, "note", "", {}).code)
      assert.equal("journal", raised(j.flush, j).code)
    end)
  end)
end)

describe("the proof", function()
  it("finds every flipped byte of a sealed file #bulk", function()
    local state = new_state()
    write_run(state, "r1", 3, "ok")
    local path = evidence(state, "r1")
    local bytes = read_file(path)
    local missed = {}
    for offset = 0, #bytes - 1 do
      local byte = bytes:byte(offset + 1)
      patch(path, offset, byte ~ (1 << (offset % 8)))
      if journal.verify(state, "r1") then missed[#missed + 1] = offset end
      patch(path, offset, byte)
    end
    assert.same({}, missed)
    assert(journal.verify(state, "r1"))
  end)

  it("finds a changed file after the index was rebuilt", function()
    local state = new_state()
    write_run(state, "r1", 3, "ok")
    local path = evidence(state, "r1")
    local bytes = read_file(path)
    local missed = {}
    for offset = 0, #bytes - 1, 211 do
      local byte = bytes:byte(offset + 1)
      patch(path, offset, byte ~ 1)
      os.remove(state .. "/index.db")
      assert(journal.index.rebuild(state))
      if journal.verify(state, "r1") then missed[#missed + 1] = offset end
      patch(path, offset, byte)
    end
    assert.same({}, missed)
  end)

  it("finds every flipped byte of the anchor", function()
    local state = new_state()
    for _, status in ipairs { "open", "ok" } do
      write_run(state, status, 2, status == "ok" and status or nil)
      local path = state .. "/runs/" .. status .. "/anchor"
      local bytes = read_file(path)
      for offset = 0, #bytes - 1 do
        local byte = bytes:byte(offset + 1)
        patch(path, offset, byte ~ 1)
        assert.equal("invalid", select(2, journal.verify(state, status)).code, "byte " .. offset)
        patch(path, offset, byte)
      end
      assert(journal.verify(state, status))
    end
  end)

  it("finds every flipped byte of the records of an open run", function()
    local state = new_state()
    write_run(state, "r1", 2)
    local path = evidence(state, "r1") .. "-wal"
    local bytes = read_file(path)
    local used = #(bytes:gsub("\0+$", ""))
    assert.is_true(used > 0)
    local missed = {}
    for offset = 0, used - 1 do
      local byte = bytes:byte(offset + 1)
      if byte ~= 0 or offset % 97 == 0 then
        os.remove(evidence(state, "r1") .. "-shm")
        patch(path, offset, byte ~ (1 << (offset % 8)))
        if journal.verify(state, "r1") then missed[#missed + 1] = offset end
        patch(path, offset, byte)
      end
    end
    os.remove(evidence(state, "r1") .. "-shm")
    assert(journal.verify(state, "r1"))
    assert.same({}, missed)
  end)

  it("finds a cut tail, of the file, of the records, of the log", function()
    local state = new_state()
    write_run(state, "sealed", 40, "ok")
    local path = evidence(state, "sealed")
    local bytes = read_file(path)
    for length = 0, #bytes - 1, 509 do
      cut_file(path, length)
      assert.is_nil(journal.verify(state, "sealed"), "cut to " .. length)
      cut_file(path, 0)
      write_file(path, bytes)
    end
    cut_file(path, #bytes - 1)
    assert.is_nil(journal.verify(state, "sealed"))
    write_run(state, "open", 40)
    local log = evidence(state, "open") .. "-wal"
    os.remove(evidence(state, "open") .. "-shm")
    cut_file(log, 4096)
    local err = must_fail("invalid", journal.verify(state, "open"))
    assert.matches("had been written", err.message, 1, true)
    must_fail("invalid", journal.resume(state, "open"))
  end)

  it("tells one run's evidence from another's", function()
    local state = new_state()
    write_run(state, "r1", 2, "ok")
    write_run(state, "r2", 2, "ok")
    for _, name in ipairs { "evidence.db", "anchor" } do
      write_file(state .. "/runs/r2/" .. name, read_file(state .. "/runs/r1/" .. name))
    end
    os.remove(state .. "/index.db")
    must_fail("invalid", journal.verify(state, "r2"))
  end)

  it("says when the evidence comes from a newer neap", function()
    local state = new_state()
    write_run(state, "r1", 2, "ok")
    patch(evidence(state, "r1"), 63, 9)
    local err = must_fail("invalid", journal.read(state, "r1", 0))
    assert.matches("newer neap", err.message, 1, true)
  end)
end)

describe("a journal that can no longer be written", function()
  local function after(state, harm)
    return T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      append_some(j, 1)
      harm(evidence(state, "r1"))
      j:append("intent", "", { text = "drop" })
      local first = raised(j.flush, j)
      local second = raised(j.flush, j)
      local third = raised(j.append, j, "note", "", {})
      assert.is_nil((j:seal("failed")))
      return { first, second, third }
    end)
  end

  local harms = {
    ["deleted"] = function(path) os.remove(path) end,
    ["replaced by a copy"] = function(path) os.execute(("cp -p '%s' '%s.new' && mv '%s.new' '%s'"):format(path, path, path, path)) end,
    ["made read-only"] = function(path) T.mode(path, tonumber("400", 8)) end,
    ["opened to others"] = function(path) T.mode(path, tonumber("644", 8)) end,
    ["given a second name"] = function(path) os.execute(("ln '%s' '%s.link'"):format(path, path)) end,
    ["robbed of its log"] = function(path) os.remove(path .. "-wal") end,
    ["moved with its directory"] = function(path)
      local dir = path:match("(.*)/")
      os.execute(("mv '%s' '%s.moved'"):format(dir, dir))
    end,
  }
  for what, harm in pairs(harms) do
    it("stops the run when it is " .. what, function()
      local errors = after(new_state(), harm)
      for _, err in ipairs(errors) do assert.equal("journal", err.code) end
      assert.matches("Records up to 2 are safe", errors[1].hint, 1, true)
    end)
  end

  local function with_tmpfs(size, fn)
    if T.uid() ~= 0 then return pending("mounting a tmpfs needs root") end
    local place = suite.temp()
    if not os.execute(("mount -t tmpfs -o size=%s,mode=700 none '%s'"):format(size, place)) then return pending("no tmpfs can be mounted") end
    local ok, err = xpcall(fn, debug.traceback, place)
    os.execute(("umount -l '%s'"):format(place))
    assert(ok, err)
  end

  it("does not begin on a disk too small for its reserve", function()
    with_tmpfs("256k", function(place)
      local err = must_fail("journal", journal.create(place .. "/state", "r1"))
      assert.matches("reserve", err.message, 1, true)
      assert.is_nil(T.entries(place .. "/state/runs/r1"))
    end)
  end)

  it("records its own end on a full disk", function()
    with_tmpfs("2m", function(place)
      local state = place .. "/state"
      local last = T.run(function()
        local j <close> = assert(journal.create(state, "r1"))
        append_some(j, 1)
        os.execute(("dd if=/dev/zero of='%s/filler' bs=4k 2>/dev/null"):format(place))
        local err
        for i = 1, 2000 do
          j:append("note", "", { i = i, text = ("x"):rep(2000) })
          local ok, why = pcall(j.flush, j)
          if not ok then
            err = why
            break
          end
        end
        assert.equal("journal", err.code)
        assert.matches("no space left", err.message, 1, true)
        local seq = j:append("end", "", { status = "failed" })
        assert.equal("journal", raised(j.flush, j).code)
        assert(j:seal("failed"))
        return seq
      end)
      assert.equal(last, assert(journal.verify(state, "r1")).records)
      assert.equal("end", journal.read(state, "r1", last - 1)[1].kind)
      assert.equal("failed", journal.index.find(state, "r1")[1].status)
    end)
  end)
end)

describe("kill -9", function()
  local WRITER = [[
    local journal = require "native.journal"
    T.run(function()
      local j <close> = assert(journal[%q](%q, "r1"))
      while true do
        local seq = j:append("note", "", { text = ("x"):rep(%d) })
        j:append("note", "", { text = "shares the commit" })
        j:flush()
        io.stdout:write(seq + 1, "\n"):flush()
      end
    end)]]

  local function acknowledged(child, enough)
    local text, last = "", 0
    while true do
      local from, bytes = child:read(20000)
      if from == "out" then text = text .. bytes end
      for seq in text:gmatch("(%d+)\n") do last = tonumber(seq) end
      text = text:match("[^\n]*$")
      if from == nil then return last end
      if enough and last >= enough then
        child:kill(9)
        enough = nil
      end
    end
  end

  it("loses no acknowledged record #kill", function()
    local state = new_state()
    local before = 0
    for round = 1, 12 do
      local child = T.start { argv = { "/proc/self/exe", "-e", WRITER:format(round == 1 and "create" or "resume", state, round * 300) } }
      local last = acknowledged(child, before + 10 * round)
      child:wait(20000)
      child:close()
      assert.is_true(last > before)
      local proof = assert(journal.verify(state, "r1"))
      assert.is_true(proof.records >= last)
      assert.equal(0, proof.records % 2)
      before = proof.records
    end
  end)
end)

describe("the state directory", function()
  it("is refused when others can reach it", function()
    local state = suite.temp()
    T.mode(state, tonumber("750", 8))
    local err = must_fail("journal", journal.create(state, "r1"))
    assert.matches("chmod 700", err.hint, 1, true)
    must_fail("journal", journal.index.list(state))
    T.mode(state, STATE_MODE)
    write_run(state, "r1", 1)
    T.mode(state .. "/runs", tonumber("755", 8))
    must_fail("journal", journal.read(state, "r1", 0))
    T.mode(state .. "/runs", STATE_MODE)
    T.mode(state .. "/runs/r1", tonumber("711", 8))
    must_fail("journal", journal.read(state, "r1", 0))
  end)

  it("is refused when it belongs to somebody else", function()
    if T.uid() ~= 0 then return pending("giving a directory away needs root") end
    local state = suite.temp()
    T.owner(state, "nobody")
    local err = must_fail("journal", journal.create(state, "r1"))
    assert.matches("another user", err.message, 1, true)
  end)

  it("is refused as a symbolic link, and so is everything in it", function()
    local place = suite.temp()
    write_run(place .. "/real", "r1", 1, "ok")
    local function link(to, from) assert(os.execute(("ln -s '%s' '%s'"):format(to, from))) end
    link(place .. "/real", place .. "/link")
    must_fail("journal", journal.create(place .. "/link", "r2"))
    must_fail("journal", journal.read(place .. "/link/", "r1", 0))
    link("r1", place .. "/real/runs/r3")
    must_fail("journal", journal.read(place .. "/real", "r3", 0))
    os.execute(("cd '%s/real/runs/r1' && mv evidence.db other && ln -s other evidence.db"):format(place))
    must_fail("journal", journal.read(place .. "/real", "r1", 0))
    os.execute(("cd '%s/real' && mv index.db other && ln -s other index.db"):format(place))
    must_fail("journal", journal.index.list(place .. "/real"))
  end)

  it("refuses evidence that others can reach or that has two names", function()
    local state = new_state()
    write_run(state, "r1", 1, "ok")
    local path = evidence(state, "r1")
    for _, mode in ipairs { "640", "604", "400", "700" } do
      T.mode(path, tonumber(mode, 8))
      must_fail("journal", journal.verify(state, "r1"))
    end
    T.mode(path, tonumber("600", 8))
    assert(journal.verify(state, "r1"))
    os.execute(("ln '%s' '%s.2'"):format(path, path))
    must_fail("journal", journal.verify(state, "r1"))
  end)
end)

describe("the index of runs", function()
  local function all_rows(state) return assert(journal.index.list(state)) end

  it("says the same after a rebuild", function()
    local state = new_state()
    write_run(state, "r1", 3, "ok")
    write_run(state, "r2", 2, "unknown")
    write_run(state, "r3", 1, "failed")
    local started = journal.read(state, "r4", 0) and 0
    assert.is_nil(started)
    T.run(function()
      local j <close> = assert(journal.create(state, "r4"))
      append_some(j, 1)
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

  it("remembers how a run in debt ended, and forgets it once resumed", function()
    local state = new_state()
    T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      append_some(j, 1)
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
    local state = new_state()
    write_run(state, "r1", 1, "ok")
    write_run(state, "r2", 1, "ok")
    suite.write(state .. "/index.db", ("noise"):rep(2000))
    local err = must_fail("invalid", journal.index.list(state))
    assert.matches("rebuilt from the evidence", err.hint, 1, true)
    cut_file(evidence(state, "r2"), 700)
    assert.equal(2, journal.index.rebuild(state))
    assert.equal("ok", journal.index.find(state, "r1")[1].status)
    assert.equal("damaged", journal.index.find(state, "r2")[1].status)
  end)

  it("finds runs by prefix and forgets them one by one", function()
    local state = new_state()
    for i, run in ipairs { "7f3a01", "7f3a02", "80ff00" } do
      assert(journal.index.put(state, { run = run, status = "ok", started_ms = i }))
    end
    assert.equal(2, #journal.index.find(state, "7f3a"))
    assert.equal(1, #journal.index.find(state, "8"))
    assert.equal(0, #journal.index.find(state, "9"))
    must_fail("usage", journal.index.find(state, "%"))
    assert.equal("80ff00", journal.index.list(state, { limit = 1 })[1].run)
    assert(journal.index.remove(state, "7f3a01"))
    assert.equal(1, #journal.index.find(state, "7f3a"))
  end)

  it("finds unfinished runs among 10,000 at the price of finding them among none", function()
    local state = new_state()
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
