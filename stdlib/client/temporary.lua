--- What does not last: what the ledger says of it; and how files of a folder or a host go.
--
--   file       its name is scratch of the run: it goes, and what was begun of it
--   part       any other name, from before it is begun until it is whole: NAME.part goes where nobody writes it any more
--   directory  its name is scratch: it goes once it is empty
--
-- A .part is taken away by beginning the same file anew and giving that up: whoever writes a file holds a lock on its .part, and refuses
-- to take one that somebody writes. So a run that writes the same name at this moment loses nothing.

local M = {}

local raise = require("core.raise")

--- The entry of a thing whose name is scratch of this run; nil for every other.
---@param o table the bound object
---@param kind string
---@param name string
---@param subject fun(): string what it is, wherever it is seen from
---@return table|nil
function M.scratch(o, kind, name, subject)
  local ledger = o.context.ledger
  if not (ledger and type(name) == "string" and ledger.is_scratch(name)) then return nil end
  return { role = o.role, kind = kind, name = name, subject = subject() }
end

--- Enter it, where it is temporary: the entry, or nil.
---@param o table the bound object
---@param name string
---@param subject fun(): string what it is, wherever it is seen from
---@param always? boolean its .part too
---@param kind? "file"|"directory"
---@return table|nil
function M.enter(o, name, subject, always, kind)
  local ledger, entry = o.context.ledger, M.scratch(o, kind or "file", name, subject)
  if not entry and always and ledger and ledger.is_kept() then entry = { role = o.role, kind = "part", name = name, subject = subject() } end
  if entry then ledger.enter(entry) end
  return entry
end

--- It has its name: nothing of it is left behind.
---@param entry table|nil
function M.whole(o, entry)
  if entry and entry.kind == "part" then o.context.ledger.leave(entry) end
end

--- It was removed.
function M.leave(o, name, subject)
  for _, kind in ipairs { "file", "directory" } do
    local entry = M.scratch(o, kind, name, subject)
    if entry then o.context.ledger.leave(entry) end
  end
end

--- Raises {refused} where `subject` is not what was entered.
function M.check(o, entry, subject)
  if subject == entry.subject then return end
  raise("refused", ("\"%s\" is not where %s was made: that was %s"):format(o.role, entry.name, entry.subject), "Somebody moved the target, or the inventory has changed.")
end

--- Is it there, or what was begun of it?
---@return boolean
function M.there(files, path, entry, options)
  local found = entry.kind ~= "part" and raise.check(files.stat(path, options))
  return (found or entry.kind ~= "directory" and raise.check(files.stat(path .. ".part", options))) and true or false
end

--- Remove it, and what was begun of it.
function M.discard(files, path, entry, options)
  if entry.kind ~= "directory" and raise.check(files.stat(path .. ".part", options)) then
    local anew = raise.check(files.open(path, "w", options))
    anew:close(false)
  end
  if entry.kind ~= "part" and raise.check(files.stat(path, options)) then raise.check(files.remove(path, options)) end
end

return M
