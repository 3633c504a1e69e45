--- What act, undo and after may do to a cluster that a run makes. Every word names its directory; in a preview each comes back as a withheld value.

local methods = {}

local guard = require("native.guard")
local pipe = require("client.pipe")
local place = require("client.cluster_place")
local postgres = require("client.postgres")
local raise = require("core.raise")
local reads = require("client.cluster_reads")
local result = require("client.result")
local tar = require("client.tar")
local task = require("native.task")
local text = require("native.text")

local PARTS <const> = { "data", "wal", "run" }
local MOST_NAMES <const>, MANIFEST_MOST <const> = 500, 1 << 27

local function previewing() return guard.mode() == "plan" end

-- ---- streams into it ----

-- Small files as one stream that tar unpacks: they are the cluster's user's, and nothing of them is an argument.
local function packed(files)
  local parts = {}
  for _, file in ipairs(files) do
    local before, after = tar.wrap(file[1], #file[2], { mode = tonumber("600", 8) })
    parts[#parts + 1] = before .. file[2] .. after:sub(1, -1025)
  end
  return table.concat(parts) .. ("\0"):rep(1024)
end

local function unpack_into(o, part, stdin, flags)
  local argv = { "tar", "-x", "-C", o.directory .. (part and "/" .. part or ""), "-f", "-" }
  for _, flag in ipairs(flags or {}) do table.insert(argv, 3, flag) end
  return place.run(o, argv, { stdin = stdin })
end

local function lay(o, files) return unpack_into(o, nil, not previewing() and packed(files) or nil) end

-- A command elsewhere packs, tar here unpacks: both ends must have ended well.
local function pour(o, part, folder, argv, wanted)
  if previewing() then return unpack_into(o, part) end
  local source <close> = place.start_at(folder, argv)
  local said = pipe.drain(source:stderr())
  local stream = source:stdout()
  local following <close> = o.context.progress and o.context.progress(function () return stream:moved() end, wanted.total, wanted.text)
  local ok, why = pcall(unpack_into, o, part, stream)
  if not ok then
    said:cancel "what unpacks has failed"
    said:join()
    error(why, 0)
  end
  local ended = raise.check(source:wait())
  local _, words = said:join()
  result.of("what was unpacked is not whole: " .. text.shell(argv), { status = ended.status, signal = ended.signal, err = words, out = "" })
end

local FLAGS <const> = { [".tar"] = {}, [".tar.gz"] = { "-z" }, [".tar.zst"] = { "--zstd" } }

-- One archive of a base in the tar format.
local function unpack_archive(o, part, folder, name)
  local flags = FLAGS[name:match("%.tar[%w.]*$") or ""]
  if not flags then raise("config", ("\"%s\" is compressed in a way that is not known here"):format(name), "Take base backups plain, or with gzip or zstd.") end
  if previewing() then return unpack_into(o, part, nil, flags) end
  local stream <close> = folder.methods.open(folder, name, "r")
  local total = folder.methods.size(folder, name)
  local following <close> = o.context.progress and o.context.progress(function () return stream:moved() end, total, name)
  unpack_into(o, part, stream, flags)
end

-- ---- making and removing ----

local function marked(o, mark, state)
  local all = { state = state or "begun" }
  for key, value in pairs(mark) do all[key] = value end
  all.run = place.run_of(o)
  return { "neap.json", text.json(all) .. "\n" }
end

-- It is taken away by the run that made it, not by one whose cluster another run has gone on with: that one keeps it, and it is said.
local function is_own(o, is)
  if is.what ~= "ours" then raise("refused", ("%s holds something else"):format(o.directory), "Only what a run of neap made is ever stopped or removed.") end
  local own = is.mark.run == place.run_of(o)
  if not own and o.context.notice then
    o.context.notice("warning", ("the cluster in %s is run %s's now, and stays"):format(o.directory, tostring(is.mark.run)), o.role)
  end
  return own
end

local function entry_of(o)
  return { role = o.role, kind = "directory", name = ("%s@%s"):format(o.directory, place.run_of(o)), subject = place.id(o) }
end

-- It may be half made, by this run or by one that died.
local function clear(o)
  local is = reads.look(o)
  if is.what == "absent" or is.what == "empty" then return end
  if is.what ~= "ours" then raise("refused", ("%s holds something else"):format(o.directory), "Only a directory that a run of neap made is ever cleared.") end
  if is.running then raise("refused", ("the server in %s runs"):format(o.directory), "Stop it before its files are replaced.") end
  place.run(o, { "rm", "-rf", "--", o.directory .. "/data", o.directory .. "/wal", o.directory .. "/run" })
end

--- Make the directory and unpack a base backup into it. It counts as unpacked only when this has come to its end.
---@param folder table the folder of base backups
---@param base { name: string, format: "plain"|"tar", data: string?, wal: string?, bytes: integer } as std.pitr knows it
---@param mark table what the directory is known by from then on
---@effect write
function methods.unpack(o, folder, base, mark)
  local parts = {}
  for i, part in ipairs(PARTS) do parts[i] = o.directory .. "/" .. part end
  clear(o)
  if o.context.ledger then o.context.ledger.enter(entry_of(o)) end
  place.run(o, { "install", "-d", "-m", "0700", o.directory })
  lay(o, { marked(o, mark) })                       -- before anything else is in it: a crash leaves it empty, or ours
  place.run(o, { "install", "-d", "-m", "0700", table.unpack(parts) })
  if base.format == "tar" then
    unpack_archive(o, "data", folder, base.data)
    if base.wal then unpack_archive(o, "data/pg_wal", folder, base.wal) end
  else
    pour(o, "data", folder, { "tar", "-C", folder.methods.path(folder, base.name), "--mode=go-rwx", "-cf", "-", "." }, { total = base.bytes, text = base.name })
  end
  local manifest = previewing() and "" or folder.methods.read(folder, base.name .. "/backup_manifest", { limit = MANIFEST_MOST })
  lay(o, { { "manifest", manifest }, marked(o, mark, "unpacked") })
end

--- From now on the directory is known to hold what the manifest says.
---@param mark table what it is known by
---@effect write
function methods.mark_checked(o, mark) lay(o, { marked(o, mark, "checked") }) end

--- Copy files of the log into it, those that it lacks, so that nothing that happens to the archive meanwhile stops it.
---@param folder table the archive
---@param names string[]
---@param bytes integer of each segment
---@effect write
function methods.take_log(o, folder, names, bytes)
  if not previewing() then names = reads.lacks(o, names, bytes) end
  for first = 1, #names, MOST_NAMES do
    local last = math.min(first + MOST_NAMES - 1, #names)
    local argv = { "tar", "-C", folder.methods.path(folder), "--mode=go-rwx", "-cf", "-", "--", table.unpack(names, first, last) }
    pour(o, "wal", folder, argv, { total = (last - first + 1) * bytes, text = ("%s to %s"):format(names[first], names[last]) })
  end
end

local function stop(o)
  if o.sql then postgres.close(o.sql) end
  o.sql, o.proved = nil, nil
  return place.run(o, { o.spec.bin .. "/pg_ctl", "-D", o.data, "-m", "fast", "-w", "stop" })
end

--- Remove the directory and everything in it. Its server must be stopped; what another run made stays.
---@effect destroy
function methods.remove(o)
  local is = reads.look(o)
  if is.what == "absent" then return end
  if not is_own(o, is) then return end
  if is.running then raise("refused", ("the server in %s runs"):format(o.directory), "Stop it first.") end
  place.run(o, { "rm", "-rf", "--", o.directory })
  if o.context.ledger then o.context.ledger.leave(entry_of(o)) end
end

-- ---- the server ----

local SETTINGS <const> = { max_connections = "max_connections setting", max_worker_processes = "max_worker_processes setting", max_wal_senders = "max_wal_senders setting",
  max_prepared_transactions = "max_prepared_xacts setting", max_locks_per_transaction = "max_locks_per_xact setting" }

local function quoted(value) return "'" .. tostring(value):gsub("'", "''") .. "'" end

-- What a standby must have at least as much of as its origin is in the control file.
local function configuration(o, recovery)
  local control = reads.control(o)
  local settings = {
    { "port", o.spec.port }, { "listen_addresses", "127.0.0.1" }, { "unix_socket_directories", o.directory .. "/run" }, { "unix_socket_permissions", "0700" },
    { "hba_file", o.directory .. "/hba.conf" }, { "ident_file", o.directory .. "/ident.conf" }, { "cluster_name", o.role }, { "hot_standby", "on" },
    { "archive_mode", "off" }, { "max_logical_replication_workers", 0 }, { "logging_collector", "off" }, { "log_timezone", "UTC" }, { "timezone", "UTC" }, { "lc_messages", "C" },
    { "log_line_prefix", "%m " }, { "restore_command", ("cp %s/wal/%%f %%p"):format(o.directory) }, { "recovery_target_action", "pause" },
  }
  for name, words in pairs(SETTINGS) do
    if control[words] then settings[#settings + 1] = { name, control[words] } end
  end
  for name, value in pairs(recovery) do settings[#settings + 1] = { name, value } end
  table.sort(settings, function (a, b) return a[1] < b[1] end)
  local lines = { "# Written by neap. Nothing of the first cluster's configuration holds here." }
  for _, setting in ipairs(settings) do lines[#lines + 1] = ("%s = %s"):format(setting[1], quoted(setting[2])) end
  return table.concat(lines, "\n") .. "\n"
end

local HBA <const> = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

local function start(o, wait)
  return place.run(o, { o.spec.bin .. "/pg_ctl", "-D", o.data, "-l", o.directory .. "/server.log", wait, "-o", "-c config_file=" .. o.directory .. "/server.conf", "start" })
end

local POLL_MS <const> = 200

-- The log is replayed up to the target and the server pauses there. A recovery that ends otherwise is an error with its last words.
local function wait_paused(o)
  while true do
    local is = reads.look(o)
    if is.running and is.reached then return end
    if not is.running and is.last then raise("remote", ("the recovery of \"%s\" ended: %s"):format(o.role, is.last:sub(1, 300))) end
    if is.running and is.passed then
      raise("remote", ("\"%s\" stopped at the target and did not pause there"):format(o.role), "It took no reads yet at that moment; choose a later one, or a newer base backup.")
    end
    if is.running and is.last and is.last:find("recovery has paused", 1, true) then
      raise("remote", ("\"%s\" cannot replay on: %s"):format(o.role, is.last:sub(1, 300)), "A setting of the first cluster was raised after the base backup; take a newer one.")
    end
    task.sleep(POLL_MS)
  end
end

--- Let its server replay the log up to a target, and return when it pauses there. One that is on the way is waited for; one that was promoted
--- and is stopped is only started.
---@param recovery { recovery_target_time: string?, recovery_target_lsn: string?, recovery_target_timeline: string }
---@effect write
function methods.replay_to(o, recovery)
  if previewing() then
    lay(o, {})
    return start(o, "-W")
  end
  if reads.look(o).running then return wait_paused(o) end
  local timeline = tonumber(reads.control(o)["Latest checkpoint's TimeLineID"])
  if timeline > tonumber(recovery.recovery_target_timeline) then return start(o, "-w") end
  lay(o, { { "server.conf", configuration(o, recovery) }, { "hba.conf", HBA }, { "ident.conf", "" }, { "data/postgresql.auto.conf", "" }, { "server.log", "" },
    { "data/recovery.signal", "" } })
  start(o, "-W")
  wait_paused(o)
end

--- Stop its server; one that does not run is fine.
---@effect write
function methods.stop(o)
  local is = reads.look(o)
  if not is.running or not is_own(o, is) then return end
  return stop(o)
end

--- End its recovery: from then on it takes writes, on a timeline of its own, and is no temporary thing any more. The command names the
--- directory and reaches no other server.
---@param mark table what the directory is known by
---@effect write
function methods.promote(o, mark)
  lay(o, { marked(o, mark, "promoted") })
  if o.context.ledger then o.context.ledger.hand_over(entry_of(o)) end
  return place.run(o, { o.spec.bin .. "/pg_ctl", "-D", o.data, "-w", "-t", "600", "promote" })
end

--- Let it take one write, by a transaction that changes nothing: only a server that is no standby has a number for it.
---@effect write
function methods.try_write(o)
  return place.run(o, { o.spec.bin .. "/psql", "-X", "-q", "-h", o.directory .. "/run", "-p", tostring(o.spec.port), "-U", o.spec.user or "postgres",
    "-d", o.spec.database or "postgres", "-v", "ON_ERROR_STOP=1", "-c", "SELECT pg_catalog.pg_current_xact_id()" })
end

return methods
