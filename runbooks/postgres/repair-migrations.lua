-- Settle a migration history that stands in the way of every deploy: a failed migration (Prisma's P3018, and P3009 from then on), or no
-- history beside a schema that is there (P3005). What is true is found out in a scratch database; only then is the history edited.

runbook "Repair a migration history" {
  why = "A failed migration left nothing, everything or a part of itself; migrate resolve asks nobody which, and only edits the history.",
  on_failure = "abort",          -- each mark is proved by itself, and stays true when a later step fails
}

local repair = require "std.repair"
local db, folder, migrate = target.postgres "db", target.folder "migrations", target.command "migrate"

local p = params {
  database = { "database to repair", kind = "name" },
  revert   = { "failed migrations to take back first, each by the down.sql beside its migration.sql", kind = "list", default = {} },
  rows     = { "what a human saw of the rows of failed migrations, NAME=there or NAME=missing: no schema shows rows", kind = "list", default = {} },
  up_to    = { "last migration the schema has, where there is no history and several leave the same", optional = true },
  drift    = { "differences between the schema and the migrations may stay", kind = "boolean", default = false },
  deploy   = { "let the tool execute what is pending at the end", kind = "boolean", default = true },
  config   = { "configuration file handed to the migration tool", kind = "path", optional = true },
}
local function work ()
  return repair.of { folder = folder, db = db, database = p.database, tool = migrate, config = p.config, beside = scratch "repair", rows = p.rows, deploy = p.deploy }
end
local function none (list, truth) check(#list == 0, truth, table.concat(list, "; ")) end
local function unlocked () check(not work():busy(), "nobody is migrating {database}", work():busy()) end
-- To record what a failed migration proved to be; the proof is asked again right before.
local function mark (verdict, truth, how)
  return {
    each  = function () return work():judged(verdict) end,
    needs = function (item) unlocked(); check(work().trial:verdict(item.key) == verdict, truth) end,
    done  = function (item) return not work().history:has_failed(item.key) end,
    act   = function (item) local history = work().history; history[how](history, item.key) end,
    undo  = function (item) work().history:unsettle(item) end,
  }
end

step "Look at the history of {database}" {
  verify = function ()
    check(db:exists(p.database), "there is a database {database}")
    none(work().history:missing(), "every migration that is recorded is in the folder")
    unlocked(); note("%s", table.concat(work():findings(), "; "))
  end,
}

-- No undo: the scratch database is dropped at the end, however the run ends.
step "Execute the migrations in a scratch database and describe what each leaves" {
  each   = function () return work():open() and { scratch "repair" } or {} end,          -- an item begins anew after a crash
  done   = function () return work().trial:ready() end,
  act    = function () work().trial:make() end,
  after  = function () work().trial:drop() end,
  within = "30m",
}

step "Judge how much of them {database} has" {
  verify = function ()
    for _, item in ipairs(work().history:failures()) do report(work().trial:table(item.key)) end
    if work():open() then none(work():judge { up_to = p.up_to, drift = p.drift }, "what is there is what the migrations leave, and it can be told which") end
  end,
}

-- No undo: what it takes back was there by half, and nothing had been written into it.
step "Take back {item} by its down.sql" {
  each  = function () return #p.revert > 0 and work():named(p.revert) or {} end,
  needs = function (item) none(work().trial:written(item.key), "nothing was written into what {item} made") end,
  done  = function (item) return work().trial:verdict(item.key) == "none" end,
  act   = function (item) work().history:revert(item.key, "down.sql") end,
}

local by_hand = step "Finish or take back what is there by half" {
  manual = "Step 3 shows which objects of a failed migration {database} has and which not: make them all as the migration would, or take them all back",
  done   = function () return #work():judged("some") == 0 end,
}

step "Record {item} as applied: all of it is there" (mark("all", "everything that {item} makes is there", "resolve"))
step "Record {item} as rolled back: nothing of it is there" (mark("none", "nothing that {item} makes is there", "roll_back"))

step "Record {item} as applied: the schema is what it leaves" {
  each  = function () return work():open() and work():ahead(p.up_to) or {} end,
  needs = unlocked,
  done  = function (item) return work().history:has(item.key) end,
  act   = function (item) work().history:resolve(item.key) end,
  undo  = function (item) work().history:unrecord(item) end,
}

-- No undo: a migration that was executed is taken back by a migration.
step "Let the tool execute what is pending" {
  needs  = function () none(work():hopeless(), "every pending migration can be executed in a scratch database") end,
  done   = function () return not p.deploy or #work().history:pending() == 0 end,
  act    = function () work().history:deploy(work().history:pending()) end,
  within = "1h",
}

step "Prove the history and the schema" {
  verify = function ()
    by_hand:result()                    -- before it is done, nobody can tell
    check(not work():open(), "nothing failed, nothing is missing from the history, and what was to be executed is")
    if work().trial:ready() and not p.drift then none(work():drift(), "the schema is what the recorded migrations leave") end
  end,
}
