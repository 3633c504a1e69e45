-- Remove old backups of a database: those of the catalogue, judged one by one, each shown with its reason before anything goes.
-- The newest few stay whatever their age, and so does the last one that a drill restored. What is not in the catalogue is never touched.

runbook "Remove old backups" {
  why = "A pattern that misses what the backup writes deletes nothing until the disk is full; one that hits too much deletes the only backup.",
}

local retention = require "std.retention"

local backups = target.folder "backups"

local p = params {
  database = { "database whose backups are meant", kind = "name" },
  days     = { "younger ones stay", kind = "integer", default = 30, min = 1 },
  keep     = { "so many of the newest stay whatever their age", kind = "integer", default = 7, min = 1 },
  now      = { "the moment to judge by, as 20260425T020005Z; the run's beginning when omitted", kind = "text", default = function () return stamp() end },
}

local function verdicts () return retention.of(backups, p.database, { days = p.days, keep = p.keep, now = p.now }) end

step "Show what goes, what stays, and why" {
  verify = function ()
    local list, strange = verdicts()
    check(#list > 0, "there are backups of {database} in the catalogue", "a retention that finds nothing was told the wrong name, or the backup is not made")
    report(retention.table(list))
    if #strange > 0 then note("not in the catalogue, and not touched: %s", table.concat(strange, ", ")) end
  end,
}

-- No undo: a backup that was removed cannot be made again.
step "Remove {item}" {
  destroys = "the old backups of {database}",
  each     = function () return retention.going((verdicts())) end,
  done     = function (name) return retention.is_gone(backups, name) end,
  act      = function (name) retention.remove(backups, name) end,
  within   = "10m",
}

step "Show what is left" {
  verify = function ()
    local list = verdicts()
    check.at_least(#list, 1, "there are backups of {database}")
    note("%d backups of %s, the newest %s", #list, p.database, list[1].name)
  end,
}
