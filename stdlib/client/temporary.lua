--- Files of a folder or a host that do not last: what the ledger says of them, and how they go.
--
--   file       its name is scratch of the run: it goes, and what was begun of it
--   part       any other name, from before it is begun until it is whole: NAME.part goes where nobody writes it any more
--   directory  its name is scratch: it goes once it is empty
--
-- A .part is taken away by beginning the same file anew and giving that up: whoever writes a file holds a lock on its .part, and refuses
-- to take one that somebody writes. So a run that writes the same name at this moment loses nothing.

local M = {}

local raise = require("core.raise")

--- Enter it, where it is temporary: the entry, or nil.
---@param o table the bound object
---@param name string
---@param subject fun(): string what it is, wherever it is seen from
---@param always? boolean its .part too
---@param kind? "file"|"directory"
---@return table|nil
function M.enter(o, name, subject, always, kind)
  local ledger = o.context.ledger
  local scratch = ledger and ledger.is_scratch(name)
  if not scratch and not (always and ledger and ledger.is_kept()) then return nil end
  local entry = { role = o.role, kind = scratch and (kind or "file") or "part", name = name, subject = subject() }
  ledger.enter(entry)
  return entry
end

--- It has its name: nothing of it is left behind.
---@param entry table|nil
function M.whole(o, entry)
  if entry and entry.kind == "part" then o.context.ledger.leave(entry) end
end

--- It was removed.
function M.leave(o, name, subject)
  local ledger = o.context.ledger
  if not (ledger and ledger.is_scratch(name)) then return end
  for _, kind in ipairs { "file", "directory" } do ledger.leave { role = o.role, kind = kind, name = name, subject = subject() } end
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
