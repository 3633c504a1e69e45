local showcase = require "tests.support.showcase"
local transcript = require "tests.support.transcript"

local function told(view, options, events)
  local kept = showcase.sink(require("show." .. view), options)
  kept.tell(events)
  kept.view:close()
  return kept
end

-- What stays on the terminal: live lines that a later frame took away are dropped.
local function left_on_screen(writes)
  local lines = { "" }
  for part, code in (table.concat(writes) .. "\27[0m"):gmatch("(.-)(\27%[%d*;?%d*[a-zA-Z])") do
    for char in part:gmatch("[^\r]") do
      if char == "\n" then lines[#lines + 1] = "" else lines[#lines] = lines[#lines] .. char end
    end
    local up = tonumber(code:match("^\27%[(%d+)A$"))
    if up then for _ = 1, up do table.remove(lines) end lines[#lines] = "" end
  end
  return table.concat(lines, "\n")
end

describe("show.screen", function()
  for _, story in ipairs { "good", "bad", "resumed", "doubtful" } do
    it("leaves the whole story as plain text: " .. story, function()
      local kept = told("screen", { width = 80, rows = 24 }, showcase[story]())
      local page = left_on_screen(kept.writes)
      transcript.fits(page, 80)
      transcript.compare("run_" .. story .. "_80", page)
    end)
  end

  it("says the same in 40 columns and in ASCII", function()
    local narrow = left_on_screen(told("screen", { width = 40, rows = 24 }, showcase.bad()).writes)
    transcript.fits(narrow, 40)
    transcript.compare("run_bad_40", narrow)
    local ascii = left_on_screen(told("screen", { width = 80, rows = 24, ascii = true }, showcase.good()).writes)
    assert.is_nil(ascii:find("✓", 1, true))
    transcript.compare("run_good_ascii", ascii)
  end)

  it("paints with the sixteen colours and prints none without colour", function()
    local painted = told("screen", { width = 80, rows = 24, color = true }, showcase.bad()).text()
    transcript.compare("run_bad_colour_frames", painted)
    local plain = told("screen", { width = 80, rows = 24 }, showcase.bad()).text()
    assert.is_nil(plain:find("\27%[[%d;]*m"))
  end)

  it("writes at most one frame in a tenth of a second, and once per frame", function()
    local events = showcase.good()
    local kept = showcase.sink(require "show.screen", { width = 80, rows = 24 })
    kept.tell(events, 1, 4)
    local before = #kept.writes
    for _ = 1, 50 do kept.view:progress { step = "s1", bytes = 1, text = "x" } end
    assert.equal(before, #kept.writes)
    kept.now = kept.now + 100
    kept.view:tick()
    assert.equal(before + 1, #kept.writes)
  end)

  it("shows bytes, rate and the time left while a step runs", function()
    local kept = showcase.sink(require "show.screen", { width = 80, rows = 24 })
    local events = showcase.resumed()
    kept.tell(events, 1, 19)
    kept.now = kept.now + 12000
    kept.view:progress { step = "s4", bytes = 1033895936, total = 1975684956, rate = 63963136, text = "public.Order" }
    local frame = kept.writes[#kept.writes]
    assert.matches("52 %", frame, 1, true)
    assert.matches("986 MiB/1.84 GiB  61.0 MiB/s  ETA 0:15", frame, 1, true)
    assert.matches("█", frame, 1, true)
    transcript.fits(frame, 80)
    transcript.compare("run_progress_frame_80", frame)
  end)

  it("counts the rows of the old frame anew after a resize", function()
    local kept = showcase.sink(require "show.screen", { width = 80, rows = 24 })
    kept.tell(showcase.good(), 1, 4)
    kept.now = kept.now + 200
    kept.view:tick()
    kept.view:resize(40, 24)
    local up = tonumber(kept.writes[#kept.writes]:match("^\27%[(%d+)A"))
    assert.is_true(up > 6, "six lines of up to eighty columns take more rows at forty")
    transcript.fits(kept.writes[#kept.writes], 40)
  end)

  it("never fills the screen with steps that have not begun", function()
    local kept = showcase.sink(require "show.screen", { width = 80, rows = 7 })
    kept.tell(showcase.good(), 1, 4)
    assert.matches("… and 3 more", kept.text(), 1, true)
  end)

  it("takes the live lines away for a question and shows the card", function()
    local kept = showcase.sink(require "show.screen", { width = 80, rows = 24 })
    kept.tell(showcase.good(), 1, 2)
    kept.view:pause(showcase.targets())
    assert.matches("PostgreSQL 15.20 on 127.0.0.1:5433", kept.writes[#kept.writes], 1, true)
    local writes = #kept.writes
    kept.now = kept.now + 5000
    kept.view:tick()
    assert.equal(writes, #kept.writes)
    kept.view:resume()
    assert.equal(writes + 1, #kept.writes)
  end)

  it("goes on in silence when the terminal is gone", function()
    local calls = 0
    local view = require("show.screen").new { width = 80, clock = function() return showcase.start + calls * 1000 end,
      write = function() calls = calls + 1 return nil, { code = "closed" } end }
    for _, e in ipairs(showcase.good()) do view:event(e) end
    view:close()
    assert.equal(1, calls)
  end)
end)

describe("show.plain", function()
  it("prints a line when a step starts and its lines when it ends", function()
    local page = told("plain", { width = 90 }, showcase.bad()).text()
    transcript.fits(page, 90)
    transcript.compare("run_bad_no_terminal", page)
    transcript.compare("run_resumed_no_terminal", told("plain", { width = 100, ascii = true }, showcase.resumed()).text())
  end)

  it("prints at most one progress line in thirty seconds", function()
    local kept = showcase.sink(require "show.plain", { width = 100 })
    kept.tell(showcase.good(), 1, 4)
    local before = #kept.writes
    for _ = 1, 65 do
      kept.now = kept.now + 1000
      kept.view:progress { step = "s1", bytes = 1000, total = 2000, rate = 10 }
    end
    assert.equal(before + 2, #kept.writes)
  end)
end)

describe("show.quiet", function()
  it("writes not one byte when all is well", function()
    assert.equal("", told("quiet", { width = 80 }, showcase.good()).text())
    assert.equal("", told("quiet", { width = 80 }, showcase.resumed()).text())
    local kept = showcase.good()
    kept[#kept].body.keeps, kept[#kept].body.next = true, { "neap resume 7f3a" }
    assert.matches("^neap: .* is done, and a target still says\nthat the run keeps it\n\n    neap resume 7f3a\n$", told("quiet", { width = 80 }, kept).text())
  end)

  it("writes one page on failure that ends with the resume command", function()
    local page = told("quiet", { width = 80 }, showcase.bad()).text()
    transcript.compare("run_bad_cron", page)
    assert.matches("neap resume 7f3a91c2d0e4\n$", page)
  end)

  it("never exceeds forty lines, however much a step says", function()
    local events = showcase.bad()
    for _ = 1, 200 do table.insert(events, #events - 2, { seq = 0, at = showcase.start, kind = "note", step = "s4", body = { text = ("word "):rep(60) } }) end
    events[#events - 2].body.error = { code = "check", message = ("line\n"):rep(80), hint = "Do this." }
    local page = told("quiet", { width = 80 }, events).text()
    local _, lines = page:gsub("\n", "")
    assert.is_true(lines <= 40, lines .. " lines")
    assert.matches("neap resume 7f3a91c2d0e4\n$", page)
  end)
end)

describe("show.json", function()
  it("writes one versioned line per event with keys in a fixed order", function()
    local page = told("json", {}, showcase.bad()).text()
    local _, lines = page:gsub("\n", "")
    assert.equal(#showcase.bad(), lines)
    for line in page:gmatch("[^\n]+") do assert.matches('^{"schema":1,"seq":%d+,"at":%d+,"kind":"%l+","step":"', line) end
    transcript.compare("run_bad_json", page)
  end)

  it("writes lists as lists and hostile text as JSON", function()
    local json = require "show.json"
    assert.equal('{"body":{"next":[]}}', json.line { body = { next = {} } })
    assert.equal('{"a":"\\u001b[31m\\"\u{FFFD}x"}', json.line { a = '\27[31m"\xffx' })
    assert.equal('{"a":1,"b":1.0,"c":null}', json.line { a = 1, b = 1.0, c = 0 / 0 })
  end)
end)

describe("an undo and an after", function()
  it("are told: what was undone as a step, what failed as a warning, the rest not", function()
    local events = showcase.good()
    local at = events[#events].at
    events[#events] = { seq = 90, at = at, kind = "settled", step = "s6", body = { clause = "undo", status = "ok" } }
    events[#events + 1] = { seq = 91, at = at, kind = "settled", step = "s3", body = { clause = "after", status = "failed",
      error = { message = "app does not start" } } }
    events[#events + 1] = { seq = 92, at = at, kind = "end", step = "", body = { status = "undone", exit = 0 } }
    local page = told("plain", { width = 100 }, events).text()
    assert.matches("↶ 6  Put it in place of pcmr_staging  undone", page, 1, true)
    assert.matches('the "after" of step 3 failed: app does not start', page, 1, true)
    assert.matches("1 step undone in", page, 1, true)
  end)
end)

describe("every view", function()
  it("makes what comes from outside harmless", function()
    local hostile = "\27]0;owned\7\27[2Jname"
    for _, name in ipairs { "screen", "plain", "quiet", "json" } do
      local events = showcase.bad()
      events[1].body.title, events[1].body.user, events[1].body.steps[1].title = hostile, hostile, hostile
      events[1].body.targets[1].lines[1][2], events[6].body.text = hostile, hostile
      events[#events - 2].body.error = { code = "remote", message = hostile, hint = hostile, where = hostile, sqlstate = hostile }
      local page = told(name, { width = 80, rows = 24 }, events).text()
      assert.is_nil(page:find("\27]0;", 1, true), name)
      assert.is_nil(page:find("\27[2J", 1, true), name)
      assert.is_nil(page:find("\7", 1, true), name)
    end
  end)
end)
