--- Restores: a dump of any format into a database in which there is nothing, all of it or nothing.
--
--   look at the first bytes ─► what it is; refused when it is none, or made by newer tools than ours
--     archive: pg_restore --exit-on-error --single-transaction, the dump as its standard input
--     with `jobs`: pg_restore --jobs, the dump as a file beside it (postgres_stage.lua), into scratch of this run: half is possible, and dropped
--     text:    psql, BEGIN, the dump, and COMMIT only after its footer came by; a psql that is left alone ends its input and rolls back
--   ─► the status, the lines that are errors, the end of the dump ─► done, or nothing of it is there
--
-- So a dump that is cut leaves the database empty, and a run that was killed finds it empty or restored: whoever asks (guardians.probe) only
-- looks whether there is anything in it. Half is impossible but for a text dump with large objects, which commits by itself on the way.
--
-- Rejected: psql --single-transaction ([measured] commits the half of a cut dump, with status 0), --clean onto what is there (leaves tables made
-- after the dump, empties those before it when it is cut), pg_restore --jobs anywhere but into scratch (it is no single transaction).

local methods = {}

local archive = require("client.postgres_archive")
local connections = require("client.postgres_connections")
local guard = require("native.guard")
local pipe = require("client.pipe")
local raise = require("core.raise")
local reads = require("client.postgres_reads")
local shape = require("client.postgres_shape")
local sources = require("client.postgres_source")
local stages = require("client.postgres_stage")
local task = require("native.task")
local tools = require("client.postgres_tools")
local writes = require("client.postgres_writes")

local KNOWN <const> = { from = true, into = true, format = true, sha256 = true, no_owner = true, within = true, stall = true, jobs = true, stage = true }

-- ---- the program ----

