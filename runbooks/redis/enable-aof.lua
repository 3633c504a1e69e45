-- Turn the append-only file on while the server runs, and only then write it down for the next start. A restart with --appendonly yes
-- instead, with only a snapshot on disk, begins with nothing: Redis then reads the append-only file, which is not there yet. A server without
-- a configuration file forgets it: somebody must know that before, and is told what its start command needs, now and no sooner.
-- Undo turns it off again, in the configuration file too; the snapshots are never touched.

runbook "Turn on the append-only file" {
  why = "A crash then loses one second of writes, instead of everything since the last snapshot.",
}

local saves, settings = require "std.redis_saves", require "std.redis_settings"

local cache = target.redis "redis"

local NAMES <const> = { "appendonly", "appendfsync" }

local p = params {
  fsync  = { "how often what was written is forced to the disk", choices = { "everysec", "always", "no" }, default = "everysec" },
  keys   = { "how many keys there must be; after a restart, what the run before it noted", kind = "integer", min = 0, default = 0 },
  before = { "appendonly and appendfsync to go back to, and how often the file was rewritten; as found when omitted", kind = "list", default = function () return settings.found(cache, NAMES) end },
  config = { "the server's configuration file; none where it was started without", kind = "path", optional = true, default = function () return settings.file(cache) end },
  until_restart = { "it is known that a server without a configuration file forgets this at its next start", kind = "boolean", default = false },
}

local function wanted () return { { "appendfsync", p.fsync }, { "appendonly", "yes" } } end

local function changes () return p.before[1] ~= "yes" or p.before[2] ~= p.fsync end

local function on () return settings.are(cache, wanted()) and saves.is_appending(cache) end

step "Look at what is there" {
  verify = function ()
    check(#saves.faults(cache) == 0, "the server saves what it holds", table.concat(saves.faults(cache), "; "))
    check.at_least(saves.keys(cache), p.keys, "there are at least {keys} keys")
    check(p.config or p.until_restart or not changes(), "the server has a configuration file, or --until-restart says that it need not last", settings.for_command(wanted()))
    note("%d keys", saves.keys(cache))
  end,
}

step "Turn it on, while the server runs" {
  each   = { "appendonly" },       -- an item that is not so acts again after a crash, without a human: setting twice harms nothing
  done   = on,
  act    = function ()
    settings.set(cache, wanted())
    wait_until(function () return saves.is_rewritten(cache) end, { every = "200ms", within = "1h" })
  end,
  verify = function () check(on(), "the append-only file is on, and holds everything") end,
  undo   = function () settings.set_back(cache, { { "appendonly", p.before[1] }, { "appendfsync", p.before[2] } }, p.config) end,
  within = "1h",
}

-- No undo: that of the step before writes the old values into this file too.
step "Write it into the server's configuration file" {
  each = function () return changes() and p.config and { p.config } or {} end,
  done = function () return settings.is_written_down(cache, p.before) end,
  act  = function () settings.write_down(cache) end,
}

step "Prove that a restart would find everything" {
  verify = function ()
    check(on(), "the append-only file is on, its last rewrite and its last write went well")
    if not p.config then note(settings.for_command(wanted()) .. ", now and no sooner") end
    note("%d keys: after the next restart run this again with --keys %d", saves.keys(cache), saves.keys(cache))
  end,
}
