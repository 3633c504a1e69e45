-- The lists of floors in README.md are true of the sources.

local floors = require "tests.support.floors"

local README = [[

## Floors

    main.c > bind > guard > base
    uv.h in base
    ops -> client, core
    client -> native.*, core
    engine -> native.task
    core -> nothing

## Changes
]]

describe("floors", function()
  it("are kept by every file", function()
    assert.same({}, floors.check())
  end)

  it("finds an include that points up, with its line", function()
    local plan = floors.plan(README)
    assert.same({ "runtime/guard/x.c:2: points up: guard includes \"bind/y.h\"" }, floors.check_c(plan, "runtime/guard/x.c", "#include \"base/b.h\"\n#include \"bind/y.h\"\n"))
    assert.same({}, floors.check_c(plan, "runtime/main.c", "#include \"bind/y.h\"\n"))
  end)

  it("finds a foreign header on a floor it does not belong to", function()
    assert.same({ "runtime/bind/x.c:1: uv.h does not belong on floor bind" }, floors.check_c(floors.plan(README), "runtime/bind/x.c", "#include <uv.h>"))
  end)

  it("finds a require that follows no arrow", function()
    local plan = floors.plan(README)
    assert.same({ "stdlib/ops/x.lua:1: ops may not require native.pg" }, floors.check_lua(plan, "stdlib/ops/x.lua", "local pg = require(\"native.pg\")"))
    assert.same({}, floors.check_lua(plan, "stdlib/client/x.lua", "local pg = require \"native.pg\""))
    assert.same({}, floors.check_lua(plan, "stdlib/engine/x.lua", "require \"native.task\" -- not require \"client.x\""))
    assert.equal(1, #floors.check_lua(plan, "stdlib/core/x.lua", "require \"engine.run\""))
  end)

  it("refuses a folder that has no floor", function()
    assert.equal(1, #floors.check_c(floors.plan(README), "runtime/misc/x.c", ""))
  end)
end)
