-- The sandbox: an accident in a runbook is bounded, and the audit stays complete (each row of the table that says so).
-- Bombs that only the watchdog stops go off in a child, the built binary.

local child = require("tests.support.child")
local neap = require("tests.support.neap")
local suite = require("tests.support.suite")
local world = require("tests.support.world")

local plan, run, sandbox = require("engine.plan"), require("engine.run"), require("engine.sandbox")
local task = require("native.task")

--- The error of planning a runbook.
local function refused(body)
  local w = world.new()
  local _, err = w.try(plan.run, w.context { runbook = w.runbook(body) })
  return err or error("the runbook was accepted", 2)
end

--- What a clause saw: runs `body` in the `done` of a step; returns the error its step failed with, or nil.
local function in_clause(body)
  local w = world.new()
  local path = w.runbook("step \"Try\" { verify = function ()\n" .. body .. "\nend }")
  local code, err = w.try(run.run, w.context { runbook = path })
  if err then error(err, 0) end
  return code ~= 0 and w.last("end") or nil
end

--- `body` must run without an error in a clause.
local function holds(body)
  local err = in_clause(body)
  if err then error(("%s\n%s"):format(err.message, err.hint or ""), 2) end
end

describe("the sandbox", function ()
  it("has no way to a chunk, a file, a process, a coroutine or the collector", function ()
    for _, name in ipairs { "load", "loadstring", "loadfile", "dofile", "io", "os", "package", "debug", "coroutine", "collectgarbage", "rawset",
      "rawget", "print", "warn", "_G", "T", "arg", "native" } do
      assert.truthy(refused("local x = " .. name).message:find("is not a name", 1, true), name)
    end
  end)

  it("has no dump, no random numbers and no clock among its libraries", function ()
    holds [[
      check(string.dump == nil and ("").dump == nil, "dump is absent")
      check(math.random == nil and math.randomseed == nil, "random is absent")]]
  end)

  it("refuses a runbook that is a binary chunk", function ()
    local w = world.new()
    local path = w.dir .. "/binary.lua"
    suite.write(path, string.dump(function () return 1 end))
    local _, err = w.try(plan.run, w.context { runbook = path })
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("binary chunk", 1, true))
  end)

  it("refuses finalizers, weak tables and locked metatables", function ()
    for _, field in ipairs { "__gc", "__mode", "__metatable" } do
      local err = refused(("setmetatable({}, { %s = \"k\" })"):format(field))
      assert.truthy(err.message:find(field .. " is not allowed", 1, true), field)
    end
    holds [[
      local t = setmetatable({}, { __index = function (_, k) return k .. "!" end })
      check(t.x == "x!" and getmetatable(t).__index, "ordinary metatables work")]]
  end)

  it("shows no metatable but the runbook's own", function ()
    holds [[
      check(getmetatable("") == nil, "strings' is hidden")
      local _, err = try(function () w:nonsense() end)
      check(err and getmetatable(err) == nil, "errors' is hidden")
      check(getmetatable(w) == nil and getmetatable(_ENV) == nil and getmetatable(string) == nil, "roles', the environment's and libraries' are hidden")]]
  end)

  it("keeps libraries, words, roles and strings as they are", function ()
    for _, write in ipairs { "string.rep = nil", "table.insert = nil", "check.same = nil", "w.get = nil", "math.pi = 3", "pcall = nil", "step = nil", "_ENV.x = 1",
      "check = nil", "target.postgres = nil" } do
      assert.truthy(refused(write), write)
    end
    holds [[check(("x"):rep(3) == "xxx" and pcall(function () return ("x").rep.y end) == false, "strings still work")]]
  end)

  it("gives std modules that cannot be changed", function ()
    local err = refused([[local m = require "std.migrations"  m.read = nil]])
    assert.truthy(err.message:find("std.migrations cannot be changed", 1, true))
  end)
end)

