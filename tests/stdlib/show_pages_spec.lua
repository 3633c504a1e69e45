local showcase = require "tests.support.showcase"
local style = require "show.style"
local transcript = require "tests.support.transcript"

local function page(lines) return table.concat(lines, "\n") .. "\n" end

local modes = {
  { "80", { width = 80 } }, { "40", { width = 40 } }, { "ascii", { width = 80, ascii = true } }, { "colour", { width = 80, color = true } },
}

local pages = {
  plan = function(s) return require("show.plan").lines(showcase.plan(), s) end,
  history = function(s) return require("show.history").lines(showcase.rows(), s, showcase.start) end,
  show = function(s) return require("show.run").lines(showcase.resumed(), s, { head = "ab12" }) end,
}

for name, lines in pairs(pages) do
  describe("the page " .. name, function()
    for _, mode in ipairs(modes) do
      it("is the same in every mode: " .. mode[1], function()
        local text = page(lines(style.new(mode[2])))
        transcript.fits(text, mode[2].width)
        transcript.compare(name .. "_" .. mode[1], text)
      end)
    end
  end)
end

describe("show.plan", function()
  it("says when nothing would change", function()
    local data = { title = "x", environment = "demo", exit = 0, tally = { checks = 1, enforced = 1 },
      steps = { { number = 1, title = "It is so", label = "enforced", lines = {} } } }
    local text = page(require("show.plan").lines(data, style.new { width = 80 }))
    assert.matches("Plan: nothing would change.", text, 1, true)
    assert.matches("Nothing was written", text, 1, true)
  end)
end)

describe("show.plan, of what would be written,", function()
  local function shown(content)
    local data = { title = "x", environment = "demo", exit = 2, tally = { checks = 0, predicted = 1 }, steps = { { number = 1, title = "Tell them",
      label = "predicted", sign = "+", lines = { { label = "predicted", text = "POST https://chat.example.org/x", plan = content } } } } }
    return page(require("show.plan").lines(data, style.new { width = 60 }))
  end

  it("shows the beginning below the line that says where", function()
    assert.matches("POST https://chat.example.org/x\n +{\"text\":\"the window begins\"}\n", shown("{\"text\":\"the window begins\"}\n"))
    assert.matches("\n +l12\n +…\n", shown((("l%d\n"):rep(40):gsub("%%d", (function() local n = 0 return function() n = n + 1 return tostring(n) end end)()))))
  end)

  it("escapes what is in it, and no line of it is wider than the page", function()
    local text = shown("a\27[2Jb\n" .. ("w"):rep(500))
    assert.is_nil(text:find("\27", 1, true))
    transcript.fits(text, 60)
  end)
end)

describe("show.run", function()
  it("shows one step with everything recorded about it", function()
    local lines = require("show.run").lines(showcase.doubtful(), style.new { width = 80 }, { step = "4" })
    transcript.compare("show_step_80", page(lines))
    assert.is_nil(require("show.run").lines(showcase.good(), style.new {}, { step = "9" }))
  end)
end)

describe("show.failure", function()
  local failure = require "show.failure"
  local raise = require "core.raise"

  it("gives the place, the line of the runbook, both facts and a hint", function()
    local err = raise.new("remote", 'relation "orders" does not exist', "Run the migrations first.", { sqlstate = "42P01", where = "x/restore.lua:2" })
    local lines = failure.lines(err, style.new { width = 72 }, { step = 3, source = "one\n  db:value(\"select 1\")\nthree", state = { "nothing was changed" } })
    transcript.compare("failure_72", page(lines))
  end)

  it("does without what is not known", function()
    assert.same({ "error: no such run" }, failure.lines({ code = "usage", message = "no such run" }, style.new {}))
  end)
end)

describe("show.card", function()
  it("shows the identity in every mode", function()
    local card = require "show.card"
    local lines = card.lines(showcase.targets()[1], style.new { width = 80 })
    assert.same({ "  ┌ db (postgres)", "  │ server    PostgreSQL 15.20 on 127.0.0.1:5433", "  │ database  pcmr_staging, 1.91 GiB, 32 tables",
      "  │ identity  pg:7312345678901234567/pcmr_staging" }, lines)
    assert.matches("^  %+ db", card.lines(showcase.targets()[1], style.new { ascii = true })[1])
  end)
end)
