-- The redactor: every canary, in every form, split everywhere.

local child = require "tests.support.child"
local secret = require "native.secret"
local text = require "native.text"

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(s, url)
  local out = {}
  for i = 1, #s, 3 do
    local a, b, c = s:byte(i, i + 2)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    for k = 3, 0, -1 do
      local at = n >> k * 6 & 63
      out[#out + 1] = (k == 1 and not b or k == 0 and not c) and "=" or BASE64:sub(at + 1, at + 1)
    end
  end
  local all = table.concat(out)
  return url and all:gsub("%+", "-"):gsub("/", "_"):gsub("=", "") or all
end

local function hex(s, form) return (s:gsub(".", function(c) return form:format(c:byte()) end)) end
local function percent(s, form) return (s:gsub("[^%w._~-]", function(c) return form:format(c:byte()) end)) end

local canaries = {
  simple = "hunter2-canary",
  awkward = "p@ss w'ord\"/\\x<é>&",
  long = ("k3y+/"):rep(30) .. "end",
  repeating = "abababababab",
}
local held = {} -- secrets live as long as these specs

local forms = {
  raw = function(s) return s end,
  ["url, small"] = function(s) return percent(s, "%%%02x") end,
  ["url, capital"] = function(s) return percent(s, "%%%02X") end,
  form = function(s) return (percent(s, "%%%02X"):gsub("%%20", "+")) end,
  ["every byte in percents"] = function(s) return hex(s, "%%%02X") end,
  json = function(s) return text.json(s):sub(2, -2) end,
  ["json, all escaped"] = function(s)
    return (s:gsub(utf8.charpattern, function(c) return ("\\u%04x"):format(utf8.codepoint(c)) end))
  end,
  ["json, slashes"] = function(s) return (text.json(s):sub(2, -2):gsub("/", "\\/")) end,
  shell = function(s) return text.shell { s } end,
  octal = function(s) return (s:gsub("[^%w]", function(c) return ("\\%03o"):format(c:byte()) end)) end,
  sql = function(s) return (s:gsub("'", "''")) end,
  ["sql, E"] = function(s) return (s:gsub("'", "''"):gsub("\\", "\\\\")) end,
  html = text.html,
  ["hex, small"] = function(s) return hex(s, "%02x") end,
  ["hex, capital"] = function(s) return hex(s, "%02X") end,
  base64 = function(s) return base64(s) end,
  ["base64, url"] = function(s) return base64(s, true) end,
  ["base64, line"] = function(s) return base64(s .. "\n") end,
}

local function pieces_of_one(s)
  local pieces = {}
  for i = 1, #s do pieces[i] = s:sub(i, i) end
  return pieces
end

describe("the redactor", function()
  setup(function()
    for name, value in pairs(canaries) do held[#held + 1] = assert(secret.of(value, "canary." .. name)) end
  end)

  for form, encode in pairs(forms) do
    it("hides every canary as " .. form .. ", split anywhere", function()
      for name, value in pairs(canaries) do
        local hidden = encode(value)
        local whole = "psql: error: " .. hidden .. "\nnext"
        local wanted = text.redact(whole)
        assert.is_nil(wanted:find(hidden, 1, true), name)
        assert.matches("‹secret canary." .. name .. "›", wanted, 1, true)
        assert.matches("^psql: error: ", wanted)
        assert.matches("\nnext$", wanted)
        for at = 1, #whole do assert.equal(wanted, T.redact { whole:sub(1, at), whole:sub(at + 1) }) end
        assert.equal(wanted, T.redact(pieces_of_one(whole)))
      end
    end)
  end

  it("hides base64 at every alignment but for the bits it shares with its neighbours", function()
    for _, value in pairs(canaries) do
      for lead = 0, 2 do
        for _, url in ipairs { false, true } do
          local whole = base64(("~"):rep(lead) .. value .. "~~~", url)
          local left = text.redact(whole):gsub("‹.-›", "")
          assert.is_true(#left <= 12, left)
        end
      end
    end
  end)

  it("hides what encoders wrapped at 60, 64 and 76 columns", function()
    for _, columns in ipairs { 60, 64, 76 } do
      for _, encode in ipairs { base64, forms["hex, small"], forms.raw } do
        for before = 0, columns - 1, 7 do
          local line = ("."):rep(before) .. encode(canaries.long)
          local wrapped = line:gsub(("."):rep(columns), "%0\n")
          local seen = text.redact(wrapped)
          assert.is_nil(seen:find(encode(canaries.long):sub(5, 16), 1, true), seen)
          assert.matches("‹secret canary.long›", seen, 1, true)
        end
      end
    end
  end)

  it("hides what real tools make of it", function()
    for _, script in ipairs {
      "set -x; : \"$V\"", "printf %q \"$V\"", "printf %s \"$V\" | base64", "printf %s \"$V\" | od -An -v -tx1 | tr -d ' \\n'",
      "printf %s \"$V\" | base64 -w 76", "declare -p V",
    } do
      for name, value in pairs(canaries) do
        local r = child.run { argv = { "bash", "-c", script }, env = { PATH = "/usr/bin:/bin", V = value, LC_ALL = "C.UTF-8" } }
        assert.matches("‹secret canary." .. name .. "›", text.redact(r.out .. r.err), 1, true)
      end
    end
  end)

  it("changes nothing else", function()
    local random = math.random
    for _ = 1, 200 do
      local bytes = {}
      for i = 1, random(0, 300) do bytes[i] = string.char(("ab%\\\nu0'x1\255 "):byte(random(1, 13))) end
      local s = table.concat(bytes)
      if not s:find("ababab", 1, true) then
        assert.equal(s, text.redact(s))
        assert.equal(s, T.redact(pieces_of_one(s)))
      end
    end
  end)

  it("agrees with marking every occurrence by hand", function()
    local random, secrets = math.random, {}
    local function word(least, most)
      local letters = {}
      for i = 1, random(least, most) do letters[i] = random() < 0.5 and "Q" or "Z" end
      return table.concat(letters)
    end
    for i = 1, 12 do
      secrets[i] = word(6, 9)
      held[#held + 1] = assert(secret.of(secrets[i], "hand"))
    end
    local function by_hand(s)
      local last_end, spans = 0, {}
      for at = 1, #s do -- occurrences in order of their start; overlapping ones become one
        local longest = 0
        for _, value in ipairs(secrets) do
          if s:sub(at, at + #value - 1) == value then longest = math.max(longest, #value) end
        end
        if longest > 0 and at <= last_end then
          last_end = math.max(last_end, at + longest - 1)
          spans[#spans][2] = last_end
        elseif longest > 0 then
          last_end = at + longest - 1
          spans[#spans + 1] = { at, last_end }
        end
      end
      local out, from = {}, 1
      for _, span in ipairs(spans) do
        out[#out + 1] = s:sub(from, span[1] - 1) .. "‹secret hand›"
        from = span[2] + 1
      end
      return table.concat(out) .. s:sub(from)
    end
    for _ = 1, 300 do
      local s = word(0, 80)
      assert.equal(by_hand(s), text.redact(s), s)
      local cut = random(0, #s)
      assert.equal(by_hand(s), T.redact { s:sub(1, cut), s:sub(cut + 1) }, s)
    end
  end)

  it("makes one mark of occurrences that overlap, and one each of those that do not", function()
    assert.equal("‹secret canary.repeating›", text.redact("abababababababab"))
    assert.equal("‹secret canary.simple›‹secret canary.simple›", text.redact(canaries.simple:rep(2)))
  end)

  it("keeps back only what may become a secret", function()
    assert.equal("all of it!", T.redact_held { "all of it!" })
    assert.equal("a line\n", T.redact_held { "a line\n" })
    assert.equal("pass: ", T.redact_held { "pass: hunter2-can" })
    assert.equal("pass: ", T.redact_held { "pass: hunter2-can", "ary" }:gsub("‹.-›", ""))
  end)

  it("needs no more memory for an occurrence without end", function()
    local pieces = {}
    for i = 1, 2000 do pieces[i] = ("ab"):rep(500) end
    assert.equal("‹secret canary.repeating›", T.redact(pieces))
  end)

  it("hides each line of a secret of several", function()
    local key = "-----BEGIN KEY-----\nMIIfirstline000\nMIIsecondline11\nshort\n-----END KEY-----"
    held[#held + 1] = assert(secret.of(key, "canary.key"))
    assert.equal("x ‹secret canary.key› y", text.redact("x MIIsecondline11 y"))
    assert.equal("‹secret canary.key›", text.redact(key))
    assert.equal("‹secret canary.key›", text.redact(text.json(key):sub(2, -2)))
    assert.equal("‹secret canary.key›\r\n", text.redact("MIIfirstline000\r\n"))
    assert.equal("-----BEGIN KEY-----", text.redact("-----BEGIN KEY-----"))
  end)

  it("still knows a secret that Lua has dropped", function()
    assert(secret.of("dropped-canary-value", "canary.dropped"))
    collectgarbage()
    collectgarbage()
    assert.equal("‹secret canary.dropped›", text.redact("dropped-canary-value"))
  end)
end)
