-- native.secret: values that can be passed, but not read.

local secret = require "native.secret"
local suite = require "tests.support.suite"
local text = require "native.text"

local VALUE = "opaque-canary-1"

local function file(value, mode)
  local path = suite.write(suite.temp() .. "/password", value)
  T.mode(path, tonumber(mode or "600", 8))
  return path
end

describe("a secret", function()
  local s
  setup(function() s = assert(secret.of(VALUE, "db.password")) end)

  it("shows its name only", function()
    assert.equal("‹secret db.password›", tostring(s))
    assert.equal("x ‹secret db.password›", ("x %s"):format(s))
    assert.equal([[{"p":"‹secret db.password›"}]], text.json { p = s })
  end)

  local attempts = {
    ["joined"] = function(v) return "a" .. v end,
    ["joined, first"] = function(v) return v .. "a" end,
    ["measured"] = function(v) return #v end,
    ["compared with another"] = function(v) return v == secret.of(VALUE, "other") end,
    ["ordered"] = function(v) return v < "a" end,
    ["ordered, last"] = function(v) return "a" <= v end,
    ["indexed"] = function(v) return v[1] end,
    ["asked for a method"] = function(v) return v:sub(1, 1) end,
    ["changed"] = function(v) v.x = 1 end,
    ["called"] = function(v) return v() end,
    ["added"] = function(v) return v + 1 end,
    ["shifted"] = function(v) return 1 << v end,
    ["negated"] = function(v) return -v end,
    ["walked through"] = function(v) return pairs(v) end,
  }
  for what, try in pairs(attempts) do
    it("cannot be " .. what, function()
      local ok, err = pcall(try, s)
      assert.is_false(ok)
      assert.equal("usage", err.code)
      assert.matches("db.password", err.message, 1, true)
      assert.matches("can be passed to a primitive, not read", err.hint, 1, true)
      assert.is_nil(tostring(err):find(VALUE, 1, true))
    end)
  end

  it("is no string to the string library", function()
    for _, name in ipairs { "byte", "sub", "reverse", "rep", "upper", "len" } do
      assert.is_false(pcall(string[name], s, 1, 1))
    end
    assert.is_false(pcall(table.concat, { s }))
  end)

  it("has a metatable nobody can reach", function()
    assert.equal("secret", getmetatable(s))
    assert.is_false(pcall(setmetatable, s, {}))
  end)

  it("is told from other values", function()
    assert.is_true(secret.is(s))
    assert.is_false(secret.is("x"))
    assert.is_false(secret.is(nil))
  end)
end)

describe("a secret is refused", function()
  local function refused(value, label)
    local s, err = secret.of(value, label or "x.y")
    assert.is_nil(s)
    assert.equal("config", err.code)
    return tostring(err)
  end

  it("when it would blank out the output", function()
    assert.matches("shorter than 6 bytes", refused("12345"))
    assert.matches("every log", refused("postgres"))
    assert.matches("every log", refused("Password"))
  end)

  it("when its name gives it away, without repeating it", function()
    assert.is_nil(refused("hunter-23-xyz", "the hunter-23-xyz key"):find("hunter", 1, true))
  end)

  it("when it is no text or too long", function()
    assert.matches("NUL", refused("abc\0defghi"))
    assert.matches("16 KiB", refused(("x"):rep(20000)))
  end)
end)

describe("secret.env", function()
  it("reads a variable", function()
    T.setenv("NEAP_SPEC_SECRET", "from-the-environment")
    assert.equal("‹secret e.v›", tostring(secret.env("NEAP_SPEC_SECRET", "e.v")))
    assert.equal("‹secret e.v›", text.redact("from-the-environment"))
  end)

  it("says which one is missing", function()
    local s, err = secret.env("NEAP_SPEC_NOT_SET", "e.v")
    assert.is_nil(s)
    assert.equal("config", err.code)
    assert.matches("NEAP_SPEC_NOT_SET", err.message)
  end)
end)

