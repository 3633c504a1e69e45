-- Much data through a small process: a million rows into Lua, gigabytes of COPY into a file. The release binary, its peak as the kernel
-- counted it (VmHWM), asked by the runbook itself through a command whose parent is neap.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local MB <const> = 1024 * 1024

local BOOK <const> = [[
runbook "Much" { why = "memory must not follow it" }
local db, out, peak = target.postgres "db", target.folder "out", target.command "peak"
%s
step "Tell the peak" { verify = function () check(true, "VmHWM was asked") note(peak:read({}):out()) end }
]]

local INVENTORY <const> = [[
environment "here" {
  db = postgres { url = "%s", read_within = "10m" },
  out = folder { path = "%s" },
  peak = command { argv = { "sh", "-c", "grep VmHWM /proc/$PPID/status" } },
}
]]

local ROWS <const> = [[
step "Read the rows" {
  within = "5m",
  verify = function ()
    local sum, count = 0, 0
    for row in db:each("SELECT g AS id, 'name ' || g AS name, (g * 1.25)::numeric(12,2) AS amount, md5(g::text) AS note FROM generate_series(1, %d) AS g") do
      sum, count = sum + row.id, count + (#row.note // 32)
    end
    check(count == %d and sum == %d, "every row came once")
  end,
}
]]

local COPY <const> = [[
step "Copy out" {
  within = "10m",
  act = function () db:copy_out("SELECT repeat(md5(g::text), 32) FROM generate_series(1, %d) AS g", out:path "copy.txt") end,
  verify = function () check(out:size "copy.txt" == %d, "every byte is there") end,
}
]]

describe("much data", function()
  local pg

  setup(function() pg = servers.postgres() end)

  -- Run the steps; the peak in MB.
  local function peak_of(steps)
    local dir = suite.temp()
    suite.write(dir .. "/inventory.lua", INVENTORY:format(pg.url("app"), dir))
    suite.write(dir .. "/much.lua", BOOK:format(steps))
    local r = servers.neap({ "run", dir .. "/much.lua", "--env", "here", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state", "--json" }, { timeout = 600000 })
    assert.equal(0, r.code, r.out:sub(-2000) .. r.err)
    local kb = r.out:match("VmHWM:[^%d]*(%d+) kB")
    assert.is_string(kb, "the peak was not told")
    return tonumber(kb) / 1024
  end

  local function rows(n) return peak_of(ROWS:format(n, n, n * (n + 1) // 2)) end
  local function copy(bytes) return peak_of(COPY:format(bytes // 1025, bytes // 1025 * 1025)) end

  it("reads a million rows into Lua below 32 MiB #bulk", function()
    assert.is_true(rows(1000000) < 32)
  end)

  it("needs for 256 MiB of COPY what it needs for 10 #bulk", function()
    local small, large = copy(10 * MB), copy(256 * MB)
    assert.is_true(large < 32, ("%.1f MB"):format(large))
    assert.is_true(large < small * 1.1, ("%.1f MB for 10 MiB, %.1f MB for 256 MiB"):format(small, large))
  end)

  it("copies 1 GiB into a file below 32 MiB #bulk #long", function()
    assert.is_true(copy(1024 * MB) < 32)
  end)
end)
