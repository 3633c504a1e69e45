-- T24: "production: pnpm db:migrate --skip-generate". The flag belongs to `migrate dev`, which may offer to reset the database: `deploy` does not
-- know it, and development's other commands (reset, db push) take the tables with them. What answers: a protected environment refuses them all by
-- name, beneath Lua, wherever they would run and however they are written.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local text = require "native.text"
local tools = require "tests.support.tools"
local wards = require "tests.support.ward"

local SCHEMA <const> = "create table customers (id int); insert into customers values (1); alter table customers owner to owner"
local TABLES <const> = "select string_agg(relname, ',' order by relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"

local BOOK <const> = [[
runbook "Migrate as the guide has it" { why = "x" }
local migrate = target.command "migrate"
step "Migrate" { act = function () migrate:%s %s end, verify = function () end }]]

describe("T24, development's commands outside development", function ()
  local pg
  setup(function () pg = servers.postgres() end)

  it("do not deploy, or take every table with them, as the guides have it", function ()
    local _, why = tools.command("prisma")
    if why then return pending(why) end
    local database = pg.database()
    pg.sql(SCHEMA, database)
    local r = tools.run("prisma", pg, database, { "migrate", "deploy", "--skip-generate" })
    assert.equal(1, r.code)
    assert.matches("unknown or unexpected option: --skip-generate", r.out .. r.err, 1, true)
    assert.equal("customers", pg.sql(TABLES, database))
    tools.run("prisma", pg, database, { "migrate", "reset", "--force" })
    assert.not_matches("customers", pg.sql(TABLES, database), 1, true)
  end)

  it("are refused in a protected environment before they begin, in a plan too, a declared read no less", function ()
    local dir = suite.temp()
    suite.write(dir .. "/tool", "#!/bin/sh\necho \"$*\" >>" .. dir .. "/calls\n")
    T.mode(dir .. "/tool", tonumber("755", 8))
    local protected = wards.open(pg, { schema = SCHEMA, settings = ("protected = true, migrate = command { argv = { %q } },"):format(dir .. "/tool") })
    local free = wards.open(pg, { schema = SCHEMA, settings = ("migrate = command { argv = { %q } },"):format(dir .. "/tool") })
    local function ask(ward, verb, words, ...)
      local list, line = {}, { ... }
      for i, word in ipairs(words) do list[i] = ("%q"):format(word) end
      suite.write(ward.dir .. "/book.lua", BOOK:format(verb, "{ " .. table.concat(list, ", ") .. " }"))
      table.insert(line, 2, ward.dir .. "/book.lua")
      return ward.neap(line)
    end
    for _, words in ipairs { { "migrate", "reset", "--force" }, { "migrate", "dev" }, { "db", "push" }, { "deploy", "--skip-generate" }, { "run", "db:reset" } } do
      for _, verb in ipairs { "run", "read" } do
        local r = ask(protected, verb, words, "plan")
        assert.equal(1, r.code, r.all)
        assert.matches("is never run in a protected environment: ", r.all, 1, true)
        r = ask(protected, verb, words, "run", "--confirm", "protected=demo", "--no-input")
        assert.is_true(r.code ~= 0, r.all)
        assert.matches("No flag overrides this rule", r.all, 1, true)
      end
    end
    assert.is_nil(io.open(dir .. "/calls"))
    assert.equal(0, ask(free, "run", { "migrate", "reset" }, "run", "--no-input").code)
    assert.equal("migrate reset\n", suite.read(dir .. "/calls"))
    assert.equal(0, ask(protected, "run", { "migrate", "deploy" }, "run", "--confirm", "protected=demo", "--no-input").code)
  end)

  it("are known by whatever stands around them, and nothing else is taken for them", function ()
    local script = suite.write(suite.temp() .. "/world.lua", [[
      local guard, process = require "native.guard", require "native.process"
      guard.protect()
      guard.mode("plan")
      T.run(function ()
        require("native.task").phase("act")
        for i = 1, #arg do
          local words = {}
          for word in arg[i]:gmatch("[^|]+") do words[#words + 1] = word end
          local ok, err = pcall(process.run, { argv = words, role = "x" })
          print(arg[i], ok and "goes" or err.code)
        end
      end)]])
    local refused = { "npx|prisma|migrate|reset", "npx|prisma|migrate|--schema|x.prisma|reset|--force", "sh|-c|cd /app && npx prisma 'migrate' \"dev\"", "sh|-lc|x;prisma db push",
      "pnpm|run|db:reset:hard", "PRISMA|MIGRATE|DEV", "prisma|migrate|--config=a|dev", "npx|drizzle-kit@0.31|push", "prisma|db|push|--force-reset", "sh|-c|prisma migrate\n  reset",
      "pnpm|seed:all", "npm|run|seed:users", "docker|run|-e|SEED_ON_START=true|api", "redis-cli|-n|1|flushdb", "/app/node_modules/.bin/prisma|migrate|dev", "prisma migrate dev" }
    local allowed = { "npx|prisma|migrate|deploy", "prisma|migrate|status", "prisma|migrate|resolve|--applied|20240101_dev", "prisma|migrate|diff|--script", "psql|-c|select 'db pushed'",
      "pnpm|run|db:migrate", "git|push", "drizzle-kit|migrate", "docker|run|-e|SEED_ON_START=false|api", "cat|/srv/migrate/reset.sql", "cat|migrate-reset", "ls|seed:allowed", "echo|flushdbs" }
    local words = { arg[-1], script }
    table.move(refused, 1, #refused, 3, words)
    table.move(allowed, 1, #allowed, #words + 1, words)
    local out = io.popen(text.shell(words) .. " 2>&1")
    local said = out:read("a")
    out:close()
    for _, line in ipairs(refused) do assert.matches(line .. "\trefused\n", said, 1, true) end
    for _, line in ipairs(allowed) do assert.matches(line .. "\tgoes\n", said, 1, true) end
  end)
end)
