-- The event stream as lines. What the screen lets scroll away, what a log file keeps and what `neap
-- show` prints are these lines and no others. Each function takes a story (or a part of one) and a
-- style and returns painted lines that fit the width: nothing here writes.
local card = require "show.card"
local duration = require "core.duration"
local failure = require "show.failure"
local grid = require "show.grid"
local text = require "core.text"

local M = {}

local time_width = 11

local said = {
  already = "already so", skipped = "skipped", undone = "undone", unknown = "nobody can say whether it was done",
  held = "held", cancelled = "stopped by the operator",
}

-- Columns of a step line: indent, sign, number, title, evidence, time. The title column is as wide as
-- the longest title, but leaves half of the line to the evidence.
local function columns_of(story, style)
  local number, title = 1, 12
  for _, step in ipairs(story.steps) do
    number = math.max(number, style:columns(tostring(step.number)))
    title = math.max(title, style:columns(style:clean(step.title)))
  end
  local left = 2 + style:mark_width() + 1 + number + 2
  return { number = number, left = left, title = math.min(title, math.max(24, style.width // 2 - left)) }
end

---Column at which the titles of a story begin; what belongs to a step is indented so far.
---@return integer
function M.indent(story, style)
  return columns_of(story, style).left
end

local function evidence_of(step)
  local note = step.note
  if step.status == "failed" and step.error then note = step.error.message end
  local word = said[step.status]
  if word and note then return word .. ": " .. note end
  return note or word or ""
end

local function time_of(step, now)
  if step.status == "running" then
    local elapsed = now and step.began and now - step.began or 0
    return elapsed >= 1000 and duration.format(elapsed // 1000 * 1000) or ""
  end
  if step.status == "already" or step.status == "skipped" or not step.ms then return "" end
  return duration.format(step.ms)
end

local evidence_paint = { failed = "red", unknown = "yellow", held = "yellow", cancelled = "yellow", already = "dim" }

-- The evidence below the title, when it does not fit beside it.
local function below(out, evidence, columns, style, paint)
  local indent = columns.left + 3
  for n, part in ipairs(style:wrap(evidence, style.width - indent - 1)) do
    local lead = n == 1 and style:say("└") or ""
    out[#out + 1] = (" "):rep(columns.left) .. style:paint("dim", style:pad(lead, 3)) .. style:paint(paint, part)
  end
end

---One step as a line, or as two and more when its evidence does not fit beside the title.
---@param story table
---@param step table
---@param style table
---@param options? {now: integer, evidence: string, single: boolean}
---@return string[]
function M.step(story, step, style, options)
  options = options or {}
  local columns = columns_of(story, style)
  local head = "  " .. style:mark(step.status) .. " " .. style:paint(step.status == "running" and "bold" or "dim",
    style:lead(tostring(step.number), columns.number)) .. "  "
  local title, time = style:clean(step.title), time_of(step, options.now)
  local evidence = options.evidence or style:clean(evidence_of(step))
  local paint = evidence_paint[step.status]
  local title_paint = step.status == "running" and "bold" or step.status == "failed" and "bold" or nil
  local room = style.width - columns.left
  if options.single then title = style:cut(title, room - (time ~= "" and #time + 2 or 0)) end
  local beside = room - columns.title - 2 - time_width
  if style:columns(title) <= columns.title and style:columns(evidence) <= beside then
    local line = head .. style:paint(title_paint, title)
    if evidence == "" and time == "" then return { line } end
    line = line .. (" "):rep(columns.title - style:columns(title) + 2) .. style:paint(paint, evidence)
    if time == "" then return { line } end
    return { line .. (" "):rep(beside - style:columns(evidence)) .. style:lead(time, time_width) }
  end
  local out, time_room = {}, time ~= "" and #time + 2 or 0
  for n, part in ipairs(style:wrap(title, room - time_room)) do
    local gap = n == 1 and time ~= "" and style:lead(time, room - style:columns(part)) or ""
    out[#out + 1] = (n == 1 and head or (" "):rep(columns.left)) .. style:paint(title_paint, part) .. gap
  end
  if evidence ~= "" then below(out, evidence, columns, style, paint) end
  return out
end

---The tables a step reported.
---@return string[]
function M.tables(story, step, style)
  local out = {}
  for _, one in ipairs(step.tables) do
    for _, line in ipairs(grid.lines(one, style, M.indent(story, style))) do out[#out + 1] = line end
  end
  return out
end

---A step that has not begun, dim, with what it destroys.
---@return string one line
function M.pending(story, step, style)
  local columns = columns_of(story, style)
  local head = (" "):rep(3 + style:mark_width()) .. style:lead(tostring(step.number), columns.number) .. "  "
  local title = style:clean(step.title)
  if step.destroys then title = style:pad(title, columns.title) .. "  " .. "destroys " .. style:clean(step.destroys) end
  return style:paint("dim", head .. style:cut(title, style.width - columns.left))
end

---The head of a run: title, run, who, where, and the identity of every target.
---@return string[]
function M.head(story, style)
  local run = story.run
  local where = table.concat({ "run " .. run.run, run.environment or "no environment", run.user }, " · ")
  local out = style:ends(style:clean(run.title), style:clean(where), "bold", "dim")
  local targets = card.list(run.targets or {}, style)
  if #targets > 0 then out[#out + 1] = "" end
  for _, line in ipairs(targets) do out[#out + 1] = line end
  out[#out + 1] = ""
  return out
end

local function numbers_of(steps)
  local list = {}
  for _, step in ipairs(steps) do list[#list + 1] = tostring(step.number) end
  return list
end

local function steps_named(steps)
  if #steps == 0 then return nil end
  return (#steps == 1 and "step " or "steps ") .. text.join(numbers_of(steps))
end

local function sentence(out, steps, one, many)
  local who = steps_named(steps)
  if who then out[#out + 1] = who .. " " .. (#steps == 1 and one or many) end
end

local function unknown_writes(out, story)
  for _, intent in ipairs(story:doubtful()) do
    local step = story.by_id[intent.step]
    out[#out + 1] = ("step %s began \"%s\" and nobody knows whether it was done"):format(
      tostring(step and step.number or "?"), intent.body.text or intent.body.primitive or "a write")
  end
end

local function any_debt(story)
  for _, debt in ipairs(story.owed) do
    if debt.clause == "after" then return true end
  end
  return false
end

-- How far a failed step came, by the outcomes of its writes.
local function how_far(step)
  local done = 0
  for _, intent in ipairs(step.intents) do
    if intent.outcome and intent.outcome.status == "ok" then done = done + 1 end
  end
  if #step.intents == 0 then return "changed nothing" end
  return done == 0 and "failed in its first write" or "failed after " .. text.count(done, "write")
end

-- A step of a run that died has begun when it wrote, though nobody has said yet how it ended.
local function not_begun(story)
  local list = {}
  for _, step in ipairs(story:having("pending")) do
    if #step.intents == 0 then list[#list + 1] = step end
  end
  return list
end

---What state things are in, one fact per line, from the records alone.
---@return string[] plain sentences, not yet cleaned
function M.state(story)
  local out, done = {}, story:having("ok")
  for _, step in ipairs(story:having("already")) do done[#done + 1] = step end
  table.sort(done, function(a, b) return (tonumber(a.number) or 0) < (tonumber(b.number) or 0) end)
  sentence(out, done, "is done", "are done")
  sentence(out, story:having("undone"), "was undone", "were undone")
  sentence(out, story:having("skipped"), "was skipped", "were skipped")
  unknown_writes(out, story)
  for _, step in ipairs(story:having("failed")) do
    out[#out + 1] = ("step %s %s"):format(tostring(step.number), how_far(step))
  end
  for _, debt in ipairs(story.owed) do
    local step = story.by_id[debt.step]
    if debt.clause == "after" and step then
      local how = debt.settled == "ok" and "has run" or debt.settled and "failed and is still owed" or "is still owed"
      out[#out + 1] = ("the \"after\" of step %s (%s) %s"):format(tostring(step.number), step.title, how)
    end
  end
  for _, owed in ipairs(not any_debt(story) and story.ended and story.ended.owes or {}) do out[#out + 1] = "still owed: the " .. owed end
  sentence(out, story:having("held"), "waits for a human", "wait for a human")
  sentence(out, story:having("running"), "had begun and did not end", "had begun and did not end")
  sentence(out, story:having("cancelled"), "was stopped before its end", "were stopped before their end")
  sentence(out, not_begun(story), "has not begun", "have not begun")
  return out
end

local function tally(story)
  local done, already = #story:having("ok"), #story:having("already")
  local parts = { text.count(done, "step") .. " done" }
  if already > 0 then parts[#parts + 1] = already .. " already so" end
  local skipped = #story:having("skipped")
  if skipped > 0 then parts[#parts + 1] = skipped .. " skipped" end
  return text.join(parts) .. " in " .. duration.format(story:elapsed())
end

local headlines = {
  failed = "failed", held = "held", unknown = "stopped with an unknown outcome", cancelled = "stopped by the operator", abandoned = "given up",
}

local function what_failed(story, style)
  local step = story:failed()
  local ended = story.ended
  local err = step and step.error or { message = ended.message or "no reason was recorded", hint = ended.hint, where = ended.where,
    sqlstate = ended.sqlstate }
  local inner = setmetatable({ width = style.width - 2 }, { __index = style })
  local out = {}
  local lines = failure.lines(err, inner, { step = step and step.number, source = story.run and story.run.text })
  for _, line in ipairs(lines) do out[#out + 1] = "  " .. line end
  return out
end

local function append(out, lines)
  for _, line in ipairs(lines) do out[#out + 1] = line end
end

-- A run that somebody stopped has not failed: its headline says all.
local function was_stopped(story, step)
  return story.ended.code == "cancelled" and story.ended.status == "cancelled" and (not step or step.status == "cancelled")
end

---The four facts: what failed, what state things are in, the next command, where the details are.
---@return string[]
function M.facts(story, style)
  local run, ended, step = story.run or { run = "?" }, story.ended, story:failed()
  local head = ("%s after %s"):format(headlines[ended.status] or ended.status, duration.format(story:elapsed()))
  if step then head = ("step %s %s: %s"):format(tostring(step.number), head, style:clean(step.title)) end
  local out = { "  " .. style:mark(ended.status) .. " " .. style:paint("bold", style:cut(head, style.width - style:mark_width() - 3)), "" }
  if not was_stopped(story, step) then
    append(out, what_failed(story, style))
    out[#out + 1] = ""
  end
  local state = M.state(story)
  for n, fact in ipairs(state) do append(out, style:labelled(n == 1 and "state" or "", style:clean(fact), { column = 7 })) end
  local next_steps = ended.next or {}
  for n, command in ipairs(next_steps) do
    append(out, style:labelled(n == 1 and "next" or "", style:clean(command), { column = 7, paint = "bold" }))
  end
  append(out, style:labelled("details", "neap show " .. style:clean(run.run), { column = 7 }))
  return out
end

local function undone(story)
  local count = #story:having("undone")
  return (count > 0 and text.count(count, "step") .. " undone" or "nothing was left to undo") .. " in " .. duration.format(story:elapsed())
end

---How the run ended: one line when all is well, the four facts when not.
---@return string[]
function M.ending(story, style)
  local ended = story.ended
  if not story:well() then return M.facts(story, style) end
  local line = ended.status == "undone" and undone(story) or tally(story)
  local details = story.run and ("neap show " .. story.run.run) or ""
  local lines = style:ends((" "):rep(3 + style:mark_width()) .. line, style:clean(details), nil, "dim")
  lines[1] = "  " .. style:mark("ok") .. lines[1]:sub(3 + style:mark_width())
  append(lines, ended.message and style:wrap("    " .. style:clean(ended.message), style.width) or {})
  return lines
end

---A notice (a lost terminal, a slow lock, words from a server) as lines.
---@return string[]
function M.notice(body, style)
  local from = body.from and body.from ~= "" and style:clean(body.from) .. ": " or ""
  return style:labelled("  " .. (body.severity or "note"), from .. style:clean(body.text or "", true),
    { indent = 2, column = 9, label_paint = body.severity == "warning" and "yellow" or "dim" })
end

---An `undo` or an `after` that has run: a step line for what was undone, words for what failed, and
---nothing for an `after` that did what it should.
---@return string[]
function M.settled(story, e, style)
  local step = story.by_id[e.step]
  if not step then return {} end
  if e.body.status ~= "ok" then
    local why = e.body.error and ": " .. tostring(e.body.error.message) or ""
    return M.notice({ severity = "warning", text = ("the \"%s\" of step %s failed%s"):format(e.body.clause, tostring(step.number), why) }, style)
  end
  return e.body.clause == "undo" and M.step(story, step, style) or {}
end

---A first Ctrl-C and its like.
---@return string[]
function M.signal(body, style)
  return { "  " .. style:paint("yellow", style:clean(("%s: %s"):format(body.name or "signal", body.meaning or "noted"))) }
end

return M
