-- What a preview withholds must not be comparable: Lua would call it unequal to everything and go on along the wrong branch.

local answer = require "client.answer"

local BARE <const> = { boolean = true, integer = true, number = true, string = true, any = true, ["true"] = true }

-- The words of a client file that write, with the types they give.
local function writes(path)
  local list, given = {}, {}
  for line in io.lines(path) do
    local type_of = line:match("^%-%-%-@return (%S+)")
    if type_of then given[#given + 1] = type_of end
    if line:find("^%-%-%-@effect write") or line:find("^%-%-%-@effect destroy") then list[#list + 1] = given end
    if not line:find("^%-%-%-") then
      if line:find("^function") and #list > 0 then list[#list].name = list[#list].name or line:match("^function ([%w_.:]+)") end
      given = {}
    end
  end
  return list
end

describe("what a write answers", function ()
  it("is read by methods, never a bare value that could be compared with what a preview withholds", function ()
    local seen = 0
    for _, name in ipairs(T.entries "stdlib/client") do
      for _, word in ipairs(writes("stdlib/client/" .. name)) do
        seen = seen + 1
        for _, kind in ipairs(word) do
          for one in kind:gmatch("[^|]+") do assert.is_nil(BARE[one], ("%s: %s gives a %s"):format(name, word.name, kind)) end
        end
      end
    end
    assert.is_true(seen > 40)
  end)

  it("goes through as it is when it is withheld", function ()
    assert.equal(3, answer.of("count", 3):count())
    assert.is_nil(answer.of("value", nil):value())
    assert.equal(io.stdout, answer.of("count", io.stdout))
  end)
end)
