-- A folder that lies on a host: the words of a folder, and streams in one pass between a container's or host's command and a file there.
local child = require "tests.support.child"
local folders = require "client.folder"
local hosts = require "client.host"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"

local iris, home

-- A folder with its host; `root` is the directory behind it.
local function bind(spec)
  local place = hosts.bind("iris", { ssh = "iris", config = home.config }, { application = "neap:spec:1" })
  local folder = folders.bind("backups", spec, { application = "neap:spec:1", target = function (role, kinds)
    assert.same({ "iris", { "host" } }, { role, kinds })
    return place
  end })
  return folder, setmetatable({}, { __close = function () hosts.close(place) end }), place
end

local function fails(code, fn)
  local ok, err
  T.run(function () ok, err = pcall(fn) end)
  assert.is_false(ok)
  assert.equal(code, err.code)
  return err
end

local root

local function directory()
  root = suite.temp()
  if iris.uid then T.owner(root, iris.uid) end
  return root
end

local function get(name)
  local f = io.open(root .. "/" .. name, "rb")
  local all = f and f:read("a")
  if f then f:close() end
  return all
end

describe("a folder on a host", function ()
  setup(function ()
    iris = servers.sshd { name = "iris" }
    home = servers.ssh_home { iris = iris }
  end)

  it("has the words of a folder", function ()
    T.run(function ()
      local folder, done <close> = bind { path = directory() .. "/", on = "iris" }
      assert.is_table(done)
      local written = folder:write("b.sql", "two")
      assert.same({ 3, text.sha256 "two" }, { written.bytes, written.sha256 })
      folder:write("a.sql", "one", { mode = tonumber("600", 8) })
      folder:write("new\nline", "odd")
      assert.same({ "a.sql", "b.sql", "new\nline" }, folder:list())
      assert.same({ "a.sql", "b.sql" }, folder:list "*.sql")
      assert.same({ true, false }, { folder:has "a.sql", folder:has "none" })
      assert.same({ "one", 3, text.sha256 "one" }, { folder:read "a.sql", folder:size "a.sql", folder:hash "a.sql" })
      assert.is_true(folder:space() > 0)
      assert.equal(root .. "/x", folder:path "x")
      folder:remove "a.sql"
      assert.is_nil(get "a.sql")
    end)
  end)

  it("hashes all files that fit a pattern, whatever they are called, in one command", function ()
    local odd <const> = { "$(touch x)", "-n", "a b", "q'\"\\", "new\nline", "*", "sub/{a,b}", "sub/.dot", "sub/~" }
    T.run(function ()
      local folder, done <close> = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      child.must { argv = { "mkdir", root .. "/sub", root .. "/shut", root .. "/dir.sql" } }
      for _, name in ipairs(odd) do suite.write(root .. "/" .. name, name) end
      child.must { argv = { "ln", "-s", "nowhere", root .. "/gone" } }
      local before, all = iris.commands(), {}
      for _, pattern in ipairs { "*", "sub/*" } do
        for _, found in ipairs(folder:hashes(pattern)) do
          assert.equal(text.sha256(found.name), found.sha256)
          all[#all + 1] = found.name
        end
      end
      assert.equal(before + 2, iris.commands())
      table.sort(odd)
      table.sort(all)
      assert.same(odd, all)
      assert.same({ "sub/~" }, { folder:hashes("s?b/~")[1].name })
      assert.same({}, folder:hashes "none/*")
      T.mode(root .. "/shut", 0)
      local ok, err = pcall(folder.hashes, folder, "*/a")
      assert.is_true(ok and not iris.uid and T.uid() == 0 or err.message:find "Permission denied" ~= nil)      -- nothing is shut to root
    end)
  end)

  it("is the host's key and its path", function ()
    T.run(function ()
      local folder, done <close> = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      local card = folder:card()
      assert.equal("host:" .. iris.fingerprint("ed25519") .. root, card.id)
      assert.same({ "on", "iris" }, card.lines[1])
    end)
  end)

  it("takes a stream in one pass, with the same bytes at both ends", function ()
    T.run(function ()
      local folder, done <close>, place = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      local dump <close> = place.methods.start(place, { "sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i + 1)); done" }, { read = true })
      local to <close> = folder:open("x.dump", "w")
      local moved = assert(dump:stdout():pipe(to))
      assert.is_nil(get "x.dump")
      assert(to:close())
      assert.same({ moved.bytes, moved.sha256 }, { folder:size "x.dump", folder:hash "x.dump" })
      assert.equal(text.sha256(get "x.dump"), moved.sha256)
    end)
  end)

  it("keeps what a command prints only when the command ends well", function ()
    T.run(function ()
      local folder, done <close>, place = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      do
        local good <close> = place.methods.start(place, { "printf", "all" }, { read = true })
        assert.equal(3, folder:write("x", good).bytes)
      end
      local bad <close> = place.methods.start(place, { "sh", "-c", "printf half; exit 3" }, { read = true })
      local ok, err = pcall(folder.write, folder, "y", bad)
      assert.same({ false, "remote", 3 }, { ok, err.code, err.status })
      assert.equal("all", get "x")
      assert.is_nil(get "y")
      assert.is_nil(get "y.part")
    end)
  end)

  it("copies files in and out, compressed on the way when that is asked", function ()
    T.run(function ()
      local folder, done <close> = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      local here, content = suite.temp() .. "/big", ("line of text\n"):rep(50000)
      local f = assert(io.open(here, "wb"))
      f:write(content)
      f:close()
      local moved = folder:copy_in(here, "big.zst", { compress = "zstd" })
      assert.same({ #content, text.sha256(content) }, { moved.bytes, moved.sha256 })
      assert.is_true(folder:size "big.zst" < 10000)
      moved = folder:copy_out("big.zst", here .. ".back", { expand = "zstd" })
      assert.equal(text.sha256(content), moved.written_sha256)
      assert.equal(text.sha256(content), (require("native.file").hash(here .. ".back")))
    end)
  end)

  it("loses no final file when the connection is killed in the middle of a copy", function ()
    T.run(function ()
      local folder, done <close> = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      folder:write("x", "old")
      local to = folder:open("x", "w")
      assert(to:write(("z"):rep(100000)))
      iris.kill_sessions()
      local ok, err = to:close()
      assert.is_nil(ok)
      assert.is_string(err.message)
      assert.equal("old", folder:read "x")
      assert.same({ "x" }, folder:list())
    end)
  end)

  it("refuses a path that depends on who logs in, and names that lead out", function ()
    fails("config", function () bind { path = "backups", on = "iris" } end)
    fails("usage", function ()
      local folder, done <close> = bind { path = directory(), on = "iris" }
      assert.is_table(done)
      folder:read "../x"
    end)
  end)
end)
