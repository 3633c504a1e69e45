-- Files of a host, proved without a server: the far end of these sessions is a shell on this machine (tests/support/local_ssh.c), with
-- GNU's programs and with busybox's.
local file = require "native.file"
local secret = require "native.secret"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local home, dir

local function has(program) return os.execute("command -v " .. program .. " >/dev/null 2>&1") end

-- A directory in which every program, sh too, is busybox; flock is lent where its build has none.
local function busybox()
  if not has "busybox" then pending("there is no busybox here") end
  local tools = suite.temp()
  os.execute(("busybox --install -s %s; [ -e %s/flock ] || ln -s $(command -v flock) %s/flock"):format(tools, tools, tools))
  return tools
end

local WORLDS = {
  { name = "sh and GNU", options = function () return { shell = "sh" } end },
  { name = "bash and GNU", options = function () return { shell = "bash" } end },
  { name = "busybox", options = function () return { shell = "sh", path = busybox() } end },
}

local options

local function host()
  home = home or suite.temp()
  local given = options()
  given.home = home
  return T.local_host(given)
end

local function put(name, content)
  local f = assert(io.open(dir .. "/" .. name, "wb"))
  f:write(content)
  f:close()
  return dir .. "/" .. name
end

local function get(name)
  local f = io.open(dir .. "/" .. name, "rb")
  local all = f and f:read("a")
  if f then f:close() end
  return all
end

local function outcome()
  local last
  for _, record in ipairs(T.records()) do
    if record.kind == "outcome" then last = text.parse(record.body) end
  end
  return last
end

local function refuses(code, value, err)
  assert.is_nil(value)
  assert.equal(code, err.code)
  return err
end

local ODD = { "plain", "-rf", " lead and trail ", "new\nline", "it's \"odd\" $(id) `id` \\", ".hidden", "..twice", "*", "\27[31m", "\xff\xfe", "a: b" }

