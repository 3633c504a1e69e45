-- For cron: not one byte when all went well; when not, one page of at most forty lines that a person
-- can act on, and whose last line is the command that goes on with the run. It carries the four facts
-- and the newest lines of the step that failed. All went well but the giving back of a target: three lines, for the next run will be refused.
local Story = require "show.story"
local style = require "show.style"

local M = {}
local Quiet = {}
Quiet.__index = Quiet

local page_lines = 40
local evidence_lines = 20

---@param options ViewOptions
---@return table view
function M.new(options)
  return setmetatable({ write = options.write, style = style.new(options), story = Story.new(), tail = {} }, Quiet)
end

local function words_of(e)
  local words = e.body.text
  if e.kind ~= "check" or not words then return words end
  if e.body.ok then return "ok    " .. words end
  return "FAIL  " .. words .. (e.body.actual ~= nil and ": " .. tostring(e.body.actual) or "")
end

-- As they came: most runs never show them.
local function remember(self, e)
  local tail, words = self.tail, words_of(e)
  if not words then return end
  tail[#tail + 1] = words
  if #tail > evidence_lines then table.remove(tail, 1) end
end

local function tail_lines(self)
  local lines = {}
  for _, words in ipairs(self.tail) do
    for _, line in ipairs(self.style:wrap(self.style:clean(words, true), self.style.width - 4)) do lines[#lines + 1] = "    " .. line end
  end
  return table.move(lines, math.max(#lines - evidence_lines + 1, 1), #lines, 1, {})
end

local function head(story, s, what)
  local run = story.run
  return s:wrap(s:clean(("neap: %s (%s) %s"):format(run.title, run.environment or "no environment", what)), s.width)
end

local function command(story, s) return "    " .. s:clean((story.ended.next or {})[1] or ("neap show " .. (story.run and story.run.run or ""))) end

-- Middle of the page: facts are kept from their top, evidence from its end. Their words are loaded when there is a page: most runs have none.
local function page(self)
  local story, s = self.story, self.style
  local top, facts, last = story.run and head(story, s, "did not finish") or {}, require("show.text").facts(story, s), command(story, s)
  local out = {}
  local function add(lines) for _, line in ipairs(lines) do out[#out + 1] = line end end
  add(top)
  add { "" }
  local room = page_lines - #top - 3
  for n, line in ipairs(facts) do if n <= room then out[#out + 1] = line end end
  local left = page_lines - #out - 3
  local tail = tail_lines(self)
  if left > 2 and #tail > 0 then
    add { "", "  last words of the step" }
    for n = math.max(#tail - left + 2, 1), #tail do out[#out + 1] = tail[n] end
  end
  while #out > page_lines - 2 do out[#out] = nil end
  add { "", last }
  return out
end

local function kept(self)
  local out = head(self.story, self.style, "is done, and a target still says that the run keeps it")
  table.move({ "", command(self.story, self.style) }, 1, 2, #out + 1, out)
  return out
end

---@param e table one event
function Quiet:event(e)
  self.story:event(e)
  if e.kind == "step" and e.body.state == "begin" then self.tail = {} end
  if e.kind == "note" or e.kind == "notice" or e.kind == "check" then remember(self, e) end
  if e.kind ~= "end" or (self.story:well() and not e.body.keeps) then return end
  self.write(table.concat(self.story:well() and kept(self) or page(self), "\n") .. "\n")
end

---Earlier records of a run that is resumed: known, not told again.
function Quiet:replay(records)
  for _, e in ipairs(records) do self.story:event(e) end
end

---@param p table
function Quiet:progress(p) self.story:progress(p) end

function Quiet.tick() end
function Quiet.pause() end
function Quiet.resume() end
function Quiet.resize() end
function Quiet.close() end

return M
