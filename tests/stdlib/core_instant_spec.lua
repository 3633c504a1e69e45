local instant = require "core.instant"

describe("core.instant", function()
  it("tells the date and the time of any moment in UTC", function()
    assert.equal("1970-01-01 00:00:00Z", instant.stamp(0))
    assert.equal("2026-04-25 02:00:00Z", instant.stamp(1777082400000))
    assert.equal("2024-02-29 23:59:59Z", instant.stamp(1709251199999))
    assert.equal("2000-03-01", instant.date(951868800000))
    assert.equal("20260425T020005Z", instant.compact(1777082405999))
    for _, ms in ipairs { 0, 951868800000, 1709251199000, 1777082405000, 4102444799000 } do assert.equal(ms, instant.of_compact(instant.compact(ms))) end
    assert.is_nil(instant.of_compact "2026-04-25 02:00:05Z")
    assert.equal("1969-12-31 23:59:59Z", instant.stamp(-1))
  end)
end)
