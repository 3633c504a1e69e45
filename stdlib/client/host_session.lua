--- The session behind a host: opened when it is first needed, by whoever comes first; two tasks that ask at once get the same one.
--
-- The link below (native.ssh) opens a lost connection again by itself, and refuses a machine that then shows another key. Here it is only
-- kept who uses the session, so that a group of many hosts can let those go that nobody is using. A host that has given out a stream
-- (`streaming`) stays open: who reads from it is not seen here.

local M = {}

local duration = require("core.duration")
local guard = require("native.guard")
local native = require("native.ssh")
local raise = require("core.raise")

local function options(o)
  local spec = o.spec
  return { name = o.name, role = o.role, config = spec.config, backend = spec.backend, sudo = spec.sudo or nil,
    connect_ms = spec.connect_within and duration.parse(spec.connect_within) }
end

--- The session, open or opened now. Waits.
---@return userdata session of native.ssh
function M.of(o)
  if o.session then return o.session end
  local made = raise.check(native.open(options(o)))
  if o.session then made:close() else o.session = made end
  if o.group then guard.stands(o.session:card().id, o.group) end
  return o.session
end

--- Use the session for one call, whose results are handed on; `nil, err` is raised. Nobody closes it meanwhile.
---@param fn fun(session: userdata): any ...
function M.use(o, fn)
  o.users = (o.users or 0) + 1
  local results = table.pack(pcall(function () return raise.check(fn(M.of(o))) end))
  o.users = o.users - 1
  if o.after_use then o.after_use() end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- Let the connection go, and with it the lock.
function M.close(o)
  local session = o.session
  o.session = nil
  if session then session:close() end
end

return M
