-- Copy what a Redis server holds into the folder of backups: a snapshot made now, and the append-only set where there is one.
-- BGSAVE answers before anything is saved, so the snapshot's own date says whether it is the new one; the append-only file is a set that
-- its manifest names. One clock, the server's, names everything. Undo removes the copies. The server's own snapshot is replaced by a
-- newer one, as it does by itself: that is not taken back.

runbook "Back up a Redis server" {
  why = "What is in Redis and nowhere else: refresh tokens, revocations, idempotency keys.",
}

local files, saves = require "std.redis_files", require "std.redis_saves"

local cache, data, backups, tool = target.redis "redis", target.folder "data", target.folder "backups", target.command "check"

local p = params {
  begun    = { "the snapshot must be newer than this, in seconds since 1970; the run's beginning when omitted", kind = "integer", min = 0, default = function () return saves.clock(cache) end },
  name     = { "what the copies are called; by the time the run began when omitted", kind = "name", optional = true },
  snapshot = { "the snapshot in the server's directory; as it is set when omitted", kind = "name", default = function () return saves.snapshot(cache) end },
  appended = { "copy the append-only set too; where there is one when omitted", kind = "boolean", default = function () return saves.is_appending(cache) end },
}

local function name () return p.name or saves.stamp(p.begun) end

local function copy () return name() .. ".rdb" end

local function manifest () return files.manifest_copy(cache, name()) end

step "Look at the server and at the room there is" {
  verify = function ()
    check(#saves.faults(cache) == 0, "the server saves what it holds", table.concat(saves.faults(cache), "; "))
    local fits, shown = files.has_room(cache, data)
    check(fits, "there is room for a snapshot in the server's directory", shown)
    fits, shown = files.has_room(cache, backups)
    check(fits, "and in the folder of backups", shown)
  end,
}

step "Copy the append-only set" {
  each  = function () return p.appended and { manifest() } or {} end,
  retry = { times = 5, every = "2s" },
  done  = function (copied) return backups:has(copied) end,
  act   = function () files.copy_set(cache, data, backups, name()) end,
  undo  = function () files.remove(backups, name()) end,
  within = "2h",
}

-- No undo: the snapshot of the server is newer than it was, and that is all.
step "Save a snapshot" {
  needs  = function () wait_until(function () return saves.clock(cache) > p.begun end, { every = "100ms", within = "5s" }) end,
  done   = function ()
    wait_until(function () return saves.is_idle(cache) end, { every = "200ms", within = "1h" })
    local begun = saves.begun(data, p.snapshot)
    return begun and begun > p.begun
  end,
  act    = function ()
    saves.begin(cache)
    wait_until(function () return saves.is_idle(cache) end, { every = "200ms", within = "1h" })
  end,
  verify = function ()
    check(#saves.faults(cache) == 0, "the snapshot was saved", table.concat(saves.faults(cache), "; "))
    check((saves.begun(data, p.snapshot) or 0) > p.begun, "the snapshot in the server's directory is the new one")
  end,
  within = "2h",
}

step "Copy the snapshot" {
  each = function () return { copy() } end,
  done = function (copied) return backups:has(copied) end,
  act  = function (copied) files.copy(data, p.snapshot, backups, copied) end,
  undo = function () files.remove(backups, name()) end,
  within = "2h",
}

step "Prove the copies" {
  verify = function ()
    check((saves.begun(backups, copy()) or 0) > p.begun, "the copy is of the new snapshot")
    local said = tool:read({ backups:path(copy()) }, { allow = "any", within = "1h" })
    check(said:status() == 0, "redis-check-rdb reads the copy to its end, and its checksum is right", said:out():sub(-300))
    note("%s: %s keys, %d bytes, SHA-256 %s", copy(), said:out():match("(%d+) keys read") or "?", backups:size(copy()), backups:hash(copy()))
    if not p.appended then return end
    local missing, count = files.missing(backups, manifest())
    check(#missing == 0 and count > 0, "every file of the append-only set is there", table.concat(missing, ", "))
  end,
}
