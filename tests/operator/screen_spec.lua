-- Golden pages of the real binary: plan, run, failure, resume and history, on a terminal of 80 columns, without colour, on
-- a dumb one, in ASCII, in a pipe, and from cron's own environment. What differs from run to run is masked.

local child = require "tests.support.child"
local neap = require "tests.support.neap"
local screen = require "tests.support.screen"
local servers = require "tests.support.servers"
local stages = require "tests.support.stage"
local transcript = require "tests.support.transcript"

local BOOK <const> = [[
runbook "Renew the shop" { why = "To show each kind of step." }
local db = target.postgres "db"
local p = params {
  shop = { "the shop to renew", kind = "name" },
  rows = { "how many rows it gets", kind = "integer", default = 3 },
}
step "Look at {shop}" {
  verify = function ()
    check(db:has("select 1"), "the server answers")
    check.same(p.rows, 3, "there are three rows to write")
  end,
}
step "Make room" {
  done = function () return db:has("select 1 from pg_tables where tablename = 'room'") end,
  act = function () db:exec("create table room (id int primary key)") end,
  undo = function () db:exec("drop table room") end,
}
step "Close {shop}" {
  done = function () return not db:has("select 1 from door where open") end,
  act = function () db:exec("update door set open = false") end,
  after = function () db:exec("update door set open = true") end,
}
step "Replace everything in {shop}" {
  destroys = "all current data in {shop}",
  act = function ()
    db:exec("delete from room")
    db:exec("insert into room select n / (select divisor from door) from generate_series(1, $1) n", p.rows)
    note("three rows")
  end,
  verify = function () check.same(db:value("select count(*) from room"), 3, "every row is there") end,
}
step "Tell somebody" { manual = "Call the people who wait for {shop}." }
]]

