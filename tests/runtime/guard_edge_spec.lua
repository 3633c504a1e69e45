-- Edges of the guard that no runbook comes near: trees no parser writes, half escapes, more secrets than are kept.

local child = require "tests.support.child"
local guard = require "native.guard"
local secret = require "native.secret"
local sql = require "native.sql"

describe("the reader of parse trees", function()
  it("decodes what is written", function()
    assert.same({ "a=1", "b=x", "=2" }, T.sql_walk ' { "a" : 1 , "b":"x", "c":[2, {}] } ')
    assert.same({ "t=\t\n\"\\/q" }, T.sql_walk [[{"t":"\t\n\"\\\/\q"}]])
    assert.same({ "u=A\u{e9}\u{20ac}" }, T.sql_walk [[{"u":"\u0041\u00e9\u20ac"}]])
    assert.same({ "e=", "f=" }, T.sql_walk [[{"e":"", "f":""}]])
  end)

  it("takes a text of another form for an error", function()
    for _, text in ipairs { "", "[]", "x", "{", "{]x", "{}}", "{} x", '{"a', '{"a\\', '{"a":"b', '{"a":"\\u12', '{"a":"\\u', "{:}", '{"a":}', '{"a": \\' } do
      local answer = T.sql_walk(text)
      assert.is_true(answer == nil or text == "{:}" or text == '{"a":}', text)
    end
  end)

  it("goes as deep as the text", function()
    assert.same({ "=1" }, T.sql_walk('{"a":' .. ("["):rep(1000) .. "1" .. ("]"):rep(1000) .. "}"))
    assert.is_nil(T.sql_walk('{"a":' .. ("["):rep(1000) .. "1"))
  end)
end)

describe("a script of SQL", function()
  it("is split into statements without the blanks around them", function()
    assert.same({ "SELECT 1", "SELECT ';'" }, sql.split "\n\t SELECT 1 \n; \f SELECT ';' \n\t ")
    assert.same({ "SELECT 1" }, sql.split "SELECT 1")
    assert.same({}, sql.split "")
    assert.equal("invalid", select(2, sql.split "SELECT FROM FROM").code)
    assert.equal("invalid", select(2, sql.split((" "):rep(20000000))).code)
  end)
end)

describe("escapes that are none", function()
  local held = {}
  setup(function()
    held.edge = assert(secret.of("g\u{e9}heim\u{1f600}wort\u{20ac}", "edge"))
    held.first = assert(secret.of("abcdefgh", "first"))
    held.second = assert(secret.of("defghijklm", "second"))
    held.third = assert(secret.of("cdefghi", "third"))
  end)
  teardown(function() for name in pairs(held) do held[name] = nil end end)

  local function pieces(text)
    local list = {}
    for i = 1, #text do list[i] = text:sub(i, i) end
    return list
  end
  local function redact(text)
    local whole = T.redact { text }
    assert.equal(whole, T.redact(pieces(text)))
    return whole
  end

  it("hide nothing and change nothing", function()
    for _, text in ipairs {
      [[\]], [[\u]], [[\u1]], [[\u12g4]], [[\ud83d]], [[\ud83dx]], [[\ud83d\]], [[\ud83d\n]], [[\ud83d\u]], [[\ud83d\u12]], [[\ud83d\uzz]],
      [[\ud83d\ud83d\u0041]], [[\ude00]], [[\x]], [[\x4]], [[\xg]], [[\x4g]], [[\1]], [[\12]], [[\123]], [[\18]], [[\8]], [[\777]], "%", "%4", "%zz", "%4z",
      "\\\0", "\\z", [[\0]], [[\u00]],
    } do
      assert.equal(text, redact(text))
      assert.equal(text .. " and more", redact(text .. " and more"))
    end
  end)

  it("stand beside real ones without hiding them", function()
    local real = [[g\u00e9heim\ud83d\ude00wort\u20ac]]
    for _, odd in ipairs { "", [[\ud83d]], [[\ud83d\u00]], [[\u]], "%", [[\x]], [[\1]] } do
      assert.equal(odd .. " ‹secret edge›!", redact(odd .. " " .. real .. "!"))
    end
  end)

  it("become one mark where secrets overlap", function()
    assert.equal("x‹secret second›y", redact "xabcdefghijklmy")
    assert.equal("x‹secret second›y ‹secret first›", redact "xabcdefghijklmy abcdefgh")
    assert.equal(("‹secret first› "):rep(40), redact(("abcdefgh "):rep(40)))
  end)
end)

describe("the register of secrets", function()
  -- In a process of its own: what is retired stays known, and would slow every redaction of this one.
  it("keeps the last 256 that were let go, and forgets the oldest before them", function()
    local done = child.run { argv = { ("/proc/%d/exe"):format(T.pid()), "-e", [[
      local secret = require "native.secret"
      local function value(i) return ("let-go-%05d-value"):format(i) end
      for i = 1, 300 do secret.of(value(i), "loop") end
      collectgarbage()
      collectgarbage()
      local known = 0
      for i = 1, 300 do if T.redact { value(i) } ~= value(i) then known = known + 1 end end
      local again <const> = secret.of(value(300), "loop")
      print(known, T.redact { value(300) }, secret.is(again))]] } }
    assert.equal("256\t‹secret loop›\ttrue\n", done.out)
  end)

  it("names what has no name, and knows the lines of a file without their blanks", function()
    local unnamed <const> = assert(secret.of("a value of its own", ""))
    assert.equal("‹secret unnamed›", T.redact { "a value of its own" })
    local pem <const> = assert(secret.of("-----BEGIN-----\n  line-one-of-it \t\r\n   \n\n  \t\nline-two-of-it\n", "pem"))
    assert.equal("‹secret pem› and ‹secret pem›", T.redact { "line-one-of-it and line-two-of-it" })
    assert.is_true(secret.is(unnamed) and secret.is(pem))
  end)
end)

describe("the guard", function()
  it("marks a subject once and takes a rule without a reason", function()
    T.run(function()
      guard.clear()
      guard.mark("pg:1/app", "one")
      guard.mark("pg:1/app", "two")
      assert.equal("one", guard.withheld("pg:1/app"))
      assert.is_nil(guard.withheld("pg:2"))
      guard.clear()
      assert.is_nil(guard.withheld("pg:1/app"))
    end)
  end)
end)
