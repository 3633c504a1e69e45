local tables = require "core.tables"

local function page(lines) return "\n" .. table.concat(lines, "\n") .. "\n" end

describe("core.tables", function()
  local null = {}

  it("aligns columns, numbers to the right, and shows NULL", function()
    local lines = tables.lines({ "name", "rows" }, { { "orders", 1200 }, { "users", 7 }, { null, nil } }, { null = null, count = true })
    assert.equal([[

 name   │ rows
────────┼──────
 orders │ 1200
 users  │    7
 ∅      │    ∅
(3 rows)
]], page(lines))
  end)

  it("has an ASCII twin", function()
    local lines = tables.lines({ "a", "b" }, { { "x", null } }, { null = null, ascii = true })
    assert.same({ " a | b", "---+------", " x | NULL" }, lines)
  end)

  it("gives up width where it is widest and marks what it cut", function()
    local lines = tables.lines({ "id", "statement" }, { { 1, ("select "):rep(10) } }, { width = 30 })
    for _, line in ipairs(lines) do assert.is_true(utf8.len(line) <= 30, line) end
    assert.matches("…", lines[3], 1, true)
  end)

  it("escapes what comes from outside and keeps one line per row", function()
    local lines = tables.lines({ "v" }, { { "a\nb" } }, { escape = function(s) return s:upper() end })
    assert.equal(" A B", lines[3])
  end)

  it("shows wide rows one below the other", function()
    assert.same({ "──[ record 1 ]", "id   │ 1", "name │ x" }, tables.expanded({ "id", "name" }, { { 1, "x" } }))
  end)
end)
