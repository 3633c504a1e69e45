-- The harness itself: what other specs lean on.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

describe("support.child", function()
  it("gives output, errors and the exit status of a program", function()
    local r = child.run { argv = { "sh", "-c", "cat; echo no >&2; exit 3" }, input = "yes" }
    assert.same({ code = 3, out = "yes", err = "no\n" }, r)
  end)

  it("talks to a program on a terminal", function()
    local c = child.start { argv = { "sh", "-c", "printf 'name? '; read x; echo hello $x; stty size" }, tty = true }
    c:expect("name? ")
    c:write("moon\n")
    c:expect("hello moon")
    assert.equal(0, c:finish().code)
    assert.matches("40 100", c.out)
  end)

  it("ends what does not end by itself", function()
    assert.error_matches(function() child.run { argv = { "sleep", "60" }, timeout = 50 } end, "did not end in time")
  end)

  it("tells a signal from an exit status", function()
    assert.equal(9, child.run { argv = { "sh", "-c", "kill -9 $$" } }.signal)
  end)
end)

describe("support.suite", function()
  it("gives a directory that only we can enter", function()
    local path = suite.temp()
    assert.equal("700 ", child.run { argv = { "stat", "-c", "%a ", path } }.out:sub(1, 4))
  end)
end)

describe("support.servers", function()
  local pg
  setup(function() pg = servers.postgres() end)

  it("answers as each role with its password", function()
    for role in pairs(servers.passwords) do assert.equal(role, pg.sql("select current_user", nil, role)) end
  end)

  it("lets reader read and not write", function()
    local name = pg.database()
    pg.sql("create table a (b int)", name, "owner")
    assert.equal("0", pg.sql("select count(*) from a", name, "reader"))
    assert.error_matches(function() pg.sql("insert into a values (1)", name, "reader") end, "permission denied")
  end)

  it("logs every statement", function()
    pg.sql("select 'a mark in the log'")
    assert.matches("a mark in the log", pg.log(), 1, true)
  end)

  it("starts again after a crash", function()
    local other = servers.postgres { name = "crash" }
    other.stop("immediate")
    assert.error(function() other.sql("select 1") end)
    other.start()
    assert.equal("1", other.sql("select 1"))
    other.remove()
  end)
end)
