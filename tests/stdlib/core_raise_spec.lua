local codes = require "core.codes"
local raise = require "core.raise"

describe("core.raise", function()
  it("raises a table whose text is the message and the hint", function()
    local ok, err = pcall(raise, "busy", 'database "x" is held', "Wait for it.")
    assert.is_false(ok)
    assert.equal("busy", err.code)
    assert.equal('database "x" is held\nhint: Wait for it.', tostring(err))
  end)

  it("turns nil, err into an error and hands results through", function()
    assert.equal(5, (raise.check(5)))
    assert.is_false((raise.check(false)))
    assert.equal(1, select("#", raise.check(5)))
    assert.equal(0, select("#", raise.check()))
    local ok, err = pcall(raise.check, nil, { code = "closed", message = "gone" })
    assert.is_false(ok)
    assert.equal("closed", err.code)
  end)

  it("makes an error table of anything thrown and finds its place", function()
    local err = raise.of("restore.lua:58: attempt to index a nil value")
    assert.equal("bug", err.code)
    assert.equal("restore.lua:58", err.where)
    assert.equal("attempt to index a nil value", err.message)
    assert.equal(err, raise.of(err))
  end)
end)

describe("core.codes", function()
  it("agrees with runtime/base/errors.def, row by row", function()
    local file = assert(io.open("runtime/base/errors.def"))
    local seen = {}
    for line in file:lines() do
      local name, exit = line:match("^X%((%u+),%s+(%d+),")
      if name then
        seen[name:lower()] = true
        assert.equal(tonumber(exit), codes.exit[name:lower()], name)
      end
    end
    file:close()
    for name in pairs(codes.exit) do assert.is_true(seen[name], name .. " is not in errors.def") end
  end)
end)
