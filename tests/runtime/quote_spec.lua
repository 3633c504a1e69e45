-- base/quote.c, by way of native.text.shell: whatever an argv holds, a shell gives it back.

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local text = require "native.text"

local SHELLS <const> = { { "sh" }, { "dash" }, { "busybox", "sh" } }

local AWKWARD <const> = {
  "", " ", "-", "--", "-rf", "-n", "'", "''", "\"", "\\", "\\'", "'\\''", "\n", "\n\n", "a\nb\n", "\r\n", "\t", "$", "$(id)", "`id`", "${HOME}", "$((1))",
  "*", "?", "[a]", "~", "~root", "!", "!!", "#", "# x", "&", "&&", "|", ";", ";;", "(", ")", "{", "}", "{a,b}", "<", ">", ">>x", "a=b", "if", "done", "%s", "\\0",
  "ü", "日本", "\xff", "\xc3", "\xe2\x82", "\x80", "\x81\x82\x88", "\27[31m", "\1", "\127", "'\n'", "\"$x\"", "it's", "\\\n",
}

-- A word: one of the awkward, some of them together, or any bytes but NUL.
local function word(random)
  local kind = random(10)
  if kind <= 4 then return AWKWARD[random(#AWKWARD)] end
  if kind <= 6 then return AWKWARD[random(#AWKWARD)] .. AWKWARD[random(#AWKWARD)] .. AWKWARD[random(#AWKWARD)] end
  local bytes = {}
  for i = 1, random(0, 12) do bytes[i] = kind <= 8 and random(1, 255) or random(33, 126) end
  return string.char(table.unpack(bytes))
end

-- One process of the shell is given `count` random argv; true when it saw each as it was.
local function round_trip(shell, count, random, path)
  local script, expected = { "p() { printf '%s\\0' \"$#\" \"$@\"; }\n" }, {}
  for _ = 1, count do
    local argv = {}
    for i = 1, random(0, 5) do argv[i] = word(random) end
    script[#script + 1] = "p " .. text.shell(argv) .. "\n"
    expected[#expected + 1] = #argv .. "\0"
    for _, given in ipairs(argv) do expected[#expected + 1] = given .. "\0" end
  end
  suite.write(path, table.concat(script))
  local argv = table.move(shell, 1, #shell, 1, {})
  argv[#argv + 1] = path
  local seen = child.must { argv = argv, env = { "PATH=" .. os.getenv("PATH"), "LC_ALL=C" } }
  if seen ~= table.concat(expected) then
    local at = 1
    for _, piece in ipairs(expected) do
      if seen:sub(at, at + #piece - 1) ~= piece then error(("%s gave %q for %q"):format(shell[1], seen:sub(at, at + #piece - 1), piece)) end
      at = at + #piece
    end
  end
  return true
end

local function sweep(total, each)
  local seed = os.time()
  math.randomseed(seed)
  local path = suite.temp() .. "/script"
  for done = 0, total - each, each do
    for _, shell in ipairs(SHELLS) do
      local ok, why = pcall(round_trip, shell, each, math.random, path)
      assert(ok, ("seed %d, behind %d: %s"):format(seed, done, tostring(why)))
    end
  end
end

describe("POSIX quoting", function()
  it("gives 30000 random argv back through sh, dash and busybox sh", function() sweep(30000, 3000) end)

  it("gives 1000000 random argv back through sh, dash and busybox sh #long", function() sweep(1000000, 4000) end)

  it("keeps every byte but NUL, alone and between letters", function()
    local words = {}
    for byte = 1, 255 do words[#words + 1], words[#words + 2] = string.char(byte), "a" .. string.char(byte) .. "b" end
    for _, shell in ipairs(SHELLS) do
      local argv = table.move(shell, 1, #shell, 1, {})
      argv[#argv + 1], argv[#argv + 2] = "-c", "printf '%s\\0' " .. text.shell(words)
      assert.equal(table.concat(words, "\0") .. "\0", child.must { argv = argv, env = { "PATH=" .. os.getenv("PATH"), "LC_ALL=C" } })
    end
  end)

  it("makes a command of a word that is the shell's own", function()
    for _, name in ipairs { "if", "while", "for", "case", "done", "{", "!", "time", "function", "a=b" } do
      for _, shell in ipairs(SHELLS) do
        local argv = table.move(shell, 1, #shell, 1, {})
        argv[#argv + 1], argv[#argv + 2] = "-c", text.shell { name, "x" }
        assert.equal(127, child.run { argv = argv, env = { "PATH=/nowhere:" .. os.getenv("PATH") } }.code, name)
      end
    end
    assert.equal("echo if", text.shell { "echo", "if" })
  end)

  it("refuses NUL, at any place", function()
    for _, given in ipairs { "\0", "a\0", "\0a", "a\0b" } do
      assert.has_error(function() text.shell { "echo", given } end)
    end
  end)
end)
