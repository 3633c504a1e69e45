-- What stands behind `make deps`, `make test` and `make install`.

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local system = require "native.system"

local function sh(...)
  return child.run { argv = { "sh", ... }, timeout = 60000 }
end

-- test.sh with so many interpreters.
local function test(jobs, ...)
  return child.run { argv = { "env", "NEAP_TEST_JOBS=" .. jobs, "sh", "tests/support/test.sh", ... }, timeout = 60000 }
end

describe("make deps", function()
  it("says nothing and asks nothing of the network where all is there", function()
    assert.same({ code = 0, out = "", err = "" }, sh("tests/support/deps.sh"))
  end)
end)

describe("make test", function()
  local function interpreter(body)
    local path = suite.write(suite.temp() .. "/interpreter", "#!/bin/sh\n" .. body .. "\n")
    T.mode(path, tonumber("755", 8))
    return path
  end

  it("counts an interpreter that dies before its first test as one failure", function()
    local r = test(2, interpreter "case $NEAP_TEST_COUNTS in *-1) exit 3;; esac; echo '2 0 0 done' >$NEAP_TEST_COUNTS", "./neap")
    assert.equal(1, r.code)
    assert.matches("FAIL  suite specs-1 ended with status 3: not started", r.out, 1, true)
    assert.matches("\n2 passed, 1 failed, 0 skipped\n$", r.out)
  end)

  it("ends with one line of counts, summed over its interpreters", function()
    local r = test(2, interpreter "echo '3 0 1 done' >$NEAP_TEST_COUNTS", "./neap")
    assert.same({ 0, "  TEST  specs\n6 passed, 0 failed, 2 skipped\n" }, { r.code, r.out })
  end)

  it("has each file run by one of its interpreters, and by no other", function()
    local dir = suite.temp()
    local seen = dir .. "/seen"
    for i = 1, 6 do
      suite.write(("%s/toy%d_spec.lua"):format(dir, i), ('it("runs %d", function() local f = io.open(%q, "a") f:write("%d\\n") f:close() end)'):format(i, seen, i))
    end
    local files = {}
    for i = 1, 6 do files[i] = ("%s/toy%d_spec.lua"):format(dir, i) end
    local r = child.run { argv = { "env", "NEAP_TEST_JOBS=3", "NEAP_TEST_FILES=" .. table.concat(files, " "),
      "sh", "tests/support/test.sh", system.realpath "/proc/self/exe", "./neap" }, timeout = 60000 }
    assert.equal("  TEST  specs\n6 passed, 0 failed, 0 skipped\n", r.out)
    local list = {}
    for n in io.lines(seen) do list[#list + 1] = n end
    table.sort(list)
    assert.same({ "1", "2", "3", "4", "5", "6" }, list)
  end)

  it("does not let its interpreters ignore Ctrl-C, as a shell does in the background", function()
    local r = test(2, interpreter "grep -Eq 'SigIgn:.*[0189]$' /proc/$$/status && echo '1 0 0 done' >$NEAP_TEST_COUNTS", "./neap")
    assert.matches("\n2 passed, 0 failed, 0 skipped\n$", r.out)
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
