--- client.service: compose on a real Engine, systemd and pm2 as programs that answer like them, commands here and on a real sshd.

local client = require("client.service")
local guard = require("native.guard")
local hosts = require("client.host")
local servers = require("tests.support.servers")
local suite = require("tests.support.suite")

-- A program that keeps one word in a file: what it was last told.
local MANAGER <const> = [[
#!/bin/sh
# Stands in for systemctl and pm2, as far as they are asked.
here=%s
state=$(cat "$here/state" 2>/dev/null || echo stopped)
case "$1" in
  show) unit=; for word; do unit=$word; done
    [ "$unit" = shop.service ] || { echo LoadState=not-found; exit 0; }
    [ $state = running ] && printf 'LoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=2\nResult=success\n' \
      || printf 'LoadState=loaded\nActiveState=failed\nSubState=failed\nNRestarts=0\nResult=exit-code\n' ;;
  jlist) [ $state = running ] && word=online || word=stopped
    printf '>>>> In-memory PM2 is out-of-date\n[{"name":"shop","pm2_env":{"status":"%%s","restart_time":3,"unstable_restarts":0}},{"name":"other","pm2_env":{"status":"online"}}]\n' $word ;;
  logs) echo "a line of $2" ;;
  start | restart | up) echo running >"$here/state"; echo "$*" >>"$here/told" ;;
  stop | down) echo stopped >"$here/state"; echo "$*" >>"$here/told" ;;
  is-up) echo "it is $state"; [ $state = running ] ;;
  *) echo "what is $1?" >&2; exit 2 ;;
esac
]]

