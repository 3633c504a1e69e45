local bytes = require "core.bytes"
local strict = require "core.strict"
local text = require "core.text"

describe("core.text", function()
  it("finds the name that was meant within two edits", function()
    local names = { "resume", "run", "report", "history" }
    assert.equal("resume", text.nearest("reusme", names))
    assert.equal("run", text.nearest("rnu", names))
    assert.equal("history", text.nearest("histroy", names))
    assert.is_nil(text.nearest("completely", names))
    assert.is_nil(text.nearest("xy", { "ab" }))
  end)

  it("fills {name} from values and leaves unknown names as written", function()
    assert.equal("drop pcmr on {host}", text.fill("drop {database} on {host}", { database = "pcmr" }))
    assert.equal("50% of 3", text.fill("{share} of {n}", { share = "50%", n = 3 }))
  end)

  it("wraps at spaces, keeps line breaks and breaks what fits nowhere", function()
    assert.same({ "one two", "three" }, text.wrap("one two three", 8))
    assert.same({ "a", "b" }, text.wrap("a\nb", 10))
    assert.same({ "abcd", "efgh", "ij k" }, text.wrap("abcdefghij k", 4))
    assert.same({ "" }, text.wrap("", 10))
  end)

  it("cuts to the columns given and shows that it did", function()
    assert.equal("abc…", text.cut("abcdef", 4))
    assert.equal("abcd", text.cut("abcd", 4))
    assert.equal("a...", text.cut("abcdef", 4, nil, "..."))
    assert.equal("é…", text.cut("éàü", 2))
  end)

  it("counts, joins and groups", function()
    assert.equal("1 step", text.count(1, "step"))
    assert.equal("2 entries", text.count(2, "entry", "entries"))
    assert.equal("a, b and c", text.join { "a", "b", "c" })
    assert.equal("14 213 887", text.number(14213887))
    assert.equal("-1 000", text.number(-1000))
  end)

  it("takes the first sentence", function()
    assert.equal("Bring it back.", text.sentence("Bring it\n back. Then go."))
    assert.equal("Version 1.5 stays", text.sentence("Version 1.5 stays"))
  end)
end)

describe("core.bytes", function()
  it("uses binary units with three digits", function()
    local said = { [0] = "0 B", [1023] = "1023 B", [1024] = "1.00 KiB", [63963136] = "61.0 MiB", [1975684956] = "1.84 GiB",
      [1048575] = "1.00 MiB", [1033895936] = "986 MiB" }
    for n, expected in pairs(said) do assert.equal(expected, bytes.format(n)) end
    assert.equal("61.0 MiB/s", bytes.rate(63963136))
  end)

  it("reads sizes with a unit only", function()
    assert.equal(4294967296, bytes.parse("4GiB"))
    assert.equal(100, bytes.parse("100 B"))
    assert.has_error(function() bytes.parse("4GB") end)
    assert.has_error(function() bytes.parse("4") end)
  end)
end)

describe("core.strict", function()
  it("refuses an unknown field with the nearest name", function()
    local ok, err = pcall(strict.only, "step", { destory = "x" }, { destroys = true, act = true })
    assert.is_false(ok)
    assert.matches('step has no "destory"', err.message, 1, true)
    assert.matches('"destroys"', err.hint, 1, true)
  end)

  it("closes a table against misspelling and writing", function()
    local p = strict.closed("params", { dump = "latest" })
    assert.equal("latest", p.dump)
    assert.has_error(function() return p.dmup end)
    assert.has_error(function() p.dump = "other" end)
  end)
end)
