-- A reported table: the same lines in every view, NULL told from an empty text, nothing from outside raw.

local grid = require("show.grid")
local null = require("native.value").null
local style = require("show.style")
local world = require("tests.support.world")

local function lines(one, width)
  return table.concat(grid.lines(one, style.new { width = width or 60, ascii = true }, 2), "\n")
end

describe("a reported table", function ()
  it("has its title, aligned rows and its remark", function ()
    assert.equal("  T\n   a    | b\n  ------+---\n      1 | x\n   NULL | y\n   R.\n",
      lines { title = "T", columns = { "a", "b" }, rows = { { 1, "x" }, { null, "y" } }, remark = "R." })
  end)

  it("says none when there are no rows", function ()
    assert.equal("  T\n   none\n", lines { title = "T", columns = { "a" }, rows = {} })
  end)

  it("escapes what came from outside and turns to one record below the other when it is too wide", function ()
    assert.is_nil(lines({ columns = { "a" }, rows = { { "\27[2J" } } }):find("\27", 1, true))
    assert.truthy(lines({ columns = { "a", "b", "c", "d" }, rows = { { 1, 2, 3, 4 } } }, 24):find("record 1", 1, true))
  end)

  it("is an event of the run, with a hole as null", function ()
    local w = world.new()
    local path = w.runbook([[step "A" { verify = function () report { title = "T", columns = { "a", "b" }, rows = { { nil, 2 } } } end }]])
    assert.equal(0, w.try(require("engine.run").run, w.context { runbook = path }))
    assert.same({ title = "T", columns = { "a", "b" }, rows = { { null, 2 } } }, w.last("table"))
  end)

  it("refuses what is not a table of that form", function ()
    local w = world.new()
    local path = w.runbook([[step "A" { verify = function () report { colums = {} } end }]])
    assert.equal(64, w.try(require("engine.run").run, w.context { runbook = path }))
    assert.truthy(w.last("end").message:find("report: colums", 1, true))
  end)
end)
