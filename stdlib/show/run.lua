-- One run in full, from its records: head, what it was given, every step with its checks, its writes
-- and their outcomes, who answered what, and how it ended. `neap show RUN --step 4` is one of these
-- steps with everything that was recorded about it.
local duration = require "core.duration"
local instant = require "core.instant"
local Story = require "show.story"
local text = require "core.text"
local view = require "show.text"

local M = {}

local function add(out, lines)
  for _, line in ipairs(lines) do out[#out + 1] = line end
end

-- One fact about a step under its title: sign, words that wrap, a dim note below.
local function item(page, status, body, note)
  local style, indent = page.style, page.indent
  local out, offset = {}, indent + style:mark_width() + 1
  for n, part in ipairs(style:wrap(body, style.width - offset)) do
    out[n] = (" "):rep(offset) .. part
    if n == 1 then out[1] = (" "):rep(indent) .. style:mark(status) .. " " .. part end
  end
  for _, part in ipairs(note and style:wrap(note, style.width - offset - 2) or {}) do
    out[#out + 1] = (" "):rep(offset + 2) .. style:paint("dim", part)
  end
  return out
end

local function checks(step, page)
  local out, style = {}, page.style
  for _, check in ipairs(step.checks) do
    local note = not check.ok and check.actual ~= nil and "it is " .. style:clean(check.actual, true) or nil
    add(out, item(page, check.ok and "ok" or "failed", style:clean(check.text or ""), note))
  end
  return out
end

local function intents(step, page, full)
  local out, style = {}, page.style
  for _, intent in ipairs(step.intents) do
    local status = intent.outcome and intent.outcome.status or "unknown"
    local note = intent.body.subject and style:clean(intent.body.subject) or ""
    if status == "unknown" then note = note .. "  nobody knows whether it was done" end
    if full and intent.ended then note = note .. "  " .. duration.format(intent.ended - intent.at) end
    local body = style:clean(intent.body.text or intent.body.primitive or "a write", true)
    add(out, item(page, status, body, note ~= "" and note or nil))
  end
  return out
end

local function conversation(story, step, page)
  local out, style = {}, page.style
  for _, talk in ipairs(story.talk) do
    if talk.step == step.id then
      local answer = talk.answer and ("%s (%s)"):format(tostring(talk.answer.value), talk.answer.by or "?") or "not answered"
      add(out, item(page, nil, style:clean(Story.question(talk.body):gsub(":$", "") .. ": " .. answer)))
    end
  end
  return out
end

local function step_lines(story, step, style, full)
  if not step.status then return { view.pending(story, step, style) } end
  local out, page = view.step(story, step, style), { style = style, indent = view.indent(story, style) }
  add(out, conversation(story, step, page))
  add(out, checks(step, page))
  add(out, intents(step, page, full))
  add(out, view.tables(story, step, style))
  if full then
    for _, note in ipairs(step.notes) do add(out, item(page, nil, style:clean(note, true))) end
  end
  return out
end

local function facts_of_run(story, style)
  local run, out = story.run, {}
  local function fact(label, body) add(out, style:labelled(label, style:clean(body), { column = 9 })) end
  fact("runbook", run.file or run.runbook)
  fact("by", ("%s on %s"):format(run.user or "?", run.host or "?"))
  fact("started", instant.stamp(story.began))
  for _, resume in ipairs(story.resumes) do
    fact("resumed", ("%s by %s on %s"):format(instant.stamp(resume.at), resume.by or "?", resume.host or "?"))
  end
  if story.finished then fact("ended", ("%s, after %s"):format(instant.stamp(story.finished), duration.format(story:elapsed()))) end
  for n, name in ipairs(text.keys(run.params or {})) do
    fact(n == 1 and "with" or "", ("%s = %s"):format(name, tostring(run.params[name])))
  end
  out[#out + 1] = ""
  return out
end

---A story told by a list of records.
---@param records table[]
---@return table story
function M.story(records)
  local story = Story.new()
  for _, e in ipairs(records) do story:event(e) end
  return story
end

---@param records table[] all records of the run
---@param style table
---@param options? {step: string, head: string} one step only; the hash of the last record
---@return string[]|nil lines nil when there is no such step
function M.lines(records, style, options)
  options = options or {}
  local story, out = M.story(records), {}
  if not story.run then return { "This journal has no beginning." } end
  if options.step then
    for _, step in ipairs(story.steps) do
      if tostring(step.number) == options.step or step.id == options.step then return step_lines(story, step, style, true) end
    end
    return nil
  end
  add(out, view.head(story, style))
  add(out, facts_of_run(story, style))
  for _, step in ipairs(story.steps) do add(out, step_lines(story, step, style, false)) end
  for n, notice in ipairs(story.notices) do
    if n == 1 then out[#out + 1] = "" end
    add(out, view.notice(notice.body, style))
  end
  out[#out + 1] = ""
  add(out, story.ended and view.ending(story, style) or { "  " .. style:mark("running") .. " not ended" })
  local proof = ("%s, proved by neap journal verify %s"):format(text.count(story.records, "record"), story.run.run)
  if options.head then proof = proof .. ", head " .. options.head:sub(1, 16) end
  out[#out + 1] = ""
  for _, part in ipairs(style:wrap(style:clean(proof), style.width - 2)) do out[#out + 1] = "  " .. style:paint("dim", part) end
  return out
end

return M
