--- Rows that an act takes away, kept so that its undo can put them back.
--
-- They are secrets of the people they are about: one 0600 file for each act in the run's directory, its hash in the journal. The file is
-- durable, and its record too, before the client commits: a run that dies between the two has kept rows that are still there,
-- which putting back finds out. `neap gc` removes the files long before it removes the run.

local M = {}

local clause = require("engine.clause")
local context = require("engine.context")
local journal = require("native.journal")
local raise = require("core.raise")
local system = require("native.system")
local undofile = require("native.undofile")

local function current()
  local c = context.current()
  if not (c and c.run.record) then raise("usage", "rows are kept for the undo of a step, and this is none") end
  return c
end

--- Keep rows for the undo of the running step (and item).
---@param text string what the client wants to be given back
---@param about { target: string, subject: string, from: string, rows: integer }
---@return { file: string, sha256: string, bytes: integer }
function M.keep(text, about)
  local c = current()
  local name = "rows-" .. system.random_id()
  local written = raise.check(undofile.write(c.run.ctx.state, c.run.run_id, name, text))
  c.run.record:event("rows", c.step.id, { file = name, sha256 = written.sha256, bytes = written.bytes, rows = about.rows, target = about.target,
    subject = about.subject, from = about.from, item = clause.key_of(c.item) })
  c.run.record:sync()
  return { file = name, sha256 = written.sha256, bytes = written.bytes }
end

local function read(run, body)
  local text, sha256 = undofile.read(run.ctx.state, run.run_id, body.file)
  if not text then
    local gone = sha256.code == "invalid"
    error(gone and raise.new("refused", ("the %d rows of %s that were kept for undo are gone"):format(body.rows, body.from),
      "neap gc removes them when their time is over; only a backup can bring them back.") or sha256, 0)
  end
  if sha256 ~= body.sha256 then
    raise("refused", ("the rows of %s that were kept for undo have been changed since"):format(body.from), ("The file is %s in the run's directory."):format(body.file))
  end
  return text
end

--- What the running step (and item) kept of a target, the newest first.
---@param subject string
---@return { text: string, file: string, from: string, rows: integer }[]
function M.kept(subject)
  local c, list = current(), {}
  local key = clause.key_of(c.item)
  c.run.record:sync()
  for _, r in ipairs(raise.check(journal.read(c.run.ctx.state, c.run.run_id, 0))) do
    if r.kind == "rows" and r.step == c.step.id and r.body.item == key and r.body.subject == subject then
      table.insert(list, 1, { text = read(c.run, r.body), file = r.body.file, from = r.body.from, rows = r.body.rows })
    end
  end
  return list
end

return M
