--- Copies in one pass between a place and whatever a runbook hands over: a path of this machine, a stream, or a command that was started.
--
-- A command counts as a source with its status: what it printed is only kept when it ended with 0. Half a dump is no dump.

local M = {}

local file = require("native.file")
local guard = require("native.guard")
local pipe = require("client.pipe")
local raise = require("core.raise")
local result = require("client.result")

-- Streams and commands are userdata; a withheld one raises here that it is withheld.
local function is_command(from) return type(from) == "userdata" and from.stdout ~= nil and from.wait ~= nil end

--- Is it something to copy from, and not a content?
function M.is_source(value)
  if type(value) ~= "userdata" then return false end
  local ok, pipes = pcall(function () return value.pipe ~= nil or value.stdout ~= nil end)
  return ok and pipes
end

-- What an error calls it. A command says "pg_dump in db (running)" of itself.
local function name_of(from)
  if type(from) == "string" then return from end
  return is_command(from) and tostring(from):gsub(" %b()$", "") or nil
end

-- What it says meanwhile is read, too: a command that nobody listens to stops when it has said enough, and its last words tell why it failed.
local function move(context, source, to, wanted)
  if not is_command(source) then return pipe.move(context, source, to, wanted) end
  local said = pipe.drain(source:stderr())
  local ok, moved = pcall(pipe.move, context, source:stdout(), to, wanted)
  if not ok then
    said:cancel("the copy has failed")
    said:join()
    error(moved, 0)
  end
  local ended = raise.check(source:wait())
  local _, words = said:join()
  result.of("what was copied is not whole: " .. wanted.from, { status = ended.status, signal = ended.signal, err = words, out = "" })
  return moved
end

--- Copy into a file that `create` opens; it has its name when this returns.
---@param context table of the bound object
---@param from string|userdata
---@param create fun(): userdata
---@param name string what an error calls the file
---@param wanted? table see client.pipe
function M.into(context, from, create, name, wanted)
  if guard.mode() == "plan" then return create() end           -- shown, and withheld
  local opened <close> = type(from) == "string" and raise.check(file.open(from, "r")) or nil
  local total = type(from) == "string" and (raise.check(file.stat(from)) or {}).size or nil
  local to <close> = create()
  local all = { total = total, from = name_of(from), to = name, text = name }
  for key, value in pairs(wanted or {}) do all[key] = value end
  local ok, moved = pcall(move, context, opened or from, to, all)
  if ok then
    raise.check(to:close())
    return moved
  end
  local _, left = to:close(false)
  if left and left.hint and type(moved) == "table" then moved.hint = left.hint end
  error(moved, 0)
end

--- Copy what `open` gives (a stream, and its size where that is known) to a file of this machine, or into a stream.
---@param context table of the bound object
---@param open fun(): userdata, integer?
---@param to string|userdata
---@param name string what an error calls the file that is read
---@param wanted? table see client.pipe
function M.out(context, open, to, name, wanted)
  if guard.mode() == "plan" and type(to) == "string" then return (raise.check(file.open(to, "w"))) end
  local from, size = open()
  local source <close> = from
  local all = { total = size, from = name, to = name_of(to), text = name }
  for key, value in pairs(wanted or {}) do all[key] = value end
  if type(to) ~= "string" then return pipe.move(context, source, to, all) end
  local made <close> = raise.check(file.open(to, "w"))
  local moved = pipe.move(context, source, made, all)
  raise.check(made:close())
  return moved
end

return M
