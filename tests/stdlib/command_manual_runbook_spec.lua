-- The page about the language must be true: its examples load, and every clause is in it.

local manual = require "command.manual_runbook"

local function terms_of(title)
  for _, section in ipairs(manual.sections) do
    if section.title == title then
      local names = {}
      for i, term in ipairs(section.terms) do names[i] = term[1] end
      table.sort(names)
      return names
    end
  end
end

describe("neap-runbook(7)", function ()
  it("has prose in every section and an end to every sentence", function ()
    for _, section in ipairs(manual.sections) do
      assert.is_true(#section.paragraphs > 0, section.title)
      for _, paragraph in ipairs(section.paragraphs) do assert.matches("[.:]$", paragraph) end
      for _, term in ipairs(section.terms or {}) do assert.matches("[.;]$", term[2]) end
    end
  end)

  it("describes every clause, and no other", function ()
    local names = {}
    for name in pairs(require("engine.declare").CLAUSES) do names[#names + 1] = name end
    table.sort(names)
    assert.same(names, terms_of "Clauses")
  end)

  it("has examples that load as they stand", function ()
    local load = require "engine.load"
    local count = 0
    for _, section in ipairs(manual.sections) do
      for _, example in ipairs(section.examples or {}) do
        T.run(function ()
          local model = load.load("example.lua", { source = example.text })
          assert.is_true(#model.order > 0, example.title)
        end)
        count = count + 1
      end
    end
    assert.equal(4, count)
  end)
end)
