-- The journal under harm: files taken away, full disks, kill -9, and a fault at every system call.

local journal = require "native.journal"
local runs = require "tests.support.runs"
local suite = require "tests.support.suite"

describe("a journal that can no longer be written", function()
  local function after(state, harm)
    return T.run(function()
      local j <close> = assert(journal.create(state, "r1"))
      runs.append(j, 1)
      harm(runs.evidence(state, "r1"))
      j:append("intent", "", { text = "drop" })
      local first = runs.raised(j.flush, j)
      local second = runs.raised(j.flush, j)
      local third = runs.raised(j.append, j, "note", "", {})
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
      local errors = after(runs.state(), harm)
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
      local err = runs.refused("journal", journal.create(place .. "/state", "r1"))
      assert.matches("reserve", err.message, 1, true)
      assert.is_nil(T.entries(place .. "/state/runs/r1"))
    end)
  end)

  -- A journal with a run record on a disk that is full; `fn` ends it and says its last record, and what then stands there must be whole.
  local function on_full_disk(status, fn)
    with_tmpfs("2m", function(place)
      local state = place .. "/state"
      local last = T.run(function()
        local j <close> = assert(journal.create(state, "r1"))
        runs.append(j, 1)
        os.execute(("dd if=/dev/zero of='%s/filler' bs=4k 2>/dev/null"):format(place))
        return fn(j)
      end)
      assert.equal(last, assert(journal.verify(state, "r1")).records)
      assert.equal("end", journal.read(state, "r1", last - 1)[1].kind)
      assert.equal(status, journal.index.find(state, "r1")[1].status)
    end)
  end

  it("is sealed from the reserve when the disk is full just then", function()
    on_full_disk("ok", function(j)
      j:append("note", "", { text = ("x"):rep(300000) })
      local seq = j:append("end", "", { status = "ok" })
      assert(j:seal("ok"))
      return seq
    end)
  end)

  it("records its own end on a full disk", function()
    on_full_disk("failed", function(j)
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
      assert.equal("journal", runs.raised(j.flush, j).code)
      assert(j:seal("failed"))
      return seq
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
      local from, bytes = child:read(120000)
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
    local state = runs.state()
    local before = 0
    for round = 1, 12 do
      local code = WRITER:format(round == 1 and "create" or "resume", state, round * 300)
      local child = T.start { argv = { ("/proc/%d/exe"):format(T.pid()), "-e", code } }
      local last = acknowledged(child, before + 10 * round)
      child:wait(120000)
      child:close()
      assert.is_true(last > before)
      local proof = assert(journal.verify(state, "r1"))
      assert.is_true(proof.records >= last)
      assert.equal(0, proof.records % 2)
      before = proof.records
    end
  end)
end)

describe("a fault at every system call", function()
  local SCRIPT = [[
    local journal = require "native.journal"
    T.run(function()
      local j <close> = assert(journal.create(%q, "r1"))
      for i = 1, 4 do
        local seq = j:append("note", "", { text = ("x"):rep(1500 * i) })
        j:flush()
        io.stdout:write(seq, "\n"):flush()
      end
      assert(j:seal("ok"))
      io.stdout:write("sealed\n"):flush()
    end)]]

  --- Run the script with the fault at the n-th of the calls of each thread (one commits, one does the rest).
  ---@return integer last what it acknowledged
  ---@return boolean well did it end as if nothing had happened?
  local function run_with(script, state, fault, paths)
    local argv = { "env", "UV_THREADPOOL_SIZE=1", "ASAN_OPTIONS=detect_leaks=0", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=" .. fault }
    for _, path in ipairs(paths) do table.move({ "-P", state .. path }, 1, 2, #argv + 1, argv) end
    table.move({ ("/proc/%d/exe"):format(T.pid()), "-e", script:format(state) }, 1, 3, #argv + 1, argv)
    local child = T.start { argv = argv }
    local text = ""
    while true do
      local from, bytes = child:read(120000)
      if from == "out" then text = text .. bytes end
      if from == nil then break end
    end
    local code = child:wait(120000)
    child:close()
    local last = 0
    for seq in text:gmatch("(%d+)\n") do last = tonumber(seq) end
    return last, code == 0 and text:find("sealed", 1, true) ~= nil
  end

  local function check(state, last, what)
    local proof, err = journal.verify(state, "r1")
    if last == 0 and not proof then return end
    assert(proof, what .. ": " .. tostring(err))
    assert.is_true(proof.records >= last, what)
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      j:append("resume", "", {})
      j:flush()
      assert(j:seal("ok"))
    end)
    assert.equal(proof.records + 1, assert(journal.verify(state, "r1")).records)
  end

  local function sweep(script, fault, paths, look)
    if not os.execute("command -v strace >/dev/null") then return pending("strace is not installed") end
    for n = 1, 400 do
      local state = runs.state()
      local last, well = run_with(script, state, fault .. ":when=" .. n, paths)
      look(state, last, fault .. " at " .. n)
      T.remove_tree(state)
      if well then return assert.is_true(n > 3, "the fault never struck") end
    end
    error("the script never came to its end")
  end

  -- Not the directory: SQLite ignores that its sync failed.
  local FILES = { "/runs/r1/evidence.db", "/runs/r1/evidence.db-wal", "/runs/r1/anchor" }

  it("loses nothing when killed at any write #kill", function() sweep(SCRIPT, "pwrite64:signal=KILL", FILES, check) end)
  it("loses nothing when killed at any sync #kill", function() sweep(SCRIPT, "fdatasync,fsync:signal=KILL", FILES, check) end)
  it("never calls durable what a failed sync left in doubt #kill", function() sweep(SCRIPT, "fdatasync:error=EIO", FILES, check) end)
  it("survives a write that finds no space #kill", function() sweep(SCRIPT, "pwrite64:error=ENOSPC", FILES, check) end)

  it("leaves an index that can be read when killed at any write to it #kill", function()
    local script = [[
      local index = require("native.journal").index
      for i = 1, 3 do
        assert(index.put(%q, { run = "r" .. i, status = "running", started_ms = i }))
        io.stdout:write(i, "\n"):flush()
      end
      io.stdout:write("sealed\n"):flush()]]
    sweep(script, "pwrite64:signal=KILL", { "/index.db", "/index.db-journal" }, function(state, last, what)
      local rows, err = journal.index.list(state)
      assert(rows, what .. ": " .. tostring(err))
      assert.is_true(#rows >= last, what)
      assert(journal.index.put(state, { run = "after", status = "ok" }))
    end)
  end)
end)
