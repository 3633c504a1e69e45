-- Events as JSON lines for programs: one event per line, in the order they became durable, with the
-- version of this schema in every line. Within one version fields are only ever added. Progress is
-- not part of it, because it is not recorded.
local json = require "core.json"
local native = require "native.text"
local null = require("native.value").null

local M = {}
local Json = {}
Json.__index = Json

M.schema = 1

---Every kind of event and its fields: the published schema, also printed by `neap help events`.
M.kinds = {
  { "run", "run, runbook, title, why, file, environment, user, uid, host, pid, started, version, params, modules, hash, text, "
    .. "targets, steps" },
  { "resume", "user, host, pid, started" },
  { "step", "state (begin, intent, end), number, attempt; at its end status, ms, note, result, error" },
  { "params", "params: what a runbook inside this one was given" },
  { "check", "text, ok, actual, label (enforced, declared)" },
  { "note", "text" },
  { "table", "title", "columns", "rows", "remark" },
  { "intent", "primitive, target, subject, text, and what the primitive adds as evidence" },
  { "outcome", "intent (the seq it answers), status (ok, failed, unknown)" },
  { "ask", "level (yes, name, manual, failed), question, card, answers" },
  { "answer", "value, by" },
  { "owed", "clause (after, undo)" },
  { "settled", "clause, status" },
  { "told", "state (telling, told, nobody, failed), role, text: what people were told once" },
  { "signal", "name, count, meaning" },
  { "notice", "severity, text, from" },
  { "end", "status (ok, failed, held, unknown, cancelled), exit, failed, message, hint, keeps (a target could not be given back), next" },
}

local options = {
  first = { "schema", "seq", "at", "kind", "step", "body", "run", "runbook", "title", "state", "status", "number", "code",
    "message", "hint" },
  null = null,
  lists = { steps = true, targets = true, modules = true, lines = true, next = true, unseen = true, runs = true },
}

---@param value table
---@return string one line without its line break
function M.line(value)
  return native.redact(json.encode(value, options))   -- a plan and an early error were never in the journal
end

---@param view ViewOptions
---@return table view
function M.new(view)
  return setmetatable({ write = view.write }, Json)
end

---@param e table one event
function Json:event(e)
  self.write(M.line { schema = M.schema, seq = e.seq, at = e.at, kind = e.kind, step = e.step or "", body = e.body } .. "\n")
end

function Json.progress() end
function Json.replay() end
function Json.tick() end
function Json.pause() end
function Json.resume() end
function Json.resize() end
function Json.close() end

return M
