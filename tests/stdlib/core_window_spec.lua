-- Maintenance windows in UTC, over midnight too.

local window = require("core.window")

-- 2026-11-21 is a Saturday.
local SATURDAY = 1795219200000
local function at(hours, minutes, days) return SATURDAY + ((days or 0) * 24 * 60 + hours * 60 + minutes) * 60000 end

describe("a window", function ()
  it("holds from its first minute to the one before its last", function ()
    local w = window.parse "02:00-04:00"
    assert.is_false(window.holds(w, at(1, 59)))
    assert.is_true(window.holds(w, at(2, 0)))
    assert.is_true(window.holds(w, at(3, 59)))
    assert.is_false(window.holds(w, at(4, 0)))
  end)

  it("belongs to the day on which it opens, over midnight too", function ()
    local w = window.parse "Sat 22:30-01:00"
    assert.is_true(window.holds(w, at(22, 30)))
    assert.is_true(window.holds(w, at(0, 59, 1)))
    assert.is_false(window.holds(w, at(1, 0, 1)))
    assert.is_false(window.holds(w, at(0, 30)))
    assert.is_false(window.holds(w, at(22, 30, 1)))
  end)

  it("takes several days", function ()
    local w = window.parse "sun,Mon 00:00-06:00"
    assert.is_false(window.holds(w, at(3, 0)))
    assert.is_true(window.holds(w, at(3, 0, 1)))
    assert.is_true(window.holds(w, at(3, 0, 2)))
  end)

  it("says when it opens and closes, or will", function ()
    local w = window.parse "Sat,Sun 22:30-01:00"
    assert.same({ at(22, 30), at(1, 0, 1) }, { window.span(w, at(12, 0)) })
    assert.same({ at(22, 30), at(1, 0, 1) }, { window.span(w, at(0, 59, 1)) })
    assert.same({ at(22, 30, 1), at(1, 0, 2) }, { window.span(w, at(1, 0, 1)) })
    assert.same({ at(22, 30, 7), at(1, 0, 8) }, { window.span(w, at(1, 0, 2)) })
    w = window.parse "02:00-04:00"
    assert.same({ at(2, 0, 1), at(4, 0, 1) }, { window.span(w, at(4, 0)) })
  end)

  it("refuses what is none", function ()
    for _, text in ipairs { "", "2-4", "02:00", "25:00-26:00", "Xyz 02:00-04:00", "02:00-02:00" } do
      local ok, err = pcall(window.parse, text)
      assert.is_false(ok)
      assert.equal("config", err.code)
    end
  end)
end)
