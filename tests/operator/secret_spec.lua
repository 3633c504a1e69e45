-- Secrets that are planted: the password of the database and a value in a command's environment. Everything that leaves
-- neap is searched for them, as they are and as they would look when encoded: the arguments of every process while the
-- run goes on, every file it leaves, all it says on a terminal, to a pipe, to a watcher, as JSON, and afterwards.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local suite = require "tests.support.suite"

local BOOK <const> = [[
runbook "Leak it" { why = "It tries to." }
local db, tool = target.postgres "db", target.command "tool"
step "Read it back" {
  verify = function ()
    local word = db:value("select word from diary where name = 'password'")
    note("the password is " .. word)
    check(word ~= "", "the word is " .. word)
    report { title = "Words", columns = { "word" }, rows = { { word }, { db:value("select word from diary where name = 'token'") } } }
  end,
}
step "Write it" {
  act = function ()
    db:exec("insert into copies select word from diary")
    db:exec("insert into copies values ($1)", db:value("select word from diary where name = 'token'"))
    tool:run { "wait" }
  end,
  verify = function () check.same(db:value("select count(*) from copies"), 3, "three copies") end,
}
step "Fail with it" {
  act = function () %s end,
  verify = function () check(true, "failed") end,
}
]]

local ways = {
  ["in an error of the server"] = 'db:exec("select word::int from diary")',
  ["in a statement that is wrong"] = 'db:exec("select \'" .. db:value("select word from diary limit 1") .. "\' frm x")',
  ["by a child that prints its environment"] = 'tool:run { "environment" }',
  ["in an error the runbook raises"] = 'error("no: " .. db:value("select word from diary where name = \'token\'"))',
}

local function base64(text)
  return (child.run { argv = { "base64", "-w0" }, input = text }.out)
end

