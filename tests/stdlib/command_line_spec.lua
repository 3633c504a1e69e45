local commands = require "command.table"
local options = require "command.options"

local rows = {
  { name = "env", short = "e", value = "NAME" }, { name = "quiet", short = "q" }, { name = "verbose", short = "v" },
  { name = "set", value = "NAME=VALUE", many = true }, { name = "color", value = "WHEN", among = { "auto", "never" } },
}

local function refused(argv)
  local ok, err = pcall(options.parse, argv, rows, "run")
  assert.is_false(ok)
  assert.equal("usage", err.code)
  return err
end

describe("command.options", function()
  it("takes flags before and after operands, with = and with a space", function()
    local p = options.parse({ "--env", "staging", "restore", "--color=never", "-q", "--set", "a=1", "--set=b=2" }, rows)
    assert.same({ "restore" }, p.operands)
    assert.same({ env = "staging", color = "never", quiet = true, set = { "a=1", "b=2" } }, p.options)
  end)

  it("joins letters and gives the last one its value", function()
    local p = options.parse({ "-qve", "demo" }, rows)
    assert.same({ quiet = true, verbose = true, env = "demo" }, p.options)
    assert.equal("demo", options.parse({ "-edemo" }, rows).options.env)
  end)

  it("ends flags at --", function()
    assert.same({ "--env", "-x" }, options.parse({ "--", "--env", "-x" }, rows).operands)
  end)

  it("never passes over an unknown flag, and names the nearest", function()
    assert.equal("Did you mean --quiet?", refused({ "--quite" }).hint)
    assert.matches('unknown flag "-z"', refused({ "-z" }).message, 1, true)
    assert.matches("unknown flag", refused({ "--env:x" }).message, 1, true)
  end)

  it("refuses forgotten, unwanted, impossible and contradicting values", function()
    assert.matches("--env needs a value", refused({ "--env" }).message, 1, true)
    assert.matches("--env needs a value", refused({ "--env", "--quiet" }).message, 1, true)
    assert.matches("--quiet takes no value", refused({ "--quiet=yes" }).message, 1, true)
    assert.matches('--color does not take "blue"', refused({ "--color=blue" }).message, 1, true)
    assert.matches("twice", refused({ "--env=a", "--env=b" }).message, 1, true)
  end)

  it("takes a boolean parameter as a switch that may be told no", function()
    local boolean = { { name = "loud", boolean = true } }
    assert.equal("true", options.parse({ "--loud", "x" }, boolean).options.loud)
    assert.equal("no", options.parse({ "--loud=no" }, boolean).options.loud)
    assert.same({ "x" }, options.parse({ "--loud", "x" }, boolean).operands)
  end)

  it("takes negative numbers and empty strings as values", function()
    assert.equal("-3", options.parse({ "--env", "-3" }, rows).options.env)
    assert.equal("", options.parse({ "--env=" }, rows).options.env)
  end)

  it("finds the runbook although its flags are not known yet", function()
    assert.equal("restore", options.first_operand({ "restore", "--dump", "x" }, rows))
    assert.equal("restore", options.first_operand({ "--dump", "x", "restore" }, rows))
    assert.equal("restore", options.first_operand({ "--env", "demo", "--quiet", "restore" }, rows))
    assert.equal("restore", options.first_operand({ "--force", "restore" }, rows))
    assert.is_nil(options.first_operand({ "--env", "demo" }, rows))
  end)

  it("reads NAME=VALUE and refuses what is not", function()
    assert.same({ dump_file = "a=b" }, options.pairs { "dump-file=a=b" })
    assert.has_error(function() options.pairs { "dump" } end)
  end)
end)

describe("command.table", function()
  it("has for every command a module, a line, a text and two examples at most three", function()
    for _, command in ipairs(commands.commands) do
      assert.is_true(#command.line > 0 and #command.line <= 76, command.name)
      assert.is_true(#command.text > 0, command.name)
      assert.is_true(#command.examples >= 1 and #command.examples <= 3, command.name)
      local file = io.open("stdlib/command/" .. command.name .. ".lua")
      assert.is_truthy(file, command.name)
      file:close()
    end
  end)

  it("names no option twice in one command and no letter for two", function()
    for _, command in ipairs(commands.commands) do
      local letters = {}
      for _, row in ipairs(commands.options(command)) do
        if row.short then
          assert.is_nil(letters[row.short], command.name .. " -" .. row.short)
          letters[row.short] = true
        end
        assert.is_true(#row.help > 0, row.name)
      end
    end
  end)

  it("has only examples that parse", function()
    for _, command in ipairs(commands.commands) do
      for _, example in ipairs(command.examples) do
        local words = {}
        for word in example[1]:gsub("%s[|>].*", ""):gmatch("%S+") do words[#words + 1] = word end
        assert.equal("neap", table.remove(words, 1))
        local used = assert(commands.find(table.remove(words, 1)), example[1])
        local parsed = options.parse(words, commands.options(used), used.name)
        options.check_operands(used, parsed.operands, commands.usage(used))
      end
    end
  end)
end)

describe("command.help", function()
  local help = require "command.help"
  local style = require "show.style"
  local transcript = require "tests.support.transcript"

  -- Commands to copy are never broken into lines.
  local function prose(lines)
    local kept = {}
    for _, line in ipairs(lines) do
      if not line:match("^  neap ") then kept[#kept + 1] = line end
    end
    return table.concat(kept, "\n")
  end

  it("fits every page into the width it is given", function()
    for _, width in ipairs { 80, 40 } do
      local s = style.new { width = width }
      for _, command in ipairs(commands.commands) do
        transcript.fits(prose(help.full(command, s)), width)
        transcript.fits(prose(help.short(command, s)), width)
      end
    end
  end)

  it("pins the front page, the short and the full help", function()
    local s = style.new { width = 80 }
    transcript.compare("help_front", table.concat(help.front(s), "\n") .. "\n")
    transcript.compare("help_run_short", table.concat(help.short(commands.find "run", s), "\n") .. "\n")
    transcript.compare("help_run", table.concat(help.full(commands.find "run", s), "\n") .. "\n")
  end)

  it("shows a runbook's parameters as flags, and what it destroys", function()
    local info = { title = "Restore a database", why = "Because.", steps = { { number = 1, title = "Swap", destroys = "all data" } },
      targets = { { role = "db", kind = "postgres" } } }
    local flags = { { name = "dump", value = "PATH", help = "dump to restore", default = "latest" } }
    transcript.compare("help_runbook", table.concat(help.runbook(info, flags, style.new { width = 80 }), "\n") .. "\n")
  end)
end)

describe("command.man", function()
  it("escapes what roff would take for a request", function()
    local man = require "command.man"
    assert.equal("\\&.a\n\\&'b \\-\\-c \\e", man.escape(".a\n'b --c \\"))
    assert.equal("a \\[u2026]", man.escape("a …"))
  end)
end)
