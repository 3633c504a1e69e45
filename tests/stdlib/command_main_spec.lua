local neap = require "tests.support.neap"
local suite = require "tests.support.suite"

local runbook = [[
runbook "Greet the world" { why = "To see that it works. And more." }
local p = params { who = { "whom to greet", kind = "name", default = "world" }, loud = { "shout", kind = "boolean", default = false } }
step "The world is there" { verify = function () check(p.who ~= "nobody", "{who} is somebody") end }
]]

describe("neap", function()
  local place
  before_each(function()
    place = suite.temp()
    suite.write(place .. "/hello.lua", runbook)
  end)

  it("says on one page what it is when nothing is asked", function()
    local r = neap({}, {})
    assert.equal(0, r.code)
    assert.matches("neap plan restore --env staging", r.out, 1, true)
  end)

  it("refuses unknown commands and flags with the nearest name and exit 64", function()
    local r = neap({ "rnu" }, {})
    assert.equal(64, r.code)
    assert.matches('error: there is no command "rnu"', r.err, 1, true)
    assert.matches("Did you mean neap run?", r.err, 1, true)
    r = neap({ "history", "--limti", "3" }, {})
    assert.equal(64, r.code)
    assert.matches("Did you mean --limit?", r.err, 1, true)
    assert.equal("", r.out)
  end)

  it("takes the flags of a command before it, with their values", function()
    local r = neap({ "--state", place .. "/state", "--limit", "3", "history" }, {})
    assert.same({ 0, "No run is recorded here.\n" }, { r.code, r.out })
  end)

  it("puts errors on the standard output as JSON when asked for JSON", function()
    local r = neap({ "--json", "show", "abc" }, {})
    assert.equal(64, r.code)
    assert.matches('^{"schema":1,"kind":"error","code":"usage"', r.out)
  end)

  it("shows a runbook's parameters as flags, and takes them", function()
    local r = neap({ "run", place .. "/hello.lua", "--help" }, {})
    assert.equal(0, r.code)
    assert.matches("--who NAME", r.out, 1, true)
    assert.equal(0, neap({ "check", place .. "/hello.lua", "--who", "amelie", "--loud" }, {}).code)
    r = neap({ "check", place .. "/hello.lua", "--whoo", "amelie" }, {})
    assert.equal(64, r.code)
    assert.matches("Did you mean --who?", r.err, 1, true)
  end)

  it("shows and takes the parameters of the runbook that another one is told to run", function()
    suite.write(place .. "/outer.lua", [[
      runbook "Outer" { why = "x" } local p = params { operation = { "what to run", kind = "runbook" } } step "Run it" { run = "{operation}" }]])
    local inner = place .. "/hello.lua"
    for _, words in ipairs { { "--operation", inner }, { "--operation=" .. inner }, { "--set", "operation=" .. inner } } do
      local r = neap({ "run", place .. "/outer.lua", "--help", table.unpack(words) }, {})
      assert.matches("--operation RUNBOOK", r.out, 1, true)
      assert.matches("--who NAME", r.out, 1, true)
      assert.equal(0, neap({ "check", place .. "/outer.lua", "--who", "amelie", table.unpack(words) }, {}).code)
    end
    assert.not_matches("--who", neap({ "run", place .. "/outer.lua", "--help" }, {}).out, 1, true)
    local r = neap({ "check", place .. "/outer.lua", "--who", "amelie" }, {})
    assert.equal(64, r.code)
    assert.matches('unknown flag "--who"', r.err, 1, true)
    assert.matches("--who\t", neap({ "__complete", "run", place .. "/outer.lua", "--operation", inner, "--wh" }, {}).out, 1, true)
  end)

  -- The runbook is read once for its flags; a run goes on with that one only where it runs what they name.
  it("previews and runs the runbooks that were named, directly or for a nested one", function()
    local paths, look = {}, [[local f = target.folder "f" step "%s" { verify = function () check(f:has "inventory.lua", "it is there") end }]]
    local function write(name, text)
      paths[name] = place .. "/" .. name .. ".lua"
      suite.write(paths[name], ('runbook "%s" { why = "x" } %s'):format(name, text))
    end
    suite.write(place .. "/inventory.lua", ('environment "here" { f = folder { path = "%s" } }'):format(place))
    write("c1", look:format("First choice"))
    write("c2", look:format("Second choice"))
    write("inner", ('local p = params { tool = { "t", kind = "runbook", default = "%s" } } step "Choose" { run = "{tool}" }'):format(paths.c1))
    write("direct", 'local p = params { tool = { "t", kind = "runbook" } } step "Choose" { run = "{tool}" }')
    write("chosen", 'local p = params { what = { "w", kind = "runbook" } } step "Choose" { run = "{what}" }')
    write("nested", ('local p = params { tool = { "t", kind = "text" } } step "Inner" { run = { "%s", tool = "{tool}" } }'):format(paths.inner))
    local here = { "--env", "here", "--inventory", place .. "/inventory.lua", "--state", place .. "/chosen-state", "--no-input" }
    local function says(command, name, ...)
      local words = { command, paths[name], ... }
      table.move(here, 1, command == "plan" and #here - 1 or #here, #words + 1, words)
      local r = neap(words, {})
      assert.equal(0, r.code, r.out .. r.err)
      return r.out .. r.err
    end
    for _, command in ipairs { "plan", "run" } do
      for _, words in ipairs { { "direct", "--tool", paths.c2 }, { "nested", "--tool", paths.c2 }, { "chosen", "--what", paths.inner, "--tool", paths.c2 } } do
        local said = says(command, table.unpack(words))
        assert.matches("Second choice", said, 1, true)
        assert.not_matches("First choice", said, 1, true)
      end
      assert.matches("First choice", says(command, "chosen", "--what", paths.inner), 1, true)
    end
  end)

  it("has nothing to say of runs when there are none", function()
    assert.equal("No run is recorded here.\n", neap({ "history" }, {}).out)
    assert.equal(0, neap({ "journal", "verify" }, {}).code)
  end)

  it("completes commands, flags and parameters without an inventory", function()
    assert.matches("^plan\t", neap({ "__complete", "pl" }, {}).out)
    assert.matches("--who\t", neap({ "__complete", "run", place .. "/hello.lua", "--wh" }, {}).out, 1, true)
    assert.equal("always\tcolour\n", neap({ "__complete", "list", "--color", "al" }, {}).out)
    assert.equal("", neap({ "__complete", "nothing", "x" }, {}).out)
  end)

  it("prints completion scripts and every page of the manual but those that need more", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do assert.equal(0, neap({ "completion", shell }, {}).code) end
    local r = neap({ "man", "--list" }, {})
    assert.equal(0, r.code)
    for page in r.out:gmatch("neap%-%l+%.1") do
      assert.matches('^.TH "NEAP', neap({ "man", page }, {}).out)
    end
  end)
end)
