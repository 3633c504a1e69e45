-- postgres/retention: thirty nights and more, judged one by one; what is not in the catalogue stays; kill -9 on the way. Trap T7 has its own file.

local faults = require "tests.support.faults"
local folders = require "client.folder"
local guide = require "tests.support.guide"
local instant = require "core.instant"
local journal = require "native.journal"
local kept = require "tests.support.kept"
local retention = require "ops.retention"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

local DAY <const> = 86400000
local FIRST <const> = 1777082400000                      -- 2026-04-25 02:00:00Z

local function stamp(day) return instant.compact(FIRST + day * DAY) end

-- A backup of a night, as postgres/backup leaves it; `proven`: a drill restored it then.
local function night(dir, day, more)
  local name = ("%s-%s.dump"):format(more and more.database or "shop", stamp(day))
  local facts = { state = "whole", name = name, database = "shop", server = "pg:1", taken_at = stamp(day), format = "custom", bytes = 5, sha256 = text.sha256 "12345",
    counts = { ["public.t"] = 1 }, shape = { [""] = "x" } }
  for key, value in pairs(more or {}) do facts[key] = value end
  facts.proven = nil
  suite.write(("%s/%s"):format(dir, name), "12345")
  suite.write(("%s/%s.globals"):format(dir, name), "-- roles\n")
  suite.write(("%s/%s.manifest"):format(dir, name), text.json(facts))
  if more and more.proven then suite.write(("%s/%s.proof"):format(dir, name), text.json { name = name, sha256 = facts.sha256, proven_at = stamp(more.proven) }) end
  return name
end

