-- The preview as a page a person reads before a maintenance window. It answers three questions in
-- this order: to which machine, what will happen, what will be lost. Every line says how it is known
-- (enforced, declared, proven, predicted, unknown); nothing is shown as known that was not asked.
local card = require "show.card"
local duration = require "core.duration"
local grid = require "show.grid"
local text = require "core.text"

local M = {}

local label_paint = { enforced = "green", declared = "green", proven = "green", predicted = "cyan", unknown = "yellow", already = "dim" }
local label_text = { already = "already so" }
local sign_paint = { ["+"] = "green", ["~"] = "yellow", ["-"] = "alarm", ["?"] = "yellow", ["="] = "dim", ["!"] = "cyan" }
local sign_words = {
  { "+", "to add" }, { "~", "to change" }, { "-", "to destroy" }, { "!", "by hand" }, { "?", "unknown" }, { "=", "already so" },
}
local label_column = 10

local function add(out, lines)
  for _, line in ipairs(lines) do out[#out + 1] = line end
end

local function head(data, style)
  local where = "preview · " .. (data.environment or "no environment")
  local out = style:ends(style:clean(data.title or data.runbook), style:clean(where), "bold", "dim")
  if data.targets and #data.targets > 0 then
    out[#out + 1] = ""
    add(out, card.list(data.targets, style))
  end
  local names = text.keys(data.params or {})
  if #names > 0 then out[#out + 1] = "" end
  for n, name in ipairs(names) do
    local value = style:clean(("%s = %s"):format(name, tostring(data.params[name])))
    add(out, style:labelled(n == 1 and "with" or "", value, { column = 7 }))
  end
  out[#out + 1] = ""
  return out
end

local function number_width(data)
  local width = 1
  for _, step in ipairs(data.steps) do width = math.max(width, #tostring(step.number)) end
  return width
end

-- A step that only checks carries its result as its sign.
local function sign_of(step, style)
  if step.failed then return style:mark("failed") end
  if step.sign == "check" then return style:mark("ok") end
  local sign = step.sign or " "
  return style:paint(sign_paint[sign], sign) .. (" "):rep(style:mark_width() - 1)
end

-- "  4 -  Put it in place …                                    predicted"
local function step_line(step, numbers, style)
  local label = label_text[step.label] or step.label or ""
  local lead = ("  %s "):format(style:lead(tostring(step.number), numbers))
  local sign = sign_of(step, style)
  local indent = #lead + style:mark_width() + 2
  local room = style.width - indent - #label - 2
  local out = {}
  for n, part in ipairs(style:wrap(style:clean(step.title), math.max(room, 16))) do
    if n == 1 then
      local gap = (" "):rep(math.max(style.width - indent - style:columns(part) - #label, 2))
      out[1] = style:paint("dim", lead) .. sign .. "  " .. style:paint("bold", part) .. gap
        .. style:paint(label_paint[step.label], label)
    else
      out[#out + 1] = (" "):rep(indent) .. style:paint("bold", part)
    end
  end
  return out, indent
end

local function mark_of(line, style)
  if line.ok == true then return style:mark("ok"), "ok" end
  if line.ok == false then return style:mark("failed"), "failed" end
  return (" "):rep(style:mark_width())
end

-- One thing asked or predicted: sign, label, text; its note beside it when there is room, else below.
local function detail(line, indent, style)
  local mark = mark_of(line, style)
  local label = label_text[line.label] or line.label or ""
  local offset = indent + style:mark_width() + 1 + label_column + 1
  local body, note = style:clean(line.text or "", true), line.note and style:clean(line.note, true)
  if line.target and line.target ~= "" then body = body .. style:say("  → ") .. style:clean(line.target) end
  if style.width - offset < 24 then offset = indent + style:mark_width() + 1 end
  local out = {}
  local head_text = (" "):rep(indent) .. mark .. " " .. style:paint(label_paint[line.label], label)
  local wrapped = style:wrap(body, style.width - offset)
  if offset < indent + style:mark_width() + 1 + label_column then
    out[1] = head_text
  else
    out[1] = head_text .. (" "):rep(offset - indent - style:mark_width() - 1 - #label) .. table.remove(wrapped, 1)
  end
  for _, part in ipairs(wrapped) do out[#out + 1] = (" "):rep(offset) .. part end
  if not note then return out end
  local paint = line.ok == false and "red" or "dim"
  if #out == 1 and offset + style:columns(body) + 2 + style:columns(note) <= style.width and not body:find("\n") then
    out[1] = out[1] .. "  " .. style:paint(paint, note)
  else
    for _, part in ipairs(style:wrap(note, style.width - offset)) do out[#out + 1] = (" "):rep(offset) .. style:paint(paint, part) end
  end
  return out
end

local plan_lines = 12

-- What would be written, below the line that says where: a difference, a body. Only its beginning: --json has all of it.
local function content(line, indent, style)
  if not line.plan or line.plan == "" then return {} end
  local out, offset = {}, indent + style:mark_width() + 3
  local clean = style:clean(line.plan, true):gsub("\n+$", "")
  for part in (clean .. "\n"):gmatch("([^\n]*)\n") do
    if #out == plan_lines then
      out[#out + 1] = (" "):rep(offset) .. style:paint("dim", style:say("…"))
      break
    end
    out[#out + 1] = (" "):rep(offset) .. style:paint("dim", style:cut(part, style.width - offset))
  end
  return out
end

local function losses(step, indent, style)
  if not step.destroys then return {} end
  local out = {}
  local body = "destroys " .. style:clean(step.destroys) .. "; you will be asked to type its name"
  for n, part in ipairs(style:wrap(body, style.width - indent - 2)) do
    out[#out + 1] = (" "):rep(indent) .. style:paint("alarm", n == 1 and "! " or "  ") .. style:paint("red", part)
  end
  return out
end

local function step_lines(step, numbers, style)
  local out, indent = step_line(step, numbers, style)
  add(out, losses(step, indent, style))
  if step.time then
    local words = step.time.runs > 0 and ("%s, at most %s"):format(duration.format(step.time.p50), duration.format(step.time.p95)) or duration.format(step.time.p95) .. ", as declared"
    add(out, style:labelled("takes", words, { indent = indent, column = label_column }))
  end
  if step.manual then
    local words = type(step.manual) == "string" and step.manual or "a person does this and says so"
    add(out, style:labelled("by hand", style:clean(words), { indent = indent, column = label_column }))
  end
  for _, line in ipairs(step.lines or {}) do
    add(out, line.grid and grid.lines(line.grid, style, indent) or detail(line, indent, style))
    add(out, content(line, indent, style))
  end
  if step.withheld then
    local words = ("depends on step %s, which a preview does not make"):format(tostring(step.withheld))
    add(out, detail({ label = "unknown", text = words }, indent, style))
  end
  return out
end

local function signs_sentence(data)
  local counts, parts = {}, {}
  for _, step in ipairs(data.steps) do counts[step.sign or ""] = (counts[step.sign or ""] or 0) + 1 end
  for _, sign in ipairs(sign_words) do
    if counts[sign[1]] then parts[#parts + 1] = counts[sign[1]] .. " " .. sign[2] end
  end
  local only_checks = true
  for sign in pairs(counts) do only_checks = only_checks and (sign == "check" or sign == "=" or sign == "") end
  if only_checks then return "nothing would change" end
  return table.concat(parts, ", ")
end

local function tally_sentence(data)
  local t, parts = data.tally or {}, {}
  local checks = t.checks or 0
  local failed = (t.failed or 0) > 0 and (" (%d failed)"):format(t.failed) or ""
  parts[1] = text.count(checks, "check") .. " made for real" .. failed
  for _, label in ipairs { "declared", "proven", "predicted", "unknown" } do
    if (t[label] or 0) > 0 then parts[#parts + 1] = ("%d %s"):format(t[label], label) end
  end
  return ("%s: %s."):format(text.count(#data.steps, "step"), table.concat(parts, ", "))
end

-- "2 min 3 s as a rule, 3 min 1 s at the most in 19 of 20 runs (7 runs)"; one number where it was only declared.
local function took(time)
  if time.runs == 0 then return ("about %s, as declared"):format(duration.format(time.p95)) end
  return ("%s as a rule, %s in 19 of 20 cases (%s)"):format(duration.format(time.p50), duration.format(time.p95), text.count(time.runs, "run"))
end

-- What is known of how long it takes, and the window it has to fit into; nothing where nothing was measured and there is no window.
local function times(data, style)
  local time = data.time
  if not time or (time.p95 == 0 and not time.window) then return {} end
  local words = time.p95 > 0 and took(time) or "nobody has measured it"
  if time.back > 0 then words = words .. ("; taking it back %s"):format(duration.format(time.back)) end
  if time.p95 > 0 and time.unknown > 0 then words = words .. ("; %s never measured"):format(text.count(time.unknown, "step")) end
  local out = style:labelled("takes", words, { indent = 0, column = 8 })
  if time.sentence then add(out, style:labelled("window", style:clean(time.sentence), { indent = 0, column = 8 })) end
  out[#out + 1] = ""
  return out
end

local function foot(data, style)
  local out = { "" }
  local failed = (data.tally and data.tally.failed or 0) > 0
  local verdict = "Plan: " .. signs_sentence(data) .. "."
  for n, part in ipairs(style:wrap(verdict, style.width)) do out[#out + 1] = n == 1 and style:paint("bold", part) or part end
  add(out, style:wrap(tally_sentence(data), style.width))
  local stop = failed and style:wrap("A check failed: a run would stop before its first write.", style.width) or {}
  for _, part in ipairs(stop) do out[#out + 1] = style:paint("red", part) end
  for _, why in ipairs(data.blocked or {}) do
    for _, part in ipairs(style:wrap("A run would be refused now: " .. style:clean(why), style.width)) do out[#out + 1] = style:paint("yellow", part) end
  end
  if data.unseen and #data.unseen > 0 then
    out[#out + 1] = ""
    for n, what in ipairs(data.unseen) do
      add(out, style:labelled(n == 1 and "not seen" or "", style:clean(what), { indent = 0, column = 8, label_paint = "yellow" }))
    end
  end
  out[#out + 1] = ""
  add(out, times(data, style))
  local closing = "Nothing was written: every read ran under the guard, and every change stopped there."
  for _, part in ipairs(style:wrap(closing, style.width)) do out[#out + 1] = style:paint("green", part) end
  return out
end

---The whole preview as painted lines.
---@param data table the plan, as engine/plan.lua makes it
---@param style table
---@return string[]
function M.lines(data, style)
  local out, numbers = head(data, style), number_width(data)
  for _, step in ipairs(data.steps) do add(out, step_lines(step, numbers, style)) end
  add(out, foot(data, style))
  return out
end

return M
