-- Set up a database for a new environment when the last migration is a full baseline: the ones before it are
-- recorded as applied, and only the baseline is executed. Prisma or drizzle, told apart by the folder.

runbook "Set up a fresh database from its baseline migration" {
  why = "The baseline makes the whole schema; executing the superseded migrations before it would make tables that it drops or makes again.",
}

local migrations = require "std.migrations"

local db, folder, migrate = target.postgres "db", target.folder "migrations", target.command "migrate"

local p = params {
  database   = { "database to set up", kind = "name", example = "pcmr_staging" },
  superseded = { "migrations to record without executing them, by name or how many; all but the last when omitted", kind = "list", optional = true },
  baseline   = { "migration that makes the whole schema; the last one when omitted",
                 default = function () local names = migrations.of { folder = folder }:names() return names[#names] end },
  retired    = { "tables (schema.table) that the superseded migrations made and the baseline no longer has", kind = "list", default = {} },
  tables     = { "how many tables the schema has, the history not counted", kind = "integer", min = 1, optional = true },
  enums      = { "how many enum types the schema has", kind = "integer", min = 0, optional = true },
  config     = { "configuration file handed to the migration tool", kind = "path", optional = true },
}

local function history ()
  return migrations.of { folder = folder, db = db, database = p.database, tool = migrate, config = p.config }
end

local function superseded () return history():superseded(p.superseded) end

local function none (list, truth) check(#list == 0, truth, table.concat(list, "; ")) end

step "Check the folder of migrations" {
  verify = function ()
    local expected = superseded()
    table.insert(expected, p.baseline)
    check.same(history():names(), expected, "the folder holds exactly the superseded migrations and, last, {baseline}")
    local makes = history():makes { p.baseline }
    check(#makes.tables > 0, "{baseline} makes tables")
    none(makes.uses, "{baseline} stands alone: it uses only tables that it makes")
    local kept = {}
    for _, list in ipairs { makes.tables, p.retired } do for _, name in ipairs(list) do kept[name] = true end end
    local lost = {}
    for _, name in ipairs(history():makes(superseded()).tables) do if not kept[name] then table.insert(lost, name) end end
    none(lost, "{baseline} makes every table that the superseded migrations leave behind")
  end,
}

step "Check that {database} is new, or ours and unfinished" {
  verify = function ()
    none(history():foreign { p.baseline }, "every table in {database} was made by {baseline}")
    none(history():obstacles(), "folder and history agree: nothing failed, edited, missing or passed over")
  end,
}

step "Create the database {database}" {
  done = function () return db:exists(p.database) end,
  act  = function () db:create_database(p.database) end,
  undo = function () history():drop_while_empty() end,
}

step "Record the superseded migrations as applied" {
  each   = superseded,
  done   = function (name) return history():has(name) end,
  act    = function (name) history():resolve(name) end,
  verify = function (name) check(history():has(name), "{item} is recorded") end,
  undo   = function (name) history():forget(name) end,
}

-- No undo: what was made is kept and looked at. While nothing was, the steps before are taken back.
step "Execute the baseline {baseline}, and nothing else" {
  needs = function ()
    check.same(history():pending(), { p.baseline }, "only {baseline} is left to execute")
    none(history():tables(), "{database} has no tables yet")
    none(history():holders(), "nobody else is migrating {database}")
  end,
  done  = function () return history():has(p.baseline) end,
  act   = function () history():deploy { p.baseline } end,
  within = "10m",
}

step "Prove the schema of {database}" {
  verify = function ()
    local made, there = history():makes { p.baseline }, history():tables()
    check.same(there, made.tables, "the tables are those that {baseline} makes, no more and no fewer")
    check.same(history():enums(), made.enums, "and so are the enum types")
    if p.tables then check.same(#there, p.tables, "there are {tables} tables") end
    if p.enums then check.same(#history():enums(), p.enums, "there are {enums} enum types") end
    for _, row in ipairs(history():applied()) do
      check(row.matches and (row.steps or 0) == (row.name == p.baseline and row.steps or 0), row.name .. " is recorded as it was meant")
    end
    none(history():pending(), "nothing is pending")
    none(history():obstacles(), "nothing failed, was edited, is missing or was passed over")
    note("%d tables, %d enum types, %d migrations recorded", #there, #made.enums, #history():applied())
  end,
}
