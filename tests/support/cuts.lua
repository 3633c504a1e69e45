-- cuts.lua: a run that died after any of its records. A whole run of the toy world is recorded; for each number of
-- first records a state directory is made that holds only those, and a world in which only the writes recorded so far
-- have happened. What resume makes of it is compared with the run that nobody disturbed.
--
-- The write that is under way at the cut is tried three ways: it happened and the target says so, it did not happen and the
-- target says so, and (where `unsure` asks for it) nobody can say.

local journal = require "native.journal"
local resume = require "engine.resume"
local run = require "engine.run"
local world = require "tests.support.world"

local M = {}

local function copy(t)
  local other = {}
  for key, value in pairs(t) do other[key] = value end
  return other
end

--- The key and value of a write as the toy words it; nil for what is not a write of the toy.
local function write_of(r)
  if r.kind ~= "intent" then return nil end
  local key, value = r.body.text:match("^set (.-) = (.*)$")
  return key, tonumber(value) or value
end

--- Run to the end and keep what was recorded and written.
---@param book { body: string, before?: table, mend?: table, context?: table, setup?: fun(w: table) } `mend` is what is put right before a resume
function M.whole(book)
  local w = world.new()
  for key, value in pairs(book.before or {}) do w.values[key] = value end
  if book.setup then book.setup(w) end
  local path = w.runbook(book.body)
  local ctx = w.context(book.context)
  ctx.runbook, ctx.share = path, w.dir .. "/share"
  local code, err = w.try(run.run, ctx)
  assert(code, tostring(err))
  local id = w.events[1].body.run
  local records = T.run(function () return assert(journal.read(w.dir .. "/state", id, 0)) end)
  return { world = w, code = code, run = id, records = records, log = w.log, values = w.values }
end

-- The journal of a run that died after its first `n` records.
local function record_cut(state, whole, n)
  T.run(function ()
    require("native.task").phase("engine")
    local j = assert(journal.create(state, whole.run))
    for i = 1, n do j:append(whole.records[i].kind, whole.records[i].step, whole.records[i].body) end
    j:flush()
    j:close()
    assert(journal.index.put(state, { run = whole.run, runbook = "book", environment = "here", user = "u", host = "h", status = "running", targets = {}, started_ms = 1 }))
  end)
end

-- What the world was when the run died: each recorded write happened; the one whose outcome is missing, when `landed`.
local function world_at(book, whole, n, landed)
  local values, log, open, writes = copy(book.before or {}), {}, {}, {}
  local finished = {}
  for i = 1, n do
    local r = whole.records[i]
    if r.kind == "outcome" then finished[r.body.intent] = true end
  end
  for i = 1, n do
    local r = whole.records[i]
    local key, value = write_of(r)
    if key then
      if not finished[r.seq] then open[#open + 1] = key end
      if finished[r.seq] or landed then
        values[key] = value
        writes[#writes + 1] = { key = key, value = value }
        log[#log + 1] = key
      end
    end
  end
  return values, log, open, writes
end

local function answer_of(way)
  return way == "landed" and "done" or way == "lost" and "not begun" or nil
end

--- Resume a run that was cut after `n` records. `way` is "landed", "lost" or "unsure".
---@return table { code=, err=, values=, writes=, log= (before and after), resumed= (after only), open=, events= }
function M.resumed(book, whole, n, way, happened)
  local w = whole.world
  local state = ("%s/cut-%d-%s-%s"):format(w.dir, n, way, tostring(happened))
  record_cut(state, whole, n)
  local values, before, open, writes = world_at(book, whole, n, way == "landed" or happened == true)
  for key in pairs(w.values) do w.values[key] = nil end
  for key, value in pairs(values) do w.values[key] = value end
  for key, value in pairs(book.mend or {}) do w.values[key] = value end
  w.log, w.events, w.writes = {}, {}, {}
  w.held, w.probe = "run " .. whole.run .. " of book by u on h since then", function () return answer_of(way) end
  local ctx = w.context(book.context)
  ctx.state, ctx.run, ctx.share = state, whole.run, w.dir .. "/share"
  local code, err = w.try(resume.run, ctx)
  local log = {}
  for _, key in ipairs(before) do log[#log + 1] = key end
  for _, key in ipairs(w.log) do log[#log + 1] = key end
  table.move(w.writes, 1, #w.writes, #writes + 1, writes)
  return { code = code, writes = writes, err = err, values = copy(w.values), log = log, resumed = w.log, open = open, events = w.events, held = w.held }
end

--- Cut a run after each of its records (but the last, which ends it), each way that matters there.
---@param check fun(result: table, n: integer, way: string)
function M.each(book, whole, check)
  for n = 1, #whole.records - 1 do
    local _, _, open = world_at(book, whole, n, false)
    check(M.resumed(book, whole, n, "lost"), n, "lost")
    if #open > 0 then check(M.resumed(book, whole, n, "landed"), n, "landed") end
  end
end

return M
