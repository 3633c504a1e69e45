-- Put a database back as a backup has it: restored beside the live one and compared, then given its name. The replaced database stays until
-- postgres/accept-restore drops it, so taking all of this back is two renames.

runbook "Restore a database from backup" {
  why = "A restore onto what is there empties it first; here the live database is whole until the moment another whole one has its name.",
  window = "needed",
}

local catalogue, quiet, restores = require "std.backups", require "std.quiet", require "std.restores"
local db, backups, app = target.postgres "db", target.folder "backups", target.service("app", { optional = true })

local p; p = params {
  database   = { "database to overwrite; that of the inventory when omitted", kind = "name", default = function () return db:card().database end },
  dump       = { "backup to restore; the newest proven one of the database when omitted", kind = "path",
                 default = function () return restores.newest_proven(backups, p.database) end },
  format     = { "what the file must be; what it says it is when omitted", kind = "choice", choices = { "custom", "plain", "directory" }, optional = true },
  unlisted   = { "restore a file that is in no catalogue: nobody knows how many rows it must have", kind = "boolean", default = false },
  no_owner   = { "everything belongs to the role that restores, and nothing is granted", kind = "boolean", default = false },
  keep_fresh = { "back up the present state first", kind = "boolean", default = true },
  idle       = { "nothing may be written for so long before the swap", kind = "duration", default = "3s" },
  end_others = { "end the sessions of others instead of waiting for them", kind = "boolean", default = false },
}

local function live () return db:on(p.database) end; local function trial () return db:on(scratch "restore_trial") end
local function manifest () return catalogue.manifest(backups, p.dump) end
local function is_swapped () return db:swapped(p.database, scratch "restore_trial") end
local function wanted (within) return { flat = p.idle, within = within, sessions = not p.end_others } end
local function present () return catalogue.name(p.database .. "-before-restore", stamp(), "custom", "none") end
local function is_down () return not app:is_bound() or not app:running() end
local function start () if app:is_bound() then app:start(); app:wait_healthy { within = "2m" } end end
local function stop () if not is_down() then app:stop() end end

step "Look at {dump} and at what it would replace" {
  verify = function ()
    check(backups:has(p.dump), "{dump} is in the folder of backups")
    check(manifest() or p.unlisted, "it is in the catalogue", not p.unlisted and "a file of your own is restored with --unlisted" or nil)
    local found, says = db:read_dump { backups, p.dump }, p.format or restores.named_format(p.dump)
    check(not says or found.format == says, "it is what its name says", found.format)
    check(not manifest() or found.sha256 == manifest().sha256, "it has the bytes that were made", found.sha256)
    note("%s: %s, made by %s; %s", p.dump, found.format, found.made_by or "?", manifest() and catalogue.shown(manifest()) or "in no catalogue")
    check.same(db:swap_obstacles(p.database), {}, "{database} can be put aside")
    if app:is_bound() then note("the application %s", app:running() and "runs" or "is stopped") else note("no application is bound: nobody is stopped") end
  end,
}

-- No undo: one backup more harms nobody.
step "Back up the present state of {database}" {
  each = { "present state" },
  done = function () return not p.keep_fresh or is_swapped() or catalogue.has(backups, present()) end,
  act  = function () catalogue.take(live(), backups, present(), { at = stamp(), format = "custom", compress = "none" }) end,
  within = "8h",
}

-- No undo: it is beside, not in the place of anything; neap gc removes it when the run is over.
step "Restore {dump} beside {database}" {
  each   = { "restore_trial" },
  done   = function () return is_swapped() or db:exists(scratch "restore_trial") and not trial():is_empty() and restores.has_statistics(trial()) end,
  act    = function ()
    if not db:exists(scratch "restore_trial") or trial():is_empty() then
      db:restore { from = { backups, p.dump }, into = scratch "restore_trial", format = p.format, sha256 = manifest() and manifest().sha256, no_owner = p.no_owner }
    end
    restores.analyze(trial())
  end,
  within = "8h",
}

step "Compare it with its manifest" {
  verify = function ()
    local restored, listed = is_swapped() and live() or trial(), manifest()
    if not listed then return note("in no catalogue; %d tables are there", #restored:tables()) end
    check.same(restored:counts(), listed.counts, "every table has the rows it had when the dump was made")
    check.same(restored:shape(), listed.shape, "every definition is the one the dump was made of")
  end,
}

step "Stop writes to {database}" {
  each   = { "writes" },
  done   = function () return is_swapped() or is_down() and quiet.holds(live(), wanted "0s") end,
  act    = stop,
  verify = function () quiet.prove(live(), wanted "1m") end,
  undo   = start,
  after  = start,
}

step "Put the restored database in place of {database}" {
  each     = { "swap" },
  destroys = "all current data in {database}",
  done     = is_swapped,
  act      = function () db:swap(p.database, scratch "restore_trial", { sessions = p.end_others and "end" or "refuse" }) end,
  verify   = function () if manifest() then check.same(live():counts(), manifest().counts, "the live database has the dump's rows") end end,
  undo     = function () stop(); db:swap_back(p.database) end,
}

step "Start the application on it" {
  each = { "application" },
  done = function () return not app:is_bound() or app:running() and app:healthy() end,
  act  = start,
  undo = stop,
}
