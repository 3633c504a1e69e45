-- Migration histories on fakes: a folder that is a table, a server that answers by what a question asks for.
-- The same words on real servers and with the real tools: tests/runbooks/fresh_database_spec.lua.

-- luacheck: no self
local migrations = require "ops.migrations"

local function folder_of(files)
  return {
    has = function (_, name) return files[name] ~= nil end,
    read = function (_, name) return files[name] end,
    hashes = function (_, pattern)
      local list, fits = {}, "^" .. pattern:gsub("%.", "%%."):gsub("%*", "[^/]*") .. "$"
      for name, held in pairs(files) do
        if name:find(fits) then list[#list + 1] = { name = name, sha256 = "sha:" .. held } end
      end
      table.sort(list, function (a, b) return a.name < b.name end)
      return list
    end,
    list = function ()
      local seen, names = {}, {}
      for name in pairs(files) do
        local top = name:match("^[^/]+")
        if not seen[top] then seen[top], names[#names + 1] = true, top end
      end
      return names
    end,
  }
end

local prisma_files <const> = {
  ["migration_lock.toml"] = "", ["1_init/migration.sql"] = "CREATE TABLE a ()", ["2_more/migration.sql"] = "CREATE TABLE b ()",
  ["3_base/migration.sql"] = "DROP TABLE a, b; CREATE TABLE c ()",
}

local function drizzle_files(entries)
  local files, list = {}, {}
  for i, entry in ipairs(entries) do
    files[entry[1] .. ".sql"] = entry[3] or "CREATE TABLE t" .. i .. " ()"
    list[i] = ('{"idx":%d,"when":%d,"tag":"%s"}'):format(i - 1, entry[2], entry[1])
  end
  files["meta/_journal.json"] = '{"entries":[' .. table.concat(list, ",") .. "]}"
  return files
end

-- A server with one database. `world`: { rows = history rows or nil for no table, tables = {...}, relations = {...} }
local function server_of(world)
  local db = { said = {} }
  function db:exists() return world.rows ~= nil or world.tables ~= nil end
  function db:on() return db end
  function db:has() return world.rows ~= nil end
  function db:subject() return "pg:1/app" end
  function db:watched(fn) return fn() end
  function db:url(options) return (options.prisma and "prisma:" or "url:") .. "secret" end
  function db:rows(sql, kinds)
    if sql:find("pg_locks", 1, true) then return { world.holder } end
    local list = {}
    if sql:find("pg_catalog.pg_class", 1, true) then
      for _, name in ipairs(kinds == "r,p,f" and world.tables or world.relations or world.tables or {}) do list[#list + 1] = { name = name } end
      return list
    end
    for i, row in ipairs(world.rows) do
      list[i] = {}
      for key, value in pairs(row) do list[i][key] = value end
    end
    return list
  end
  function db:exec(sql, ...)
    db.said[#db.said + 1] = { sql, ... }
    return { count = function () return world.count or 1 end }
  end
  function db:drop_database(name) db.said[#db.said + 1] = { "drop", name } end
  return db
end

local function tool_of(act)
  local tool = { calls = {} }
  function tool:run(argv, options)
    tool.calls[#tool.calls + 1] = { argv = argv, env = options.env, touches = options.touches }
    local status, out = act(argv)
    return { status = function () return status or 0 end, out = function () return out or "" end, err = function () return "" end }
  end
  return tool
end

local function row(name, more)
  local made = { name = name, checksum = "sha:" .. (prisma_files[name .. "/migration.sql"] or "?"), finished = true, rolled_back = false, steps = 1, started_at = "then" }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

local function prisma(world, tool, files)
  return migrations.of { folder = folder_of(files or prisma_files), db = server_of(world), database = "app", tool = tool }
end

describe("ops.migrations on a Prisma folder", function ()
  it("lists the migrations in their order and a folder without its file", function ()
    local files = setmetatable({ ["4_empty/x"] = "" }, { __index = prisma_files })
    for name, text in pairs(prisma_files) do files[name] = text end
    local history = prisma({}, nil, files)
    assert.same({ "1_init", "2_more", "3_base" }, history:names())
    local _, faults = history:files()
    assert.same({ '"4_empty" has no migration.sql (P3015)' }, faults)
  end)

  it("takes a database that does not exist for one with everything pending", function ()
    local history = prisma {}
    assert.same({ "1_init", "2_more", "3_base" }, history:pending())
    assert.same({}, history:obstacles())
    assert.same({}, history:tables())
    assert.is_true(history:empty())
    assert.is_nil(history:holder())
  end)

  it("calls pending what has no row that was not rolled back", function ()
    local history = prisma { rows = { row "1_init", row("2_more", { rolled_back = true }), row("3_base", { finished = false }) } }
    assert.same({ "2_more" }, history:pending())
  end)

  it("tells failed, edited and missing apart", function ()
    local history = prisma { rows = { row("1_init", { checksum = "other" }), row("2_more", { finished = false, logs = "ERROR: x\nmore" }), row "0_gone" } }
    assert.same({ "1_init" }, history:edited())
    assert.same({ "0_gone" }, history:missing())
    assert.equal("2_more", history:failed()[1].name)
    assert.same({
      '"2_more" failed (begun then) and was not settled: ERROR: x',
      '"1_init" was edited after it was applied: its checksum is not the file\'s',
      '"0_gone" is recorded in the database and is not in the folder',
    }, history:obstacles())
  end)

  it("refuses tables without a history in Prisma's own number", function ()
    local obstacles = prisma({ tables = { "public.x", "public.y" } }):obstacles()
    assert.equal(1, #obstacles)
    assert.matches("2 tables and no history, beginning with public.x %(Prisma's P3005%)", obstacles[1])
  end)

  it("explains tables only by migrations that were executed", function ()
    local world = { tables = { "public._prisma_migrations", "public.c", "public.z" }, rows = { row("1_init", { steps = 0 }), row "3_base" } }
    assert.same({ "public.z" }, prisma(world):foreign { "3_base" })
    world.rows[2].steps = 0
    assert.same({ "public.c", "public.z" }, prisma(world):foreign { "3_base" })
  end)

  it("reads who is superseded: nothing, a number or names", function ()
    local history = prisma {}
    assert.same({ "1_init", "2_more" }, history:superseded(nil))
    assert.same({ "1_init" }, history:superseded { "1" })
    assert.same({ "1_init", "2_more", "3_base" }, history:superseded { "9" })
    assert.same({ "2_more", "x" }, history:superseded { "2_more", "x" })
  end)

  it("records by the tool's own word, with the URL in the environment", function ()
    local world = { rows = {} }
    local tool = tool_of(function (argv) world.rows[#world.rows + 1] = row(argv[4], { steps = 0 }) end)
    prisma(world, tool):resolve "1_init"
    assert.same({ { argv = { "migrate", "resolve", "--applied", "1_init" }, env = { DATABASE_URL = "prisma:secret" }, touches = { "pg:1/app" } } }, tool.calls)
  end)

  it("hands the configuration file on", function ()
    local tool = tool_of(function () end)
    local history = migrations.of { folder = folder_of(prisma_files), db = server_of { rows = { row "1_init" } }, database = "app", tool = tool, config = "/c.js" }
    history:resolve "1_init"
    assert.same({ "migrate", "resolve", "--applied", "1_init", "--config", "/c.js" }, tool.calls[1].argv)
  end)

  it("refuses a name that is not exactly in the folder", function ()
    local ok, err = pcall(function () prisma({ rows = {} }, tool_of(function () end)):resolve "1_Init" end)
    assert.is_false(ok)
    assert.equal('the folder has no migration "1_Init"', err.message)
    assert.matches("1_init, 2_more, 3_base", err.hint)
  end)

  it("does not believe a tool that ends with 0 and has done nothing", function ()
    local ok, err = pcall(function () prisma({ rows = {} }, tool_of(function () return 0, "All good\n" end)):resolve "1_init" end)
    assert.is_false(ok)
    assert.equal('"1_init" is still not recorded; the tool ended with status 0', err.message)
    assert.equal("It said: All good", err.hint)
  end)

  it("believes the table against a tool that ends with 1", function ()
    local world = { rows = {} }
    prisma(world, tool_of(function () world.rows[1] = row "3_base" return 1 end)):deploy { "3_base" }
  end)

  it("says what a number of the tool means", function ()
    local ok, err = pcall(function () prisma({ rows = {} }, tool_of(function () return 1, "Error: P1002\n timed out" end)):deploy { "3_base" } end)
    assert.is_false(ok)
    assert.equal('"3_base" is still pending; the tool ended with status 1', err.message)
    assert.matches("^P1002: Another session holds Prisma's advisory lock", err.hint)
  end)

  it("names the migration that failed on the server", function ()
    local world = { rows = {} }
    local ok, err = pcall(function ()
      prisma(world, tool_of(function () world.rows[1] = row("3_base", { finished = false }) return 0 end)):deploy { "3_base" }
    end)
    assert.is_false(ok)
    assert.equal('"3_base" failed on the server; the tool ended with status 0', err.message)
    assert.equal("It said nothing.", err.hint)
  end)

  it("takes a row back only while there is no table, exactly one row", function ()
    local history = prisma { rows = { row("1_init", { steps = 0 }) }, tables = {} }
    history:forget "1_init"
    assert.matches('^DELETE FROM "public"."_prisma_migrations" WHERE migration_name = %$1 AND applied_steps_count = 0', history.db.said[1][1])
    assert.equal("1_init", history.db.said[1][2])
    history:forget "2_more"
    assert.equal(1, #history.db.said)
    for _, world in ipairs { { rows = { row "1_init" }, tables = { "public.a" } }, { rows = { row "1_init" }, tables = {}, count = 0 } } do
      assert.is_false(pcall(function () prisma(world):forget "1_init" end))
    end
  end)

  it("drops a database only while it holds nothing but a history", function ()
    local history = prisma { rows = {}, relations = { "public._prisma_migrations" } }
    history:drop_while_empty()
    assert.same({ { "drop", "app" } }, history.db.said)
    assert.is_false(pcall(function () prisma({ rows = {}, relations = { "public.v" } }):drop_while_empty() end))
    local absent = prisma {}
    absent:drop_while_empty()
    assert.same({}, absent.db.said)
  end)

  it("shows who holds Prisma's lock", function ()
    assert.equal(7, prisma({ rows = {}, holder = { pid = 7 } }):holder().pid)
  end)
end)

describe("ops.migrations on a drizzle folder", function ()
  local entries <const> = { { "0000_init", 100 }, { "0001_more", 200 }, { "0002_base", 300 } }

  local function drizzle(world, tool, files)
    return migrations.of { folder = folder_of(files or drizzle_files(entries)), db = server_of(world), database = "app", tool = tool, variable = "PG_URL" }
  end

  local function recorded(...)
    local rows = {}
    for i, when in ipairs { ... } do
      rows[i] = { id = i, created_at = when, checksum = "sha:CREATE TABLE t" .. when // 100 .. " ()" }
    end
    return rows
  end

  it("calls pending what is newer than the newest row", function ()
    assert.same({ "0000_init", "0001_more", "0002_base" }, drizzle({ rows = {} }):pending())
    assert.same({ "0002_base" }, drizzle({ rows = recorded(200) }):pending())
  end)

  it("finds the entry that was merged late and would be skipped in silence", function ()
    local history = drizzle { rows = recorded(100, 300) }
    assert.same({}, history:pending())
    assert.same({ "0001_more" }, history:skipped())
    assert.matches("merged late: it is older", history:obstacles()[1])
  end)

  it("finds an edited file and a row of an entry that is gone", function ()
    local rows = recorded(100, 150)
    rows[1].checksum, rows[2].checksum = "other", "unknown"
    local history = drizzle { rows = rows }
    assert.same({ "0000_init" }, history:edited())
    assert.same({ "row 2" }, history:missing())
  end)

  it("lists a file outside the journal and an entry without its file", function ()
    local files = drizzle_files(entries)
    files["0001_more.sql"], files["9_stray.sql"] = nil, "x"
    local _, faults = drizzle({}, nil, files):files()
    assert.same({ '"0001_more" is in the journal and has no file', '"9_stray.sql" is in the folder and not in the journal: drizzle will never execute it' }, faults)
  end)

  it("records by the row that drizzle would have written", function ()
    local history = drizzle { rows = recorded(100, 200) }
    history:resolve "0001_more"
    local insert = history.db.said[#history.db.said]
    assert.matches('^INSERT INTO "drizzle"."__drizzle_migrations"', insert[1])
    assert.same({ "sha:CREATE TABLE t2 ()", 200 }, { insert[2], insert[3] })
  end)

  it("deploys with the URL under the name the project reads", function ()
    local tool = tool_of(function () return 1 end)
    drizzle({ rows = recorded(100, 200, 300) }, tool):deploy { "0002_base" }
    assert.same({ { argv = { "migrate" }, env = { PG_URL = "url:secret" }, touches = { "pg:1/app" } } }, tool.calls)
  end)
end)

describe("ops.migrations", function ()
  it("asks nothing that the read fence would refuse", function ()
    local sql, asked = require "native.sql", 0
    local function ask(_, text)
      local found = assert(sql.read(text))
      assert.is_true(found.reads, found.why)
      asked = asked + 1
      return {}
    end
    local db = { rows = ask, has = ask }
    local catalog = require "ops.catalog"
    for _, word in ipairs { "tables", "relations", "enums" } do catalog[word](db) end
    for _, dialect in ipairs { "prisma", "drizzle" } do
      local rules = require("ops." .. dialect)
      rules.recorded(db, '"a"."b"', {})
      rules.holder(db)
    end
    assert.equal(6, asked)
  end)

  it("refuses a folder that is no tool's", function ()
    local ok, err = pcall(function () migrations.of({ folder = folder_of {} }):names() end)
    assert.is_false(ok)
    assert.equal("the folder is neither Prisma's nor drizzle's", err.message)
  end)

  it("refuses what a history does not have", function ()
    for _, given in ipairs { { folder = {}, name = 1 }, {} } do
      local ok, err = pcall(migrations.of, given)
      assert.is_false(ok)
      assert.equal("usage", err.code)
    end
  end)

  it("knows names that say nothing", function ()
    local history = migrations.of { folder = folder_of(prisma_files) }
    assert.same({ "20240101_fix", "migration_1", "0003_changes", "20240101", "20240101000000_AddUser", "1_add user" }, history:nameless {
      "20240101_fix", "20240101000000_add_status_index", "migration_1", "0003_changes", "0004_fix_totals", "20240101", "20240101000000_AddUser", "1_add user" })
  end)

  it("takes a script apart as its tool sends it", function ()
    local history = migrations.of { folder = folder_of(drizzle_files { { "0000_a", 1, "CREATE TABLE a ()--> statement-breakpoint\nCREATE TABLE b (); SELECT 1" } }) }
    assert.same({ { name = "0000_a", statements = { "CREATE TABLE a ()", "CREATE TABLE b ()", "SELECT 1" } } }, history:scripts { "0000_a" })
    history = migrations.of { folder = folder_of(prisma_files) }
    assert.same({ { name = "3_base", statements = { "DROP TABLE a, b", "CREATE TABLE c ()" } } }, history:scripts { "3_base" })
  end)

  it("keeps quotes inside identifiers", function ()
    local history = migrations.of { folder = folder_of(prisma_files), schema = 'we"ird' }
    assert.equal('"we""ird"."_prisma_migrations"', history:from())
  end)
end)
