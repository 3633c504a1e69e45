-- Which view a run gets, and what keeps it alive while the run goes on: ten ticks a second for the
-- screen, the news of a resize, the answers of a person. Chosen by what was asked for (--json,
-- --quiet) and then by what is there: a terminal gets the live list, anything else gets plain lines.
local card = require "show.card"
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

local choices = {
  { "retry", "try the step again" }, { "skip REASON", "go on without it" }, { "undo", "take back what this run did, newest first, and stop" },
  { "hold", "stop here and keep the targets" }, { "abort", "stop, and do what is owed" },
}

-- What a person reads before answering: the identity cards of what is meant, then the question.
local function prompt_of(question, context, cards)
  local s, out = context.err_style, { "" }
  for _, target in ipairs(cards) do
    for _, line in ipairs(card.lines(target, s)) do out[#out + 1] = line end
    out[#out + 1] = ""
  end
  local lines = s:wrap(s:clean(question.text or question.question or "?", true), s.width - 4)
  for n, line in ipairs(lines) do
    if n == #lines and question.explain then
      for _, choice in ipairs(choices) do
        for _, part in ipairs(s:labelled(choice[1], choice[2], { indent = 4, column = 11, label_paint = "bold" })) do out[#out + 1] = part end
      end
    end
    out[#out + 1] = "  " .. (n == 1 and s:paint("bold", line) or line)
  end
  return table.concat(out, "\n") .. " "
end

---The function the engine asks with: shows the cards and the question, waits for one line.
---@param view table
---@param context table
---@return fun(question: table): string|nil
function M.asker(view, context)
  view.asks = context.interactive
  return function(question)
    local cards = question.card
    if cards and (cards.id or cards.lines) then cards = { cards } end
    local shown = view:pause(cards)
    local ok, answer = pcall(term.read_line, prompt_of(question, context, not shown and cards or {}))
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
