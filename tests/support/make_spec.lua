-- What stands behind `make deps`, `make test` and `make install`.

local child = require "tests.support.child"
local suite = require "tests.support.suite"

local function sh(...)
  return child.run { argv = { "sh", ... }, timeout = 60000 }
end

describe("make deps", function()
  it("says nothing and asks nothing of the network where all is there", function()
    assert.same({ code = 0, out = "", err = "" }, sh("tests/support/deps.sh"))
  end)
end)

describe("make test", function()
  it("counts a suite that dies before its first test as one failure", function()
    local r = sh("tests/support/test.sh", "false", "./neap")
    assert.equal(1, r.code)
    assert.matches("FAIL  suite specs ended with status 1: not started", r.out, 1, true)
    assert.matches("\n0 passed, 1 failed, 0 skipped\n$", r.out)
  end)

  it("ends with one line of counts", function()
    local dir = suite.temp()
    local path = suite.write(dir .. "/interpreter", "#!/bin/sh\necho '3 0 1 done' >$NEAP_TEST_COUNTS\n")
    T.mode(path, tonumber("755", 8))
    local r = sh("tests/support/test.sh", path, "./neap")
    assert.same({ 0, "  TEST  specs\n3 passed, 0 failed, 1 skipped\n" }, { r.code, r.out })
  end)
end)

describe("make install", function()
  it("puts the binary, pages, completions and runbooks under one root", function()
    local root = suite.temp()
    local r = sh("tests/support/install.sh", root)
    assert.same({ 0, "", "" }, { r.code, r.out, r.err })
    for _, path in ipairs { "bin/neap", "share/man/man1/neap.1", "share/bash-completion/completions/neap", "share/zsh/site-functions/_neap",
      "share/fish/vendor_completions.d/neap.fish", "share/neap/runbooks/postgres/fresh-database.lua" } do
      assert.is_true(#suite.read(root .. "/" .. path) > 0, path)
    end
  end)
end)

describe("the lockfiles of the tools", function()
  it("name no registry, so that the user's own is asked", function()
    for _, name in ipairs { "prisma", "drizzle" } do
      local text = suite.read(("tests/support/tools/%s/package-lock.json"):format(name))
      assert.is_nil(text:find("\"resolved\"", 1, true))
      assert.truthy(text:find("\"integrity\"", 1, true))
    end
  end)
end)
