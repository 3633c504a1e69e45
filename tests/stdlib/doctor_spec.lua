-- neap doctor and neap check, asked about what an environment binds.

local neap = require "tests.support.neap"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"

local BOOK <const> = [[
runbook "Look at the shop" { why = "to see whether it could be worked on" }
local site, chat = target.url "site", target.webhook "chat"
step "It answers" { needs = function () check(site:healthy { contains = "hello" }, "the shop answers") end,
  act = function () chat:send "begun" end, verify = function () return site:healthy() end }
]]

local INVENTORY <const> = [[
environment "shop" {
  site = url { url = "%s", health = "%s" }, chat = webhook { url = secret { env = "HOOK" }, format = "slack" },
  shelf = folder { path = "/" }, tool = command { argv = { "/bin/true" } },
}
environment "road" {
  db = postgres { url = "postgresql://nobody@127.0.0.1:1/none" }, inner = url { url = "http://x", on = "tool" },
  tool = command { argv = { "/bin/true" } }, lost = url { url = "http://x", on = "tolo" },
}
]]

describe("what an environment binds", function ()
  local place, web

  -- Files of its own, with the shop's address in them.
  local function write(url, health)
    place = suite.temp()
    suite.write(place .. "/book.lua", BOOK)
    suite.write(place .. "/inventory.lua", INVENTORY:format(url or web.url, health or "/ok"))
  end

  local function ask(...)
    local words = { ... }
    table.move({ "--inventory", place .. "/inventory.lua", "--state", place .. "/state" }, 1, words[1] == "doctor" and 2 or 4, #words + 1, words)
    local r = neap.run(words, { env = { HOOK = web.url .. "/hook/T0K-44fe" } })
    r.out = r.out:gsub("%s+", " ")                       -- where a line is broken is no matter here
    return r
  end

  setup(function () web = servers.http() end)

  it("is asked by doctor, each with its identity and what its card says", function ()
    write()
    local r = ask("doctor", "--env", "shop")
    assert.equal(0, r.code, r.out)
    for _, words in ipairs { "site url:" .. web.url, "answers: 200, from 127.0.0.1:" .. web.port, "chat url:" .. web.url,
      "posts to: " .. web.url .. "/‹secret chat.url›", "tool process:tool", "shelf file:/", "A run can begin here." } do
      assert.matches(words, r.out, 1, true)
    end
    assert.is_nil((r.out .. r.err):find("T0K-44fe", 1, true))
  end)

  it("is asked one by one, when one is named", function ()
    write()
    local r = ask("doctor", "site", "--env", "shop")
    assert.equal(0, r.code)
    assert.matches("site url:" .. web.url, r.out, 1, true)
    assert.is_nil(r.out:find("shelf", 1, true))
    assert.is_nil(r.out:find("clock", 1, true))
    r = ask("doctor", "sit", "--env", "shop")
    assert.equal(64, r.code)
    assert.matches('environment "shop" has no "sit"', r.err, 1, true)
    assert.matches("Did you mean site?", r.err, 1, true)
  end)

  it("comes with the one thing that mends it, where something is wrong", function ()
    write("http://127.0.0.1:1")
    local r = ask("doctor", "site", "--env", "shop")
    assert.equal(1, r.code)
    assert.matches("fix: Is it running, and is the port right?", r.out, 1, true)
    write(nil, "/status/503")
    r = ask("doctor", "site", "--env", "shop")
    assert.equal(1, r.code)
    assert.matches("/status/503 answers 503", r.out, 1, true)
    r = ask("doctor", "--env", "road")
    assert.equal(1, r.code)
    assert.matches('"inner" stands on "tool", which is a command and not a host or a container', r.out, 1, true)
    assert.matches('"lost" stands on "tolo", which environment "road" does not have', r.out, 1, true)
    assert.matches("fix: Did you mean tool?", r.out, 1, true)
    assert.matches("tool process:tool", r.out, 1, true)
    assert.matches("fix: Is it running, and can it be reached from here?", r.out, 1, true)
  end)

  it("is checked by its needs: neap check says whether it could run now, and writes nothing", function ()
    write()
    local r = ask("check", place .. "/book.lua", "--env", "shop")
    assert.same({ 0, "" }, { r.code, r.err })
    assert.matches("Look at the shop could run now", r.out, 1, true)
    assert.is_nil(web.counts()["POST /hook/T0K-44fe"])
    write(nil, nil)
    suite.write(place .. "/inventory.lua", INVENTORY:format(web.url, "/status/503"))
    r = ask("check", place .. "/book.lua", "--env", "shop")
    assert.equal(1, r.code)
    assert.matches("the shop answers", r.out, 1, true)
  end)
end)

describe("neap doctor and what stands on something", function ()
  local clients, doctor = require "command.clients", require "command.doctor"
  local all = clients.all
  after_each(function () clients.all = all end)

  -- Findings about an environment of toys that stand on one another.
  local function examine(inventory, role)
    local dir = suite.temp()
    suite.write(dir .. "/inventory.lua", ("environment \"here\" { %s }"):format(inventory))
    local toy = { kind = "toy", fields = { on = { type = "string" }, pin = { type = "string" }, broken = { type = "boolean" } } }
    local told = {}
    function toy.bind(name, spec, context)
      if spec.on then context.target(spec.on) end
      return { kind = "toy", role = name, methods = { card = function ()
        told[#told + 1] = "card " .. name
        if spec.broken then error({ code = "unreachable", message = name .. " is silent", hint = "Wake it." }, 0) end
        return { kind = "toy", id = "toy:" .. name, lines = { { "made of", "tables" }, { "tls", "no" } } }
      end } }
    end
    function toy.close(object) told[#told + 1] = "close " .. object.role end
    clients.all = function () return { toy = toy } end
    local found = T.run(function ()
      require("native.task").phase "engine"
      return doctor.examine({ options = { inventory = dir .. "/inventory.lua", env = "here" } }, { role = role or "a", state = dir, clock = T.now_ms })
    end)
    local lines = {}
    for _, f in ipairs(found) do
      if f.subject ~= "inventory" then lines[#lines + 1] = ("%s %s: %s"):format(f.subject, f.level, f.fact) end
    end
    return lines, told
  end

  it("asks the road first, and each once", function ()
    local lines, told = examine [[a = toy { on = "b", pin = "toy:a" }, b = toy { on = "c", pin = "toy:b" }, c = toy { pin = "toy:c" }]]
    assert.same({ "card c", "card b", "card a", "close a", "close b", "close c" }, told)
    assert.same({ "c good: toy:c", "c warning: the connection is not encrypted", "b good: toy:b", "b warning: the connection is not encrypted",
      "a good: toy:a", "a warning: the connection is not encrypted" }, lines)
  end)

  it("does not ask what stands on something that is wrong", function ()
    local lines, told = examine [[a = toy { on = "b" }, b = toy { on = "c" }, c = toy { broken = true }]]
    assert.same({ "c bad: c is silent", "b warning: not asked, because it stands on c", "a warning: not asked, because it stands on b" }, lines)
    assert.same({ "card c", "close a", "close b", "close c" }, told)
    lines = examine [[a = toy { on = "b" }, b = toy { pin = "toy:other" }]]
    assert.same({ "b bad: \"b\" is toy:b, the inventory pins toy:other", "a warning: not asked, because it stands on b" }, lines)
  end)
end)
