--- What the engine asks of a Redis object and runbooks do not: who has it, that it stays ours, and what became of a write whose run died.
--
-- The lock is a key that expires unless it is renewed, the hold one that stays. Both live in the database they guard, so a run that flushes
-- it takes them away: the lock is set again by the next proof, unless somebody was faster, and so is the hold. What cannot be changed
-- needs neither: a replica, and an entry with lock = false.

local connections = require("client.redis_connections")
local raise = require("core.raise")
local reads = require("client.redis_reads")
local system = require("native.system")
local task = require("native.task")

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

-- What CONFIG SET set, as the intent shows it; nil when the intent shows anything else beside it.
local function settings_of(shown)
  local wanted = {}
  for part in ((shown or "") .. "; "):gmatch("(.-); ") do
    local name, value = part:match("^CONFIG SET ([%w-]+) (%S+)$")
    if not name then return nil end
    wanted[#wanted + 1] = { name, value }
  end
  return wanted
end

local function probe_settings(o, wanted)
  local so = 0
  for _, pair in ipairs(wanted) do
    if (reads.read(o, "CONFIG", "GET", pair[1]) or {})[2] == pair[2] then so = so + 1 end
  end
  return so == #wanted and "done" or so == 0 and "not begun" or "half"
end

local POLL_MS <const> = 50

-- A save works in a child of the server. When one ended since, it was done; when none did and none works, it never began, or it failed.
local function probe_save(o, evidence, options)
  local ends = task.now_ms() + (options and options.within_ms or 0)
  while reads.info(o, "persistence").rdb_bgsave_in_progress == 1 do
    if task.now_ms() >= ends then return "running" end
    task.sleep(POLL_MS)
  end
  if not evidence.at then return nil end
  return reads.read(o, "LASTSAVE") * 1000 > evidence.at and "done" or "not begun"
end

--- What became of a write whose run died: a removal by pattern is judged by what still matches, settings by what is set, a save by when the
--- last one ended; of everything else Redis remembers nothing, and the step's own proof or a human must say.
---@param evidence table the intent
---@param options? { within_ms: integer } how long to wait for what still works
---@return string|nil "done", "not begun", "half", "running" or nil: nobody knows
function guardians.probe(o, evidence, options)
  if evidence.primitive == "redis.remove" and evidence.match then return reads.count(o, { match = evidence.match }) == 0 and "done" or "half" end
  if evidence.primitive ~= "redis.write" then return nil end
  if evidence.text == "BGSAVE" then return probe_save(o, evidence, options) end
  local wanted = settings_of(evidence.text)
  return wanted and probe_settings(o, wanted) or nil
end

return guardians
