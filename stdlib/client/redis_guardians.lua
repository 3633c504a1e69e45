--- What the engine asks of a Redis object and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The lock is a key that expires unless it is renewed, the hold one that stays. Both live in the database they guard, so a run that flushes
-- it takes them away: the lock is set again by the next proof, unless somebody was faster, and so is the hold. What cannot be changed
-- needs neither: a replica, and an entry with lock = false.

local connections = require("client.redis_connections")
local raise = require("core.raise")
local reads = require("client.redis_reads")
local system = require("native.system")

local guardians = {}

local function lock_key(o) return connections.own_keys(o)[1] end
local function hold_key(o) return connections.own_keys(o)[2] end

-- Nobody else's value is the same: what is renewed and released is compared first.
local function words_of(o)
  return ("%s by %s on %s since %s (%s)"):format(o.context.application, system.user(), system.host(), system.iso(system.wall_ms()), system.random_id())
end

local function is_only_read(o) return o.spec.lock == false or connections.reader(o):card().state == "slave" end

--- Take the database for this run: true, or nil and who has it.
function guardians.lock(o)
  o.unlocked = is_only_read(o)
  if o.unlocked then return true end
  local ok, err = connections.locker(o):lock(lock_key(o), words_of(o))
  if ok or err.code == "busy" then return ok, err end
  error(raise.new(err.code, ("\"%s\" cannot be locked: %s"):format(o.role, err.message),
    ("Allow the user SET, GET, WATCH, MULTI, EXEC, PEXPIRE and DEL of the keys %s*, choose another prefix, or say lock = false."):format(o.prefix)), 0)
end

--- Is the lock still ours? Asks the server, and renews it. A hold that was flushed is put back.
function guardians.prove(o)
  if is_only_read(o) then return true end
  local connection = o.locking
  if not connection or not connection:is_open() or connection:has_lock() ~= true then return false end
  if o.held_words and connection:hold_get(hold_key(o)) == nil then raise.check(connection:hold_set(hold_key(o), o.held_words)) end
  return true
end

--- The text of the hold on the database, whoever left it; nil when there is none.
function guardians.held(o)
  if is_only_read(o) then return nil end
  local held, err = connections.locker(o):hold_get(hold_key(o))
  if held == nil and err ~= nil then error(err, 0) end
  return held
end

--- Leave a hold: the text stays when this run dies.
function guardians.hold(o, words)
  if is_only_read(o) then return true end
  o.held_words = words
  return raise.check(connections.locker(o):hold_set(hold_key(o), words))
end

--- Take the hold away.
function guardians.release(o)
  if is_only_read(o) then return true end
  o.held_words = nil
  return raise.check(connections.locker(o):hold_clear(hold_key(o)))
end

--- What became of a write whose run died: a removal by pattern is judged by what still matches; of everything else Redis remembers
--- nothing, and the step's own proof or a human must say.
---@param evidence table the intent
---@return string|nil "done", "half" or nil: nobody knows
function guardians.probe(o, evidence)
  if evidence.primitive ~= "redis.remove" or not evidence.match then return nil end
  return reads.count(o, { match = evidence.match }) == 0 and "done" or "half"
end

return guardians
