-- Runbooks on hosts, as an operator runs them: three sshd as hermes, atlas and iris, and neap as a child.

local child = require "tests.support.child"
local journal = require "native.journal"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"
local text = require "native.text"

local INVENTORY <const> = [[
environment "far" {
  hermes = host { ssh = "hermes", config = "%s"%s },
  iris = host { ssh = "iris", config = "%s" },
  backups = folder { path = "%s/backups", on = "iris" },
  web = hosts { names = { "hermes", "atlas", "iris" }, config = "%s" },
}
]]

local COPY <const> = [[
runbook "Keep a dump elsewhere"
local hermes, backups = target.host "hermes", target.folder "backups"
step "There is room" { needs = function () check(backups:space() > 1000000, "a megabyte is free") end }
step "The dump is on iris" {
  needs = function () check(hermes:read { "id", "-un" }:out() ~= "", "hermes answers") end,
  done = function () return backups:has "shop.dump" end,
  act = function ()
    local dump <close> = hermes:start({ "sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i + 1)); done" }, { read = true })
    local moved = backups:write("shop.dump", dump)
    backups:write("shop.sum", moved.sha256)
  end,
  verify = function () check.same(backups:hash "shop.dump", backups:read "shop.sum", "what iris holds is what hermes gave") end,
}
step "It is noted on hermes" {
  done = function () return hermes:has "%s/noted" end,
  act = function () hermes:run { "touch", "%s/noted" } end,
}
]]

local FAN <const> = [[
runbook "Mark every host"
local web = target.hosts "web"
step "Each is marked" {
  each = function () return web:all() end, limit = 3, stop_after = 3,
  done = function (name) return web:on(name):read({ "sh", "-c", "test -e ~/marked" }, { allow = { 1 } }):status() == 0 end,
  act = function (name) web:on(name):run { "sh", "-c", "echo once >> ~/marked" } end,
}
]]

local JOB <const> = [[
runbook "A long job"
local hermes = target.host "hermes"
step "It is over" {
  done = function () return hermes:read({ "grep", "-c", "ended", "%s" }, { allow = { 1, 2 } }):out() == "1\n" end,
  act = function () hermes:run { "sh", "-c", "echo begun >> %s; until [ -e %s.go ]; do sleep 0.05; done; echo ended >> %s" } end,
}
]]