local function dumps(dir)
  local list = {}
  for _, name in ipairs(T.entries(dir)) do list[#list + 1] = name:match("^shop%-(.*)%.dump$") end
  table.sort(list)
  return list
end

local function stamps(first, last, more)
  local list = {}
  for day = first, last do list[#list + 1] = stamp(day) end
  for _, day in ipairs(more or {}) do list[#list + 1] = stamp(day) end
  table.sort(list)
  return list
end

describe("sixty nights of backups and retention", function ()
  -- One night after the other: a backup (unless the night was missed), then the retention of that night.
  local function nights(given, missed, proven, look)
    T.run(function ()
      local dir = suite.temp()
      local folder = folders.bind("backups", { path = dir }, {})
      for day = 0, 59 do
        if not missed(day) then night(dir, day, { proven = proven(day) }) end
        for _, name in ipairs(retention.going((retention.of(folder, "shop", { days = given.days, keep = given.keep, now = stamp(day) })))) do retention.remove(folder, name) end
        look(day, dumps(dir))
      end
    end)
  end

  local function never() return nil end

  it("keep exactly the last thirty", function ()
    nights({ days = 30, keep = 7 }, never, never, function (day, left) assert.same(stamps(math.max(0, day - 29), day), left, "night " .. day) end)
  end)

  it("keep the newest seven when none was made any more", function ()
    nights({ days = 10, keep = 7 }, function (day) return day > 20 end, never, function (day, left)
      local oldest = math.max(0, math.min(day - 9, day > 20 and 14 or day))
      assert.same(stamps(oldest, math.min(day, 20)), left, "night " .. day)
    end)
  end)

  it("keep the last proven one whatever its age, and only the last", function ()
    nights({ days = 10, keep = 3 }, never, function (day) return (day == 5 or day == 12) and day or nil end, function (day, left)
      local proven = day >= 12 and 12 or day >= 5 and 5
      assert.same(stamps(math.max(0, day - 9), day, proven and proven < day - 9 and { proven } or {}), left, "night " .. day)
    end)
  end)
end)

describe("postgres/retention", function ()
  local function direct()
    local at, why = setups.open("direct", { schema = "" })
    if not at then pending(why) end
    return at
  end

  local WORDS <const> = { "postgres/retention", "--database", "shop", "--now", stamp(40) }
  local CONFIRM <const> = { "--no-input", "--confirm", "destroys=shop" }

  local function fill(at)
    for day = 0, 40, 2 do night(at.backups, day, { proven = day == 4 and 5 or nil }) end
    night(at.backups, 1, { database = "other" })
    night(at.backups, 45)                                  -- the clock of its host is ahead
    for _, name in ipairs { "shop-20200101.sql.gz", "notes.txt", "shop-20200101T020000Z.dump.part" } do suite.write(at.backups .. "/" .. name, "x") end
    suite.write(at.backups .. "/torn.dump.manifest", "{\"state\":")
    suite.write(at.backups .. "/begun.dump.manifest", text.json { state = "begun", name = "begun.dump", taken_at = stamp(2) })
  end

  -- What must be there afterwards: thirty days, the proven one, what is not the catalogue's, and the other database's.
  local function is_right(at, what)
    local wanted = { stamp(4), stamp(45) }
    for day = 12, 40, 2 do wanted[#wanted + 1] = stamp(day) end
    table.sort(wanted)
    assert.same(wanted, dumps(at.backups), what)
    for _, name in ipairs { "shop-20200101.sql.gz", "notes.txt", "shop-20200101T020000Z.dump.part", "torn.dump.manifest", "begun.dump.manifest",
      ("other-%s.dump"):format(stamp(1)), ("shop-%s.dump.proof"):format(stamp(4)) } do assert.truthy(io.open(at.backups .. "/" .. name), name):close() end
    for _, name in ipairs(guide.names(at)) do
      local day = name:match("^shop%-(%d+T%d+Z)%.dump%.")
      if day then assert.truthy(io.open(("%s/shop-%s.dump"):format(at.backups, day)) or name:find("part$"), name) end
    end
  end

  it("shows each with its reason, removes what it said, and has nothing to do the second time", function ()
    local at = direct()
    if not at then return end
    fill(at)
    local r = at.neap { "plan", table.unpack(WORDS) }
    assert.equal(2, r.code, r.all)
    transcript.compare("plan_retention", (kept.plain(r.out, { [at.database] = "DATABASE", [at.backups] = "BACKUPS" }):gsub("free  [^\n]*", "free  N")))
    assert.equal(15, at.held(WORDS, CONFIRM))
    is_right(at, "run")
    at.ends(0, { "plan", table.unpack(WORDS) })
    at.ends(0, { "run", "--no-input", table.unpack(WORDS) })
    assert.matches("nothing of this run can be undone", at.ends(0, { "undo", at.latest() }), 1, true)
  end)

  for _, name in ipairs { "docker", "compose", "plain" } do
    it("keeps to its plan: " .. name, function ()
      local at, why = setups.open(name, { schema = "" })
      if not at then return pending(why) end
      for day = 0, 40, 10 do night(at.backups, day, { proven = day == 0 and 5 or nil }) end
      suite.write(at.backups .. "/notes.txt", "x")
      if at.hosts.iris and at.hosts.iris.uid then os.execute(("chown -R %d '%s'"):format(at.hosts.iris.uid, at.backups)) end
      assert.equal(3, at.held({ "postgres/retention", "--database", "shop", "--now", stamp(40), "--keep", "2" }, CONFIRM))
      assert.same({ stamp(0), stamp(20), stamp(30), stamp(40) }, dumps(at.backups))
      assert.truthy(io.open(at.backups .. "/notes.txt")):close()
    end)
  end

  it("removes nothing when nobody confirms it, or when there is no backup of that name", function ()
    local at = direct()
    if not at then return end
    fill(at)
    local before = guide.names(at)
    local r = at.neap { "run", "--no-input", table.unpack(WORDS) }
    assert.is_true(r.code ~= 0, r.all)
    assert.matches("shop", r.all, 1, true)
    assert.matches("there are backups of shops in the catalogue", at.ends(1, { "run", "postgres/retention", "--database", "shops", "--no-input", "--confirm", "destroys=shops" }), 1, true)
    assert.matches("is no moment", at.ends(1, { "plan", "postgres/retention", "--database", "shop", "--now", "yesterday" }), 1, true)
    assert.same(before, guide.names(at))
  end)

  it("is right after kill -9 and a resume, at any point; another user is told to wait #kill", function ()
    local why = faults.missing()
    if why then return pending(why) end
    local resumed, point_names = 0, {}
    local first = direct()
    if not first then return end
    fill(first)
    local words = table.move(CONFIRM, 1, #CONFIRM, #WORDS + 2, { "run", table.unpack(WORDS) })
    local done, calls = faults.record(first.words(words), { home = first.dir })
    assert.equal(0, done.code, done.out .. done.err)
    for _, point in ipairs(faults.spread(faults.points(calls), 4, 3)) do
      local at = direct()
      fill(at)
      faults.start(at.words(words), { home = at.dir }, point):finish(60000)
      point_names[#point_names + 1] = point.name
      local run = (T.entries(at.state .. "/runs") or {})[1]
      if run and #(journal.read(at.state, run, 0) or {}) > 0 then
        local r = at.neap { "resume", run, "--no-input", "--confirm", "destroys=shop" }
        if r.code ~= 64 then
          assert.equal(0, r.code, point.name .. r.all)
          is_right(at, point.name)
          resumed = resumed + 1
        end
      end
    end
    assert.is_true(resumed > 0, table.concat(point_names, ", "))
  end)
end)
