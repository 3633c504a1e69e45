-- runs.lua: what the specs of the journal share: state directories, small runs, and ways to harm their files.

local journal = require "native.journal"
local suite = require "tests.support.suite"

local M = {}

M.body = {
  runbook = "Restore", environment = "demo", user = "anna", host = "iris",
  targets = { { role = "db", kind = "postgres", id = "pg:1/app" }, { role = "files", kind = "folder", id = "file:/srv" } },
}

--- A state directory that is not there yet, in memory.
---@return string
function M.state() return suite.memory() .. "/state" end

---@return string path of the run's evidence file
function M.evidence(state, run) return state .. "/runs/" .. run .. "/evidence.db" end

--- A run record and `count` notes, durable.
function M.append(j, count)
  j:append("run", "", M.body)
  for i = 1, count do j:append("note", "step-1", { text = "line " .. i }) end
  j:flush()
end

--- A run of `count` notes, sealed with the status, or left open when there is none.
function M.write(state, run, count, status)
  T.run(function()
    local j <close> = assert(journal.create(state, run))
    M.append(j, count)
    if status then assert(j:seal(status)) end
  end)
end

--- Overwrite a file in place, keeping its mode.
function M.overwrite(path, bytes)
  local file = assert(io.open(path, "r+b"))
  assert(file:write(bytes))
  file:close()
end

---@param length integer bytes that are left
function M.cut(path, length) assert(os.execute(("truncate -s %d '%s'"):format(length, path))) end

--- Change one byte.
function M.patch(path, offset, byte)
  local file = assert(io.open(path, "r+b"))
  file:seek("set", offset)
  file:write(string.char(byte))
  file:close()
end

--- The call answered nil and an error with this code: the error.
function M.refused(code, value, err)
  assert(value == nil, "it was not refused")
  assert(err.code == code, ("%s instead of %s: %s"):format(err.code, code, tostring(err)))
  return err
end

--- What the call raises.
function M.raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "it did not raise")
  return err
end

return M
