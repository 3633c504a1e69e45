--- `require` as a runbook sees it: words of the trade (std.NAME), and Lua files beside the runbook.
--
-- A file is text, inside the runbook's folder however it is linked, and nobody else's to write: a module that
-- another user can change is a way into every run that requires it (the rule of ssh and sudo). What was required is journaled with the
-- runbook, so everything is required while declaring: a module that a clause fetched later would be missing from
-- the record that a resume compares.

local M = {}

local file = require("native.file")
local raise = require("core.raise")
local sandbox = require("engine.sandbox")
local system = require("native.system")
local task = require("native.task")
local text_native = require("native.text")

local BYTES = 1024 * 1024
local OTHERS_WRITE = 18 -- 022: the group, everybody

local function check_owner(name, path, stat)
  if stat.uid ~= 0 and stat.uid ~= system.uid() then
    raise("refused", ("require \"%s\": %s belongs to somebody else"):format(name, path), "A module belongs to you or to root.")
  end
  if stat.mode & OTHERS_WRITE ~= 0 then
    raise("refused", ("require \"%s\": others than its owner can write to %s"):format(name, path), "Take it from them: chmod go-w.")
  end
end

-- The text of the module and the path it really has.
local function read(name, folder)
  local wanted = folder .. "/" .. name:gsub("%.", "/") .. ".lua"
  local path, root = system.realpath(wanted), system.realpath(folder)
  local stat = path and file.stat(path)
  if not stat or stat.kind ~= "file" then raise("invalid", ("require \"%s\": there is no %s"):format(name, wanted)) end
  if path:sub(1, #root + 1) ~= (root == "/" and root or root .. "/") then
    raise("refused", ("require \"%s\": %s leads out of the runbook's folder, to %s"):format(name, wanted, path), "Put the file itself there.")
  end
  check_owner(name, path, stat)
  local source, err = file.read(path, { limit = BYTES })
  if not source then error(err, 0) end
  return source, wanted
end

local function std_module(name, word)
  if not word:match("^[%a_]+$") then raise("invalid", ("there is no module \"%s\""):format(name)) end
  local ok, module = pcall(require, "ops." .. word)
  if ok then return type(module) == "table" and sandbox.frozen(name, module) or module end
  if raise.is(module) and module.message:find("no module \"ops." .. word, 1, true) or not raise.is(module) and tostring(module):find("module 'ops", 1, true) then
    raise("invalid", ("there is no module \"%s\""):format(name))
  end
  error(module, 0)
end

-- Reading waits and passes the gate, which refuses while declaring: the engine asks, not the runbook.
local function fetch(name, folder)
  local phase = task.phase("engine")
  local ok, source, path = pcall(read, name, folder)
  task.phase(phase)
  if not ok then error(source, 0) end
  return source, path
end

--- The word `require` for one runbook, and the function that ends its use.
---@param model table its `modules` gets {name, hash, text} of each file
---@param folder string where the runbook lies
---@param environment fun(): table what modules see
---@return fun(name: string): any require
---@return fun() close
function M.words(model, folder, environment)
  local loaded, loading, closed = {}, {}, false
  local function load_file(name)
    if loading[name] then raise("invalid", ("require \"%s\": the module requires itself"):format(name)) end
    loading[name] = true
    local source, path = fetch(name, folder)
    model.modules[#model.modules + 1] = { name = name, hash = text_native.sha256(source), text = source }
    local chunk, err = sandbox.compile(source, path, environment())
    if not chunk then error(err, 0) end
    local module = chunk(name)
    return module == nil and true or module
  end
  local function word(name)
    if loaded[name] ~= nil then return loaded[name] end
    if closed then raise("invalid", ("require \"%s\" in a clause"):format(tostring(name)), "Require it at the top of the file.") end
    local std = type(name) == "string" and name:match("^std%.(.*)$")
    if not std and (type(name) ~= "string" or not name:match("^[%w_][%w_.-]*$") or name:find("..", 1, true)) then
      raise("invalid", ("require \"%s\": not a module's name"):format(tostring(name)), "Use std.NAME, or a file beside the runbook without its .lua.")
    end
    local module
    if std then module = std_module(name, std) else module = load_file(name) end
    loaded[name] = module
    return module
  end
  return word, function () closed = true end
end

return M
