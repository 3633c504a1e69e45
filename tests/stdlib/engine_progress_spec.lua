-- Progress is told while a stream moves and never after it.

local context = require("engine.context")
local progress = require("engine.progress")
local task = require("native.task")

describe("progress", function ()
  it("tells bytes, total and the rate of the last seconds, and stops with the stream", function ()
    local told, bytes, at_its_end = {}, 0, nil
    T.run(function ()
      local run = { progressed = function (_, p) told[#told + 1] = p end }
      local ok, err = context.with({ run = run, step = { id = "s1" } }, function ()
        local following <close> = progress.watch(function ()
          bytes = bytes + 1000
          return bytes, 5000, "public.orders"
        end)
        while #told < 2 do task.sleep(10) end
        assert.is_table(following)
        at_its_end = #told
      end)
      assert.is_true(ok, err)
    end)
    assert.equal(at_its_end, #told)
    assert.same({ "s1", 1000, 5000, "public.orders" }, { told[1].step, told[1].bytes, told[1].total, told[1].text })
    assert.is_nil(told[1].rate)
    assert.is_true(told[2].rate > 0)
  end)

  it("is nothing outside a clause", function ()
    T.run(function () assert.is_nil(progress.watch(function () return 0 end)) end)
  end)
end)