describe("client.service", function()
  local dir

  local function bind(spec, place)
    local context = { application = "neap:spec:1f", environment = "test", target = function() return place end }
    local object = client.bind("app", spec, context)
    return setmetatable({ object = object }, {
      __index = function(_, name) return function(_, ...) return object.methods[name](object, ...) end end,
      __close = function() client.close(object) end,
    })
  end

  local function manager(name)
    T.mode(suite.write(dir .. "/" .. name, MANAGER:format(dir)), tonumber("755", 8))
    return dir .. "/" .. name
  end

  local function with_path(fn)
    local before = os.getenv("PATH")
    T.setenv("PATH", dir .. ":" .. before)
    local ok, err = pcall(T.run, fn)
    T.setenv("PATH", before)
    if not ok then error(err, 0) end
  end

  local function fails(code, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.equal(code, err.code, err.message)
    return err
  end

  local function preview(fn)
    guard.mode("plan")
    local ok, err = pcall(fn)
    local predictions = guard.predictions()
    guard.clear()
    guard.mode("run")
    if not ok then error(err, 0) end
    return predictions
  end

  before_each(function()
    dir = suite.temp()
    T.mode(dir, tonumber("755", 8))
  end)

  it("refuses an entry that names nobody who sees to it, or two", function()
    for _, spec in ipairs { {}, { systemd = "a", pm2 = "b" }, { compose = { project = "a" } }, { start = { "a" } }, { start = {}, stop = { "b" }, status = { "c" } } } do
      fails("config", client.bind, "app", spec, {})
    end
  end)

  it("is a unit of systemd", function()
    manager "systemctl"
    with_path(function()
      local app <close> = bind { systemd = "shop.service" }
      assert.is_false(app:running())
      assert.same({ false, "failed (failed), result exit-code" }, { app:healthy() })
      app:start()
      assert.same({ true, 2 }, { app:running(), app:restarts() })
      assert.is_true((app:healthy()))
      app:restart()
      app:stop()
      assert.equal("start -- shop.service\nrestart -- shop.service\nstop -- shop.service\n", suite.read(dir .. "/told"))
      assert.matches("^service:[^/]+/shop%.service$", app:card().id)
      local none <close> = bind { systemd = "shop" }
      fails("config", none.running)
    end)
  end)

  it("is a process of pm2", function()
    manager "pm2"
    with_path(function()
      local app <close> = bind { pm2 = "shop" }
      assert.is_false(app:running())
      app:start()
      assert.same({ true, 3 }, { app:running(), app:restarts() })
      assert.equal("a line of shop\n", app:logs { tail = 50 })
      local none <close> = bind { pm2 = "shp" }
      assert.matches("It has shop, other", fails("config", none.running).hint, 1, true)
    end)
  end)

  it("is three commands; a preview shows what would be told, and tells nothing", function()
    local program = manager "app"
    T.run(function()
      local app <close> = bind { start = { program, "up" }, stop = { program, "down" }, status = { program, "is-up" } }
      local shown = preview(function()
        assert.is_false(app:running())
        app:restart()
      end)
      assert.same({ program .. " down", program .. " up" }, { shown[1].text, shown[2].text })
      assert.is_false(app:running())
      assert.same({ false, "not running (status 1): it is stopped" }, { app:healthy() })
      app:start()
      assert.is_true(app:wait_healthy { times = 2, within = "2m" })
      app:restart()
      assert.equal("up\ndown\nup\n", suite.read(dir .. "/told"))
      fails("usage", app.logs)
      app:stop()
      assert.matches("not running", fails("timeout", app.wait_healthy, app, { within = "0s" }).message, 1, true)
    end)
  end)

  it("is had by one run at a time", function()
    local program = manager "app"
    T.run(function()
      local spec = { start = { program, "up" }, stop = { program, "down" }, status = { program, "is-up" } }
      local one <close> = bind(spec)
      local two <close> = bind(spec)
      local g = one.object.guardians
      assert.is_true(g.lock(one.object))
      assert.is_true(g.prove(one.object))
      local _, err = g.lock(two.object)
      assert.equal("busy", err.code)
      g.hold(one.object, "run 1f of x")
      assert.equal("run 1f of x", g.held(two.object))
      g.release(one.object)
    end)
  end)

  it("runs on a host", function()
    local program = manager "app"
    local hermes = servers.sshd()
    local home = servers.ssh_home { hermes = hermes }
    T.owner(dir, hermes.user == "deploy" and "nobody" or hermes.user)
    T.mode(dir, tonumber("777", 8))
    T.run(function()
      local host = hosts.bind("hermes", { ssh = "hermes", config = home.config }, { application = "neap:spec:1f", environment = "test" })
      local app <close> = bind({ start = { program, "up" }, stop = { program, "down" }, status = { program, "is-up" }, on = "hermes" }, host)
      assert.is_false(app:running())
      app:start()
      assert.is_true(app:running())
      assert.matches("^service:host:SHA256:.+/app up$", app:card().id)
      app:stop()
      assert.is_false(app:running())
      hosts.close(host)
    end)
  end)

  describe("of compose", function()
    local server, why

    setup(function() server, why = servers.docker() end)

    local function with(name, fn)
      it(name, function()
        if not server then return pending(why) end
        T.run(fn)
      end)
    end

    local function made(name, more)
      local options = { name = name, project = "shop", service = "api", cmd = { "sh", "-c", "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done" } }
      for key, value in pairs(more or {}) do options[key] = value end
      return server.busybox(options)
    end

    with("is all its containers", function()
      local one, two = made "shop-api-1", made "shop-api-2"
      local app <close> = bind { compose = { project = "shop", service = "api" }, docker = server.url }
      assert.is_true(app:running())
      assert.is_true((app:healthy()))
      local shown = preview(function() app:stop() end)
      assert.same({ 2, "docker.change" }, { #shown, shown[1].primitive })
      assert.is_true(app:running())
      app:stop()
      assert.is_false(app:running())
      assert.matches("shop-api-1 is exited", select(2, app:healthy()), 1, true)
      app:start()
      assert.is_true(app:wait_healthy())
      local before = one.inspect("{{.State.StartedAt}}")
      app:restart()
      assert.are_not.equal(before, one.inspect("{{.State.StartedAt}}"))
      assert.matches("begun", app:logs { tail = 1 }, 1, true)
      local card = app:card()
      assert.matches("^service:docker:.*/shop/api$", card.id)
      server.cli("pause", two.id)
      assert.is_false(app:running())
      server.cli("unpause", two.id)
      local g = app.object.guardians
      assert.equal("done", g.probe(app.object, { primitive = "docker.change", verb = "start", container = one.id }, { within_ms = 0 }))
    end)

    with("says what there is when there is none of it", function()
      made "shop-api-1"
      local app <close> = bind { compose = { project = "shop", service = "web" }, docker = server.url }
      local err = fails("config", app.running)
      assert.equal("\"app\": there is no container of shop/web", err.message)
      assert.matches("shop-api-1 (shop/api)", err.hint, 1, true)
    end)

    with("is unwell when the health check of one of them says so", function()
      made("shop-api-1", { health = "test -e /tmp/well" })
      local app <close> = bind { compose = { project = "shop", service = "api" }, docker = server.url }
      assert.matches("the health check of shop-api-1 says starting", select(2, app:healthy()), 1, true)
      assert.is_true(app:running())
    end)
  end)
end)
