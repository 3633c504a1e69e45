-- Take a base backup to a moment by replaying the log that was archived since, in a second cluster beside the first; it pauses there, the
-- rows are asked, and only then it is promoted. The first cluster is no role of this runbook: nothing here can reach it. A dump
-- knows one moment, its own; putting one back is another runbook. Undo stops the second cluster and removes its directory.

runbook "Restore a PostgreSQL cluster to a moment, beside the one that runs" {
  why = "What was deleted at noon is there at a minute before; a base backup and the log archived since lead to any moment between.",
  window = "anytime",         -- nothing that is in use is touched
  on_failure = "abort",       -- hours of unpacking are not thrown away because a row is not there: look at it, then undo
}

local pitr = require "std.pitr"

local bases, archive, second = target.folder "bases", target.folder "archive", target.cluster "second"

local p; p = params {
  time        = { "moment to restore to: the last transaction that counts was over by then", kind = "moment", example = "2026-04-25 11:59:00+02:00" },
  base        = { "base backup to begin from; the newest that was over by then when omitted", kind = "name", optional = true, default = function () return pitr.newest(bases, archive, p.time) end },
  timeline    = { "timeline to follow; the newest over the base backup when omitted", kind = "integer", optional = true, default = function () return pitr.timeline(bases, archive, p.base) end },
  database    = { "database in which the rows are asked for", kind = "name" },
  good        = { "query that must find a row then", example = "SELECT 1 FROM orders WHERE id = $1" },
  good_values = { "values for its $1, $2, …", kind = "list", default = {} },
  bad         = { "query that must find no row then", optional = true },
  bad_values  = { "values for its $1, $2, …", kind = "list", default = {} },
  spare       = { "bytes that must stay free beside the second cluster", kind = "bytes", default = 0 },
  look        = { "wait until a human has looked before it is promoted", kind = "boolean", default = false },
}

local function way () return pitr.way { bases = bases, archive = archive, base = p.base, time = p.time, timeline = p.timeline } end

step "Show which moments can be reached" { verify = function () report(pitr.moments(bases, archive)) end }

step "Check that {time} can be reached from {base}" {
  verify = function () for _, truth in ipairs(pitr.truths(way(), second:clock())) do check(truth[1], truth[2], truth[3]) end end,
}

step "Unpack {base} into the second cluster" {
  each   = function () return { p.base } end,       -- what a crash left half unpacked is cleared and unpacked again, without a human
  needs  = function ()
    local obstacles = pitr.obstacles(second, way(), p.spare)
    check(#obstacles == 0, "it can be made there: nothing is in the way, its port is free, and there is room", table.concat(obstacles, "; "))
  end,
  done   = function () return pitr.is_unpacked(second, way()) end,
  act    = function () second:unpack(bases, way().base, way().mark) end,
  undo   = function () second:remove() end,
  within = "24h",
}

-- No undo: it is only noted that they were compared, and the directory goes with the step above.
step "Check every file of it against the manifest of {base}" {
  each   = function () return { p.base } end,
  needs  = function ()
    local whole, why = second:verified()
    check(whole, "every file of {base} is as its manifest says", why)
    check.same(second:control()["Database system identifier"], way().system, "it is of the server that the archive is of")
  end,
  done   = function () return pitr.is_checked(second, way()) end,
  act    = function () second:mark_checked(way().mark) end,
}

-- No undo: the copies go with the directory.
step "Copy the log up to {time} beside it" {
  each   = function () return { p.time } end,
  done   = function () return #second:lacks(pitr.log(way())) == 0 end,
  act    = function () second:take_log(archive, pitr.log(way())) end,
  within = "24h",
}

step "Replay the log up to {time}, and pause" {
  each   = function () return { p.time } end,
  done   = function () return pitr.is_replayed(second, way()) end,
  act    = function () second:replay_to(way().recovery) end,
  undo   = function () second:stop() end,
  within = "24h",
}

step "Prove that it is that moment" {
  verify = function ()
    if pitr.is_promoted(second, way()) then return note(pitr.words(second)) end      -- what it holds has changed since
    local there, last = second:on(p.database), second:replay().last_us
    check((last or 0) <= way().us, "the last transaction was over by {time}", last)
    check(there:has(p.good, table.unpack(p.good_values)), "the good row is there")
    if p.bad then check(not there:has(p.bad, table.unpack(p.bad_values)), "the bad row is not there") end
    note(pitr.words(second, last))
  end,
}

step "Let a human look at it" {
  manual = "Look at the second cluster; it is paused at {time} and takes no writes.",
  done   = function () return not p.look or pitr.is_promoted(second, way()) end,
}

-- No undo: a promoted cluster cannot go back into recovery; undo stops and removes it.
step "Promote the second cluster" {
  destroys = "the pause at {time}: another moment then needs a second cluster made anew from {base}",
  each     = function () return { p.base } end,
  done     = function () return pitr.is_promoted(second, way()) end,
  act      = function () second:promote(way().mark); second:try_write() end,
  verify   = function () note(pitr.words(second)) end,
}
