--- What the engine asks of a host and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The lock is flock on the host, held as long as the connection lives; the hold is a file that stays. Both are private to the account
-- that logs in (or to the user behind sudo), so whoever else should be excluded must come as the same one.

local guardians = {}

local remote = require("client.folder_remote")
local session = require("client.host_session")
local system = require("native.system")
local temporary = require("client.temporary")
local text = require("native.text")

local function key_of(s) return text.sha256("neap lock " .. s:card().id):sub(1, 16) end

local function ask(o, method, ...)
  local s = session.of(o)
  local value, err = s[method](s, key_of(s), ...)
  if value == nil and type(err) == "table" then error(err, 0) end
  return value
end

local function words_of(o)
  return ("%s by %s on %s since %s"):format(o.context.application, system.user(), system.host(), system.iso(system.wall_ms()))
end

--- Take the host for this run until the connection ends: true, or nil and who has it.
function guardians.lock(o)
  local s = session.of(o)
  return s:lock(key_of(s), words_of(o))
end

--- Is the lock still ours? Asks the host.
function guardians.prove(o) return o.session ~= nil and o.session:has_lock(key_of(o.session)) == true end

--- The text of the hold on the host, whoever left it; nil when there is none.
function guardians.held(o) return ask(o, "hold_get") end

--- Leave a hold: the text stays when this run dies.
function guardians.hold(o, words) return ask(o, "hold_set", words) end

--- Take the hold away.
function guardians.release(o) return ask(o, "hold_clear") end

local FILES <const> = { ["host.put"] = true, ["host.remove"] = true }

--- What became of a write whose run died: "done", "not begun", "half", "running" (with `end_it` a command is ended) or nil: nobody knows.
---@param evidence table the intent
---@param patience { within_ms: integer, end_it: boolean? }
function guardians.probe(o, evidence, patience)
  local s = session.of(o)
  local found, err
  if FILES[evidence.primitive] then
    found, err = s:probe_file(evidence)
    if found == "half" then found = "not begun" end    -- a .part: nothing has the name before it is whole, and the next write replaces it
  else
    found, err = s:probe(evidence, patience)
  end
  if not found and type(err) == "table" then error(err, 0) end
  return found
end

--- Is a file or directory of the ledger, or what was begun of it, still there? Raises {refused} where this is another host.
function guardians.there(o, entry)
  temporary.check(o, entry, session.of(o):card().id .. entry.name)
  return temporary.there(remote.files(o), entry.name, entry, { role = o.role })
end

--- Remove a file of the ledger and what was begun of it, or a directory, which must be empty by then.
---@effect destroy
function guardians.discard(o, entry) temporary.discard(remote.files(o), entry.name, entry, { role = o.role }) end

return guardians