for _, world in ipairs(WORLDS) do
  describe("files of a host, " .. world.name .. ",", function ()
    before_each(function ()
      options = world.options
      home, dir = suite.temp(), suite.temp()
    end)

    it("are listed whatever their names are, sorted by bytes", function ()
      T.run(function ()
        local h <close> = host()
        for _, name in ipairs(ODD) do put(name, name) end
        os.execute(("mkdir %s/sub; ln -s nowhere %s/link; mkfifo %s/pipe"):format(dir, dir, dir))
        local names, kinds = {}, {}
        for i, entry in ipairs(assert(h:list(dir))) do names[i], kinds[entry.name] = entry.name, entry.kind end
        local wanted = { "sub", "link", "pipe", table.unpack(ODD) }
        table.sort(wanted)
        assert.same(wanted, names)
        assert.same({ "directory", "link", "other", "file" }, { kinds.sub, kinds.link, kinds.pipe, kinds["-rf"] })
        assert.same({}, h:list(dir .. "/sub"))
        for _, name in ipairs(ODD) do assert.equal(name, h:read_file(dir .. "/" .. name)) end
      end)
    end)

    it("answer what they are, as files of this machine do", function ()
      T.run(function ()
        local h <close> = host()
        put("a", ("x"):rep(70000))
        os.execute(("chmod 4750 %s/a; ln -s a %s/good; ln -s none %s/bad; mkdir %s/sub"):format(dir, dir, dir, dir))
        for _, name in ipairs { "a", "good", "bad", "sub", "none", "a/none" } do
          local here, there = file.stat(dir .. "/" .. name), h:stat(dir .. "/" .. name)
          if here then here.mtime_ms = here.mtime_ms - here.mtime_ms % 1000 end
          assert.same(here, there, name)
        end
        assert.same({ file.hash(dir .. "/a") }, { h:hash(dir .. "/a") })
        local space = assert(h:space(dir))
        assert.equal(file.space(dir).total, space.total)
        assert.is_true(space.free > 0)
      end)
    end)

    it("say what is wrong with them in the words of the system", function ()
      T.run(function ()
        local h <close> = host()
        put("a", "12345")
        os.execute(("mkdir %s/sub; mkfifo %s/pipe"):format(dir, dir))
        assert.equal(("cannot read \"%s/none\" on here: No such file or directory"):format(dir), refuses("remote", h:read_file(dir .. "/none")).message)
        assert.matches("Is a directory", refuses("remote", h:hash(dir .. "/sub")).message)
        assert.matches("Not a regular file", refuses("remote", h:read_file(dir .. "/pipe")).message)
        assert.matches("Not a directory", refuses("remote", h:list(dir .. "/a")).message)
        assert.matches("No such file", refuses("remote", h:list(dir .. "/none")).message)
        assert.matches("No such file", refuses("remote", h:space(dir .. "/none")).message)
        assert.matches("No such file", refuses("remote", h:remove(dir .. "/none")).message)
        assert.matches("No such file", refuses("remote", h:open_file(dir .. "/none")).message)
        assert.equal("12345", h:read_file(dir .. "/a", { limit = 5 }))
        assert.matches("more than 4 bytes", refuses("refused", h:read_file(dir .. "/a", { limit = 4 })).message)
      end)
    end)

    it("are written whole, with their old mode, and leave nothing beside them", function ()
      T.run(function ()
        local h <close> = host()
        local content = "new\0\n" .. ("y"):rep(300000)
        local written = assert(h:write_file(dir .. "/a", content, { mode = tonumber("640", 8) }))
        assert.same({ bytes = #content, sha256 = text.sha256(content), stale = false }, written)
        assert.equal(content, get "a")
        assert.equal(tonumber("640", 8), file.stat(dir .. "/a").mode)
        os.execute("chmod 4711 " .. dir .. "/a")
        assert(h:write_file(dir .. "/a", secret.of("s3cret", "one")))
        assert.equal("s3cret", get "a")
        assert.equal(tonumber("4711", 8), file.stat(dir .. "/a").mode)
        assert.equal(1, #file.list(dir))
        assert(h:write_file(dir .. "/empty", ""))
        assert.equal("", get "empty")
      end)
    end)

    it("are streamed in and out, and have their name only when they are closed", function ()
      T.run(function ()
        local h <close> = host()
        local content = {}
        for i = 1, 3000 do content[i] = ("%06d %s\n"):format(i, ("z"):rep(300)) end
        content = table.concat(content)
        local source = put("source", content)
        local from <close>, size = assert(h:open_file(source))
        assert.equal(#content, size)
        local to <close> = assert(h:create(dir .. "/copy"))
        local moved = assert(from:pipe(to))
        assert.same({ #content, text.sha256(content) }, { moved.bytes, moved.sha256 })
        assert.is_nil(get "copy")
        assert.is_true(#get "copy.part" <= #content)
        assert(to:close())
        assert.equal(content, get "copy")
        assert.is_nil(get "copy.part")
      end)
    end)

    it("keep their old content when a stream is left by an error", function ()
      T.run(function ()
        local h <close> = host()
        put("a", "old")
        local ok = pcall(function ()
          local to <close> = assert(h:create(dir .. "/a"))
          assert(to:write("half"))
          error("no more")
        end)
        assert.is_false(ok)
        assert.equal("old", get "a")
        assert.is_nil(get "a.part")
      end)
    end)

    it("are refused where a link, a directory or somebody else's .part is in the way", function ()
      T.run(function ()
        local h <close> = host()
        put("a", "old")
        os.execute(("ln -s a %s/link; mkdir %s/sub; ln -s a %s/b.part"):format(dir, dir, dir))
        assert.matches("symbolic link", refuses("refused", h:create(dir .. "/link")).message)
        assert.matches("directory", refuses("refused", h:write_file(dir .. "/sub", "x")).message)
        assert.matches("not ours", refuses("refused", h:write_file(dir .. "/b", "x")).message)
        assert.equal("old", get "a")
        assert.matches("No such file", refuses("remote", h:write_file(dir .. "/none/x", "x")).message)
      end)
    end)

    it("are busy while somebody writes them, and replace what a dead run left", function ()
      T.run(function ()
        local h <close> = host()
        local first <close> = assert(h:create(dir .. "/a"))
        assert(first:write("mine"))
        local err = refuses("busy", h:write_file(dir .. "/a", "other"))
        assert.matches("somebody is writing", err.message)
        assert(first:close())
        assert.equal("mine", get "a")
        put("b.part", "left")
        assert.is_true(assert(h:write_file(dir .. "/b", "whole")).stale)
        assert.equal("whole", get "b")
      end)
    end)

    -- That it began is told by stderr, which may come after stdout: then there was nothing yet to write to.
    it("can be written to as soon as they are open", function ()
      T.run(function ()
        local late = home .. "/late"
        suite.write(late, "#!/bin/sh\n{ sh \"$@\" 2>&1 >&3 3>&- | { sleep 0.5; cat >&2; } 3>&-; } 3>&1\n")
        assert(os.execute("chmod 755 " .. late))
        local given = options()
        given.home, given.shell = home, late
        local h <close> = T.local_host(given)
        local to = assert(h:create(dir .. "/soon"))
        assert(to:write "soon")
        assert(to:close())
        assert.equal("soon", get "soon")
      end)
    end)

    it("never get their name when the connection breaks, and name or remove the .part", function ()
      T.run(function ()
        local h <close> = host()
        put("a", "old")
        local to = assert(h:create(dir .. "/a"))
        assert(to:write(("h"):rep(100000)))
        assert.equal(1, T.local_lose())
        local ok, err = to:close()
        assert.is_nil(ok)
        assert.is_string(err.message)
        assert.equal("old", get "a")
        assert.is_nil(get "a.part")
        T.local_away(0)
        to = assert(h:create(dir .. "/a"))
        assert(to:write("h"))
        T.local_lose()
        T.local_away(5)
        ok, err = to:close()
        assert.is_nil(ok)
        assert.matches("a%.part may be left on here", err.hint)
        assert.equal("old", get "a")
        T.local_away(0)
      end)
    end)

    it("are removed, made and renamed", function ()
      T.run(function ()
        local h <close> = host()
        put("-a", "1")
        assert.is_true(h:rename(dir .. "/-a", dir .. "/b"))
        assert.equal("1", get "b")
        assert.is_true(h:mkdir(dir .. "/x/y z", { mode = tonumber("700", 8) }))
        assert.is_false(h:mkdir(dir .. "/x/y z"))
        assert.equal(tonumber("700", 8), file.stat(dir .. "/x/y z").mode)
        refuses("remote", h:remove(dir .. "/x"))
        assert.is_true(h:remove(dir .. "/x/y z"))
        assert.is_true(h:remove(dir .. "/b"))
        os.execute(("ln -s x %s/l"):format(dir))
        assert.is_true(h:remove(dir .. "/l"))
        assert.is_truthy(file.stat(dir .. "/x"))
        refuses("refused", h:rename(dir .. "/x", dir .. "/x"))
      end)
    end)

    it("are probed by what is there", function ()
      T.run(function ()
        local h <close> = host()
        local function probe(primitive, name, more)
          local evidence = { primitive = primitive, path = dir .. "/" .. name, host = "SHA256:local" }
          for key, value in pairs(more or {}) do evidence[key] = value end
          return h:probe_file(evidence)
        end
        put("a", "there")
        local sha = { sha256 = text.sha256 "there" }
        assert.equal("done", probe("host.put", "a", sha))
        assert.equal("not begun", probe("host.put", "a", { sha256 = text.sha256 "other" }))
        assert.equal("not begun", probe("host.put", "none", sha))
        assert.is_nil(probe("host.put", "a"))
        put("b.part", "ha")
        assert.equal("half", probe("host.put", "b", sha))
        assert.equal("done", probe("host.remove", "none"))
        assert.equal("not begun", probe("host.remove", "a"))
        assert.equal("done", probe("host.put", "none", { to = dir .. "/a" }))
        assert.equal("not begun", probe("host.put", "sub", { makes = "directory" }))
        assert.is_nil(h:probe_file { primitive = "host.put", path = dir .. "/a", host = "SHA256:other", sha256 = sha.sha256 })
        local writing <close> = assert(h:create(dir .. "/c"))
        assert(writing:write("x"))
        assert.equal("running", probe("host.put", "c", sha))
      end)
    end)

    it("are kept for one run by a lock that goes with the connection", function ()
      T.run(function ()
        local h = host()
        assert.is_true(h:lock("00ff", "neap:book:7f3a by anna on iris since now"))
        assert.is_true(h:has_lock("00ff"))
        local other <close> = host()
        assert.matches("neap:book:7f3a by anna on iris", refuses("busy", other:lock("00ff", "me")).message)
        assert.is_false(other:has_lock("00ff"))
        assert.is_true(other:lock("0100", "another key"))
        h:close()
        local taken
        for _ = 1, 3000 do
          taken = other:lock("00ff", "me")
          if taken then break end
          task.sleep(20)
        end
        assert.is_true(taken)
      end)
    end)

    it("lose the lock with the connection, and know it", function ()
      T.run(function ()
        local h <close> = host()
        assert.is_true(h:lock("00ff", "first"))
        T.local_lose()
        for _ = 1, 3000 do
          if not h:has_lock("00ff") then break end
          task.sleep(20)
        end
        assert.is_false(h:has_lock("00ff"))
      end)
    end)

    it("are held in words that outlive the connection", function ()
      T.run(function ()
        do
          local h <close> = host()
          assert.is_nil(h:hold_get("aa"))
          assert.is_nil(file.stat(home .. "/.local/state/neap/holds") or nil)
          assert.is_true(h:hold_set("aa", "run 7f3a of book by anna on iris since now: $(id) 'x'"))
        end
        local h <close> = host()
        assert.equal("run 7f3a of book by anna on iris since now: $(id) 'x'", h:hold_get("aa"))
        assert.is_true(h:hold_clear("aa"))
        assert.is_nil(h:hold_get("aa"))
        assert.is_true(h:hold_clear("aa"))
      end)
    end)
  end)
end

describe("files of a host", function ()
  before_each(function ()
    options = WORLDS[1].options
    home, dir = suite.temp(), suite.temp()
  end)

  it("refuse paths that are none", function ()
    T.run(function ()
      local h <close> = host()
      for _, path in ipairs { "", "a", "/a/../b", "/a\0b", "-x" } do
        local ok, err = pcall(h.stat, h, path)
        assert.same({ false, "usage" }, { ok, err.code })
      end
      put("a", "1")
      assert.equal("1", h:read_file(dir .. "//./a"))
    end)
  end)

  it("are let go of when the deadline passes, here and on the host", function ()
    T.run(function ()
      local h <close> = host()
      os.execute(("truncate -s 8G %s/sparse"):format(dir))
      local mark = task.deadline(300)
      local ok, err = pcall(h.hash, h, dir .. "/sparse")
      task.restore(mark)
      assert.same({ false, "timeout" }, { ok, err.code })
      local to = assert(h:create(dir .. "/a"))
      assert(to:write("half"))
      mark = task.deadline(300)
      ok, err = pcall(function ()
        local mine <close> = to
        assert(mine:write("more"))
        task.sleep(10000)
      end)
      task.restore(mark)
      assert.same({ false, "timeout" }, { ok, err.code })
      assert.is_nil(get "a")
      for _ = 1, 3000 do
        if not get "a.part" then break end
        task.sleep(20)
      end
      assert.is_nil(get "a.part")
    end)
  end)

  it("are written after an intent with path and hash, and have an outcome", function ()
    T.run(function ()
      local h <close> = host()
      assert(h:stat(dir))                            -- opens it: from now on the key is known
      assert(h:write_file(dir .. "/a", "x"))
      assert.same({ "ok", text.sha256 "x", 1 }, { outcome().status, outcome().sha256, outcome().size })
      refuses("remote", h:write_file(dir .. "/no/a", "x"))
      assert.equal("failed", outcome().status)
      local to <close> = assert(h:create(dir .. "/b"))
      assert(to:write("yy"))
      assert(to:close())
      assert.same({ "ok", text.sha256 "yy" }, { outcome().status, outcome().sha256 })
    end)
    local kinds = {}
    for _, record in ipairs(T.records()) do
      kinds[#kinds + 1] = record.kind
      if record.kind == "intent" then
        local body = text.parse(record.body)
        assert.equal("SHA256:local", body.host)
        assert.matches("^write /.* on here$", body.text)
        assert.equal("host:SHA256:local" .. body.path, body.subject)
      end
    end
    assert.same({ "intent", "outcome", "intent", "outcome", "intent", "started", "outcome" }, kinds)
  end)

  it("are not whole when the disk is full, and the reason is the disk's", function ()
    local full = dir .. "/full"
    if T.uid() ~= 0 or not os.execute(("mkdir %s && mount -t tmpfs -o size=1m tmpfs %s 2>/dev/null"):format(full, full)) then
      pending("only root can mount a small file system")
    end
    local ok, failure = pcall(T.run, function ()
      local h <close> = host()
      local err = refuses("remote", h:write_file(full .. "/a", ("x"):rep(3 << 20)))
      assert.matches("No space left on device", err.message)
      local to = assert(h:create(full .. "/b"))
      local written, why = true, nil
      for _ = 1, 64 do
        written, why = to:write(("x"):rep(65536))
        if not written then break end
      end
      if written then written, why = to:close() else to:close() end
      assert.is_nil(written)
      assert.matches("No space left on device", why.message)
      assert.same({}, file.list(full))
    end)
    os.execute("umount -l " .. full)
    if not ok then error(failure, 0) end
  end)
end)
