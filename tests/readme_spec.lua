-- The tour in README.md is what neap really prints: each command in it runs here, on a real server with the real tool, and its
-- output is compared. NEAP_TRANSCRIPTS=write writes the outputs into README.md instead; read the difference.
--
-- Times, ids, ports and this machine's names differ from run to run: both sides are brought to one form first.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"
local shop_of = require "tests.support.shop"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  return text
end

--- The blocks of the tour: {command, output}, and the README with a hole for each output.
local function blocks_of(readme)
  local list = {}
  local tour = readme:match("\n## A five%-minute tour\n(.-)\n## ")
  for block in tour:gmatch("```console\n(.-)\n```") do
    local command, output = block:match("^%$ neap ([^\n]*)\n?(.*)$")
    list[#list + 1] = { command = command, output = output }
  end
  return list
end

-- What a reader sees instead of this machine's names.
local function pretty(text, place)
  text = text:gsub(place.dir:gsub("%p", "%%%0"), "/srv/shop")
  text = text:gsub("127%.0%.0%.1:%d+", "127.0.0.1:5432"):gsub("pg:%d+/", "pg:7310486994252305123/")
  text = text:gsub("(pg:%d+)/t%d+", "%1/postgres")
  text = text:gsub("PostgreSQL (%d+%.%d+)[^\n]- on", "PostgreSQL %1 on")
  text = text:gsub(" · " .. place.user .. "\n", " · amelie\n"):gsub("by " .. place.user .. " on %S+", "by amelie on bastion")
  for n, id in ipairs(place.runs) do
    local name = ({ "5f0c91d2a7b4", "93be07c4418d", "c27d6a05f9e1" })[n]
    text = text:gsub(id:sub(1, 7), name:sub(1, 7)):gsub(name:sub(1, 7) .. id:sub(8), name)
  end
  return (text:gsub("%s+$", ""))
end

-- Both sides without what a clock decides; space counts as one.
local function plain(text)
  text = text:gsub("%d%d:%d%d:%d%dZ", "TIME"):gsub("%d%d%d%d%-%d%d%-%d%d %d%d:%d%d", "DATE")
  text = text:gsub("[%d.]+ min %d+ s", "SPAN"):gsub("%d+ min%f[%W]", "SPAN"):gsub("[%d.]+ m?s%f[%W]", "SPAN"):gsub("PostgreSQL %d+%.%d+", "PostgreSQL VERSION")
  text = text:gsub(("%x"):rep(64), "HASH"):gsub("TIME", ""):gsub("[─┼]+", "-")
  return (text:gsub("%s+", " "))
end

local function open_place()
  local pg = servers.postgres { name = "readme" }
  local shop = shop_of.open(pg, "prisma")
  return { shop = shop, dir = shop.dir, pg = pg, runs = {}, user = require("native.system").user() }
end

-- Words of a command line of the tour; run ids of the page become those of this run.
local function words_of(command, place)
  local list = {}
  for word in command:gmatch("%S+") do
    if word:match("^c27d6a0%x*$") then word = place.runs[3] end
    list[#list + 1] = word
  end
  return list
end

local function run(place, block)
  local words = words_of(block.command, place)
  local dies = words[1] == "run" and words[#words] == "shop_review"
  if dies then place.shop.kill_at(#place.shop.calls() + 4) end
  local env = { OWNER_PASSWORD = servers.passwords.owner, NEAP_INVENTORY = place.dir .. "/inventory.lua", NEAP_STATE = place.shop.state }
  os.remove(place.dir .. "/pid")
  local running = servers.neap.start(words, { env = env })
  suite.write(place.dir .. "/pid", tostring(running:pid()))
  running:shut()
  local result = running:finish(600000)
  local shown = result.out .. result.err
  if words[1] == "run" then place.runs[#place.runs + 1] = shown:match("run (%x%x%x%x%x%x%x%x%x%x%x%x)") end
  return pretty(shown, place) .. (dies and "\nKilled" or "")
end

local function write(readme, blocks)
  for _, block in ipairs(blocks) do
    local old = "```console\n$ neap " .. block.command .. "\n" .. block.output .. "\n```"
    local at, to = readme:find(old, 1, true)
    readme = readme:sub(1, at - 1) .. "```console\n$ neap " .. block.command .. "\n" .. block.shown .. "\n```" .. readme:sub(to + 1)
  end
  suite.write("README.md", readme)
end

describe("the tour in the README", function ()
  it("is what neap prints", function ()
    local argv, why = tools.command "prisma"
    if not argv then return pending(why) end
    local readme = read("README.md")
    local blocks, place = blocks_of(readme), open_place()
    assert.is_true(#blocks >= 6)
    for _, block in ipairs(blocks) do block.shown = run(place, block) end
    if os.getenv("NEAP_TRANSCRIPTS") == "write" then return write(readme, blocks) end
    for _, block in ipairs(blocks) do assert.equal(plain(block.output), plain(block.shown)) end
  end)
end)

describe("the runbook in the README", function ()
  it("does what it says, once", function ()
    local pg, dir = servers.postgres { name = "readme" }, suite.temp()
    suite.write(dir .. "/customer.lua", read("README.md"):match("```lua\n(runbook .-)\n```"))
    suite.write(dir .. "/inventory.lua", ("environment \"demo\" { db = postgres { url = \"postgresql://owner:%s@127.0.0.1:%d/postgres\" } }"):format(
      servers.passwords.owner, pg.port))
    local function neap(command)
      return servers.neap({ command, dir .. "/customer.lua", "--inventory", dir .. "/inventory.lua", "--customer", "acme", "--owner", "owner" }, {})
    end
    assert.equal(2, neap("plan").code)
    local result = neap("run")
    assert.equal(0, result.code, result.err)
    assert.equal("settings", pg.sql("SELECT nspname FROM pg_namespace WHERE nspname = 'settings'", "acme"))
    assert.equal(0, neap("plan").code)
    pg.sql("DROP DATABASE acme")
  end)
end)

-- The golden page of a preview (the spec of its runbook holds it to be real) with names instead of what stands for them.
local NAMES <const> = { SYSTEM = "7310486994252305123", DATABASE = "shop", VERSION = "15.20", PORT = "5432", BACKUPS = "/srv/backups", HOST = "bastion",
  APP = "/srv/shop", STAMP = "20260425T020005Z", SIZE = "94.2 KiB", N = "97" }

describe("the preview of a restore in the README", function ()
  it("is the golden page of its runbook", function ()
    local page = read("tests/transcripts/plan_restore.txt"):gsub("(%u+) DATABASE ", "%1 Database "):gsub("%f[%w]%u+%f[^%w]", function (word) return NAMES[word] end)
      :gsub("(%u+) Database ", "%1 DATABASE "):gsub("· direct", "· production"):gsub("%s+$", "")
    local readme = read("README.md")
    local before, shown, after = readme:match("^(.-```console\n%$ neap plan postgres/restore [^\n]*\n)(.-)(```\n.*)$")
    if os.getenv("NEAP_TRANSCRIPTS") == "write" then return suite.write("README.md", before .. page .. "\n" .. after) end
    assert.equal(page .. "\n", shown)
  end)
end)

describe("the list of runbooks in the README", function ()
  it("is what is shipped, by name and title", function ()
    local listed, shipped = {}, {}
    for name, title in read("README.md"):match("\n## Shipped runbooks\n(.-)\n## "):gmatch("\n| `([%w/-]+)` | ([^|\n]+) |") do listed[name] = title end
    for _, dir in ipairs(T.entries "runbooks") do
      for _, file in ipairs(T.entries("runbooks/" .. dir)) do
        shipped[dir .. "/" .. file:gsub("%.lua$", "")] = read(("runbooks/%s/%s"):format(dir, file)):match('runbook "([^"]+)"')
      end
    end
    assert.same(shipped, listed)
  end)
end)

describe("the inventory and the backup in the README", function ()
  it("go from a container of one host to a folder of another", function ()
    local engine, why = servers.docker { netns = true }
    if not engine then return pending(why) end
    local hermes, iris = servers.sshd { name = "readme-hermes", address = "127.0.0.2", netns = engine.netns }, servers.sshd { name = "readme-iris", address = "127.0.0.4" }
    local home, dir, vault = servers.ssh_home { hermes = hermes, iris = iris }, suite.temp(), suite.temp()
    if iris.uid then T.owner(vault, iris.uid) end
    local db = engine.postgres { name = "readme-db", project = "shop", service = "db" }
    db.sql("CREATE DATABASE shop")
    local section = read("README.md"):match("\n## Elsewhere\n(.-)\n## ")
    local inventory = section:match("```lua\n(environment .-)\n```")
      :gsub('ssh = "(%w+)"', ('ssh = "%%1", config = "%s"'):format(home.config))
      :gsub('project = "shop", service = "db"', ('%%0, docker = "unix://%s"'):format(engine.socket)):gsub("/var/backups/shop", vault)
    suite.write(dir .. "/inventory.lua", inventory)
    suite.write(dir .. "/backup.lua", section:match("```lua\n(runbook .-)\n```"))
    local function neap(command, ...)
      return servers.neap({ command, dir .. "/backup.lua", "--inventory", dir .. "/inventory.lua", "--dump", "shop.dump", ... }, {})
    end
    local planned = neap("plan")
    assert.equal(2, planned.code, planned.out .. planned.err)
    local ran = neap("run", "--confirm", "protected=production")
    assert.equal(0, ran.code, ran.out .. ran.err)
    assert.equal("PGDMP", read(vault .. "/shop.dump"):sub(1, 5))
    assert.equal(0, neap("plan").code)
    db.remove()
    hermes.remove()
    iris.remove()
  end)
end)
