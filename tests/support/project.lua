-- project.lua: a Prisma or drizzle project of one test, with migrations of its own, on the real tool of build/tools.
--
--   local project = projects.prisma(dir, { { "1_init", "CREATE TABLE …" }, … })     project.tool  project.folder  project.add(name, sql, file)
--   project.run(pg, database, { "migrate", "deploy" })  ->  { code =, out =, err = }

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local tools = require "tests.support.tools"

local M = {}

local HISTORY <const> = [[create table _prisma_migrations (id varchar(36) primary key not null, checksum varchar(64) not null, finished_at timestamptz,
  migration_name varchar(255) not null, logs text, rolled_back_at timestamptz, started_at timestamptz not null default now(), applied_steps_count integer not null default 0)]]

-- The tool finds its project beside itself.
local function lay_out(dir, tool, folder)
  local argv, why = tools.command(tool)
  if not argv then return nil, why end
  local from, to = argv[1]:gsub("%.sh$", ""), dir .. "/" .. tool
  assert(os.execute(("mkdir -p '%s/%s' && cp '%s' '%s/%s.sh' && ln -s '%s/node_modules' '%s/node_modules'"):format(to, folder, argv[1], dir, tool, from, to)))
  assert(os.execute(("cp '%s'/*.ts '%s'/package.json '%s'"):format(from, from, to)))
  local project = { dir = dir, tool = ("%s/%s.sh"):format(dir, tool), folder = ("%s/%s"):format(to, folder), root = to }

  --- Run the tool against a database of a server.
  function project.run(pg, database, arguments, user)
    local words = table.move(arguments, 1, #arguments, 2, { project.tool })
    return child.run { argv = words, env = { PATH = os.getenv("PATH"), HOME = dir, DATABASE_URL = pg.url(user or "owner", database) }, timeout = 60000 }
  end

  return project
end

--- A Prisma project. migrations: { { name, sql }, … }.
---@param dir string
---@param migrations string[][]
---@return table|nil project
---@return string|nil why not
function M.prisma(dir, migrations)
  local project, why = lay_out(dir, "prisma", "prisma/migrations")
  if not project then return nil, why end
  suite.write(project.root .. "/prisma/schema.prisma", 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n')
  suite.write(project.folder .. "/migration_lock.toml", 'provider = "postgresql"\n')

  --- One more migration, or (with `file`) one more file of it.
  function project.add(name, sql, file)
    assert(os.execute(("mkdir -p '%s/%s'"):format(project.folder, name)))
    suite.write(("%s/%s/%s"):format(project.folder, name, file or "migration.sql"), sql)
  end

  --- Record migrations as Prisma would have, without its two seconds a call: { name, "applied" | "failed", executed? }. What was executed is.
  function project.record(sql, list)
    sql(HISTORY)
    for i, migration in ipairs(list) do
      local script = suite.read(("%s/%s/migration.sql"):format(project.folder, migration[1]))
      if migration[2] == "applied" then sql(script) end
      sql(("insert into _prisma_migrations values ('id-%d', encode(sha256(convert_to($x$%s$x$, 'UTF8')), 'hex'), %s, '%s', %s, null, now() + interval '%d ms', %d)"):format(i, script,
        migration[2] == "applied" and "now()" or "null", migration[1], migration[2] == "applied" and "null" or "'ERROR: it failed'", i, migration[2] == "applied" and 1 or 0))
    end
  end

  for _, migration in ipairs(migrations) do project.add(migration[1], migration[2]) end
  return project
end

--- A drizzle project. migrations: { { tag, sql }, … }, a second apart.
---@param dir string
---@param migrations string[][]
---@return table|nil project
---@return string|nil why not
function M.drizzle(dir, migrations)
  local project, why = lay_out(dir, "drizzle", "drizzle/meta")
  if not project then return nil, why end
  project.folder = project.folder:gsub("/meta$", "")
  local entries = {}
  for i, migration in ipairs(migrations) do
    suite.write(("%s/%s.sql"):format(project.folder, migration[1]), migration[2])
    entries[i] = ('{"idx":%d,"version":"7","when":%d,"tag":"%s","breakpoints":true}'):format(i - 1, 1700000000000 + i * 1000, migration[1])
  end
  suite.write(project.folder .. "/meta/_journal.json", ('{"version":"7","dialect":"postgresql","entries":[%s]}'):format(table.concat(entries, ",")))
  return project
end

return M
