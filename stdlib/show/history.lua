-- Past runs as a list, newest first: when, how it ended, how long it took, who. A run that still owes
-- something shows the command that settles it, because that is why people look.
local duration = require "core.duration"
local instant = require "core.instant"
local tables = require "core.tables"
local text = require "core.text"

local M = {}

local short = 7

---The shortest prefix, at least seven letters, that names each run of the list alone.
---@param rows table[]
---@return integer
function M.prefix(rows)
  local length, seen = short, {}
  for _, row in ipairs(rows) do
    while seen[row.run:sub(1, length)] and length < #row.run do length, seen = length + 1, {} end
    seen[row.run:sub(1, length)] = true
  end
  return length
end

---@param ms integer
---@return string "2026-04-25 02:00"
function M.when(ms)
  return instant.date(ms) .. " " .. instant.time(ms):sub(1, 5)
end

local function took(row, now)
  if row.ended_ms and row.ended_ms > 0 then return duration.format(row.ended_ms - row.started_ms) end
  return "since " .. duration.format(math.max(now - row.started_ms, 0))
end

-- The fullest set of columns that fits; the last one is cut if it must be.
local sets = {
  { "run", "started (UTC)", "status", "runbook", "environment", "by", "took" },
  { "run", "started (UTC)", "status", "runbook", "took" },
  { "run", "status", "runbook", "took" },
}

local function table_of(rows, style, now, prefix)
  local escape = function(s) return style:clean(s) end
  local values, lines = {}, nil
  for n, row in ipairs(rows) do
    values[n] = {
      run = row.run:sub(1, prefix), ["started (UTC)"] = M.when(row.started_ms), status = row.status, runbook = row.runbook,
      environment = row.environment, by = row.user, took = took(row, now),
    }
  end
  for s, headers in ipairs(sets) do
    local cells, fits = {}, true
    for n, value in ipairs(values) do
      cells[n] = {}
      for c, header in ipairs(headers) do cells[n][c] = value[header] end
    end
    lines = tables.lines(headers, cells, { width = s == #sets and style.width or nil, ascii = style.ascii, measure = style.measure,
      escape = escape })
    for _, line in ipairs(lines) do fits = fits and style:columns(line) <= style.width end
    if fits then break end
  end
  return lines
end

local paints = { ok = "green", running = "cyan", failed = "red", died = "red" }

local function paint_status(line, status, style)
  if not style.color then return line end
  local pattern = "( " .. text.escape_pattern(status) .. " )"
  return (line:gsub(pattern, function(word) return style:paint(paints[status] or "yellow", word) end, 1))
end

---@param rows table[] rows of the index, newest first
---@param style table
---@param now integer wall-clock milliseconds
---@return string[]
function M.lines(rows, style, now)
  if #rows == 0 then return { "No run is recorded here." } end
  local prefix, open = M.prefix(rows), {}
  local out = table_of(rows, style, now, prefix)
  for n, row in ipairs(rows) do
    out[n + 2] = paint_status(out[n + 2], row.status, style)
    if row.status == "held" or row.status == "unknown" or row.status == "died" then open[#open + 1] = row end
  end
  for n, row in ipairs(open) do
    if n == 1 then out[#out + 1] = "" end
    local what = row.status == "died" and "died and may still hold its targets" or "still holds its targets"
    local line = ("%s %s: neap resume %s"):format(row.run:sub(1, prefix), what, row.run:sub(1, prefix))
    for _, part in ipairs(style:wrap(line, style.width)) do out[#out + 1] = style:paint("yellow", part) end
  end
  return out
end

return M
