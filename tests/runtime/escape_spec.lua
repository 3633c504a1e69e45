-- native.text: what may reach a terminal, a page, a shell.

local child = require "tests.support.child"
local text = require "native.text"

describe("text.escape", function()
  it("leaves printable text in any script as it is", function()
    for _, s in ipairs { "plain text ~", "Größe", "日本語", "עברית", "e\u{301}", "👩‍💻", "❤️", "नमस्ते" } do
      assert.equal(s, text.escape(s))
    end
  end)

  it("spells out everything that moves the cursor or changes a mode", function()
    assert.equal([[\x1b[2J\x07\x08\x7f\x00]], text.escape("\27[2J\a\b\127\0"))
    assert.equal([[\x1b]52;c;eA==\x07]], text.escape("\27]52;c;eA==\7"))
    assert.equal([[\u{9b}31m]], text.escape("\u{9b}31m"))
    assert.equal([[a\r\n\tb]], text.escape("a\r\n\tb"))
  end)

  it("keeps line breaks and tabs, but no carriage return, where lines are wanted", function()
    assert.equal("a\n\tb\\rc", text.escape("a\n\tb\rc", { lines = true }))
  end)

  it("spells out what reorders or hides text", function()
    assert.equal([[\u{202e}gpj.exe]], text.escape("\u{202e}gpj.exe"))
    assert.equal([[\u{2066}\u{200b}\u{feff}\u{2028}\u{e0041}]], text.escape("\u{2066}\u{200b}\u{feff}\u{2028}\u{e0041}"))
  end)

  it("spells out bytes that are not UTF-8", function()
    assert.equal([[\xff\xc3(\xed\xa0\x80\xc0\xaf]], text.escape("\xff\xc3(\xed\xa0\x80\xc0\xaf"))
  end)

  it("lets no control byte through, whatever the input", function()
    for a = 0, 255 do
      for _, b in ipairs { 0x00, 0x1b, 0x41, 0x80, 0x9b, 0xbf, 0xc2, 0xff } do
        assert.is_nil(text.escape(string.char(a, b, 0x9b, a)):find("[\0-\31\127]"))
        assert.is_truthy(utf8.len(text.escape(string.char(a, b, 0x9b, a))))
      end
    end
  end)
end)

describe("text.html and text.markdown", function()
  it("make markup into text", function()
    assert.equal("&lt;script&gt;&amp;&quot;&#39;\\x1b", text.html("<script>&\"'\27"))
    assert.equal([[\[x\]\(y\) \*\*b\*\* \`c\` &lt;i> \| \# d]], (text.markdown("[x](y) **b** `c` <i> | # d"):gsub("\\>", ">")))
    assert.equal("one two", text.markdown("one\ntwo"))
  end)
end)

describe("text.shell", function()
  it("quotes words so that a shell gives them back", function()
    local words = { "plain", "", "two words", "it's", "$(id)", "`id`", "a\nb", "-rf", "*", "~", "\\", "\"", "!", "ü\xff", "a=b", "#x" }
    for _, shell in ipairs { "sh", "bash" } do
      local r = child.run { argv = { shell, "-c", "printf '%s\\0' " .. text.shell(words) } }
      assert.equal(table.concat(words, "\0") .. "\0", r.out)
    end
  end)

  it("leaves simple words readable", function()
    assert.equal("pg_dump -Fc --file=x", (text.shell { "pg_dump", "-Fc", "--file=x" }:gsub("'", "")))
    assert.equal("cp /a/b c@d:e", text.shell { "cp", "/a/b", "c@d:e" })
  end)

  it("refuses a NUL byte", function()
    assert.has_error(function() text.shell { "a\0b" } end)
  end)
end)

describe("text.width and text.fit", function()
  it("count columns by grapheme", function()
    assert.equal(5, text.width("plain"))
    assert.equal(4, text.width("日本"))
    assert.equal(1, text.width("e\u{301}"))
    assert.equal(2, text.width("👩‍💻"))
    assert.equal(4, text.width("\27"))
  end)

  it("never cut a grapheme", function()
    assert.equal("日", text.fit("日本", 3))
    assert.equal("e\u{301}", text.fit("e\u{301}x", 1))
    assert.equal("", text.fit("日", 1))
    assert.equal("abc", text.fit("abc", 80))
    assert.equal("", text.fit("abc", -1))
  end)
end)

describe("text.nearest", function()
  it("finds the word that was meant", function()
    local words = { "verify", "undo", "needs", "within" }
    assert.equal("verify", text.nearest("verfiy", words))
    assert.equal("needs", text.nearest("need", words))
    assert.equal("within", text.nearest("WITHIN", words))
    assert.is_nil(text.nearest("elephant", words))
    assert.is_nil(text.nearest(("x"):rep(1000), words))
    assert.is_nil(text.nearest("", words))
  end)
end)

describe("text.json, text.parse and text.sha256", function()
  it("speak JSON and hash", function()
    assert.equal([[{"a":[1,2],"b":"x"}]], text.json { b = "x", a = { 1, 2 } })
    assert.same({ a = { 1, 2 } }, text.parse [[{"a":[1,2]}]])
    local value, err = text.parse "{"
    assert.is_nil(value)
    assert.is_string(err.message)
    assert.has_error(function() text.json(print) end)
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", text.sha256("abc"))
  end)
end)
