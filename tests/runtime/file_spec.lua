-- native.file on real files: atomic writes, names that lie, full disks, previews, streams, probes.
local file = require "native.file"
local guard = require "native.guard"
local secret = require "native.secret"
local suite = require "tests.support.suite"
local task = require "native.task"

local dir

local function path(name) return dir .. "/" .. name end

local function put(name, text)
  local handle = assert(io.open(path(name), "wb"))
  handle:write(text)
  handle:close()
end

local function get(name)
  local handle = io.open(path(name), "rb")
  if not handle then return nil end
  local text = handle:read("a")
  handle:close()
  return text
end

local function link(target, name)
  assert(os.execute(("ln -s '%s' '%s'"):format(target, path(name))))
end

local function records(kind)
  local found = {}
  for _, record in ipairs(T.records()) do
    if record.kind == kind then found[#found + 1] = record.body end
  end
  return found
end

local function names()
  local found = T.entries(dir)
  table.sort(found)
  return found
end

describe("native.file", function()
  before_each(function() dir = suite.temp() end)

  describe("reading", function()
    it("gives back every byte, NUL and odd names included", function()
      local bytes = "a\0b\255\n"
      for _, name in ipairs { "-rf", "a b", "new\nline", "quote'\"", "$(id)", "\27[31m", ("x"):rep(255), "\xff\xfe" } do
        put(name, bytes)
        assert.equal(bytes, T.run(function() return file.read(path(name)) end))
      end
      local listed = T.run(function() return file.list(dir) end)
      assert.equal(8, #listed)
      assert.equal("file", listed[1].kind)
    end)

    it("tells what is not there without an error, and refuses to read it", function()
      assert.is_false(T.run(function() return file.stat(path("none")) end))
      local value, err = T.run(function() return file.read(path("none")) end)
      assert.is_nil(value)
      assert.equal("remote", err.code)
      assert.matches("no such file", err.message)
    end)

    it("refuses more than the limit, and says how to read it all the same", function()
      put("big", ("x"):rep(1000))
      local _, err = T.run(function() return file.read(path("big"), { limit = 999 }) end)
      assert.equal("refused", err.code)
      assert.matches("stream", err.hint)
      assert.equal(1000, #T.run(function() return file.read(path("big"), { limit = 1000 }) end))
    end)

    it("never hangs on a FIFO", function()
      assert(os.execute("mkfifo " .. path("fifo")))
      local _, err = T.run(function() return file.read(path("fifo")) end)
      assert.equal("refused", err.code)
    end)

    it("hashes on the pool and knows the size", function()
      put("abc", "abc")
      local hex, size = T.run(function() return file.hash(path("abc")) end)
      assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hex)
      assert.equal(3, size)
    end)

    it("knows the space of the disk", function()
      local space = T.run(function() return file.space(dir) end)
      assert.is_true(space.free > 0 and space.total >= space.free)
    end)

    it("raises for a caller's mistake", function()
      assert.has_error(function() T.run(function() file.read("a\0b") end) end)
      assert.has_error(function() T.run(function() file.read("") end) end)
      assert.has_error(function() T.run(function() file.read {} end) end)
    end)
  end)

  describe("writing", function()
    it("leaves the new content, its mode, and no .part", function()
      local result = T.run(function() return file.write(path("a"), "hello", { mode = 0x1A0 }) end)
      assert.equal(5, result.bytes)
      assert.equal("hello", get("a"))
      assert.same({ "a" }, names())
      assert.equal(0x1A0, T.run(function() return file.stat(path("a")).mode end))
    end)

    it("keeps the mode of a file that it replaces", function()
      put("a", "old")
      T.mode(path("a"), 0x1C0)
      T.run(function() file.write(path("a"), "new", { mode = 0x1A4 }) end)
      assert.equal(0x1C0, T.run(function() return file.stat(path("a")).mode end))
      assert.equal("new", get("a"))
    end)

    it("writes through a link to what it leads to", function()
      put("real", "old")
      link("real", "name")
      T.run(function() file.write(path("name"), "new") end)
      assert.equal("new", get("real"))
      assert.same({ "name", "real" }, names())
    end)

    it("does not follow a link laid at .part", function()
      put("victim", "precious")
      link(path("victim"), "a.part")
      local value, err = T.run(function() return file.write(path("a"), "evil") end)
      assert.is_nil(value)
      assert.equal("refused", err.code)
      assert.matches("symbolic link", err.message)
      assert.equal("precious", get("victim"))
      assert.is_nil(get("a"))
    end)

    it("removes the .part of an interrupted run and says so", function()
      put("a.part", "half")
      local result = T.run(function()
        local made = file.write(path("a"), "whole")
        assert.matches("leftover", records("outcome")[1])
        return made
      end)
      assert.is_true(result.stale)
      assert.equal("whole", get("a"))
      assert.same({ "a" }, names())
    end)

    it("refuses a target that is no file", function()
      local _, err = T.run(function() return file.write(dir, "x") end)
      assert.equal("refused", err.code)
    end)

    it("records the intent with the hash before, and the outcome after", function()
      T.run(function()
        file.write(path("a"), "abc")
        assert.matches('"sha256":"ba7816bf', records("intent")[1])
        assert.matches('"path":"' .. path("a"), records("intent")[1], 1, true)
        assert.matches('"status":"ok"', records("outcome")[1])
      end)
    end)

    it("leaves the old content when the directory may not be written", function()
      local value, err = T.run(function() return file.write("/proc/none", "x") end)
      assert.is_nil(value)
      assert.is_string(err.message)
    end)

    it("writes a secret that Lua never sees", function()
      local key = assert(secret.of("tiger-lily-9", "key"))
      T.run(function() file.write(path("key"), key) end)
      assert.equal("tiger-lily-9", get("key"))
    end)

    it("gives the full disk's error and keeps the old file", function()
      if T.uid() ~= 0 or not os.execute("mount -t tmpfs -o size=256k none " .. dir .. " 2>/dev/null") then
        pending("needs a tmpfs of its own")
        return
      end
      put("a", "old")
      local value, err = T.run(function() return file.write(path("a"), ("x"):rep(1 << 20)) end)
      local left, content = names(), get("a")
      local streamed, full, published, refusal = T.run(function()
        local out = file.open(path("a"), "w")
        local ok, why = out:write(("x"):rep(1 << 20))
        local closed, reason = out:close()
        return ok, why, closed, reason
      end)
      local after = get("a")
      os.execute("umount -l " .. dir)
      assert.is_nil(value)
      assert.matches("no space left", err.message)
      assert.equal("old", content)
      assert.same({ "a" }, left)
      assert.is_nil(streamed)
      assert.matches("no space left", full.message)
      assert.is_nil(published)
      assert.matches("not whole", refusal.message)
      assert.equal("old", after)
    end)

    it("removes a file, a link but not its target, and an empty directory", function()
      put("a", "x")
      link("a", "b")
      T.run(function()
        assert(file.remove(path("b")))
        assert(file.mkdir(path("d/e/f")))
        assert.is_false(file.mkdir(path("d/e/f")))
        assert(file.remove(path("d/e/f")))
        local _, err = file.remove(path("d"))
        assert.is_string(err.message)
      end)
      assert.same({ "a", "d" }, names())
    end)
  end)

  describe("previewing", function()
    local function preview(fn)
      return T.run(function()
        guard.mode("plan")
        guard.predictions()
        fn()
        return guard.predictions()
      end)
    end

    it("shows the difference and touches nothing", function()
      put("conf", "one\ntwo\nthree\n")
      local found = preview(function() file.write(path("conf"), "one\n2\nthree\n") end)
      assert.equal(1, #found)
      assert.equal("@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n", found[1].plan)
      assert.equal("one\ntwo\nthree\n", get("conf"))
    end)

    it("says when a file is new, equal or not text", function()
      put("same", "x\n")
      put("bin", "a\0b")
      local found = preview(function()
        file.write(path("new"), "x\n")
        file.write(path("same"), "x\n")
        file.write(path("bin"), "c\0d")
      end)
      assert.matches("a new file of 2 bytes", found[1].plan)
      assert.matches("stays as it is", found[2].plan)
      assert.matches("binary: 3 bytes become 3", found[3].plan)
    end)

    it("keeps a huge difference short", function()
      local lines = {}
      for i = 1, 5000 do lines[i] = "line " .. i end
      put("long", table.concat(lines, "\n"))
      local found = preview(function() file.write(path("long"), (table.concat(lines, "\n"):gsub("line", "row"))) end)
      assert.is_true(#found[1].plan < 64 * 1024)
      assert.matches("cut here: 10000 lines change", found[1].plan)
    end)

    it("withholds what an earlier step would have changed, under any spelling", function()
      put("real", "old")
      link("real", "name")
      T.run(function()
        guard.mode("plan")
        file.write(path("name"), "new")
        local ok, err = pcall(file.read, dir .. "/./real")
        assert.is_false(ok)
        assert.equal("withheld", err.code)
        guard.predictions()
      end)
    end)
  end)

  describe("streams", function()
    it("write to .part and publish at close", function()
      T.run(function()
        local out = assert(file.open(path("a"), "w"))
        assert(out:write("hel"))
        assert(out:write("lo"))
        assert.is_nil(get("a"))
        assert.equal(1, T.open_intents())
        assert(out:close())
        assert(out:close())
        assert.equal(0, T.open_intents())
      end)
      assert.equal("hello", get("a"))
      assert.same({ "a" }, names())
    end)

    it("give up the file when the scope ends by an error", function()
      put("a", "old")
      T.run(function()
        pcall(function()
          local out <close> = file.open(path("a"), "w")
          out:write("half")
          error("no")
        end)
        assert.matches('"status":"failed"', records("outcome")[1])
      end)
      assert.equal("old", get("a"))
      assert.same({ "a" }, names())
    end)

    it("publish when the scope ends well", function()
      T.run(function()
        local out <close> = file.open(path("a"), "w")
        out:write("x")
      end)
      assert.equal("x", get("a"))
    end)

    it("copy with a hash in flat memory", function()
      put("from", ("0123456789abcdef"):rep(1 << 16))
      local copied, hash = T.run(function()
        local from <close> = file.open(path("from"))
        local to <close> = file.open(path("to"), "w")
        local done = from:pipe(to)
        assert(to:close())
        return done, (file.hash(path("to")))
      end)
      assert.equal(1 << 20, copied.bytes)
      assert.equal(hash, copied.sha256)
      assert.equal(get("from"), get("to"))
    end)

    it("tell a second reader that the stream is busy, and a late one that it is closed", function()
      assert(os.execute("mkfifo " .. path("fifo")))
      T.run(function()
        local process = require "native.process"
        local child <close> = process.start { argv = { "sleep", "60" } }
        local out = child:stdout()
        local other = task.spawn(function() return out:read() end)
        task.sleep(1)
        local ok, err = pcall(out.read, out)
        assert.is_false(ok)
        assert.matches("another task", err.message)
        other:cancel("enough")
        other:join()
        out:close()
        assert.matches("closed", select(2, pcall(out.read, out)).message)
      end)
    end)

    it("read to the end and then nil", function()
      put("a", "xyz")
      T.run(function()
        local from <close> = file.open(path("a"))
        assert.equal("xy", from:read(2))
        assert.equal("z", from:read(2))
        assert.is_nil(from:read(2))
        assert.is_nil(from:read(2))
      end)
    end)
  end)

  describe("probing after a crash", function()
    local function intent() return assert(require("native.text").parse(records("intent")[1])) end

    it("tells done, half and not begun", function()
      T.run(function()
        file.write(path("a"), "abc")
        local evidence = intent()
        assert.equal("done", file.probe(evidence))
        put("a", "other")
        assert.equal("not begun", file.probe(evidence))
        put("a.part", "h")
        assert.equal("half", file.probe(evidence))
      end)
    end)

    it("tells of removing and making directories", function()
      put("a", "x")
      T.run(function()
        file.remove(path("a"))
        assert.equal("done", file.probe(intent()))
        put("a", "x")
        assert.equal("not begun", file.probe(intent()))
      end)
    end)
  end)

  describe("killed at any system call #kill", function()
    local script = [[
      local dir = %q
      local out = T.run(function()
        return require("native.file").write(dir .. "/a", ("new"):rep(100000))
      end)
      os.exit(out and 0 or 1)]]

    local function killed_at(call, n)
      put("a", "old")
      local child = T.start {
        argv = { "strace", "-f", "-qq", "-o", "/dev/null", "-e", ("inject=%s:signal=KILL:when=%d"):format(call, n),
          "-P", dir, "-P", path("a"), "-P", path("a.part"), "build/debug/neap-test", "-e", script:format(dir) },
      }
      return child:wait(120000)
    end

    it("leaves the old or the new content, and the next write succeeds", function()
      if not os.execute("test -x build/debug/neap-test && strace -V >/dev/null 2>&1") then
        pending("needs strace and the debug interpreter")
        return
      end
      local deaths = 0
      for _, call in ipairs { "openat", "flock", "fchmod", "fchown", "write", "fsync", "rename", "close" } do
        for n = 1, 4 do
          local code = killed_at(call, n)
          if code ~= 0 then deaths = deaths + 1 end
          local content = get("a")
          assert.is_true(content == "old" or content == ("new"):rep(100000), call .. " " .. n)
          T.run(function() assert(file.write(path("a"), "after")) end)
          assert.same({ "a" }, names())
        end
      end
      assert.is_true(deaths >= 8)
    end)
  end)
end)
