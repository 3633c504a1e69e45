-- JSON and Lua values: what one writes the other reads, and what is no JSON is refused with the place where it stops being it.

local value = require "native.value"

local TAKEN <const> = {
  ["1"] = 1, [" -0 "] = 0, ["1.5e+1"] = 15.0, ["1e-400"] = 0.0, ["9223372036854775807"] = math.maxinteger, ["-9223372036854775808"] = math.mininteger,
  ["true"] = true, ["false"] = false, ['""'] = "", ['"\\"\\\\\\/\\b\\f\\n\\r\\t"'] = "\"\\/\b\f\n\r\t", ['"\\u0041\\u00e9\\u20AC\\ud83d\\ude00"'] = "Aé€😀",
  ['"\\u0000"'] = "\0", ['{"$bytes":"00fF"}'] = "\0\255",
}

local REFUSED <const> = {
  "", " ", "{", "[", "[1", "[1,", "[1,]", "[,1]", "{}}", "1 2", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", '{"a":1,"a":2}', '{"a":null,"a":1}', '{"a\\u0000b":1}',
  "01", "-", "+1", ".5", "1.", "1.e1", "1e", "1e+", "1e400", "-1e400", "9223372036854775808", "-9223372036854775809", "0x1", "NaN", "nul", "truex", "True",
  '"', '"a', '"\\', '"\\x"', '"\\u12"', '"\\u12g4"', '"\\ud83d"', '"\\ude00"', '"\\ud83d\\u0041"', '"\1"', '"\n"', '"\xff"', '"\xc0\x80"', '"\xed\xa0\x80"', '"\xe2\x82', "\0",
}

describe("plain data", function()
  it("is read as what JSON says it is", function()
    for text, meant in pairs(TAKEN) do
      local got = value.decode(text)
      assert.equal(meant, got, text)
      assert.equal(math.type(meant), math.type(got), text)
    end
    assert.same({ a = { 1, { b = "x" }, {} }, c = {} }, value.decode '\t{"a" : [1,{"b":"x"} , [ ]],\r\n"c":{} }\n')
  end)

  it("keeps a null in a list, and not in an object", function()
    assert.same({ 1, value.null, 2 }, value.decode "[1,null,2]")
    assert.same({ b = 1 }, value.decode '{"a":null,"b":1,"c":null}')
    assert.equal(value.null, value.decode "null")
  end)

  it("comes back as it went", function()
    local all = { text = "a\"b\\c\n\u{85}\u{202e}é", bytes = "\0\255", list = { 1, 2.5, -1e300, true }, deep = { deep = { deep = "x" } }, least = math.mininteger }
    assert.same(all, value.decode(value.encode(all)))
  end)

  it("is refused where it is none", function()
    for _, text in ipairs(REFUSED) do
      local got, err = value.decode(text)
      assert.is_nil(got, text)
      assert.equal("invalid", err.code, text)
      assert.truthy(err.message:find("^not JSON: .+ at byte %d+$"), err.message)
    end
  end)

  it("is refused when it is nested without end", function()
    local function nested(depth) return value.decode(("["):rep(depth) .. ("]"):rep(depth)) end
    assert.is_table(nested(2000))
    assert.equal("invalid", select(2, nested(2049)).code)
    assert.equal("invalid", select(2, nested(1000000)).code)
  end)
end)
