-- Deploy what is pending, with the project's own tool, Prisma or drizzle: its history table and the files' checksums are believed, never its exit code or text.

runbook "Deploy the pending migrations" {
  why = "Start-up scripts and \"migrate deploy\" change tables that nobody looked at, wait for locks that nobody counted, and say that all is well when it is not.",
}

local gates = require "std.gates"
local migrations = require "std.migrations"
local rehearsal = require "std.rehearsal"
local risk = require "std.risk"
local db, folder, migrate, backups = target.postgres "db", target.folder "migrations", target.command "migrate", target.folder("backups", { optional = true })
local p = params {
  database = { "database to migrate; that of the inventory when omitted", kind = "name", default = function () return db:value "SELECT current_database()" end },
  config   = { "configuration file handed to the migration tool", kind = "path", optional = true },
  rehearse = { "what the clone of the rehearsal holds; without one the duration is ticked by hand", choices = { "schema", "data", "none" }, default = "schema" },
  big      = { "bytes from which a table that is read or written whole under a lock is a finding", kind = "bytes", default = "100MiB" },
  waive    = { "findings that are meant, rule:object=reason", kind = "list", default = {} },
  gates    = { "gates ticked by hand, gate=reason: staging, rollback, duration, window, backup, notified", kind = "list", default = {} },
  fresh    = { "how old the proven backup may be that passes the gate \"backup\" where backups are bound", kind = "duration", default = "24h" },
  lock     = { "how long a statement of the tool may wait for a lock; for ever when omitted: CREATE INDEX CONCURRENTLY waits for every older transaction", kind = "duration", optional = true },
}

local function history () return migrations.of { folder = folder, db = db, database = p.database, tool = migrate, config = p.config, lock = p.lock } end
local function none (list, truth) check(#list == 0, truth, table.concat(list, "; ")) end
local function statements () return history():judged(history():pending(), p.big) end
step "Read the history of {database}" {
  verify = function ()
    check(db:exists(p.database), "there is a database {database}")
    none(history():obstacles(), "folder and history agree: nothing failed, edited, missing or passed over")
    none(history():holders(), "nobody else is migrating {database}")
    note("%d recorded, %d pending", #history():applied(), #history():pending())
  end,
}

step "Judge what is pending" {
  verify = function ()
    local found, reasons = statements(), risk.waivers(p.waive)
    if #found > 0 then report(risk.table("What is pending", found)) end
    local open, idle = risk.open(found, reasons)
    none(#found > 0 and idle or {}, "every waiver fits a finding")
    none(open, "nothing in it is dangerous, or the danger is waived by its name")
    for _, waiver in ipairs(p.waive) do note("waived %s", waiver) end
    for _, name in ipairs(history():nameless(history():pending())) do note("%s: the name does not say what it does", name) end
  end,
}

step "Pass the gates" {
  verify = function ()
    if #history():pending() == 0 then return end
    local evidence = { duration = p.rehearse ~= "none" and "measured on a clone before anything is deployed", backup = gates.backup(backups, db:on(p.database), p.fresh, stamp()),
      window = not risk.is_disturbing(statements()) and "nothing in it holds a big table or destroys anything" }
    for _, gate in ipairs(gates.all(gates.ticks(p.gates), evidence)) do
      check(gate.passed, ("%s: %s"):format(gate.name, gate.truth), gate.by)
      note("%s: %s", gate.name, gate.by)
    end
  end,
}

-- No undo: the clone is dropped at the end, however it ends.
step "Rehearse on a clone" {
  each   = function () return p.rehearse == "none" and {} or history():batch() end,
  done   = function (batch) return rehearsal.is_done(history(), scratch "rehearsal", batch.names) end,
  act    = function (batch)
    local measured = rehearsal.run { history = history(), into = scratch "rehearsal", names = batch.names, data = p.rehearse == "data" }
    if measured then report(rehearsal.table(measured)) end
  end,
  after  = function () if db:exists(scratch "rehearsal") then db:drop_database(scratch "rehearsal") end end,
  within = "2h",
}

local function deployment (destroying)             -- two steps of one kind: what destroys asks for the name of the database first
  return {
    each   = function () return (#risk.losses(statements()) > 0) == destroying and history():batch() or {} end,
    needs  = function (batch)
      none(history():obstacles(), "nothing failed, was edited, is missing or was passed over")
      none(history():beyond(batch), "nothing else has become pending")
      none(history():holders(), "nobody else is migrating {database}")
    end,
    done   = function (batch) return history():has_all(batch.names) end,
    act    = function (batch) history():deploy(batch.names) end,
    verify = function (batch)
      check.same(history():added(batch), batch.names, "the history has {item} more, and nothing else")
      if p.rehearse ~= "none" then none(rehearsal.differences(history(), scratch "rehearsal"), "the catalogue is what the rehearsal made of the clone's") end
    end,
    within = "2h", destroys = destroying and "what the findings call lost, in {database}" or nil,
  }
end

-- No undo: a migration goes forward only; the way back is the backup that the gate names.
step "Deploy what is pending and destroys" (deployment(true))
-- No undo: as above.
step "Deploy what is pending" (deployment(false))
step "Prove the history of {database}" {
  verify = function ()
    none(history():pending(), "nothing is pending")
    none(history():obstacles(), "nothing failed, and every checksum is that of its file")
    note("%d migrations are recorded; forward only: the way back is the backup", #history():applied())
  end,
}