-- How a secret could look: plain, hexadecimal, percent-encoded, base64 at each of its three alignments.
local function shapes_of(secret)
  local list = { secret, secret:reverse() }
  local hex = secret:gsub(".", function (c) return ("%02x"):format(c:byte()) end)
  list[3], list[4] = hex, hex:upper()
  list[5] = secret:gsub("[^%w%-_.~]", function (c) return ("%%%02X"):format(c:byte()) end)
  for pad = 0, 2 do
    local code = base64(("x"):rep(pad) .. secret):gsub("=+$", "")
    list[#list + 1] = code:sub(pad == 0 and 1 or pad + 2, -4)
  end
  return list
end

describe("a planted secret", function ()
  local pg, shapes
  setup(function ()
    pg = servers.postgres()
    shapes = {}
    for name, secret in pairs(stages.secrets) do
      for _, shape in ipairs(shapes_of(secret)) do shapes[#shapes + 1] = { name = name, text = shape } end
    end
  end)

  local function clean(text, where)
    for _, shape in ipairs(shapes) do
      local at = text:find(shape.text, 1, true)
      if at then error(("%s is in %s: %s"):format(shape.name, where, text:sub(math.max(at - 60, 1), at + #shape.text + 20)), 2) end
    end
  end

  local function stage_with_diary()
    local stage = stages.open(pg)
    pg.sql(([[create table diary (name text, word text); create table copies (word text); grant all on diary, copies to owner;
      insert into diary values ('password', '%s'), ('token', '%s')]]):format(stages.secrets.OWNER_PASSWORD, stages.secrets.TOKEN), stage.database)
    return stage
  end

  -- Every argument list on the machine, once.
  local function arguments()
    local parts = {}
    for _, pid in ipairs(T.entries("/proc")) do
      local file = pid:match("^%d+$") and io.open("/proc/" .. pid .. "/cmdline")
      if file then
        parts[#parts + 1] = file:read("a") or ""
        file:close()
      end
    end
    return table.concat(parts, "\n")
  end

  local function files_below(path)
    for _, name in ipairs(T.entries(path) or {}) do
      local inside = path .. "/" .. name
      if T.entries(inside) then files_below(inside)
      else
        local file = io.open(inside, "rb")
        if file then
          clean(file:read("a") or "", inside)
          file:close()
        end
      end
    end
  end

  -- Samples the machine until the run has ended; `at` is called once the child works.
  local function follow(stage, running, at)
    local samples, seen, answered, ends = 0, false, false, T.now_ms() + 120000
    while T.now_ms() < ends do
      clean(arguments(), "the arguments of a process")
      samples = samples + 1
      if not seen and stage.pids() then
        seen = true
        at()
        stage.go()
      end
      if not answered and running.out:find("hold or abort?", 1, true) then
        answered = true
        running:write("abort\r")
      end
      local name, bytes = running.handle:read(0)
      if name then running[name] = running[name] .. bytes
      elseif bytes == "end" then break end
    end
    assert.is_true(samples > 0)
    return running:finish()
  end

  for way, act in pairs(ways) do
    it("appears nowhere: " .. way, function ()
      local stage = stage_with_diary()
      stage.runbook("leak", BOOK:format(act))
      for _, kind in ipairs { "terminal", "pipe", "json" } do
        os.remove(stage.dir .. "/pids")
        pg.sql("truncate copies", stage.database)
        local words = { "run", "leak", kind == "json" and "--json" or nil }
        if kind ~= "terminal" then words[#words + 1] = "--no-input" end
        local running = stage.start(words, { tty = kind == "terminal" })
        local watchers = {}
        local r = follow(stage, running, function ()
          watchers = { stage.start { "watch", stage.latest() }, stage.start { "watch", stage.latest(), "--json" } }
        end)
        assert.is_true(r.code == 1 or r.code == 65, r.out .. r.err)
        clean(r.out .. r.err, "what it said on a " .. kind)
        for _, watcher in ipairs(watchers) do
          local seen = watcher:finish()
          assert.matches("Fail with it", seen.out .. seen.err, 1, true)
          clean(seen.out .. seen.err, "what a watcher saw")
        end
        for _, page in ipairs { { "show" }, { "show", "--step", "1" }, { "show", "--step", "3" }, { "show", "--json" }, { "resume", "--no-input" } } do
          local seen = stage.neap { page[1], stage.latest(), table.unpack(page, 2) }
          assert.is_true(page[1] == "resume" or seen.code == 0, seen.err)
          clean(seen.out .. seen.err, table.concat(page, " "))
        end
        for _, more in ipairs { {}, { "--json" } } do
          local seen = stage.neap { "plan", "leak", table.unpack(more) }
          assert.equal(2, seen.code, seen.err)
          clean(seen.out .. seen.err, "the plan")
        end
        local history = stage.neap { "history", "--json" }
        assert.equal(0, history.code, history.err)
        clean(history.out, "the history")
        files_below(stage.state)
        files_below(suite.directory() .. "/tmp")
      end
    end)
  end

  it("appears nowhere when the connection fails, its URL holding the password", function ()
    local stage = stage_with_diary()
    stage.runbook("leak", BOOK:format("error()"))
    local secret = stages.secrets.OWNER_PASSWORD
    local urls = {
      ("url = \"postgresql://owner:%s@127.0.0.1:1/x\""):format(secret), ("url = \"postgresql://owner:%s@127.0.0.1:%d/nowhere\""):format(secret, pg.port),
      ("url = \"postgresql://owner:%s@[::bad/x\""):format(secret), ("url = \"postgresql://owner:%s@127.0.0.1:%d/x?sslmode=never\""):format(secret, pg.port),
      "url = secret { env = \"URL\" }",
    }
    for _, url in ipairs(urls) do
      suite.write(stage.dir .. "/inventory.lua", ([[environment "demo" { db = postgres { %s }, tool = command { argv = { "true" } } }]]):format(url))
      for _, words in ipairs { { "run", "leak", "--no-input" }, { "plan", "leak" }, { "run", "leak", "--no-input", "--json" } } do
        local r = stage.neap(words, { env = { URL = ("postgresql://owner:%s@127.0.0.1:1/x"):format(secret) } })
        assert.is_true(r.code > 0)
        clean(r.out .. r.err, url)
      end
      local doctor = stage.neap({ "doctor", "--env", "demo" }, { env = { URL = ("postgresql://owner:%s@127.0.0.1:1/x"):format(secret) } })
      clean(doctor.out .. doctor.err, "doctor")
    end
    files_below(stage.state)
  end)

  it("is not in the environment a child gets when nobody gave it", function ()
    local stage = stages.open(pg)
    suite.write(stage.dir .. "/plain", [[environment "demo" { tool = command { argv = { "/bin/sh", "-c", "env >]] .. stage.dir .. [[/seen" } } }]])
    stage.runbook("look", [[runbook "Plain" { why = "x" } local tool = target.command "tool"
      step "Look" { act = function () tool:run() end, verify = function () check(true, "looked") end }]])
    local words = { "run", stage.dir .. "/look.lua", "--env", "demo", "--inventory", stage.dir .. "/plain", "--state", stage.state }
    local r = neap(words, { env = stages.secrets })
    assert.equal(0, r.code, r.out .. r.err)
    clean(suite.read(stage.dir .. "/seen"), "the child's environment")
  end)
end)
