--- What a run that is killed leaves behind, and who takes it away.

local child = require("tests.support.child")
local net = require("native.net")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")
local system = require("native.system")

describe("what a killed neap leaves", function()
  local dir

  before_each(function() dir = suite.temp() end)

  -- A process of its own that opens a tunnel below `dir` and is killed: the tunnel's directory.
  local function killed()
    local script = suite.write(dir .. "/tunnel.lua", [[
      T.run(function()
        local net = require("native.net")
        local tunnel = assert(net.tunnel(net.tcp("127.0.0.1", 1), { name = ".s.PGSQL.5432" }))
        print("ready " .. tunnel:path())
        io.stdout:flush()
        require("native.task").sleep(60000)
      end)]])
    local process = child.start { argv = { system.realpath("/proc/self/exe"), script }, env = { TMPDIR = dir, PATH = os.getenv("PATH"), NEAP_LUA = os.getenv("NEAP_LUA") } }
    process:expect("ready ")
    for _, name in ipairs(T.entries(dir)) do
      if name:find("^neap%.") then return dir .. "/" .. name, process end
    end
  end

  local function age(path) child.must { argv = { "touch", "-d", "5 minutes ago", path } } end

  local function gc(...)
    local r = servers.neap({ "gc", "--state", dir .. "/state", ... }, { env = { TMPDIR = dir } })
    assert.equal(0, r.code, r.out .. r.err)
    return r.out
  end

  it("is swept by gc once nobody listens there and it is old, and is named", function()
    local place, process = killed()
    assert.truthy(T.entries(place))
    age(place)
    assert.is_nil(gc():find(place, 1, true))                     -- it lives
    process:kill(9)
    process:finish()
    assert.matches("would go " .. place, gc "--dry-run", 1, true)
    assert.truthy(T.entries(place))
    assert.matches("removed  " .. place, gc(), 1, true)
    assert.is_nil(T.entries(place))
  end)

  it("is told from what lives, is young, is somebody else's, or is more than sockets", function()
    local function make(name, mode)
      os.execute(("mkdir -m %s '%s/%s'"):format(mode or "700", dir, name))
      return dir .. "/" .. name
    end
    T.run(function()
      T.setenv("TMPDIR", dir)
      local tunnel <close> = assert(net.tunnel(net.tcp("127.0.0.1", 1), {}))
      T.setenv("TMPDIR", nil)
      age(tunnel:dir())
      local kept = { make("neap.file01"), make("neap.mode01", "750"), make("neap.inner1"), make("neap.longer12"), make("other.abcdef"), make("neap.young1") }
      suite.write(kept[1] .. "/precious", "x")
      os.execute(("mkdir -m 700 '%s/neap.below1'"):format(kept[3]))
      for i = 1, 5 do age(kept[i]) end
      local empty = make("neap.empty1")
      age(empty)
      local out = gc()
      assert.matches(empty, out, 1, true)
      for _, path in ipairs { tunnel:dir(), table.unpack(kept) } do
        assert.truthy(T.entries(path), path)
        assert.is_nil(out:find(path, 1, true))
      end
      assert.is_nil(tunnel:failure())                            -- nobody was dialed to find out
    end)
  end)
end)
