-- tests/coverage.tsv, which says what answers each item of the five guides and each of their traps, is true of the files that are here.

local load = require "engine.load"
local suite = require "tests.support.suite"

-- How many items each guide has, and how many traps there are.
local GUIDES <const>, TRAPS <const> = { 24, 38, 28, 17, 29 }, 32

-- The ten procedures: their items, and the runbooks that are theirs. Once one of these is shipped, none of the items may be left for later.
local PROCEDURES <const> = {
  { items = "S0-14 S0-17 S1-9 S2-2 S2-3 S3-6 S4-6 S4-27 S4-28", runbooks = { "postgres/backup", "postgres/retention" } },
  { items = "S0-16 S2-4", runbooks = { "postgres/verify-backup" } },
  { items = "S0-15 S1-10 S2-6 S3-7 S4-10", runbooks = { "postgres/restore" } },
  { items = "S2-5 S1-11", runbooks = { "postgres/restore-to-time" } },
  { items = "S0-7 S0-8 S1-4 S2-7 S2-8 S4-7 S4-17 S4-20 S4-24 S0-9 S0-10 S0-11 S0-12", runbooks = { "postgres/migrate" } },
  { items = "S3-8 S3-16 S4-23", runbooks = { "postgres/repair-migrations", "postgres/repair-ownership" } },
  { items = "S1-36 S1-37 S4-5 S4-6 S4-7 S4-8 S4-9", runbooks = { "service/maintenance-window" } },
  { items = "S1-28 S1-29 S1-30 S1-31 S1-32 S1-33 S1-34 S1-35", runbooks = { "redis/health" } },
  { items = "S2-15 S2-16 S2-19", runbooks = { "postgres/vacuum" } },
  { items = "S2-24 S2-25 S2-26 S0-22", runbooks = { "incident/corruption" } },
}

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function rows()
  local list = {}
  for line in io.lines "tests/coverage.tsv" do
    if line ~= "" and not line:find "^#" then
      local id, kind, where, what = line:match "^([^\t]+)\t([^\t]+)\t([^\t]+)\t([^\t]+)$"
      assert(id, "not four columns: " .. line)
      list[#list + 1] = { id = id, kind = kind, where = where, what = what }
    end
  end
  return list
end

-- ---- is it there? ----

local titles = {}

local function has_step(name, title)
  if not exists(("runbooks/%s.lua"):format(name)) then return false end
  titles[name] = titles[name] or T.run(function ()
    local known = {}
    for _, step in ipairs(load.load(("runbooks/%s.lua"):format(name), { folders = { "runbooks" } }).order) do known[step.title] = true end
    return known
  end)
  return titles[name][title] or false
end

-- A method of a kind of target stands in one of the files of that kind.
local function has_method(kind, name)
  if not pcall(require, "client." .. kind) then return false end
  for _, file in ipairs(T.entries "stdlib/client") do
    if file == kind .. ".lua" or file:find("^" .. kind .. "_") then
      if suite.read("stdlib/client/" .. file):find(("function methods[.:]%s%%("):format(name)) then return true end
    end
  end
  return false
end

local function has_field(place, name)
  local lists = {
    environment = { "protected", "never", "hosts", "max_rows", "window", "note" }, header = { "why", "on_failure", "retired", "window" },
  }
  if place == "clause" then return require("engine.declare").CLAUSES[name] ~= nil end
  if not lists[place] then return require("client." .. place).fields[name] ~= nil end
  local file = place == "environment" and "stdlib/engine/inventory.lua" or "stdlib/engine/declare.lua"
  for _, known in ipairs(lists[place]) do
    if known == name then return suite.read(file):find("%f[%w]" .. name .. "%f[%W]") ~= nil end
  end
  return false
end

local function has_test(where)
  local path, words = where:match "^(%S+): (.+)$"
  path = path or where
  return path:find "_spec%.lua$" ~= nil and exists(path) and (not words or suite.read(path):find(words, 1, true) ~= nil)
end

local JUDGES <const> = {
  runbook = function (where)
    local name, title = where:match "^(%S+): (.+)$"
    return name and has_step(name, title)
  end,
  word = function (where)
    local kind, method = where:match "^(%l+):([%l_]+)$"
    if kind then return has_method(kind, method) end
    local module, name = where:match "^std%.([%l_]+)%.([%l_]+)$"
    local ok, found = pcall(require, "ops." .. tostring(module))
    return ok and type(found[name]) == "function"
  end,
  policy = function (where)
    local place, field = where:match "^(%l+)%.([%l_]+)$"
    if place then return has_field(place, field) end
    return has_test(where)
  end,
  spec = has_test,
  retired = function (where) return where == "-" end,
  later = function (where) return where == "-" end,
}

describe("the map of the guides", function ()
  it("has every item and every trap once, in their order", function ()
    local expected, found = {}, {}
    for guide, count in ipairs(GUIDES) do
      for i = 1, count do expected[#expected + 1] = ("S%d-%d"):format(guide - 1, i) end
    end
    for i = 1, TRAPS do expected[#expected + 1] = "T" .. i end
    for i, row in ipairs(rows()) do found[i] = row.id end
    assert.same(expected, found)
  end)

  it("names places that are there", function ()
    local wrong = {}
    for _, row in ipairs(rows()) do
      local judge = JUDGES[row.kind]
      if not judge or not judge(row.where) then wrong[#wrong + 1] = ("%s: %s %s"):format(row.id, row.kind, row.where) end
      if row.id:find "^T" and row.kind ~= "spec" and row.kind ~= "later" then wrong[#wrong + 1] = row.id .. " is answered by a test, or by nothing" end
      if row.kind == "spec" and not row.id:find "^T" then wrong[#wrong + 1] = row.id .. " is no trap" end
    end
    assert.same({}, wrong)
  end)

  it("leaves nothing of the ten procedures for later once their runbooks are shipped", function ()
    local wrong, kinds = {}, {}
    for _, row in ipairs(rows()) do kinds[row.id] = row.kind end
    for _, procedure in ipairs(PROCEDURES) do
      local shipped = true
      for _, name in ipairs(procedure.runbooks) do shipped = shipped and exists(("runbooks/%s.lua"):format(name)) end
      for id in procedure.items:gmatch "%S+" do
        assert(kinds[id], id)
        if shipped and (kinds[id] == "later" or kinds[id] == "retired") then wrong[#wrong + 1] = ("%s is left for later"):format(id) end
      end
    end
    assert.same({}, wrong)
  end)

  it("would see a step, a word, a field or a test that is not there", function ()
    assert.is_false(has_step("postgres/vacuum", "Vacuum nothing"))
    assert.is_false(has_step("postgres/nothing", "x"))
    for kind, where in pairs { runbook = "postgres/vacuum: x", word = "std.health.nothing", policy = "postgres.nothing", spec = "tests/traps/t99_spec.lua", retired = "x" } do
      assert.is_falsy(JUDGES[kind](where))
    end
    assert.is_falsy(JUDGES.word "postgres:nothing")
    assert.is_falsy(JUDGES.policy "header.nothing")
    assert.is_falsy(JUDGES.spec("tests/coverage_spec.lua: words that are not" .. " in it"))
  end)
end)