describe("secret.file", function()
  it("reads a private file without its last line break", function()
    local path = file("file-canary-99\n")
    assert.equal("‹secret f.p›", tostring(secret.file(path, "f.p")))
    assert.equal("‹secret f.p›", text.redact("file-canary-99"))
  end)

  it("refuses a file that others can use, and says what to do", function()
    for _, mode in ipairs { "640", "604", "660", "610" } do
      local s, err = secret.file(file("file-canary-98\n", mode), "f.p")
      assert.is_nil(s)
      assert.matches("0" .. mode, err.message)
      assert.matches("chmod 600", err.hint)
    end
  end)

  it("refuses what is no file", function()
    for _, path in ipairs { "/dev/null", "/", suite.temp() .. "/missing" } do
      local s, err = secret.file(path, "f.p")
      assert.is_nil(s)
      assert.equal("config", err.code)
    end
  end)
end)

describe("secret.command", function()
  it("takes the output of a command", function()
    T.run(function()
      assert.equal("‹secret c.p›", tostring(secret.command({ "sh", "-c", "echo command-canary-7; echo noise >&2" }, "c.p")))
    end)
    assert.equal("‹secret c.p›", text.redact("command-canary-7"))
  end)

  it("gives the command no more environment than it needs", function()
    T.setenv("NEAP_SPEC_OTHER", "not-for-helpers")
    T.run(function()
      local s, err = secret.command({ "sh", "-c", "test -z \"$NEAP_SPEC_OTHER\" && test -n \"$PATH\" && echo fine-canary" }, "c.p")
      assert.is_nil(err)
      assert.is_true(secret.is(s))
    end)
  end)

  it("says how it failed, without its words", function()
    T.run(function()
      local s, err = secret.command({ "sh", "-c", "echo leaked-canary; exit 3" }, "c.p")
      assert.is_nil(s)
      assert.matches("status 3", err.message)
      assert.is_nil(tostring(err):find("leaked", 1, true))
      s, err = secret.command({ "sh", "-c", "kill -9 $$" }, "c.p")
      assert.is_nil(s)
      assert.matches("signal 9", err.message)
      s, err = secret.command({ "no-such-program-at-all" }, "c.p")
      assert.is_nil(s)
      assert.is_string(err.message)
    end)
  end)

  it("refuses too much output", function()
    T.run(function()
      local s, err = secret.command({ "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x" }, "c.p")
      assert.is_nil(s)
      assert.matches("16 KiB", err.message)
    end)
  end)

  it("is ended by a deadline", function()
    T.run(function()
      local task = require "native.task"
      task.deadline(100)
      local before = T.now_ms()
      local ok, err = pcall(secret.command, { "sleep", "600" }, "c.p")
      assert.is_false(ok)
      assert.equal("timeout", err.code)
      assert.is_true(T.now_ms() - before < 60000)
    end)
  end)
end)

describe("secret.template", function()
  it("fills its holes and is a secret as a whole", function()
    local pw = assert(secret.of("p@ss/word-1", "t.password"))
    local url = assert(secret.template("redis://:{}@{}:{}", pw, "db.example", 6379))
    assert.equal("‹secret t.password›", tostring(url))
    assert.equal("‹secret t.password›", text.redact("redis://:p@ss/word-1@db.example:6379"))
  end)

  it("encodes for a URL where asked", function()
    local pw = assert(secret.of("p@ss/word-2", "t.password"))
    assert(secret.template("x://{url}@h", pw))
    assert.equal("‹secret t.password›", text.redact("x://p%40ss%2Fword-2@h"))
  end)

  it("wants as many values as holes, and a secret among them", function()
    local pw = assert(secret.of("p@ss/word-3", "t.password"))
    assert.has_error(function() secret.template("{} {}", pw) end)
    assert.has_error(function() secret.template("{}", pw, "x") end)
    assert.has_error(function() secret.template("{}", "plain") end)
    assert.has_error(function() secret.template("{}", {}) end)
  end)
end)
