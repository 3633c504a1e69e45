-- Which view a run gets, and what keeps it alive while the run goes on: ten ticks a second for the
-- screen, the news of a resize, the answers of a person. Chosen by what was asked for (--json,
-- --quiet) and then by what is there: a terminal gets the live list, anything else gets plain lines.
local system = require "native.system"
local task = require "native.task"
local term = require "native.term"

local M = {}

local tick_ms = 100

local function kind_of(context)
  if context.json then return "json" end
  if context.quiet then return "quiet" end
  if term.is_tty(2) and system.env("TERM") ~= "dumb" then return "screen" end
  return "plain"
end

---@param context table of the command
---@return table view
function M.new(context)
  local kind = kind_of(context)
  local columns, rows = term.size()
  local view = require("show." .. kind).new {
    write = kind == "json" and context.out or context.err, width = kind == "screen" and columns or context.width,
    result = not term.is_tty(1) and context.out or nil, rows = rows, color = context.err_style.color, ascii = context.ascii, clock = context.clock,
  }
  if kind == "screen" then term.on_resize(function() view:resize(term.size()) end) end
  return view
end

-- What a person reads before answering: the identity cards of what is meant, then the question.
local function prompt_of(question, context)
  local s = context.err_style
  local lines = s:wrap(s:clean(question.text or question.question or "?", true), s.width - 4)
  lines[1] = s:paint("bold", lines[1])
  return "\n  " .. table.concat(lines, "\n  ") .. " "
end

---The function the engine asks with: shows the cards and the question, waits for one line.
---@param view table
---@param context table
---@return fun(question: table): string|nil
function M.asker(view, context)
  return function(question)
    local cards = question.card
    if cards and (cards.id or cards.lines) then cards = { cards } end
    view:pause(cards)
    local ok, answer = pcall(term.read_line, prompt_of(question, context))
    if not ok then context.err("\n") end          -- the question was taken back: its line ends here
    view:resume()
    if not ok then error(answer, 0) end
    return type(answer) == "string" and (answer:gsub("^%s+", ""):gsub("%s+$", "")) or nil
  end
end

---Runs `body` while the view lives, and closes the view however it ends.
---@param view table
---@param body fun(): any
---@return any
function M.while_open(view, body)
  local ticker = task.spawn(function()
    while true do
      task.sleep(tick_ms)
      view:tick()
    end
  end)
  local ok, result = pcall(body)
  ticker:cancel("the run has ended")
  term.on_resize(nil)
  view:close()
  if not ok then error(result, 0) end
  return result
end


return M
