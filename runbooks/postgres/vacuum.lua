-- VACUUM, table by table. Each is a statement of its own (two sent together are a transaction, which VACUUM refuses), waits for its lock
-- only so long, and is cancelled when others wait for it. FULL writes the table anew: it needs its size again and shuts everybody out.

runbook "Vacuum the tables of a database" {
  why = "Dead rows take space and time until they are removed; the statistics that plans are made from grow old with them.",
}

local upkeep = require "std.upkeep"

local db = target.postgres "db"

local p = params {
  database = { "database; the one of the inventory when omitted", kind = "name", optional = true },
  tables   = { "tables (name or schema.name); those with dead rows when omitted", kind = "list", optional = true },
  dead     = { "dead rows that may stay", kind = "integer", min = 0, default = 0 },
  full     = { "write the tables anew (VACUUM FULL): nobody can read them meanwhile; needs --tables", kind = "boolean", default = false },
  free     = { "bytes free on the server's disk as a human measured them, where it cannot be asked", kind = "bytes", optional = true },
  lock     = { "how long a table's lock is waited for", kind = "duration", default = "3s" },
  longer   = { "a transaction that is older keeps dead rows alive and is in the way", kind = "duration", default = "5m" },
  blocked  = { "sessions that may wait for us longer than --patience", kind = "integer", min = 0, default = 0 },
  patience = { "how long others may wait for us before we give way", kind = "duration", default = "5s" },
}

local function there () return p.database and db:on(p.database) or db end

local function chosen () return upkeep.tables(there(), p.tables and { names = p.tables } or { dead = p.dead }) end

local function watched () return { lock_within = p.lock, blocks = { sessions = p.blocked, within = p.patience } } end

step "Look at the tables, and at whoever keeps their dead rows alive" {
  verify = function ()
    check(p.tables or not p.full, "the tables that are written anew are named")
    local missing = upkeep.missing(there(), p.tables or {})
    check(#missing == 0, "every table that is named is there", table.concat(missing, ", "))
    local rows = {}
    for i, t in ipairs(chosen()) do rows[i] = { t.key, t.dead, t.live, t.bytes, t.total } end
    report { title = "Tables to vacuum", columns = { "table", "dead_rows", "live_rows", "bytes", "with_indexes" }, rows = rows, remark = "Dead rows are the statistics' estimate." }
    local horizon = upkeep.horizon(there(), p.longer)
    check(#horizon == 0, "no transaction older than {longer} keeps dead rows alive", table.concat(horizon, "; "))
  end,
}

-- No undo: dead rows were dead for everybody, and statistics that are newer harm nobody.
step "Vacuum and analyze {item}" {
  each   = function () return p.full and {} or chosen() end,
  done   = function (t) local now = upkeep.of(there(), t.key); return not now or now.dead <= p.dead or now.vacuumed ~= t.vacuumed end,
  act    = function (t) there():maintain("VACUUM (ANALYZE) " .. t.sql, watched()) end,
  verify = function (t)
    local now = upkeep.of(there(), t.key)
    check(now.dead <= math.max(t.dead, p.dead), "{item} has no more dead rows than before", tostring(now.dead))
    note("%s: %d dead rows, were %d; %s, was %s", t.key, now.dead, t.dead, upkeep.size(now.bytes), upkeep.size(t.bytes))
  end,
  within = "6h",
}

-- No undo: a table that was written anew holds the same rows. While it is being written it can only be cancelled.
step "Write {item} anew" {
  each   = function () return p.full and chosen() or {} end,
  needs  = function (t)
    local room, actual = upkeep.room(there(), t.total, t.place, p.free)
    check(room, "the disk has room for {item} and its indexes a second time", actual)
    local horizon = upkeep.horizon(there(), p.longer)
    check(#horizon == 0, "no transaction older than {longer} stands in the way of {item}", table.concat(horizon, "; "))
  end,
  done   = function (t) local now = upkeep.of(there(), t.key); return not now or now.file ~= t.file end,
  act    = function (t) there():maintain("VACUUM (FULL, ANALYZE) " .. t.sql, watched()) end,
  verify = function (t)
    local now = upkeep.of(there(), t.key)
    note("%s: %s, was %s", t.key, upkeep.size(now.total), upkeep.size(t.total))
  end,
  within = "6h",
}
