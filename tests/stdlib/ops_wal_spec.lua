-- ops.wal and ops.wal_records: names of the log, gaps, timelines, what a base backup says of itself, and commits in real segments.

local archives = require "tests.support.archive"
local instant = require "core.instant"
local records = require "ops.wal_records"
local suite = require "tests.support.suite"
local wal = require "ops.wal"

local MIB <const> = 1 << 20

describe("core.instant reads a moment", function ()
  it("that is exact, and no other", function ()
    for text, exact in pairs { ["2026-04-25 02:00:05Z"] = "2026-04-25 02:00:05Z", ["2026-04-25T02:00:05.5+02:00"] = "2026-04-25 00:00:05.500000Z",
      ["2026-04-25 02:00 UTC"] = "2026-04-25 02:00:00Z", ["2024-02-29 23:59:59.000001-0330"] = "2024-03-01 03:29:59.000001Z", ["1969-12-31 23:59:59.999999+00"] = "1969-12-31 23:59:59.999999Z" } do
      assert.equal(exact, instant.exact(instant.parse(text)))
    end
    for text, why in pairs { [""] = "is not a time", ["now"] = "is not a time", ["2026-02-29 00:00:00Z"] = "is not a time", ["2026-04-25 24:00:00Z"] = "is not a time",
      ["2026-04-25 02:00:60Z"] = "is not a time", ["2026-04-25 02:00:05.1234567Z"] = "is not a time", ["2026-04-25"] = "is not a time", ["2026-04-25 02:00:05"] = "has no time zone",
      ["2026-04-25 02:00:05 CST"] = 'has the time zone "CST", which is not exact', ["2026-04-25 02:00:05 Europe/Athens"] = 'has the time zone "Europe/Athens", which is not exact',
      ["2026-04-25 02:00:05+2"] = 'has the time zone "+2", which is not exact' } do
      local us, said, hint = instant.parse(text)
      assert.is_nil(us, text)
      assert.equal(why, said)
      assert.matches("+02:00", hint, 1, true)
    end
  end)
end)

