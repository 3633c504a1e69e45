-- The journal when the system refuses: every call it makes fails once, in this process, and what it says is looked at.

local journal = require "native.journal"
local runs = require "tests.support.runs"

--- Codes that a journal in trouble may answer with.
local HONEST = { journal = true, invalid = true, busy = true }

describe("a system call that fails", function()
  after_each(function() T.fault() end)

  local seen -- of the round: newest record that was called durable, is it known to be sealed, the errors

  --- Do one thing as a runbook's engine would; its failure is an error of the journal and nothing else.
  local function attempt(fn, ...)
    local done = table.pack(pcall(fn, ...))
    local value, err = done[2], done[3]
    if not done[1] then value, err = nil, done[2] end
    if value == nil and err ~= nil then
      assert.is_true(type(err) == "table" and HONEST[err.code] == true, "no error of the journal: " .. tostring(err))
      assert.is_true(#err.message > 10)
      seen.errors = seen.errors + 1
      return nil
    end
    return value == nil or value
  end

  local function write(j, count, size)
    for _ = 1, count do
      local seq = attempt(j.append, j, "note", "one", { text = ("x"):rep(size) })
      if not seq then return end
      if attempt(j.flush, j) then seen.durable = seq end
    end
  end

  local function first_life(state)
    T.run(function()
      local made = attempt(journal.create, state, "r1")
      if not made then return end
      local j <close> = made
      attempt(j.append, j, "run", "", runs.body)
      write(j, 3, 40000)
      attempt(j.seal, j, "held")
    end)
  end

  local function second_life(state)
    T.run(function()
      local back = attempt(journal.resume, state, "r1")
      if not back then return end
      local j <close> = back
      write(j, 2, 100)
      attempt(j.seal, j, "ok")
    end)
  end

  local function look(state)
    attempt(journal.read, state, "r1", 0)
    attempt(journal.verify, state, "r1")
    journal.is_written(state, "r1")
    attempt(journal.index.list, state, { unfinished = true })
    attempt(journal.index.find, state, "r1")
    attempt(journal.index.put, state, { run = "r2", status = "ok" })
    attempt(journal.index.remove, state, "r2")
    attempt(journal.index.rebuild, state)
  end

  local function all_of_it(state)
    first_life(state)
    second_life(state)
    look(state)
  end

  --- With the trouble over: nothing that was called durable is missing, and the run goes on.
  local function check(state, what)
    local proof, err = journal.verify(state, "r1")
    if seen.durable == 0 and not proof then return end
    assert(proof, what .. ": " .. tostring(err))
    assert.is_true(proof.records >= seen.durable, what)
    T.run(function()
      local j <close> = assert(journal.resume(state, "r1"))
      j:append("resume", "", {})
      j:flush()
      assert(j:seal("ok"))
    end)
    assert.equal(proof.records + 1, assert(journal.verify(state, "r1")).records, what)
    assert(journal.index.rebuild(state))
    assert.equal("ok", assert(journal.index.find(state, "r1"))[1].status, what)
  end

  --- Fail the n-th call, for every n up to `each` and then every `stride`-th, until a round meets no n-th one. `silent`: the failure costs
  --- something that is done another way.
  local function sweep(call, error_name, each, stride, silent)
    local answered, n = 0, 0
    while true do
      n = n + (n < each and 1 or stride)
      local state = runs.state()
      seen = { durable = 0, errors = 0 }
      T.fault(call, "/state", n, error_name)
      local ok, err = pcall(all_of_it, state)
      local struck = T.fault("nothing")
      assert(ok, ("%s %s %d: %s"):format(call, error_name, n, tostring(err)))
      if not struck then
        assert.equal(0, seen.errors)
        T.fault()
        return assert.is_true(n > 1 and (silent or answered > 0), "no failure was ever told")
      end
      answered = answered + seen.errors
      check(state, ("%s %s at %d"):format(call, error_name, n))
      T.remove_tree(state)
    end
  end

  for call, error_name in pairs {
    open = "EACCES", openat = "EACCES", fstat = "EIO", lstat = "EIO", fstatat = "EIO", fstatfs = "EIO", flock = "EIO", fsync = "EIO",
    pread = "EIO", read = "EIO", pwrite = "EIO", mkdir = "EACCES", mkdirat = "EACCES", fallocate = "ENOSPC",
    realpath = "EACCES", fdopendir = "ENOMEM", ftruncate = "EIO",
  } do
    it(("loses nothing and is told: %s, %s"):format(call, error_name), function() sweep(call, error_name, 24, 7) end)
    it(("loses nothing and is told, at almost every one: %s, %s #long"):format(call, error_name), function() sweep(call, error_name, 60, 3) end)
  end

  it("loses nothing when it is only a look whether something is there", function() sweep("faccessat", "EACCES", 60, 3, true) end)
  it("loses nothing and is told: pwrite, ENOSPC", function() sweep("pwrite", "ENOSPC", 24, 7) end)
  it("loses nothing and is told, at almost every one: pwrite, ENOSPC #long", function() sweep("pwrite", "ENOSPC", 60, 3) end)
end)

describe("a state directory", function()
  it("on a network file system is refused, with the way out", function()
    local state = runs.state()
    T.fault("fstatfs", "/state", 1, "NFS", true)
    local err = runs.refused("journal", journal.create(state, "r1"))
    T.fault()
    assert.matches("network file system (NFS)", err.message, 1, true)
    assert.matches("--state", err.hint, 1, true)
  end)
end)
