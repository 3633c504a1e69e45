-- Prove a backup by restoring it: into a scratch database, in one transaction, and compared with the manifest that was written when it was made.
-- On another server: in an environment whose db is that server. The scratch database is gone afterwards, and after a crash neap gc removes it.

runbook "Prove a backup by restoring it" {
  why = "A listing that ends with 0 proves nothing: half a dump lists well. What was restored once, and counted, comes back.",
}

local catalogue, drill = require "std.backups", require "std.drill"

local db, backups = target.postgres "db", target.folder "backups"

local p; p = params {
  database = { "database whose newest backup is meant; that of the inventory when omitted", kind = "name", default = function () return db:card().database end },
  dump     = { "backup to prove; the newest one of the database when omitted", kind = "name", default = function () return drill.newest(backups, p.database) end },
  fresh    = { "the newest backup must be younger", kind = "duration", optional = true, example = "26h" },
  archived = { "the server must have archived WAL this recently", kind = "duration", optional = true, example = "20m" },
  queries  = { "what must be true in it: SQL that answers yes or no, or a file of the folder that ends in .sql", kind = "list", optional = true },
  again    = { "prove it again when it was proven longer ago", kind = "duration", default = "20h" },
}

local function is_proven () return drill.is_proven(backups, p.dump, p.again, stamp()) end

local function trial () return db:on(scratch "drill") end

step "Look at {dump}" {
  verify = function ()
    local manifest = catalogue.manifest(backups, p.dump)
    check(manifest, "{dump} is in the catalogue")
    note("%s, of %s, taken %s", catalogue.shown(manifest), manifest.database, manifest.taken_at)
    local intact, shown = catalogue.is_intact(backups, p.dump)
    check(intact, "it has the bytes that were made", shown)
    if p.fresh then
      local fresh, newest = drill.is_fresh(backups, p.database, p.fresh, stamp())
      check(fresh, "the newest backup is younger than {fresh}", newest)
    end
    if p.archived then
      local archiving, last = drill.is_archiving(db, p.archived)
      check(archiving, "WAL was archived within {archived}", last)
    end
    if is_proven() then note("it was proven %s", catalogue.proof(backups, p.dump).proven_at) end
  end,
}

-- No undo: it is gone when the run ends, however it ends.
step "Make a scratch database" {
  done  = function () return is_proven() or db:exists(scratch "drill") end,
  act   = function () db:create_database(scratch "drill", { template = "template0" }) end,
  after = function () if db:exists(scratch "drill") then db:drop_database(scratch "drill") end end,
}

-- No undo: what is restored goes with its database.
local restored = step "Restore {dump} into it" {
  done = function () return is_proven() or not trial():is_empty() end,
  act  = function ()
    local sha256 = catalogue.manifest(backups, p.dump).sha256
    return db:restore({ from = { backups, p.dump }, into = scratch "drill", sha256 = sha256, no_owner = true }).seconds
  end,
  within = "8h",
}

step "Compare it with its manifest" {
  verify = function ()
    if is_proven() then return end
    local manifest = catalogue.manifest(backups, p.dump)
    local counts, shape = drill.found(trial(), manifest)
    check.same(counts, manifest.counts, "every table has the rows it had when the dump was made")
    check.same(shape, manifest.shape, "every definition is the one the dump was made of")
    check(drill.rows(manifest) > 0 or manifest.schema_only, "there are rows at all")
  end,
}

step "Ask what must be true in it" {
  verify = function ()
    if is_proven() then return end
    for _, query in ipairs(p.queries or {}) do check(trial():has(drill.sql_of(backups, query)), query) end
  end,
}

-- No undo: that it came back stays true.
step "Write down that it came back" {
  done = is_proven,
  act  = function ()
    catalogue.prove(backups, p.dump, { proven_at = stamp(), seconds = restored:result(), server = db:card().id, version = db:server_version(), queries = p.queries })
  end,
}
