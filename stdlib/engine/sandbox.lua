--- What a runbook's code can see: allow-lists, and the few functions that had to be replaced.
--
-- Promise: the environment holds no way to a file, a process, a socket, a binary chunk or the
-- debug library except through target roles and words, all of which pass the gate. `pcall` gives back what is
-- not the runbook's to catch (cancelled, refused, journal, withheld): a preview that swallowed a
-- withheld value, or a run that swallowed Ctrl-C, would lie.
--
-- Rejected: removing names from _G. What is not listed here does not exist, also in the Lua of next year.

local M = {}

local raise = require("core.raise")
local task = require("native.task")
local text = require("core.text")

local DECLARE_MS, DECLARE_BYTES = 500, 32 * 1024 * 1024
local RUN_MS, RUN_BYTES = 10000, 256 * 1024 * 1024

local FUNCTIONS = {
  "assert", "error", "ipairs", "next", "pairs", "select", "tonumber", "tostring", "type", "rawequal", "rawlen",
}

local LIBRARIES = {
  string = { "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "pack", "packsize", "rep",
    "reverse", "sub", "unpack", "upper" },
  table = { "concat", "insert", "move", "pack", "remove", "sort", "unpack" },
  math = { "abs", "ceil", "floor", "fmod", "huge", "max", "maxinteger", "min", "mininteger", "modf", "pi", "tointeger",
    "type", "ult", "sqrt", "exp", "log" },
  utf8 = { "char", "charpattern", "codepoint", "codes", "len", "offset" },
}

local NOT_CAUGHT = { cancelled = true, refused = true, journal = true, withheld = true, memory = true }

--- Is this error one that a runbook may not catch?
---@param err any
---@return boolean
function M.is_fatal(err)
  if raise.is_memory(err) then return true end
  return type(err) == "table" and (NOT_CAUGHT[rawget(err, "code")] == true or rawget(err, "fatal") == true)
end

local function give_back(ok, ...)
  if not ok and M.is_fatal((...)) then error((...), 0) end
  return ok, ...
end

local function guarded_pcall(f, ...)
  return give_back(pcall(f, ...))
end

local function guarded_xpcall(f, handler, ...)
  return give_back(xpcall(f, function (err)
    if M.is_fatal(err) then return err end
    return handler(err)
  end, ...))
end

local FORBIDDEN = { __gc = "it would run after the journal is closed", __mode = "a run must not depend on the collector",
  __metatable = "metatables stay readable" }

local own = setmetatable({}, { __mode = "k" })

local function guarded_setmetatable(t, meta)
  if type(meta) == "table" then
    for field, why in pairs(FORBIDDEN) do
      if rawget(meta, field) ~= nil then raise("usage", ("setmetatable: %s is not allowed: %s"):format(field, why)) end
    end
  end
  if meta ~= nil then own[meta] = true end
  return setmetatable(t, meta)
end

-- Only metatables that the runbook set: those of results and errors are shared by everybody.
local function guarded_getmetatable(t)
  local meta = type(t) == "table" and getmetatable(t)
  return meta and own[meta] and meta or nil
end

--- A view of a table that nobody can change.
---@param name string for the message
---@param members table
---@return table
function M.frozen(name, members)
  return setmetatable({}, {
    __index = members,
    __newindex = function () raise("usage", ("%s cannot be changed"):format(name)) end,
    __pairs = function () return next, members, nil end,
    __metatable = false,
  })
end

local function library(name, members)
  local copy, source = {}, _G[name]
  for _, member in ipairs(members) do copy[member] = source[member] end
  return copy
end

--- The words and functions every runbook file sees, before the declaring words are added.
---@return table
function M.functions()
  local env = { _VERSION = _VERSION }
  for _, name in ipairs(FUNCTIONS) do env[name] = _G[name] end
  for name, members in pairs(LIBRARIES) do env[name] = M.frozen(name, library(name, members)) end
  env.pcall, env.xpcall = guarded_pcall, guarded_xpcall
  env.setmetatable, env.getmetatable = guarded_setmetatable, guarded_getmetatable
  return env
end

--- Strings' methods (`("x"):rep`) are the same allow-list, frozen, for the whole process.
function M.freeze_strings()
  local meta = getmetatable("")
  if type(meta) ~= "table" then return end
  meta.__index = library("string", LIBRARIES.string)
  meta.__metatable = false
end

--- Make the environment, and strings as safe as it: unknown names raise with the nearest right one, globals cannot be made.
---@param words table<string, any> the declaring words of this kind of file
---@param what string "runbook" or "inventory", for messages
---@return table environment
function M.environment(words, what)
  local known = M.functions()
  for name, word in pairs(words) do known[name] = word end
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  known._G = nil
  M.freeze_strings()
  return setmetatable({}, {
    __index = function (_, name)
      local word = known[name]
      if word ~= nil then return word end
      local near = text.nearest(tostring(name), names)
      raise("invalid", ("\"%s\" is not a name that a %s knows"):format(tostring(name), what), near and ("Did you mean %s?"):format(near))
    end,
    __newindex = function (_, name)
      raise("invalid", ("\"%s\" would be a global"):format(tostring(name)), "Write local before it.")
    end,
    __metatable = false,
  })
end

--- Compile text (never a binary chunk) in an environment.
---@param source string
---@param name string chunk name as people know the file
---@param environment table
---@return function|nil chunk
---@return table|nil err
function M.compile(source, name, environment)
  local chunk, message = load(source, "@" .. name, "t", environment)
  if chunk then return chunk end
  local where, what = message:match("^(.-:%d+): (.*)$")
  return nil, raise.new("invalid", what or message, nil, { where = where })
end

--- What a run may use from now on: memory, and time without waiting for anything.
function M.limit()
  task.limit { memory = RUN_BYTES, run_ms = RUN_MS }
end

--- Call a chunk that only declares: every primitive refuses, and time and memory are bounded, because a list must not cost what
--- a run may. The time is what it computes, also between the reads of its modules: a machine that stood still, or is slow tonight, refuses
--- nobody's runbook.
---@param chunk function
---@return boolean ok
---@return any err
function M.bounded(chunk)
  local phase, before = task.phase("declare"), task.limit {}
  task.limit { memory = before.used + DECLARE_BYTES, run_ms = DECLARE_MS, whole = true }
  local ok, err = pcall(chunk)
  task.limit { memory = before.memory, run_ms = before.run_ms, whole = before.whole }
  task.phase(phase)
  return ok, err
end

return M
