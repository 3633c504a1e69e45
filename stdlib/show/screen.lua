-- The live step list on a terminal.
--
-- What it promises
--   - A frame is one write, and at most ten frames are drawn in a second; whatever came between two
--     frames is in the next one.
--   - Only lines below the last finished line are ever redrawn. A finished step scrolls away as plain
--     text, so that the scrollback of the terminal is the log of the run.
--   - A resize is handled by counting how many rows the old frame takes at the new width.
--   - No live line is longer than the terminal is wide; the live part never fills the screen.
--   - A terminal that is gone is noticed (write returns nil) and the run goes on without it.
-- States: drawing -> paused (a question is open; nothing is redrawn) -> drawing -> closed.
-- Rejected: the alternate screen (it hides the log), hiding the cursor (a killed run would leave it
-- hidden), a spinner (elapsed time and bytes already move).
local Story = require "show.story"
local card = require "show.card"
local progress = require "show.progress"
local style = require "show.style"
local text = require "show.text"

local M = {}
local Screen = {}
Screen.__index = Screen

local frame_ms = 100

---@class ViewOptions
---@field write fun(text: string): boolean|nil
---@field width? integer
---@field rows? integer
---@field color? boolean
---@field ascii? boolean
---@field clock fun(): integer wall-clock milliseconds
---@field result? fun(text: string) where reported tables go when the standard output is not the terminal

---@param options ViewOptions
---@return table view
function M.new(options)
  return setmetatable({
    write = options.write, clock = options.clock, options = options, style = style.new(options), rows = options.rows or 24,
    story = Story.new(), out = {}, live = {}, picture = "", last_frame = nil, paused = false, dirty = false, gone = false,
  }, Screen)
end

-- Rows the old frame takes now: a terminal that became narrower has wrapped its lines.
local function rows_up(self)
  local rows = 0
  for _, columns in ipairs(self.live) do
    rows = rows + math.max(1, math.ceil(columns / self.style.width))
  end
  return rows
end

local function running_lines(self, step, out)
  local p, now = step.progress, self.clock()
  local inner, indent = self.style, (" "):rep(4 + self.style:mark_width() + #tostring(step.number))
  local evidence = p and inner:clean(p.text or step.note or "") or nil
  local lines = text.step(self.story, step, inner, { now = now, single = true, evidence = evidence })
  for _, line in ipairs(lines) do out[#out + 1] = line end
  if p and p.bytes then
    out[#out + 1] = indent .. inner:paint("cyan", inner:cut(progress.words(p, inner, inner.width - #indent - 1), inner.width - #indent - 1))
  end
end

-- What stands below the last finished line: running steps, then as many pending ones as there is room for.
local function live_lines(self)
  local out = {}
  for _, step in ipairs(self.story:having("running")) do running_lines(self, step, out) end
  local pending = self.story:having("pending")
  local room = math.max(self.rows - #out - 3, 1)
  for n, step in ipairs(pending) do
    if n == room and #pending > room then
      local more = ("    %s and %d more"):format(self.style.ellipsis, #pending - n + 1)
      out[#out + 1] = self.style:paint("dim", self.style:cut(more, self.style.width))
      break
    end
    out[#out + 1] = text.pending(self.story, step, self.style)
  end
  return out
end

local function strip(line) return (line:gsub("\27%[[%d;]*m", "")) end

-- One frame: climb to the first live line, clear to the end, finished lines, live lines.
-- A frame that would look like the one that stands is not written.
local function draw(self, with_live)
  local live = with_live and live_lines(self) or {}
  local picture = table.concat(live, "\n")
  self.last_frame, self.dirty = self.clock(), false
  if #self.out == 0 and picture == self.picture then return end
  local parts, up = {}, rows_up(self)
  if up > 0 then parts[#parts + 1] = ("\27[%dA\r\27[J"):format(up) end
  for _, line in ipairs(self.out) do parts[#parts + 1] = line .. "\n" end
  self.out, self.live = {}, {}
  for _, line in ipairs(live) do
    parts[#parts + 1] = line .. "\n"
    self.live[#self.live + 1] = self.style:columns(strip(line))
  end
  self.picture = picture
  if #parts > 0 and not self.gone and not self.write(table.concat(parts)) then self.gone = true end
end

local function maybe_draw(self)
  self.dirty = true
  if self.paused then return end
  if not self.last_frame or self.clock() - self.last_frame >= frame_ms then draw(self, not self.story.ended) end
end

local function say(self, lines)
  for _, line in ipairs(lines) do self.out[#self.out + 1] = line end
  self.last = lines[#lines] or self.last
end

local on = {}

function on.run(self) say(self, text.head(self.story, self.style)) end

function on.step(self, e)
  if e.body.state ~= "end" then return end
  local step = self.story.by_id[e.step]
  if not step then return end
  say(self, text.step(self.story, step, self.style))
  if #step.tables == 0 then return end
  if self.options.result then return self.options.result(table.concat(text.tables(self.story, step, self.style), "\n") .. "\n") end
  say(self, { "" })
  say(self, text.tables(self.story, step, self.style))
end

function on.resume(self, e)
  say(self, text.head(self.story, self.style))
  local who = ("resumed by %s on %s"):format(e.body.user or "?", e.body.host or "?")
  say(self, { "  " .. self.style:paint("dim", self.style:clean(who)), "" })
  for _, step in ipairs(self.story.steps) do
    if step.status then say(self, text.step(self.story, step, self.style)) end
  end
end

function on.settled(self, e) say(self, text.settled(self.story, e, self.style)) end
function on.notice(self, e) say(self, text.notice(e.body, self.style)) end
function on.signal(self, e) say(self, text.signal(e.body, self.style)) end

on["end"] = function(self)
  say(self, { "" })
  say(self, text.ending(self.story, self.style))
end

---@param e table one event
function Screen:event(e)
  self.story:event(e)
  if on[e.kind] then on[e.kind](self, e) end
  maybe_draw(self)
end

---Earlier records of a run that is resumed: known, not told again.
function Screen:replay(records)
  for _, e in ipairs(records) do self.story:event(e) end
end

---@param p table {step, bytes, total, rate, text}
function Screen:progress(p)
  self.story:progress(p)
  maybe_draw(self)
end

---Draws what is waiting and moves the clocks; called ten times a second while a run goes on.
function Screen:tick()
  if self.paused or self.story.ended and not self.dirty then return end
  if self.dirty or #self.live > 0 then maybe_draw(self) end
end

---Takes the live lines away so that a question can be asked; prints identity cards first.
---@param cards? table[]
---@return boolean shown the other views leave the cards to whoever asks
function Screen:pause(cards)
  for _, target in ipairs(cards or {}) do
    if self.last ~= "" then say(self, { "" }) end
    say(self, card.lines(target, self.style))
  end
  draw(self, false)
  self.paused = true
  return true
end

---Goes on after an answer.
function Screen:resume()
  self.paused = false
  draw(self, true)
end

---@param width integer
---@param rows integer
function Screen:resize(width, rows)
  local options = self.options
  self.style = style.new { width = width, color = options.color, ascii = options.ascii }
  self.rows, self.picture = rows or self.rows, nil
  if not self.paused then draw(self, not self.story.ended) end
end

---Leaves the finished lines on the screen and nothing else.
function Screen:close()
  self.paused = false
  draw(self, false)
end

return M