describe("computing without end", function ()
  it("is stopped in a clause, also inside pcall loops, patterns that count, and handlers of its own error", function ()
    for _, loop in ipairs {
      "while true do end",
      "while true do pcall(function () while true do end end) end",
      "while true do pcall(pcall, function () while true do end end) end",
      "while true do xpcall(function () while true do end end, function () return 1 end) end",
      "while true do try(function () while true do end end) end",
      "local t = setmetatable({}, { __index = function (t, k) return t[k + 1] end }) while true do pcall(function () return t[1] end) end",
      "table.sort({ 1, 2, 3 }, function () while true do end end)",
      "string.gsub('aaa', 'a', function () while true do end end)",
      "local c <close> = setmetatable({}, { __close = function () while true do end end })",
    } do
      local w = world.new()
      local path = w.runbook("step \"Loop\" { within = \"100ms\", act = function () w:set('a', 1) " .. loop .. " end, verify = function () return true end }")
      local computed = os.clock()
      assert.equal(1, w.try(run.run, w.context { runbook = path }), loop)
      assert.equal("timeout", w.last("end").code, loop)
      assert.truthy(os.clock() - computed < 5, loop)
    end
  end)

  it("is stopped while declaring, in runbooks, modules and inventories", function ()
    assert.truthy(refused("while true do end").message:find("half a second", 1, true))
    assert.truthy(refused("while true do pcall(error) end").message:find("half a second", 1, true))
    local w = world.new()
    suite.write(w.dir .. "/slow.lua", "while true do end")
    local _, err = w.try(plan.run, w.context { runbook = w.runbook("require 'slow'") })
    assert.truthy(err.message:find("half a second", 1, true))
    w.inventory("while true do end")
    _, err = w.try(plan.run, w.context { runbook = w.runbook("step 'A' { needs = function () end }") })
    assert.equal("config", err.code)
  end)

  it("is what the processor did: a machine that stood still while a runbook declared refuses nothing", function ()
    T.run(function ()
      local chunk = function () T.pause(700) for _ = 1, 100000 do end return 7 end
      assert.is_true((sandbox.bounded(chunk)))
      local ok, err = sandbox.bounded(function () T.pause(20) while true do end end)
      assert.same({ false, "timeout" }, { ok, err.code })
    end)
  end)

  it("is counted altogether while declaring: a look for a module does not begin it anew", function ()
    assert.truthy(refused("for i = 1, 1e9 do pcall(require, 'none' .. i) end").message:find("half a second", 1, true))
  end)

  it("is stopped at a deadline, and where a task was cancelled that does not wait; nothing slows down what comes after it", function ()
    local function endless() while true do end end
    T.run(function ()
      local mark = task.deadline(20)
      local _, err = pcall(endless)
      task.restore(mark)
      assert.equal("timeout", err.code)
      local before = task.spawn(pcall, endless)
      before:cancel("the spec had enough")
      assert.equal("cancelled", select(3, before:join()).code)
      local meanwhile
      meanwhile = task.spawn(pcall, function () meanwhile:cancel("it had enough") endless() end)
      assert.equal("cancelled", select(3, meanwhile:join()).code)
      assert.is_nil((debug.gethook()))
    end)
  end)

  it("ends the process when no hook can: a pattern that backtracks for ever; and not a process that was not given the processor", function ()
    local dir = suite.temp()
    suite.write(dir .. "/bomb.lua", [[runbook "Bomb" { why = "x" }
      string.find(("a"):rep(4000), ".-.-.-.-b")
      step "A" { needs = function () end }]])
    suite.write(dir .. "/idle.lua", [[T.run(function ()
      require("native.task").limit { run_ms = 100 }
      T.pause(6000)
      print "left alone"
    end)]])
    local idle = child.start { argv = { arg[-1], dir .. "/idle.lua" } }
    local r = neap({ "check", dir .. "/bomb.lua" }, { timeout = 120000 })
    assert.equal(70, r.code)
    assert.truthy(r.err:find("the script is stuck", 1, true))
    assert.same({ code = 0, out = "left alone\n", err = "" }, idle:finish(60000))
  end)
end)

describe("memory", function ()
  it("is bounded in a clause and the run ends with {memory}", function ()
    for _, hunger in ipairs { "local s = string.rep('x', 1 << 30)", "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
      "while true do pcall(string.rep, 'x', 1 << 30) end", "local s = 'x' while true do s = s .. s end" } do
      local err = in_clause(hunger)
      assert.equal("memory", err.code, hunger)
      assert.equal("the memory limit was reached", err.message)
    end
  end)

  it("is bounded while declaring", function ()
    assert.truthy(refused("local s = string.rep('x', 40 << 20)").message:find("32 MiB", 1, true))
  end)

  it("is given back: a run after a memory error works", function ()
    assert.equal("memory", in_clause("local s = string.rep('x', 1 << 30)").code)
    holds "check(#string.rep('x', 1 << 20) == 1 << 20, 'a mebibyte is fine')"
  end)
end)