describe("a runbook on hosts", function ()
  local list, home, dir = {}, nil, nil

  setup(function ()
    for _, name in ipairs { "hermes", "atlas", "iris" } do list[name] = servers.sshd { name = name, sudo = true } end
    home = servers.ssh_home(list)
  end)

  before_each(function ()
    if not list.hermes.uid then return end
    dir = suite.memory()
    for _, server in pairs(list) do
      os.execute(("rm -rf %s; mkdir -m 700 %s"):format(server.home, server.home))
      T.owner(server.home, server.uid)
    end
    os.execute("mkdir " .. list.iris.home .. "/backups")
    T.owner(list.iris.home .. "/backups", list.iris.uid)
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, "", home.config, list.iris.home, home.config))
  end)

  local function argv_of(...)
    local argv = { neap.binary(), ... }
    return table.move({ "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--width", "1000" }, 1, 6, #argv + 1, argv)
  end

  local function options(argv)
    return { argv = argv, cwd = "/", timeout = 60000, env = { PATH = os.getenv("PATH"), LANG = "C.UTF-8", HOME = dir, TERM = "dumb",
      TMPDIR = suite.directory() .. "/tmp", ASAN_OPTIONS = os.getenv("ASAN_OPTIONS") } }
  end

  local function ask(...) return child.run(options(argv_of(...))) end

  local function book(content)
    suite.write(dir .. "/book.lua", content)
    return dir .. "/book.lua"
  end

  local function content(path)
    local f = io.open(path, "rb")
    local all = f and f:read("a") or ""
    if f then f:close() end
    return all
  end

  local function wait_for(path, what)
    stages.await(function () return content(path):find(what, 1, true) end, what .. " in " .. path)
  end

  -- Every file, its content and its time of change, on all three.
  local function trees()
    local all = {}
    for name, server in pairs(list) do
      all[name] = child.must { argv = { "sh", "-c", "cd \"$1\" && find . -printf '%p %y %m %s %T@ %C@\\n' | LC_ALL=C sort; find . -type f -exec sha256sum {} +", "sh", server.home } }
    end
    return all
  end

  local function run_id() return journal.index.list(dir .. "/state", { limit = 1 })[1].run end

  local function on_hosts(name, fn)
    it(name, function ()
      if not list.hermes.uid then return pending("the servers have no accounts of their own here: that takes root, and mount namespaces") end
      fn()
    end)
  end

  on_hosts("is previewed without a write on any of them, then done, then found done", function ()
    local path = book(COPY:format(list.hermes.home, list.hermes.home))
    local before = trees()
    local r = ask("plan", path, "--env", "far")
    assert.equal(2, r.code, r.out .. r.err)
    for _, words in ipairs { "host:" .. list.hermes.fingerprint("ed25519"), "host:" .. list.iris.fingerprint("ed25519") .. list.iris.home .. "/backups", "a megabyte is free",
      "declared", ("write %s/backups/shop.dump on iris"):format(list.iris.home), ("touch %s/noted"):format(list.hermes.home) } do
      assert.matches(words, r.out, 1, true)
    end
    assert.same(before, trees())
    r = ask("run", path, "--env", "far", "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal(content(list.iris.home .. "/backups/shop.sum"), text.sha256(content(list.iris.home .. "/backups/shop.dump")))
    assert.equal("", child.must { argv = { "find", list.hermes.home, list.iris.home, "-name", "*.part" } })
    local after = { content(list.iris.home .. "/backups/shop.dump"), child.must { argv = { "stat", "-c", "%i %Y", list.hermes.home .. "/noted" } } }
    r = ask("run", path, "--env", "far", "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
    assert.matches("already", r.out .. r.err)
    assert.same(after, { content(list.iris.home .. "/backups/shop.dump"), child.must { argv = { "stat", "-c", "%i %Y", list.hermes.home .. "/noted" } } })
    r = ask("plan", path, "--env", "far")
    assert.equal(0, r.code, r.out .. r.err)
  end)

  on_hosts("has an outcome for each, and acts again only where it failed", function ()
    local path = book(FAN)
    list.atlas.stop()
    local p, r = ask("plan", path, "--env", "far"), ask("run", path, "--env", "far", "--no-input")
    local ok, failure = pcall(function ()
      assert.equal(2, p.code, p.out .. p.err)
      assert.matches("atlas: \"atlas\" cannot be reached", p.out, 1, true)
      for _, words in ipairs { "→ web  on hermes", "→ web  on iris", "1 of 3 items of step 1" } do assert.matches(words, p.out, 1, true) end
      assert.are_not.equal(0, r.code)
      assert.matches("atlas", r.out .. r.err, 1, true)
      assert.equal("once\n", content(list.hermes.home .. "/marked"))
      assert.equal("once\n", content(list.iris.home .. "/marked"))
    end)
    list.atlas.start()
    if not ok then error(failure, 0) end
    r = ask("resume", run_id(), "--no-input")
    assert.equal(0, r.code, r.out .. r.err)
    for _, server in pairs(list) do assert.equal("once\n", content(server.home .. "/marked")) end
  end)

  on_hosts("goes on with the job of a run that was killed, and does not begin it again", function ()
    local log = list.hermes.home .. "/log"
    local path = book(JOB:format(log, log, log, log))
    local running = child.start(options(argv_of("run", path, "--env", "far", "--no-input")))
    wait_for(log, "begun")
    running:kill(9)
    running:finish()
    local id = run_id()
    local resuming = child.start(options(argv_of("resume", id, "--no-input")))
    suite.write(log .. ".go", "")
    local r = resuming:finish(60000)
    assert.equal(0, r.code, r.out .. r.err)
    assert.equal("begun\nended\n", content(log))
    assert.matches("found done", r.out .. r.err)
  end)

  on_hosts("is turned away with 75 while another one has the host, and told which", function ()
    local log = list.hermes.home .. "/log"
    local path = book(JOB:format(log, log, log, log))
    local running = child.start(options(argv_of("run", path, "--env", "far", "--no-input")))
    wait_for(log, "begun")
    local id = run_id()
    local r = ask("run", path, "--env", "far", "--no-input")
    suite.write(log .. ".go", "")
    local first = running:finish(60000)
    assert.equal(75, r.code, r.out .. r.err)
    assert.matches(id, r.out .. r.err, 1, true)
    assert.equal(0, first.code, first.out .. first.err)
    assert.equal("begun\nended\n", content(log))
    assert.equal("", child.must { argv = { "sh", "-c", "find \"$1/.local/state/neap\" -type f ! -path '*/locks/*'", "sh", list.hermes.home } })
  end)

  on_hosts("is kept from a host whose run died in debt, until that is settled", function ()
    local log = list.hermes.home .. "/log"
    local path = book(JOB:format(log, log, log, log))
    local running = child.start(options(argv_of("run", path, "--env", "far", "--no-input")))
    wait_for(log, "begun")
    running:kill(9)
    running:finish()
    local id = run_id()
    local r
    for _ = 1, 50 do                                 -- until sshd has seen that nobody is there
      r = ask("run", path, "--env", "far", "--no-input")
      if (r.out .. r.err):find("resume " .. id, 1, true) then break end
    end
    suite.write(log .. ".go", "")
    assert.equal(75, r.code, r.out .. r.err)
    assert.matches("neap resume " .. id, r.out .. r.err, 1, true)
    assert.equal(0, ask("resume", id, "--no-input").code)
    assert.equal(0, ask("run", path, "--env", "far", "--no-input").code)
    assert.equal("begun\nended\n", content(log))
  end)

  on_hosts("is explained by doctor: who answers, by which back end, and what mends what is wrong", function ()
    local r = ask("doctor", "hermes", "--env", "far")
    assert.equal(0, r.code, r.out .. r.err)
    for _, words in ipairs { "host:" .. list.hermes.fingerprint("ed25519"), "back end: libssh2", "server: SSH-2.0-OpenSSH", "host key: ", "user: deploy" } do
      assert.matches(words, r.out, 1, true)
    end
    local empty = servers.ssh_home { hermes = list.hermes, known = "\n" }
    suite.write(dir .. "/inventory.lua", INVENTORY:format(empty.config, "", home.config, list.iris.home, home.config))
    r = ask("doctor", "hermes", "--env", "far")
    assert.equal(1, r.code, r.out .. r.err)
    assert.matches("is not known: ssh-ed25519 " .. list.hermes.fingerprint("ed25519"), r.out .. r.err, 1, true)
    assert.matches("Compare the fingerprint .* >> " .. empty.known_hosts:gsub("%p", "%%%0"), r.out .. r.err)
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, ", sudo = \"nobody-of-that-name\"", home.config, list.iris.home, home.config))
    r = ask("doctor", "hermes", "--env", "far")
    assert.equal(1, r.code, r.out .. r.err)
    assert.matches("sudo on hermes refuses", r.out .. r.err)
  end)

  on_hosts("is refused when the host is another one than the inventory pins", function ()
    local path = book(COPY:format(list.hermes.home, list.hermes.home))
    local before = trees()
    suite.write(dir .. "/inventory.lua", INVENTORY:format(home.config, ", pin = \"host:SHA256:AAAA\"", home.config, list.iris.home, home.config))
    local r = ask("run", path, "--env", "far", "--no-input")
    assert.equal(77, r.code, r.out .. r.err)
    assert.matches("the inventory pins host:SHA256:AAAA", r.out .. r.err, 1, true)
    assert.same(before, trees())
  end)
end)
