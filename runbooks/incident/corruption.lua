-- Data is damaged, or seems to be: stop writing, copy the files as they are, prove a backup, and only then repair or restore. Every
-- gate is a human's word with the evidence beside it: a repair that comes first destroys what a restore would need.

runbook "Deal with a damaged database" {
  why = "Each write to a damaged database, and each repair before a proven backup, can turn a part that is lost into everything.",
}

local sessions = require "std.sessions"
local triage = require "std.triage"

local db = target.postgres "db"

local p = params {
  database = { "database that is damaged", kind = "name" },
  checks   = { "also check every B-tree index against its table (amcheck; reads everything once)", kind = "boolean", default = false },
}

local function there () return db:on(p.database) end

local function others () return (sessions.find(db, { database = p.database })) end

for _, word in ipairs { "checksums", "dangers" } do
  step("Look: " .. word) { verify = function () report(triage[word](db)) end }
end

step "Look who writes" {
  verify = function () report(sessions.table("Sessions of the database", others())) end,
}

step "Stop the application" {
  manual = "Stop everything that writes to {database}. Do not restart the server: what is only in memory may be all that is whole.",
  done   = function () return #others() == 0 end,
  within = "5s",
}

step "Copy the files" {
  manual = "Stop the server and copy its data directory as files to another disk (cp -a, a volume snapshot). "
    .. "This copy is kept until the cause is known. Start the server again, with the application still stopped.",
}

step "Prove a backup, with nobody connected" {
  manual = "Run postgres/verify-backup on the newest backup, and on older ones until one proves whole. Without one nothing is repaired.",
  verify = function ()
    local left = others()
    check(#left == 0, "no program is connected to {database}", left[1] and ("%d, first pid %d (%s)"):format(#left, left[1].pid, left[1].application))
  end,
}

-- No undo: a check reads the index and its table, under a lock that only keeps the table from being changed in shape; it writes nothing.
step "Check index {item}" {
  each       = function () return p.checks and triage.checkable(there()) or {} end,
  act        = function (index) there():exec(index.sql) end,
  verify     = function (index) note("%s agrees with its table", index.key) end,
  stop_after = 1000000,
  within     = "6h",
}

step "Decide" {
  manual = "Restore the last good backup (postgres/restore, or postgres/restore-to-time up to just before the damage). "
    .. "Rebuild an index that alone is wrong (postgres/reindex). Find the cause (disk, memory, fsync, a crash without full_page_writes) before the application starts again.",
}
