--- Copies in one pass between a place and whatever a runbook hands over: a path of this machine, a stream, or a command that was started.
--
-- A command counts as a source with its status: what it printed is only kept when it ended with 0. Half a dump is no dump.

local M = {}

local file = require("native.file")
local guard = require("native.guard")
local pipe = require("client.pipe")
local raise = require("core.raise")

-- Streams and commands are userdata; a withheld one raises here that it is withheld.
local function is_command(from) return type(from) == "userdata" and from.stdout ~= nil and from.wait ~= nil end

--- Is it something to copy from, and not a content?
function M.is_source(value)
  if type(value) ~= "userdata" then return false end
  local ok, pipes = pcall(function () return value.pipe ~= nil or value.stdout ~= nil end)
  return ok and pipes
end

-- "the command ended with status 1: its last words"
local function check_end(command)
  local ended = raise.check(command:wait())
  if ended.signal then raise("remote", ("what was copied is not whole: its command was ended by signal %s"):format(ended.signal)) end
  if ended.status ~= 0 then
    raise("remote", ("what was copied is not whole: its command ended with status %d"):format(ended.status), nil, { status = ended.status })
  end
end

local function move(context, source, to, wanted)
  if not is_command(source) then return pipe.move(context, source, to, wanted) end
  local moved = pipe.move(context, source:stdout(), to, wanted)
  check_end(source)
  return moved
end

--- Copy into a file that `create` opens; it has its name when this returns.
---@param context table of the bound object
---@param from string|userdata
---@param create fun(): userdata
---@param wanted? table see client.pipe
function M.into(context, from, create, wanted)
  if guard.mode() == "plan" then return create() end           -- shown, and withheld
  local opened <close> = type(from) == "string" and raise.check(file.open(from, "r")) or nil
  local total = type(from) == "string" and (raise.check(file.stat(from)) or {}).size or nil
  local to <close> = create()
  local all = { total = total }
  for key, value in pairs(wanted or {}) do all[key] = value end
  local moved = move(context, opened or from, to, all)
  raise.check(to:close())
  return moved
end

--- Copy what `open` gives (a stream, and its size where that is known) to a file of this machine, or into a stream.
---@param context table of the bound object
---@param open fun(): userdata, integer?
---@param to string|userdata
---@param wanted? table see client.pipe
function M.out(context, open, to, wanted)
  if guard.mode() == "plan" and type(to) == "string" then return (raise.check(file.open(to, "w"))) end
  local from, size = open()
  local source <close> = from
  local all = { total = size }
  for key, value in pairs(wanted or {}) do all[key] = value end
  if type(to) ~= "string" then return pipe.move(context, source, to, all) end
  local made <close> = raise.check(file.open(to, "w"))
  local moved = pipe.move(context, source, made, all)
  raise.check(made:close())
  return moved
end

return M
