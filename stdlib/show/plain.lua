-- A run for a log file or a pipe: one line when a step starts, its lines when it ends, and at most
-- one progress line in thirty seconds. No cursor movement, no redrawing; each line begins with the
-- time of day in UTC, because a log is read next to other logs.
local instant = require "core.instant"
local Story = require "show.story"
local progress = require "show.progress"
local style = require "show.style"
local text = require "show.text"

local M = {}
local Plain = {}
Plain.__index = Plain

local progress_ms = 30000
local stamp_width = 10

---@param options ViewOptions
---@return table view
function M.new(options)
  local inner = style.new { width = (options.width or 100) - stamp_width, color = options.color, ascii = options.ascii }
  return setmetatable({ write = options.write, clock = options.clock, style = inner, story = Story.new(), last = {},
    result = options.result, bare = style.new { width = options.width or 100, ascii = options.ascii } }, Plain)
end

local function say(self, at, lines)
  local head, parts = instant.time(at) .. "Z ", {}
  for _, line in ipairs(lines) do parts[#parts + 1] = (head .. line):gsub("%s+$", "") .. "\n" end
  if #parts > 0 then self.write(table.concat(parts)) end
end

local on = {}

function on.run(self, e) say(self, e.at, text.head(self.story, self.style)) end

function on.step(self, e)
  local step, state = self.story.by_id[e.step], e.body.state
  if not step or state == "intent" then return end
  self.last[e.step] = e.at
  say(self, e.at, text.step(self.story, step, self.style))
  if state ~= "end" or #step.tables == 0 then return end
  if self.result then return self.result(table.concat(text.tables(self.story, step, self.bare), "\n") .. "\n") end
  say(self, e.at, text.tables(self.story, step, self.style))
end

function on.settled(self, e) say(self, e.at, text.settled(self.story, e, self.style)) end
function on.notice(self, e) say(self, e.at, text.notice(e.body, self.style)) end
function on.signal(self, e) say(self, e.at, text.signal(e.body, self.style)) end

function on.resume(self, e)
  say(self, e.at, { ("  resumed by %s on %s"):format(self.style:clean(e.body.user or "?"), self.style:clean(e.body.host or "?")) })
end

-- Told to a log and to a watcher; who asks on this very terminal has the question before him.
function on.ask(self, e)
  if self.asks then return end
  say(self, e.at, self.style:labelled("asked", self.style:clean(Story.question(e.body)), { column = 8 }))
end

function on.answer(self, e)
  local by = e.body.by and (" (" .. e.body.by .. ")") or ""
  say(self, e.at, self.style:labelled("answered", self.style:clean(tostring(e.body.value) .. by), { column = 8 }))
end

on["end"] = function(self, e) say(self, e.at, text.ending(self.story, self.style)) end

---@param e table one event
function Plain:event(e)
  self.story:event(e)
  if on[e.kind] then on[e.kind](self, e) end
end

---Earlier records of a run that is resumed: known, not told again.
function Plain:replay(records)
  for _, e in ipairs(records) do self.story:event(e) end
end

---@param p table
function Plain:progress(p)
  self.story:progress(p)
  local step, now = self.story.by_id[p.step], self.clock()
  if not step or now - (self.last[p.step] or 0) < progress_ms then return end
  self.last[p.step] = now
  local facts = progress.words(p, self.style)
  say(self, now, text.step(self.story, step, self.style, { now = now, evidence = facts }))
end

function Plain.tick() end
function Plain.pause() end
function Plain.resume() end
function Plain.resize() end
function Plain.close() end

return M