describe("depth", function ()
  it("is an ordinary error: recursion of Lua, of C, of patterns", function ()
    local err = in_clause("local function f() return 1 + f() end f()")
    assert.truthy(err.message:find("stack overflow", 1, true))
    err = in_clause("local function f() return (string.gsub('a', 'a', f)) end f()")
    assert.truthy(err.message:find("stack overflow", 1, true))
    err = in_clause("string.match(('('):rep(40), ('('):rep(40))")
    assert.truthy(err.message:find("too many captures", 1, true))
    holds [[
      local t = {}
      t.__index = t
      setmetatable(t, t)
      check(pcall(function () return t.x end) == false, "a loop of __index is an error")]]
  end)

  it("of data is bounded where it is journaled", function ()
    local w = world.new()
    local path = w.runbook([[step "A" { act = function () w:set("a", 1) local t = {} for _ = 1, 500 do t = { t } end return t end, verify = function () return true end }]])
    assert.equal(65, w.try(run.run, w.context { runbook = path }))
    assert.truthy(w.last("end").message:find("cannot be journaled", 1, true))
    path = w.runbook([[step "A" { act = function () w:set("a", 1) local t = {} t.t = t return t end, verify = function () return true end }]], "cycle")
    assert.equal(65, w.try(run.run, w.context { runbook = path }))
  end)

  it("of a default for a parameter is bounded too", function ()
    local w = world.new()
    local path = w.runbook([[local p = params { x = { "an x", default = function () local t = {} for _ = 1, 500 do t = { t } end return t end } }
      step "A" { needs = function () check(p.x, "x") end }]])
    local code, err = w.try(run.run, w.context { runbook = path })
    assert.is_nil(code)
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("--x", 1, true))
  end)
end)

describe("waiting where it cannot be waited", function ()
  it("is an error that says so, inside table.sort, gsub and metamethods' callbacks", function ()
    for _, call in ipairs { "table.sort({ 2, 1 }, function () wait_until(function () return false end, { every = '1s', within = '9s' }) end)",
      "string.gsub('a', 'a', function () wait_until(function () return false end, { every = '1s', within = '9s' }) end)" } do
      local err = in_clause(call)
      assert.equal("usage", err.code, call)
      assert.truthy(err.message:find("inside a callback", 1, true))
    end
  end)
end)

describe("error values", function ()
  it("of any kind are reported: nil, numbers, functions, tables whose __tostring is wrong", function ()
    for _, thrown in ipairs { "error()", "error(nil)", "error(42)", "error(true)", "error(print_nothing or check)", "error({})", "error({ code = 1, message = 2 })",
      "error({ code = 'check', message = {} })", "error(setmetatable({}, { __tostring = function () error('no') end }))",
      "error(setmetatable({}, { __tostring = function () return 1 end }))", "error({ code = 'nonsense', message = 'made up' })",
      "error(setmetatable({}, { __index = function () error('no') end }))", "error({ code = 'check', message = 'fine', hint = {} })",
      "error({ code = 'check', message = 'fine', status = function () end })" } do
      thrown = thrown:gsub("print_nothing or ", "")
      local err = in_clause(thrown)
      assert.equal("string", type(err.message), thrown)
      assert.truthy(err.exit ~= 0, thrown)
    end
  end)

  it("that are not the runbook's to catch come back through pcall, xpcall and try", function ()
    for _, catch in ipairs { "pcall(function () %s end)", "xpcall(function () %s end, function () return 1 end)", "try(function () %s end)",
      "pcall(pcall, function () %s end)" } do
      local err = in_clause(catch:format("w:set('a', 1)"))
      assert.equal("refused", err.code, catch)
      for _, code in ipairs { "cancelled", "journal", "withheld" } do
        err = in_clause(catch:format(("error({ code = '%s', message = 'x' })"):format(code)))
        assert.truthy(err, catch .. code)
      end
    end
  end)
end)

