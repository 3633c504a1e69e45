local duration = require "core.duration"

local function refusal(text)
  local ok, err = pcall(duration.parse, text)
  assert.is_false(ok)
  return err
end

describe("core.duration", function()
  it("reads a number with its unit as milliseconds", function()
    assert.equal(250, duration.parse("250ms"))
    assert.equal(1800000, duration.parse("30m"))
    assert.equal(5400000, duration.parse("1h30m"))
    assert.equal(1500, duration.parse("1.5s"))
    assert.equal(90061000, duration.parse("1d 1h 1m 1s"))
    assert.equal("integer", math.type(duration.parse("1.5s")))
  end)

  it("refuses a bare number, as number or as text, and says what to write", function()
    for _, bare in ipairs { 30, "30", "1.5" } do
      local err = refusal(bare)
      assert.equal("usage", err.code)
      assert.matches("bare number", err.message, 1, true)
      assert.matches('"1h30m"', err.hint, 1, true)
    end
  end)

  it("refuses unknown units, wrong order, left-overs and nothing at all", function()
    assert.matches('"weeks" is no unit', refusal("2weeks").message, 1, true)
    assert.matches("large to small", refusal("30m1h").message, 1, true)
    assert.matches("large to small", refusal("1m1m").message, 1, true)
    assert.matches("left over", refusal("1h-").message, 1, true)
    assert.matches("empty", refusal("").message, 1, true)
    assert.matches("no number", refusal("-5m").message, 1, true)
    assert.matches("finer", refusal("0.5ms").message, 1, true)
    assert.matches("400 days", refusal("99999d").message, 1, true)
    assert.matches("a table was given", refusal({}).message, 1, true)
  end)

  it("says durations as people do", function()
    local said = { [0] = "0 ms", [12] = "12 ms", [400] = "0.4 s", [38100] = "38.1 s", [59960] = "1 min", [348000] = "5 min 48 s",
      [3600000] = "1 h", [5400000] = "1 h 30 min", [97200000] = "1 d 3 h", [-1000] = "-1.0 s" }
    for ms, text in pairs(said) do assert.equal(text, duration.format(ms)) end
  end)

  it("shows a remaining time as a clock that never says zero too early", function()
    assert.equal("0:15", duration.clock(14200))
    assert.equal("12:05", duration.clock(725000))
    assert.equal("1:02:03", duration.clock(3723000))
  end)
end)
