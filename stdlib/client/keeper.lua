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

--- A short name for what an identity names, the same on every machine.
---@param identity string
---@return string
function M.key(identity) return text.sha256("neap lock " .. identity):sub(1, 16) end

local function words_of(o)
  return ("%s by %s on %s since %s"):format(o.context.application, system.user(), system.host(), system.iso(system.wall_ms()))
end

--- Take it for this run: true, or nil and who has it. In a preview it is only looked at.
---@param o table a bound object with place and context
---@param key string
function M.lock(o, key)
  local session = session_of(o)
  if session then return session:lock(key, words_of(o)) end
  local path = path_of(key) .. ".lock"
  if guard.mode() == "plan" then return keep.look(path) end
  if o.kept then return true end
  local kept, err = keep.lock(path, words_of(o))
  o.kept = kept or o.kept
  if kept then return true end
  return nil, err
end

--- Is the lock still ours?
function M.prove(o, key)
  local session = session_of(o)
  if session then return session:has_lock(key) == true end
  return o.kept ~= nil and o.kept:is_ours()
end

--- The words of the hold, whoever left it; nil when there is none.
function M.held(o, key)
  local session = session_of(o)
  local words, err
  if session then words, err = session:hold_get(key) else words, err = keep.read(path_of(key) .. ".hold") end
  if words == nil and err then error(err, 0) end
  return words
end

--- Leave a hold: the words stay when this run dies.
function M.hold(o, key, words)
  local session = session_of(o)
  if session then return raise.check(session:hold_set(key, words)) end
  return raise.check(keep.write(path_of(key) .. ".hold", words))
end

--- Take the hold away.
function M.release(o, key)
  local session = session_of(o)
  if session then return raise.check(session:hold_clear(key)) end
  return raise.check(keep.clear(path_of(key) .. ".hold"))
end

--- Let a lock of this machine go; a host's goes with its connection.
function M.let_go(o)
  if o.kept then o.kept:close() end
  o.kept = nil
end

return M