describe("ops.wal", function ()
  it("knows segments by their names, of every size", function ()
    assert.equal("0000000100000000000000FE", wal.name(1, 254, 16 * MIB))
    assert.equal("000000010000000100000000", wal.name(1, 256, 16 * MIB))
    assert.equal("0000000A0000000100000000", wal.name(10, 4096, MIB))
    assert.same({ timeline = 10, number = 4096 }, wal.segment("0000000A0000000100000000", MIB))
    assert.same({ timeline = 1, number = 256 }, wal.segment("000000010000000100000000", 16 * MIB))
    for _, name in ipairs {
      "0000000100000000000000FE.partial", "00000002.history", "000000010000000000000001.00000028.backup", "000000010000000000000100", "0000000a0000000100000000", "x" } do
      assert.is_nil(wal.segment(name, 16 * MIB), name)
    end
    assert.equal(0x32A000028, wal.place("3/2A000028"))
    assert.equal("3/2A000028", wal.text(0x32A000028))
    for _, text in ipairs { "", "3", "3/", "x/1", "123456789/0" } do assert.is_nil(wal.place(text)) end
  end)

  local function run_of(names, from, way)
    local there = {}
    for _, name in ipairs(names) do there[name] = true end
    local list, missing, beyond = wal.run { from = from, size = 16 * MIB, way = way or { { timeline = 1, from = 0 } }, names = there }
    for i, segment in ipairs(list) do list[i] = segment.name end
    return list, missing, beyond
  end

  it("finds the first segment that is missing, and tells a gap from the end", function ()
    local two, three, five = wal.name(1, 2, 16 * MIB), wal.name(1, 3, 16 * MIB), wal.name(1, 5, 16 * MIB)
    assert.same({ { two, three }, wal.name(1, 4, 16 * MIB), five }, { run_of({ five, three, two }, 2 * 16 * MIB + 40) })
    assert.same({ { two, three }, wal.name(1, 4, 16 * MIB) }, { run_of({ three, two, wal.name(1, 1, 16 * MIB), wal.name(2, 9, 16 * MIB) }, 2 * 16 * MIB) })
    assert.same({ {}, two, three }, { run_of({ three, five }, 2 * 16 * MIB) })
  end)

  it("follows a timeline over the place where it left the one before", function ()
    local histories = { [2] = wal.history "1\t0/3000100\tno recovery target specified\n", [3] = wal.history "# old\n1\t0/3000100\tbefore x\n\n2\t0/5000000\tbefore y\n",
      [4] = wal.history "1\t0/2000028\tbefore z\n" }
    assert.same({ { timeline = 1, from = 0 }, { timeline = 2, from = 0x3000100 }, { timeline = 3, from = 0x5000000 } }, wal.way(3, histories))
    assert.equal(3, wal.newest_timeline(1, 0x3000000, histories))
    assert.equal(4, wal.newest_timeline(1, 0x2000000, histories))
    assert.equal(1, wal.newest_timeline(1, 0x4000000, histories))
    assert.equal(3, wal.newest_timeline(2, 0x4000000, histories))
    local names = { wal.name(1, 2, 16 * MIB), wal.name(1, 3, 16 * MIB), wal.name(2, 3, 16 * MIB), wal.name(2, 4, 16 * MIB), wal.name(1, 4, 16 * MIB), wal.name(3, 5, 16 * MIB) }
    assert.same({ { names[1], names[3], names[4], names[6] }, wal.name(3, 6, 16 * MIB) }, { run_of(names, 2 * 16 * MIB, wal.way(3, histories)) })
    assert.has_error(function () wal.history "what is this\n" end)
  end)

  it("reads what a base backup says of itself, and no time of a zone that is only a name", function ()
    local text = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTOP WAL LOCATION: 0/2000138 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n"
      .. "BACKUP METHOD: streamed\nSTART TIME: 2026-04-25 02:00:05 UTC\nLABEL: x\nSTART TIMELINE: 1\nSTOP TIME: 2026-04-25 04:00:06 EEST\nSTOP TIMELINE: 1\n"
    local label = wal.label(text)
    assert.same({ start = 0x2000028, stop = 0x2000138, segment = "000000010000000000000002", timeline = 1, label = "x", began_us = instant.parse "2026-04-25 02:00:05Z" }, label)
    assert.same({}, wal.label "")
    local manifest = '{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7713785747147391490,\n"Files": [\n{ "Path": "a", "Size": 3 },\n{ "Path": "b", "Size": 40 }\n],\n'
      .. '"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/700028", "End-LSN": "0/700100" }\n],\n"Manifest-Checksum": "ab"}'
    assert.same({ bytes = 43, system = "7713785747147391490", ranges = { { timeline = 1, from = 0x700028, to = 0x700100 } } }, wal.manifest(manifest))
    assert.same({ bytes = 0, ranges = {} }, wal.manifest "")
  end)
end)

describe("ops.wal_records", function ()
  it("refuses what is no segment", function ()
    for _, bytes in ipairs { "", ("\0"):rep(40), ("x"):rep(8192) } do assert.is_false((pcall(records.head, bytes))) end
  end)

  it("finds every commit that pg_waldump finds, at the same time, in a real archive", function ()
    local first = archives.start()
    local seen, names = {}, first.segments()             -- the cluster may archive another one meanwhile
    for _, name in ipairs(names) do
      local head = records.commits(suite.read(first.wal .. "/" .. name), function (us, ends, begins)
        assert.is_true(begins < ends)
        seen[#seen + 1] = wal.text(begins) .. " " .. instant.exact(us)
      end)
      assert.equal(first.pg.sql "select system_identifier from pg_control_system()", head.system)
      assert.same({ MIB, 1, tonumber(first.pg.sql("select current_setting('server_version_num')::int / 10000")) }, { head.size, head.timeline, head.major })
    end
    assert.is_true(#names > 5)
    assert.same(first.dumped(names), seen)
    assert.is_true(#seen > 5)
  end)

  it("gives the same commits, or fewer, and never fails otherwise, when bytes are spoilt", function ()
    local first = archives.start()
    local bytes, all = suite.read(first.wal .. "/" .. first.middle), 0
    records.commits(bytes, function () all = all + 1 end)
    for at = 41, #bytes - 8, 9973 do
      local spoilt = bytes:sub(1, at - 1) .. "\255\255\255\127\255\255\255\255" .. bytes:sub(at + 8)
      local count = 0
      assert.equal(MIB, records.commits(spoilt, function () count = count + 1 end).size)
      assert.is_true(count <= all)
    end
  end)
end)
