--- Locks and holds of targets that cannot remember them: words in files of the machine they stand on.
--
-- A container, a service: whoever changes one from its own machine finds them in a directory of that machine, an flock while a run lives and
-- words in a file while it owes something. What stands on a host is kept there, by whoever logs in, as the host itself is.

local M = {}

local file = require("native.file")
local guard = require("native.guard")
local keep = require("native.keep")
local raise = require("core.raise")
local system = require("native.system")
local text = require("native.text")

local LOCKS <const> = "/run/lock"

-- The host it stands on at last; nil: this machine.
local function host_of(o)
  local place = o.place
  while place and place.kind ~= "host" do place = place.place end
  return place
end

local function session_of(o)
  local host = host_of(o)
  return host and host.ways.session(host)
end

local function path_of(key)
  local there = file.stat(LOCKS)
  local directory = there and there.kind == "directory" and LOCKS or system.env("TMPDIR") or "/tmp"
  return ("%s/neap-%s"):format(directory, key)
end

local function words_of(o)
  return ("%s by %s on %s since %s"):format(o.context.application, system.user(), system.host(), system.iso(system.wall_ms()))
end

--- What the engine asks about locks and holds, for targets of one kind; their own guardians are added to it.
---@param identity fun(o: table): string what names the target, the same on every machine; asked once of each object
---@return table guardians lock, prove, held, hold, release, each of a bound object with place and context
function M.guardians(identity)
  local guardians = {}

  -- A short name for it.
  local function key_of(o)
    o.key = o.key or text.sha256("neap lock " .. identity(o)):sub(1, 16)
    return o.key
  end

  --- Take it for this run: true, or nil and who has it. In a preview it is only looked at.
  function guardians.lock(o)
    local session = session_of(o)
    if session then return session:lock(key_of(o), words_of(o)) end
    local path = path_of(key_of(o)) .. ".lock"
    if guard.mode() == "plan" then return keep.look(path) end
    if o.kept then return true end
    local kept, err = keep.lock(path, words_of(o))
    o.kept = kept or o.kept
    if kept then return true end
    return nil, err
  end

  --- Is the lock still ours?
  function guardians.prove(o)
    local session = session_of(o)
    if session then return session:has_lock(key_of(o)) == true end
    return o.kept ~= nil and o.kept:is_ours()
  end

  --- The words of the hold, whoever left it; nil when there is none.
  function guardians.held(o)
    local session = session_of(o)
    local words, err
    if session then words, err = session:hold_get(key_of(o)) else words, err = keep.read(path_of(key_of(o)) .. ".hold") end
    if words == nil and err then error(err, 0) end
    return words
  end

  --- Leave a hold: the words stay when this run dies.
  function guardians.hold(o, words)
    local session = session_of(o)
    if session then return raise.check(session:hold_set(key_of(o), words)) end
    return raise.check(keep.write(path_of(key_of(o)) .. ".hold", words))
  end

  --- Take the hold away.
  function guardians.release(o)
    local session = session_of(o)
    if session then return raise.check(session:hold_clear(key_of(o))) end
    return raise.check(keep.clear(path_of(key_of(o)) .. ".hold"))
  end

  return guardians
end

--- Let a lock of this machine go; a host's goes with its connection.
function M.let_go(o)
  if o.kept then o.kept:close() end
  o.kept = nil
end

return M
