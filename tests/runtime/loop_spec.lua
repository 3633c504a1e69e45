-- The loop floor against libuv's traps (each is sprung in tests/support/loop_t.c).
local suite = require "tests.support.suite"

describe("the loop", function()
  it("tells about a watch on a closed descriptor instead of aborting or staying silent", function()
    assert.equal(3, T.watch_closed())
  end)

  it("watches a descriptor whose number was closed and given out again", function()
    assert.equal(1, T.watch_reopened() & 1)
  end)

  it("tells an error as readable and writable, and tells it again", function()
    assert.is_true(T.watch_broken() & 2 == 2)
  end)

  it("ends a turn when a timer fired, though descriptors are quiet", function()
    assert.equal(1, T.timer_wakes())
  end)

  it("never fires a timer early, even after a long callback", function()
    assert.is_true(T.timer_late(40) >= 40)
  end)

  it("measures a callback that blocks, and not the pool", function()
    local held, pooled = T.stall()
    assert.is_true(held >= 299)
    assert.is_true(pooled < held)
  end)

  it("counts a forgotten child, kills it and collects it", function()
    local forgotten, alive = T.child_forgotten()
    assert.equal(1, forgotten)
    assert.is_false(alive)
  end)

  it("kills and collects a child that is freed while it runs", function()
    assert.is_false(T.child_freed())
  end)

  it("resolves names off the loop and gives the reason when there is none", function()
    local found, address = T.resolve("localhost")
    assert.is_true(found)
    assert.matches("^[%d.:]+$", address)
    found, address = T.resolve("no-such-host.invalid")
    assert.is_false(found)
    assert.is_true(#address > 0)
    assert.is_false((T.resolve(("x"):rep(300))))
  end)

  it("answers a pending write at once when a stream is stopped", function()
    assert.equal("cancelled", T.stream_stopped())
    local name = suite.temp() .. "/file"
    assert.equal("cancelled", T.stream_stopped(name))
  end)
end)
