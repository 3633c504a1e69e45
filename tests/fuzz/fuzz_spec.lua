-- The corpora of the fuzz targets, replayed: what was found once stays found. `make fuzz` looks for more.

local suite = require "tests.support.suite"

local CORPUS <const> = "tests/fuzz/corpus"

describe("fuzz target", function()
  local targets = T.fuzz_targets()
  table.sort(targets)

  it("and corpus belong together, one for one, and every file is small", function()
    local names = T.entries(CORPUS)
    table.sort(names)
    assert.same(targets, names)
    for _, name in ipairs(names) do
      local files = T.entries(CORPUS .. "/" .. name)
      assert.is_true(#files >= 3, name .. " has too few")
      for _, file in ipairs(files) do assert.is_true(#suite.read(("%s/%s/%s"):format(CORPUS, name, file)) < 4096, file) end
    end
  end)

  for _, name in ipairs(targets) do
    it(name .. " holds for every file of its corpus, and for each cut short", function()
      for _, file in ipairs(T.entries(CORPUS .. "/" .. name)) do
        local bytes = suite.read(("%s/%s/%s"):format(CORPUS, name, file))
        for cut = math.max(0, #bytes - 40), #bytes do T.fuzz(name, bytes:sub(1, cut)) end
      end
    end)
  end
end)
