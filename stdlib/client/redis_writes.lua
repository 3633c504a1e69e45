--- What act, undo and after may do to a Redis database. In a preview each word comes back as a withheld value.

local answer = require("client.answer")
local connections = require("client.redis_connections")
local duration = require("core.duration")
local raise = require("core.raise")

local methods = {}

local function check(value, err)
  if value == nil and err ~= nil then error(err, 0) end
  return value
end

--- Any command that changes something, done once: cache:write("HSET", "user:1", "name", "anna"). What takes data away is refused: see remove.
---@param ... string|number|userdata the command and its arguments; an argument may be a secret
---@return { value: function } answer
---@effect write
function methods.write(o, ...) return answer.of("value", check(connections.actor(o):write(...))) end

--- Any command that takes data away, or may: cache:remove("DEL", "a", "b"), cache:remove "FLUSHDB".
---@param ... string|number the command and its arguments
---@return { value: function } answer
---@effect destroy
function methods.remove(o, ...) return answer.of("value", check(connections.actor(o):remove(...))) end

--- Set a key. `only` "new" or "present": whether it may be there before; `value` of the answer says whether it was set.
---@param key string
---@param value string|number|userdata a secret may be one
---@param wanted? { expires: string?, only: "new"|"present"|nil, keep_expiry: boolean? } expires: "1h"
---@return { value: function } answer
---@effect write
function methods.set(o, key, value, wanted)
  wanted = wanted or {}
  local words = { "SET", key, value }
  if wanted.expires then
    words[#words + 1] = "PX"
    words[#words + 1] = duration.parse(wanted.expires)
  end
  if wanted.keep_expiry then words[#words + 1] = "KEEPTTL" end
  if wanted.only == "new" then words[#words + 1] = "NX"
  elseif wanted.only == "present" then words[#words + 1] = "XX"
  elseif wanted.only then raise("usage", "only is \"new\" or \"present\"") end
  local done = check(connections.actor(o):write(table.unpack(words)))
  return answer.of("value", type(done) == "userdata" and done or done == "OK")
end

--- Several commands at once, with nothing between them (MULTI … EXEC): a list of their answers. When a word is wrong none is done; one that
--- fails alone is an error table in the list. With a command that takes data away the whole does.
---@param commands table[] { { "SET", "a", 1 }, { "INCR", "b" } }
---@return any[]
---@effect write
function methods.transaction(o, commands) return check(connections.actor(o):transaction(commands)) end

--- Remove every key that matches, page by page, in constant memory, while others go on working: { removed =, seen =, arrived = }. Keys
--- that came meanwhile may be left: `arrived` says how many match afterwards. With `max_keys` they are counted first, and more are refused.
---@param wanted { match: string, max_keys: integer?, count: integer?, pause: string? } count: keys a page, 1000; pause between pages
---@return { removed: integer, seen: integer, arrived: integer }
---@effect destroy
function methods.remove_matching(o, wanted)
  if type(wanted) ~= "table" or type(wanted.match) ~= "string" then raise("usage", "remove_matching needs a pattern: { match = \"session:*\" }") end
  local connection = connections.actor(o)
  local following <close> = o.context.progress and o.context.progress(function ()
    local removed, total = connection:removed()
    return removed, total, "keys"
  end)
  return check(connection:remove_matching {
    match = wanted.match, max_keys = wanted.max_keys, count = wanted.count, pause_ms = wanted.pause and duration.parse(wanted.pause),
    spare = connections.own_keys(o),
  })
end

return methods