local function program_of(facts, wanted)
  local target = tools.database_argument(wanted.into)
  if facts.format == "plain" then
    return "psql", { "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", target, "--file=-" }
  end
  local sessions = wanted.jobs and ("--jobs=%d"):format(wanted.jobs) or "--single-transaction"
  local words = { "--exit-on-error", sessions, "--no-password", "--format=" .. (facts.format == "directory" and "tar" or "custom") }
  if wanted.no_owner then table.move({ "--no-owner", "--no-privileges" }, 1, 2, #words + 1, words) end
  words[#words + 1] = target
  return "pg_restore", words
end

local SHOWN <const>, LINE_MOST <const> = 3, 2000

-- Read what it says to its end: how many of the lines are errors, and the first of them.
local function listen(stream)
  return task.spawn(function ()
    local said, rest = { errors = 0, first = {}, last = "" }, ""
    local function take(line)
      if line:find("%S") then said.last = line:sub(1, 500) end
      if not (line:find("[Ee]rror:") or line:find("ERROR:", 1, true) or line:find("FATAL:", 1, true)) then return end
      said.errors = said.errors + 1
      if #said.first < SHOWN then said.first[#said.first + 1] = line:sub(1, 300) end
    end
    while true do
      local piece = stream:read()
      if not piece then break end
      rest = rest .. piece
      for line in rest:gmatch("([^\n]*)\n") do take(line) end
      rest = rest:match("[^\n]*$"):sub(-LINE_MOST)
    end
    take(rest)
    return said
  end)
end

local function name_of(o, program) return ("%s %s"):format(program, tools.where(o)) end

local NOTHING <const> = "It was one transaction: nothing of it is in \"%s\"."
local HALF <const> = "It was several sessions: a part of it is in \"%s\", which is dropped before it is restored again."

-- Its own words explain a failure better than the stream that broke because of it.
local function judge(o, program, wanted, ended, said)
  local bad = ended.signal or ended.status ~= 0 or said.errors > 0
  if not bad then return end
  local how = ended.signal and ("was ended by signal %s"):format(ended.signal) or ("ended with status %d"):format(ended.status)
  local count = said.errors > 1 and (" (%d errors)"):format(said.errors) or ""
  local words = said.first[1] and table.concat(said.first, "; ") or said.last
  raise("remote", ("%s %s%s: %s"):format(name_of(o, program), how, count, words), (wanted.jobs and HALF or NOTHING):format(wanted.into),
    { status = ended.status, signal = ended.signal })
end

-- Everything into it, and then the source must have ended well. For text the transaction is ours: COMMIT goes only after the last line of a
-- dump that is whole.
local function pour(o, what, command, heard)
  local source, facts, wanted, into = what.source, what.facts, what.wanted, command:stdin()
  if facts.format == "plain" then raise.check(into:write("BEGIN;\n")) end
  local moved = pipe.move(o.context, source.stream, into, { from = source.name, to = "the restore", total = source.total, text = "restore of " .. source.name,
    within = wanted.within, stall = wanted.stall, expand = facts.compression, ahead = what.head })
  local wrong = archive.cut(facts, moved.tail, moved.written)
  if wrong then raise("invalid", ("%s is not whole: %s"):format(source.name, wrong), NOTHING:format(wanted.into)) end
  if wanted.sha256 and wanted.sha256 ~= moved.sha256 then
    raise("invalid", source.name .. " is not what was made: its SHA-256 is another", ("Drop \"%s\": what was restored of it cannot be trusted."):format(wanted.into))
  end
  sources.finish(source, heard)
  if facts.format == "plain" then raise.check(into:write("COMMIT;\n")) end
  raise.check(into:shut())
  return moved
end

-- Did its own end break? Then the program has something to say, and is asked first. Else it must not take half for the whole.
local function is_its_own(err) return type(err) == "table" and (err.to_status == "failed" or err.code == "closed") end

-- What lies beside it is opened by its name; nothing goes in.
local function let_read(_, what, command)
  raise.check(command:stdin():shut())
  return what.staged.moved
end

local function run(o, what, command)
  local begun, printed, said = task.now_ms(), pipe.drain(command:stdout()), listen(command:stderr())
  local heard = not what.staged and sources.listen(what.source) or nil
  local ok, moved = pcall(what.staged and let_read or pour, o, what, command, heard)
  if not ok and not is_its_own(moved) then
    command:stop()
    error(moved, 0)
  end
  local ended = raise.check(command:wait())
  local _, words = said:join()
  printed:join()
  judge(o, what.program, what.wanted, ended, words)
  if not ok then error(moved, 0) end
  moved.tail, moved.format, moved.seconds = nil, what.facts.format, (task.now_ms() - begun + 999) // 1000
  return moved
end

-- ---- the target ----

local function check(wanted)
  for key in pairs(wanted) do
    if not KNOWN[key] then
      raise("usage", ("restore has no option \"%s\""):format(tostring(key)), "It has from, into, format, sha256, no_owner, within, stall, jobs and stage.")
    end
  end
  if type(wanted.into) ~= "string" or wanted.into == "" then raise("usage", "a restore needs into: the name of an empty database") end
end

--- Is it a name of `scratch`, of this very run?
local function is_scratch(o, name)
  local id = tools.run_of(o)
  return id ~= "" and name:sub(-#id - 2) == "__" .. id
end

-- A preview does not make it, and what nobody made is empty.
local function is_made_in_preview(o, top, name)
  return guard.mode() == "plan" and is_scratch(o, name) and guard.withheld(reads.subject(o.methods.on(top, name))) ~= nil
end

-- An empty database, made when it is this run's scratch and not there. What several sessions left in it is half of something.
local function prepare(o, wanted)
  local top = o.parent or o
  if is_made_in_preview(o, top, wanted.into) then return end
  if not reads.exists(top, wanted.into) then
    if not is_scratch(o, wanted.into) then
      raise("usage", ("there is no database \"%s\" to restore into"):format(wanted.into), "Make it first: db:create_database(\"…\", { template = \"template0\" }).")
    end
    writes.create_database(top, wanted.into, { template = "template0" })
    if guard.mode() == "plan" then return end
  end
  local things = shape.things(o.methods.on(top, wanted.into))
  if things > 0 and wanted.jobs then
    writes.drop_database(top, wanted.into)
    writes.create_database(top, wanted.into, { template = "template0" })
  elseif things > 0 then
    raise("refused", ("\"%s\" is not empty: there are %d things in it"):format(wanted.into, things),
      "A restore onto what is there leaves a mixture of both. Restore into a new database, and put it in place of the other one.")
  end
end

-- The gate of the database's own connection is asked first: whose host may be written to, and when, is said of the database, not of the machine
-- on which a program runs.
local function ask_gate(there)
  local tx <close> = raise.check(connections.actor(there):begin())
  return tx
end

local function act(o, what)
  local there, preview = o.methods.on(o.parent or o, what.wanted.into), guard.mode() == "plan"
  ask_gate(there)
  local staged <close> = what.wanted.jobs and stages.open(o, what, preview) or nil
  what.staged = staged
  if staged then what.words[#what.words + 1] = staged.path end
  -- A preview must not take the host or the container of the server for changed, only this database.
  local changes = preview and reads.subject(there) or nil
  local command <close> = tools.start(o, what.program, what.words, { application = tools.RESTORING .. tools.run_of(o), changes = changes })
  if not preview then return run(o, what, command) end
  guard.mark(reads.subject(there), task.step())
  return command
end

--- Restore a dump into a database that is there and empty; one that `scratch` named is made when it is not. The dump is known by its content:
--- custom, plain or tar, in gzip or zstd or not; what is cut, or newer than the tools, is refused. All of it is there afterwards, or nothing. With
--- `jobs` so many sessions restore a custom dump side by side, into scratch of this run only: there it may be half, and is dropped before it is tried again.
---@param wanted { from: table|string|userdata, into: string, format: string?, sha256: string?, no_owner: boolean?, within: string?, stall: string?, jobs: integer?, stage: table? }
---   from: { folder, name }, a path of this machine, a stream, or a command that was started; format: what it must be; sha256: what it must have; stage:
---   with jobs, a folder where the tools run, in which the dump lies meanwhile; not needed where it lies in such a folder already
---@return { bytes: integer, sha256: string, written: integer, format: string, seconds: integer } moved a withheld value in a preview
---@effect write
function methods.restore(o, wanted)
  check(wanted)
  if wanted.jobs then stages.check(o, wanted, is_scratch(o, wanted.into)) end
  sources.check_hash(wanted.from, wanted.sha256)
  local source = sources.open(wanted.from)
  local _ <close> = source.own
  local head = sources.head(source)
  local facts = archive.of(head, source.name)
  if wanted.format and wanted.format ~= facts.format then raise("invalid", ("%s is %s, not %s"):format(source.name, facts.format, wanted.format)) end
  local program, words = program_of(facts, wanted)
  archive.check_age(facts, source.name, name_of(o, program), tools.version(o, program))
  prepare(o, wanted)
  return act(o, { source = source, head = head, facts = facts, program = program, words = words, wanted = wanted })
end

return methods
