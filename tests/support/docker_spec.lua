-- The container engine that other specs lean on, and that nothing of it stays, not even after a kill -9 of the suite.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

-- What is left of engines whose directory was `dir` and whose cgroups were named `group`…: processes, mounts, cgroups; as one text.
local function left_of(dir, group)
  return child.must { argv = { "sh", "-c", [[
    ps -e -ww -o pid=,args= | awk -v d="$1/" 'index($0, d) && !/awk/ && !/neap-test/ && !/ sh -c/'
    grep -F "$1/" /proc/mounts
    find /sys/fs/cgroup -type d -path "*/$2*"
    ls -d "$1" 2>/dev/null; true]], "look", dir, group } }
end

describe("servers.docker", function()
  local engine, why
  setup(function() engine, why = servers.docker() end)

  it("runs a container by its labels and tells its exit codes and bytes", function()
    if not engine then return pending(why) end
    local box = engine.busybox { name = "box", labels = { owner = "spec" }, project = "shop", service = "web" }
    assert.equal(box.id:sub(1, 12), engine.cli("ps", "-q", "--filter", "label=com.docker.compose.service=web", "--filter", "label=owner=spec"))
    local r = box.exec { "sh", "-c", "cat; printf 'e\\0r' >&2; exit 3", input = "a\0b\255" }
    assert.same({ code = 3, out = "a\0b\255", err = "e\0r" }, r)
  end)

  it("removes a container after the test that made it", function()
    if not engine then return pending(why) end
    assert.equal("", engine.cli("ps", "-a", "-q", "--filter", "name=^/?box$"))
  end)

  it("runs a PostgreSQL that keeps its data over a restart where it has a volume", function()
    if not engine then return pending(why) end
    local db = engine.postgres { network = "host", volume = "kept" }
    db.sql("create table kept as select 42 as answer")
    engine.cli("restart", db.id)
    db.wait_healthy()
    assert.equal("42", db.sql("select answer from kept"))
    local bin = servers.postgres_bin()
    local out = child.must { argv = { bin .. "/psql", "-Atc", "select 1", "-h", db.listen, "-p", tostring(db.port), "-U", "postgres" },
      env = { PGPASSWORD = db.password } }
    assert.equal("1\n", out)
  end)

  it("runs a Redis", function()
    if not engine then return pending(why) end
    local cache = engine.redis {}
    assert.equal("OK", cache.cli("set", "a", "b"))
    assert.equal("b", cache.cli("get", "a"))
  end)

  it("goes away and comes back with what it kept", function()
    if not engine then return pending(why) end
    local other = servers.docker { name = "other" }
    local box = other.busybox { name = "asleep" }
    other.stop()
    assert.are_not.equal(0, other.try({ "ps" }).code)
    assert.is_true(other.start())
    assert.equal("false", box.inspect("{{.State.Running}}"))
    box.remove()
    other.remove()
    assert.equal("", left_of(other.dir, other.cgroup))
  end)
end)

describe("servers.docker with a bridge", function()
  local engine, why
  setup(function() engine, why = servers.docker { netns = true } end)

  it("gives a container an address that only who is inside can reach, as through an sshd there", function()
    if not engine then return pending(why) end
    local db = engine.postgres { name = "db" }
    local address = db.address()
    assert.matches("^172%.", address)
    assert.equal("", engine.cli("port", db.id))
    local probe = { "sh", "-c", ("exec 3<>/dev/tcp/%s/5432"):format(address) }
    probe[1] = "bash"
    assert.equal(0, child.run({ argv = engine.netns.enter(probe), timeout = 60000 }).code)
    local hermes = servers.sshd { name = "harbour", netns = engine.netns }
    local home = servers.ssh_home { harbour = hermes }
    local r = child.run { argv = { "ssh", "-F", home.config, "-W", address .. ":5432", "harbour" }, input = "\0\0\0\8\4\210\22\47", timeout = 60000 }
    assert.equal("N", r.out, r.err)                        -- PostgreSQL's answer to "TLS?"
    local forwarded = child.run { argv = { "ssh", "-F", home.config, "harbour", "cat /proc/net/route | wc -l" } }
    assert.equal("2\n", forwarded.out)                     -- the bridge and no other way
    hermes.remove()
  end)
end)

describe("servers.link", function()
  it("joins two namespaces by a cable that can swallow everything", function()
    local pair, why = servers.link()
    if not pair then return pending(why) end
    local function reaches(seconds)                        -- refused: nobody listens
      local call = { "timeout", seconds, "bash", "-c", ("exec 3<>/dev/tcp/%s/9"):format(pair.far.address) }
      return child.run({ argv = pair.near.enter(call), timeout = 120000 }).code == 1
    end
    assert.is_true(reaches "60")
    pair.drop("in")
    assert.is_false(reaches "1")
    pair.heal()
    assert.is_true(reaches "60")
    pair.remove()
    assert.is_nil(child.must({ argv = { "ip", "netns" } }):find(pair.near.name, 1, true))
  end)
end)

describe("a suite with containers that is killed #kill", function()
  it("leaves no engine, no container, no mount and no namespace", function()
    local engine, why = servers.docker()
    if not engine then return pending(why) end
    local code = [[
      package.path = "./?.lua;" .. package.path
      local servers, suite = require "tests.support.servers", require "tests.support.suite"
      local engine = servers.docker { netns = true }
      engine.busybox { cmd = { "sleep", "3599" } }
      print(suite.directory(), engine.netns.name)
      io.stdout:flush()
      T.signal(T.pid(), 9)]]
    local file = suite.write(suite.temp() .. "/killed.lua", code)
    local r = child.run { argv = { ("/proc/%d/exe"):format(T.pid()), file }, timeout = 180000 }
    assert.equal(9, r.signal, r.out .. r.err)
    local dir, space = r.out:match("(%S+)\t(%S+)")
    local until_ms = T.now_ms() + 180000                   -- the janitor gives the engine half of that to go by itself
    local group = "neap-test-" .. dir:match("neap%.(%w+)")
    while (left_of(dir, group) ~= "" or child.must({ argv = { "ip", "netns" } }):find(space, 1, true)) and T.now_ms() < until_ms do T.pause(50) end
    assert.equal("", left_of(dir, group))
    assert.equal("", child.must { argv = { "sh", "-c", "ps -e -o args= | grep '^sleep 3599' || true" } })
  end)
end)