describe("require", function ()
  local function require_of(name, prepare)
    local w = world.new()
    if prepare then prepare(w.dir) end
    local p, err = w.try(plan.run, w.context { runbook = w.runbook(("local m = require %q  step 'A' { needs = function () check(m.answer == 42, 'it is 42') end }"):format(name)) })
    if p then return p.exit == 0 end
    return nil, err
  end
  local function write(path, mode)
    return function (dir)
      os.execute(("mkdir -p %s/inner"):format(dir))
      suite.write(dir .. "/" .. path, "return { answer = 42 }")
      if mode then T.mode(dir .. "/" .. path, tonumber(mode, 8)) end
    end
  end

  it("finds files beside the runbook and below, and is the same table twice", function ()
    assert.is_true(require_of("mine", write("mine.lua")))
    assert.is_true(require_of("inner.mine", write("inner/mine.lua")))
    local w = world.new()
    suite.write(w.dir .. "/mine.lua", "return {}")
    assert.is_nil(select(2, w.try(plan.run, w.context { runbook = w.runbook("assert(require 'mine' == require 'mine')  step 'A' { needs = function () end }") })))
  end)

  it("refuses paths that leave the folder", function ()
    for _, name in ipairs { "..", "../x", "a/../b", "/etc/passwd", "a..b", "", ".hidden", "std.../x", "native.file", "engine.run", "io", "a\0b" } do
      local ok, err = require_of(name)
      assert.is_nil(ok, name)
      assert.truthy(err.code == "invalid" or err.code == "refused", name)
    end
    for _, value in ipairs { "nil", "1", "{}", "true" } do assert.equal("invalid", refused("require(" .. value .. ")").code) end
  end)

  it("refuses a link out of the folder, and follows one inside it", function ()
    local ok, err = require_of("mine", function (dir)
      local elsewhere = suite.temp()
      suite.write(elsewhere .. "/mine.lua", "return { answer = 42 }")
      os.execute(("ln -s %s/mine.lua %s/mine.lua"):format(elsewhere, dir))
    end)
    assert.is_nil(ok)
    assert.equal("refused", err.code)
    assert.truthy(err.message:find("leads out of the runbook's folder", 1, true))
    assert.is_true(require_of("mine", function (dir)
      suite.write(dir .. "/other.lua", "return { answer = 42 }")
      os.execute(("ln -s other.lua %s/mine.lua"):format(dir))
    end))
  end)

  it("refuses a module that others can write to or that belongs to somebody else", function ()
    for _, mode in ipairs { "0664", "0646", "0666" } do
      local ok, err = require_of("mine", write("mine.lua", mode))
      assert.is_nil(ok, mode)
      assert.equal("refused", err.code)
    end
    assert.is_true(require_of("mine", write("mine.lua", "0644")))
    if T.uid() ~= 0 then return end
    local ok, err = require_of("mine", function (dir)
      suite.write(dir .. "/mine.lua", "return { answer = 42 }")
      T.owner(dir .. "/mine.lua", "nobody")
    end)
    assert.is_nil(ok)
    assert.truthy(err.message:find("belongs to somebody else", 1, true))
  end)

  it("refuses binary chunks, modules too long, modules that require themselves, and std modules that do not exist", function ()
    local _, err = require_of("mine", function (dir) suite.write(dir .. "/mine.lua", string.dump(function () end)) end)
    assert.truthy(err.message:find("binary chunk", 1, true))
    assert.is_nil((require_of("mine", function (dir) suite.write(dir .. "/mine.lua", ("-"):rep(1024 * 1024 + 10)) end)))
    _, err = require_of("mine", function (dir) suite.write(dir .. "/mine.lua", "return require 'mine'") end)
    assert.truthy(err.message:find("requires itself", 1, true))
    _, err = require_of("std.nothing")
    assert.truthy(err.message:find("std.nothing", 1, true))
  end)

  it("belongs to the top of the file: in a clause it is refused", function ()
    local w = world.new()
    suite.write(w.dir .. "/mine.lua", "return {}")
    local p = w.try(plan.run, w.context { runbook = w.runbook("step 'A' { needs = function () require 'mine' end }") })
    assert.equal(1, p.exit)
    assert.truthy(p.steps[1].error.message:find("in a clause", 1, true))
  end)

  it("gives a module the same sandbox", function ()
    local ok, err = require_of("mine", function (dir) suite.write(dir .. "/mine.lua", "leak = 1") end)
    assert.is_nil(ok)
    assert.truthy(err.message:find("would be a global", 1, true))
  end)
end)
