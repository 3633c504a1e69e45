-- What a plan said is kept: every book of tests/runbooks/books is planned and then run, and the writes in the run's journal are
-- those that the plan announced (fresh-database is held to it in preview_spec.lua). The plan itself is pinned in tests/transcripts/plan_*.txt, so
-- an unknown that is not listed there with its reason fails.

local journal = require "native.journal"
local kept = require "tests.support.kept"
local servers = require "tests.support.servers"
local shops = require "tests.support.shop"
local suite = require "tests.support.suite"
local text = require "native.text"
local transcript = require "tests.support.transcript"

local here = os.getenv("PWD")

local TOOL <const> = [[
#!/bin/sh
# look NAME: print the file. second-time NAME: fail once, then write it.
cd "%s/files" || exit 1
case $1 in
look) cat "$2" ;;
second-time) [ -e "../tried" ] && touch "$2" || { touch ../tried; echo 'not yet' >&2; exit 1; } ;;
*) exit 64 ;;
esac
]]

describe("what the plan said is kept by", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  -- Where a book is planned and run: a database, a folder with one file, a program.
  local function place()
    local dir, database = suite.memory(), pg.database()
    os.execute(("mkdir '%s/files' && ln -s '%s/tests/runbooks/books' '%s/runbooks'"):format(dir, here, dir))
    suite.write(dir .. "/files/keep", "kept\n")
    suite.write(dir .. "/tool", TOOL:format(dir))
    T.mode(dir .. "/tool", tonumber("755", 8))
    suite.write(dir .. "/inventory.lua", ([[environment "demo" {
      db = postgres { url = "postgresql://owner@127.0.0.1:%d/%s", password = secret { env = "PASSWORD" }, tls = "off" },
      files = folder { path = "%s/files" }, tool = command { argv = { "%s/tool" } } }]]):format(pg.port, database, dir, dir))
    local options = { env = { PASSWORD = servers.passwords.owner }, cwd = dir }
    local function list(words, more)
      local all = { words[1], words[2], "--env", "demo", "--inventory", dir .. "/inventory.lua", "--state", dir .. "/state" }
      table.move(words, 3, #words, #all + 1, all)
      table.move(more or {}, 1, #(more or {}), #all + 1, all)
      return all
    end
    return {
      dir = dir, database = database, state = dir .. "/state",
      neap = function (words, more) return servers.neap(list(words, more), options) end,
      start = function (words) return servers.neap.start(list(words), { env = options.env, cwd = dir, tty = true }) end,
    }
  end

  local function held(state, plan)
    local run = journal.index.list(state)[1].run
    local wrong, writes, proofs = kept.compare(plan, journal.read(state, run, 0), run)
    assert.equal("", table.concat(wrong, "\n"))
    return writes, proofs
  end

  local function planned(neap, words)
    local r = neap(words, { "--json" })
    local ok, plan = pcall(text.parse, r.out)
    assert(ok and plan.steps, r.out .. r.err)
    return plan
  end

  -- What is expected of each book: how many writes, at least how many proofs that were green before.
  local BOOKS <const> = {
    clauses = { writes = 6, proofs = 3 }, labels = { writes = 1, proofs = 4 }, partial = { writes = 7, proofs = 0 }, side = { writes = 10, proofs = 0 },
    nested = { writes = 3, proofs = 0 }, asked = { writes = 3, proofs = 0 }, manual = { writes = 2, proofs = 1, types = "done" }, retry = { writes = 2, proofs = 0 },
    destroys = { writes = 4, proofs = 0, words = function (at) return { "--database", at.victim } end,
      confirm = function (at) return { "--confirm", "destroys=" .. at.victim, "--confirm", "destroys=keep" } end },
  }

  local names = {}
  for name in pairs(BOOKS) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it("the book " .. name, function ()
      local book, at = BOOKS[name], place()
      at.victim = pg.database()
      pg.sql("alter database " .. at.victim .. " owner to owner")
      local words = book.words and book.words(at) or {}
      local page = at.neap({ "plan", name }, table.move(words, 1, #words, 3, { "--width", "1000" }))
      assert.equal(2, page.code, page.out .. page.err)
      transcript.compare("plan_book_" .. name, kept.plain(page.out, { [at.dir] = "DIR", [at.database] = "DATABASE", [at.victim] = "VICTIM" }))
      local plan = planned(at.neap, table.move(words, 1, #words, 3, { "plan", name }))
      local run = table.move(words, 1, #words, 3, { "run", name })
      local r
      if book.types then
        local running = at.start(run)
        running:expect "Type done"
        running:write(book.types .. "\n")
        r = running:finish()
      else
        local more = book.confirm and book.confirm(at) or {}
        r = at.neap(run, table.move(more, 1, #more, 2, { "--no-input" }))
      end
      assert.equal(0, r.code, r.out .. r.err)
      local writes, proofs = held(at.state, plan)
      assert.equal(book.writes, writes)
      assert.is_true(proofs >= book.proofs, proofs .. " proofs")
    end)
  end

  it("every book there is", function ()
    for _, file in ipairs(T.entries("tests/runbooks/books")) do
      local name = file:gsub("%.lua$", "")
      assert(BOOKS[name] or name == "child", name)
    end
  end)

  it("health, which writes nothing", function ()
    local shop = shops.open(pg, "prisma", "/bin/false")
    local r = shop.neap { "plan", "postgres/health", "--json" }
    local plan = text.parse(r.out)
    for _, step in ipairs(plan.steps) do assert(step.label ~= "unknown" and step.label ~= "predicted", step.title) end
    assert.equal(0, shop.neap({ "run", "postgres/health" }).code)
    assert.equal(0, (held(shop.state, plan)))
  end)

  it("nothing less: a comparison that sees what was not announced and what turned red", function ()
    local plan = { steps = { { id = "a", title = "A", label = "predicted", lines = { { label = "predicted", primitive = "pg.exec", target = "db", text = "ONE" },
      { label = "enforced", text = "it is so", ok = true } } }, { id = "b", title = "B", label = "unknown", lines = {} } } }
    local function write(step, what) return { kind = "intent", step = step, body = { primitive = "pg.exec", target = "db", text = what } } end
    local wrong, writes = kept.compare(plan, { write("a", "ONE"), write("a", "TWO"), write("b", "THREE"), write("c", "FOUR"),
      { kind = "check", step = "a", body = { text = "it is so", ok = false } }, { kind = "owed", step = "a", body = { clause = "undo" } }, write("a", "FIVE") }, "7f3a")
    assert.equal(4, writes)
    assert.same({ "not announced: pg.exec of step a: TWO", "not announced: pg.exec of step c: FOUR", "green in the plan, red in the run: it is so of step a" }, wrong)
  end)
end)
