-- Rebuild indexes, one by one, beside their readers and writers (CONCURRENTLY). An interrupted rebuild leaves an invalid index that every
-- change still writes: what is found is dropped first, and what this run may leave is dropped at its end, however it ends.

runbook "Rebuild the indexes of a database" {
  why = "An index that has grown, or that a bug or a new locale has made wrong, is written anew; REINDEX DATABASE would shut everybody out of everything.",
}

local health = require "std.health"
local upkeep = require "std.upkeep"

local db = target.postgres "db"

local p = params {
  database = { "database; the one of the inventory when omitted", kind = "name", optional = true },
  tables   = { "tables (name or schema.name) or indexes (schema.name); all when omitted", kind = "list", optional = true },
  alone    = { "also those of exclusion constraints, which shut everybody out of their table meanwhile", kind = "boolean", default = false },
  free     = { "bytes free on the server's disk as a human measured them, where it cannot be asked", kind = "bytes", optional = true },
  lock     = { "how long a lock is waited for", kind = "duration", default = "3s" },
  blocked  = { "sessions that may wait for us longer than --patience", kind = "integer", min = 0, default = 0 },
  patience = { "how long others may wait for us before we give way", kind = "duration", default = "5s" },
}

local function there () return p.database and db:on(p.database) or db end

local function chosen ()
  local list = {}
  for _, index in ipairs(upkeep.indexes(there(), p.tables)) do
    if index.beside or p.alone then table.insert(list, index) end
  end
  return list
end

local function drop (index) there():maintain("DROP INDEX CONCURRENTLY " .. index.sql, { lock_within = p.lock }) end

step "Look at the indexes" {
  verify = function ()
    report(upkeep.table("Indexes to rebuild", chosen(), health.counting_since(there())))
    report(health.unused(there()))
    report(health.invalid(there()))
    local left = {}
    for _, index in ipairs(upkeep.indexes(there(), p.tables)) do
      if not index.beside and not p.alone then table.insert(left, index) end
    end
    if not p.free and not there():disk_free() then note "nobody here can say how much room the server's disk has: measure it and give --free" end
    if #left > 0 then report(upkeep.table("Left out: indexes of exclusion constraints (--alone yes)", left)) end
  end,
}

-- No undo: what is dropped is half an index, which no query could use.
step "Drop what an interrupted rebuild left: {item}" {
  each  = function () return upkeep.leftovers(there(), p.tables) end,
  needs = function (index)
    local builder = upkeep.builder(there(), index.table)
    check(not builder, "nobody is rebuilding an index of that table now", builder)
  end,
  done  = function (index) return not upkeep.index(there(), index.key) end,
  act   = drop,
}

-- No undo: an index that was built anew finds the same rows.
step "Rebuild {item}" {
  each   = chosen,
  needs  = function (index)
    if not p.free and not there():disk_free() then return end
    local room, actual = upkeep.room(there(), index.bytes, index.place, p.free)
    check(room, "the disk has room for {item} a second time", actual)
  end,
  done   = function (index) local now = upkeep.index(there(), index.key); return not now or (now.file ~= index.file and now.valid) end,
  act    = function (index)
    there():maintain(("REINDEX INDEX %s%s"):format(index.beside and "CONCURRENTLY " or "", index.sql),
      { lock_within = p.lock, blocks = { sessions = p.blocked, within = p.patience } })
  end,
  after  = function (index) upkeep.drop_leftovers(there(), index.table, p.lock) end,
  within = "6h",
}

step "Prove that every index is whole" {
  verify = function ()
    local wrong = {}
    for _, index in ipairs(upkeep.indexes(there(), p.tables)) do
      if not index.valid then table.insert(wrong, index.key) end
    end
    check(#wrong == 0, "no index is invalid", table.concat(wrong, ", "))
  end,
}
