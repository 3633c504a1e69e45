-- Files of a host over real sshd, by both back ends: whole or not there, whatever becomes of the connection.
local servers = require "tests.support.servers"
local ssh = require "native.ssh"
local suite = require "tests.support.suite"
local task = require "native.task"
local text = require "native.text"

local iris, home, root

local function open(backend) return assert(ssh.open { name = "iris", config = home.config, backend = backend }) end

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

-- Bytes that no compressor and no guess makes whole again.
local function noise(bytes)
  local parts, state = {}, 12345
  for i = 1, bytes // 8 do
    state = (state * 6364136223846793005 + 1442695040888963407)
    parts[i] = string.pack("<i8", state)
  end
  return table.concat(parts)
end

for _, backend in ipairs { "libssh2", "program" } do
  describe("files of a host by " .. backend, function ()
    setup(function ()
      iris = servers.sshd { name = "iris" }
      home = servers.ssh_home { iris = iris }
    end)

    it("go there and come back, 2 MiB through streams", function ()
      T.run(function ()
        local h <close> = open(backend)
        local content = noise(2 << 20)
        directory()
        local to = assert(h:create(root .. "/big"))
        assert(to:write(content))
        assert(to:close())
        local hash, size = h:hash(root .. "/big")
        assert.same({ text.sha256(content), #content }, { hash, size })
        local from <close>, total = assert(h:open_file(root .. "/big"))
        assert.equal(#content, total)
        local copy <close> = assert(h:create(root .. "/copy"))
        assert.equal(text.sha256(content), assert(from:pipe(copy)).sha256)
        assert(copy:close())
        assert.equal(content, get "copy")
        assert.same({ "big", "copy" }, (function ()
          local names = {}
          for i, entry in ipairs(assert(h:list(root))) do names[i] = entry.name end
          return names
        end)())
      end)
    end)

    it("never have their name when the connection is cut, at 3 places #long", function ()
      T.run(function ()
        local h <close> = open(backend)
        local content = noise(1 << 19)
        directory()
        for cut = 1, 3 do
          local to = assert(h:create(root .. "/cut"))
          local at = (cut * 304729) % #content
          assert(to:write(content:sub(1, at)))
          iris.kill_sessions()
          local written = to:write(content:sub(at + 1))
          local ok, err = to:close()
          assert.is_nil(ok, tostring(written))
          assert.is_true(type(err.message) == "string" and #err.message > 0)
          assert.is_nil(get "cut")
          if get "cut.part" then assert.matches("cut%.part may be left on iris", err.hint) end
        end
      end)
    end)

    it("do not end well for who reads them when the connection is cut", function ()
      T.run(function ()
        local h <close> = open(backend)
        directory()
        local path = root .. "/source"                   -- far more than fits between here and there
        os.execute("truncate -s 64M " .. path)
        local from <close> = assert(h:open_file(path))
        assert(from:read(1000))
        iris.kill_sessions()
        local piece, err
        repeat piece, err = from:read() until not piece
        assert.is_table(err, "it ended well")
        assert.is_truthy(err.message)
      end)
    end)

    it("are locked until the connection is gone", function ()
      T.run(function ()
        local one <close> = open(backend)
        local two <close> = open(backend)
        assert.is_true(one:lock("00ff", "one"))
        local ok, err = two:lock("00ff", "two")
        assert.same({ nil, "busy" }, { ok, err.code })
        assert.matches("one", err.message)
        iris.kill_sessions()
        for _ = 1, 3000 do
          ok = two:lock("00ff", "two")
          if ok then break end
          task.sleep(20)
        end
        assert.is_true(ok)
        assert.is_false(one:has_lock("00ff"))
        assert.is_true(two:has_lock("00ff"))
      end)
    end)
  end)
end

describe("a command on a host", function ()
  setup(function ()
    iris = servers.sshd { name = "iris" }
    home = servers.ssh_home { iris = iris }
  end)

  it("that is killed, that loses its connection and that exits 0 are three different ends", function ()
    T.run(function ()
      local h <close> = open "auto"
      assert.same({ status = 0, out = "", err = "", truncated = false }, h:read { argv = { "true" } })
      assert.same({ signal = 9, out = "", err = "", truncated = false }, h:read { argv = { "sh", "-c", "kill -9 $$" } })
      directory()
      local reading = task.spawn(function ()
        local value, err = h:read { argv = { "sh", "-c", "echo begun > \"$1\"; exec sleep 5", "sh", root .. "/begun" } }
        assert.is_nil(value)
        return err
      end)
      while not get "begun" do task.sleep(10) end
      iris.kill_sessions()
      local ok, err = reading:join()
      assert.is_true(ok)
      assert.is_true(err.retry)
      assert.are_not.equal("remote", err.code)
    end)
  end)
end)

describe("hosts by the hundred", function ()
  it("are asked side by side, and only as many stay open as are of use #long", function ()
    local group, names, config = require "client.hosts", {}, {}
    iris = servers.sshd { name = "iris" }
    home = servers.ssh_home { iris = iris }
    for i = 1, 100 do names[i] = ("web%d"):format(i) end
    config[1] = suite.read(home.config):gsub("Host iris", "Host web*")
    suite.write(home.dir .. "/many", config[1])
    T.run(function ()
      local web = group.bind("web", { names = names, config = home.dir .. "/many" }, { application = "neap:spec:1" })
      local at, told, tasks = 0, 0, {}
      for i = 1, 16 do
        tasks[i] = task.spawn(function ()
          while at < #names do
            at = at + 1
            local host = web.methods.on(web, names[at])
            if host.methods.read(host, { "echo", "here" }):out() == "here\n" then told = told + 1 end
          end
        end)
      end
      for i = 1, 16 do assert(tasks[i]:join()) end
      local left = 0
      for _, member in pairs(web.members) do left = left + (member.session and 1 or 0) end
      assert.equal(100, told)
      assert.is_true(left <= 64 + 16, left .. " are open")
      group.close(web)
    end)
  end)
end)