describe("the screen", function ()
  local pg, stage
  setup(function () pg = servers.postgres() end)

  -- A shop whose door divides by zero until it is repaired.
  local function open(options)
    options = options or {}
    options.database = "golden"
    pg.sql("drop database if exists golden")
    pg.sql("create database golden owner owner")
    pg.sql("create table door (open bool, divisor int); insert into door values (true, 0); alter table door owner to owner", "golden")
    stage = stages.open(pg, options)
    stage.runbook("renew", BOOK)
  end

  local function repair() pg.sql("update door set divisor = 1", "golden") end

  local function compare(name, page)
    local more, rows = { { stage.dir .. "/", "" } }, stage.runs()
    for n, row in ipairs(rows) do
      local letter = string.char(64 + #rows - n + 1)
      more[#more + 1] = { row.run, letter:rep(12) }
      more[#more + 1] = { row.run:sub(1, 7), letter:rep(7) }
    end
    transcript.compare("real_" .. name, screen.mask(page, more))
  end

  -- Play a dialogue on a terminal: what is awaited, what is typed.
  local function play(arguments, dialogue, env)
    local running = stage.start(arguments, { tty = true, columns = 80, env = env })
    for _, line in ipairs(dialogue) do
      running:expect(line[1])
      running:write(line[2] .. "\r")
    end
    return running:finish()
  end

  local function page(r, name, env)
    local text = screen.page(r.out, 80)
    transcript.fits(text, 80)
    if env and (env.NO_COLOR or env.TERM) then assert.is_nil(r.out:find("\27%[[%d;]*m")) end
    compare(name, text)
  end

  it("shows a plan", function ()
    open()
    page(play({ "plan", "renew", "--shop", "blue" }, {}), "plan")
    page(play({ "plan", "renew", "--shop", "blue" }, {}, { NO_COLOR = "1" }), "plan", { NO_COLOR = "1" })
    page(play({ "plan", "renew", "--shop", "blue", "--ascii" }, {}), "plan_ascii")
    local r = stage.neap { "plan", "renew", "--shop", "blue", "--width", "80" }
    assert.equal(2, r.code)
    assert.equal("", r.err)
    compare("plan_pipe", r.out)
  end)

  local ask, fail = { "Type blue to go on:", "blue" }, { "hold or abort?", "hold" }

  for name, env in pairs { terminal = {}, plain = { NO_COLOR = "1" }, dumb = { TERM = "dumb" } } do
    it("shows a run that fails, its resume and the history: " .. name, function ()
      open()
      local function file(what) return name == "dumb" and what .. "_dumb" or what end
      local r = play({ "run", "renew", "--shop", "blue" }, { { "Type blue to go on:", "bleu" }, { "try 2 of 3", "blue" }, fail }, env)
      assert.equal(1, r.code, r.out)
      page(r, file "failure", env)
      repair()
      r = play({ "resume", stage.latest() }, { { "done, skip or abort", "done" } }, env)
      assert.equal(0, r.code, r.out)
      page(r, file "resume", env)
      page(play({ "history" }, {}, env), "history", env)
      page(play({ "show", stage.latest() }, {}, env), "show", env)
    end)
  end

  it("shows a run that goes well, in ASCII too", function ()
    open()
    repair()
    local dialogue = { ask, { "done, skip or abort", "skip" } }
    local r = play({ "run", "renew", "--shop", "blue", "--ascii" }, dialogue)
    assert.equal(0, r.code, r.out)
    assert.is_nil(r.out:find("[\128-\255]"))
    page(r, "run_ascii")
    r = play({ "run", "renew", "--shop", "blue" }, dialogue)
    assert.equal(0, r.code, r.out)
    page(r, "run")
  end)

  it("writes plain lines into a pipe", function ()
    open()
    local r = stage.neap { "run", "renew", "--shop", "blue", "--no-input", "--confirm", "destroys=blue", "--width", "80" }
    assert.equal(1, r.code, r.out .. r.err)
    assert.equal("", r.out)
    assert.is_nil(r.err:find("\27", 1, true))
    compare("failure_pipe", r.err)
    repair()
    r = stage.neap { "resume", stage.latest(), "--no-input", "--width", "80" }
    assert.equal(75, r.code, r.out .. r.err)
    compare("resume_pipe", r.err)
  end)

  it("answers each choice of a failed step", function ()
    for _, choice in ipairs { { "retry", 0 }, { "skip it is late", 0 }, { "undo", 1 }, { "hold", 1 }, { "abort", 1 } } do
      open()
      local running = stage.start({ "run", "renew", "--shop", "blue" }, { tty = true })
      running:expect(ask[1])
      running:write("blue\r")
      running:expect("hold or abort?")
      if choice[1] == "retry" then repair() end
      running:write(choice[1] .. "\r")
      if choice[2] == 0 then
        running:expect("done, skip or abort")
        running:write("done\r")
      end
      local r = running:finish()
      assert.equal(choice[2], r.code, choice[1] .. r.out)
      local held = choice[1] == "hold"
      assert.equal(held and "held" or choice[2] == 0 and "ok" or "failed", stage.last("end").status)
      assert.equal(held and "f" or "t", pg.sql("select open from door", "golden"))
      assert.equal(choice[1] ~= "undo", stage.has "room")
    end
  end)

  it("refuses a name that is wrong three times, and a run nobody confirms, naming the flag", function ()
    open()
    local wrong = { { ask[1], "bleu" }, { "try 2 of 3", "Blue" }, { "try 3 of 3", "yes" } }
    local r = play({ "run", "renew", "--shop", "blue" }, wrong)
    assert.equal(77, r.code, r.out)
    assert.is_false(stage.has "room")
    for _, more in ipairs { {}, { "--confirm", "destroys=bleu" }, { "--confirm", "yes" }, { "--confirm", "destroys=*" } } do
      r = stage.neap { "run", "renew", "--shop", "blue", "--no-input", table.unpack(more) }
      assert.is_true(r.code == 77 or r.code == 64, r.err)
      if r.code == 77 then assert.matches("--confirm destroys=blue", r.err, 1, true) end
      assert.is_false(stage.has "room")
    end
  end)

  it("leaves a step of a human to a human", function ()
    open()
    repair()
    local r = stage.neap { "run", "renew", "--shop", "blue", "--no-input", "--confirm", "destroys=blue" }
    assert.equal(75, r.code, r.err)
    assert.matches("neap resume " .. stage.latest(), r.err, 1, true)
    r = play({ "resume", stage.latest() }, { { "done, skip or abort", "done" } })
    assert.equal(0, r.code, r.out)
  end)

  -- As cron starts a job: its four variables, /bin/sh, no terminal.
  local function cron(command)
    local file = io.open("/etc/passwd")
    if file then file:close() end
    return child.run { argv = { "env", "-i", "HOME=" .. stage.dir, "LOGNAME=root", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", "/bin/sh", "-c", command }, cwd = stage.dir,
      env = {}, input = "", timeout = 60000 }
  end

  it("says nothing to cron when all is well, and one page that ends with the command when not", function ()
    open { files = true }
    local command = ("%s run ./renew.lua --env demo --shop blue --confirm destroys=blue --quiet"):format(neap.binary())
    stage.state = stage.dir .. "/.local/state/neap"
    local failed = cron(command)
    assert.equal(1, failed.code, failed.out .. failed.err)
    assert.equal("", failed.out)
    local _, lines = failed.err:gsub("\n", "\n")
    assert.is_true(lines <= 40, lines .. " lines")
    assert.matches("neap resume " .. stage.latest() .. "\n$", failed.err)
    assert.is_nil(failed.err:find("[\128-\255]"))
    compare("cron_failure", failed.err)
    open { files = true }
    repair()
    stage.runbook("renew", (BOOK:gsub('step "Tell somebody".*', "")))
    stage.state = stage.dir .. "/.local/state/neap"
    for _ = 1, 2 do
      local well = cron(command)
      assert.equal(0, well.code, well.out .. well.err)
      assert.equal("", well.out .. well.err)
    end
  end)

  it("lists the parameters with their kinds and defaults and what is destroyed; names what is missing or misspelt", function ()
    open()
    local r = stage.neap { "run", "renew", "--help", "--width", "80" }
    assert.equal(0, r.code)
    compare("help", r.out)
    r = stage.neap { "run", "renew", "--shpo", "blue" }
    assert.equal(64, r.code)
    assert.matches("Did you mean --shop?", r.err, 1, true)
    r = stage.neap { "run", "renew" }
    assert.equal(64, r.code)
    assert.matches("missing: --shop", r.err, 1, true)
    r = stage.neap { "run", "renew", "--shop", "blue", "--rows", "many" }
    assert.equal(64, r.code)
    assert.matches("--rows", r.err, 1, true)
    assert.same({}, stage.runs())
  end)
end)
