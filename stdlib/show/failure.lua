-- An error as a page: the fact first, the place in the runbook with its line, what the other side
-- said, the state of the world when it is known, and one hint that works. Nothing is shown twice
-- and no library's message stands alone.
local M = {}

local facts = { { "sqlstate", "SQLSTATE" }, { "status", "status" }, { "target", "target" } }

local function place_of(err, options)
  local where = err.where
  if not where and err.file then where = err.line and ("%s:%d"):format(err.file, err.line) or err.file end
  local parts = {}
  if options.step then parts[#parts + 1] = "step " .. tostring(options.step) end
  if where then parts[#parts + 1] = (tostring(where):gsub("^.*/([^/]+)$", "%1")) end
  return table.concat(parts, " · "), where and tonumber(tostring(where):match(":(%d+)$"))
end

local function line_of_source(source, number)
  local n = 0
  for line in (source .. "\n"):gmatch("(.-)\r?\n") do
    n = n + 1
    if n == number then return line end
  end
  return nil
end

local function add_source(out, source, number, style)
  local line = source and number and line_of_source(source, number)
  if not line then return false end
  local margin = tostring(number)
  local bar = style:paint("cyan", style:say("│"))
  local code = style:cut(style:clean(line:gsub("\t", "  ")), style.width - #margin - 5)
  local blank = (" "):rep(#margin)
  out[#out + 1] = (" %s %s"):format(blank, bar)
  out[#out + 1] = (" %s %s %s"):format(style:paint("cyan", margin), bar, code)
  out[#out + 1] = (" %s %s"):format(blank, bar)
  return true
end

local function add_wrapped(out, head, body, style, paint)
  local indent = (" "):rep(style:columns(head))
  for n, line in ipairs(style:wrap(body, math.max(style.width - #indent, 16))) do
    out[#out + 1] = (n == 1 and style:paint(paint, head) or indent) .. line
  end
end

local function add_facts(out, err, options, style)
  for _, fact in ipairs(facts) do
    if err[fact[1]] then add_wrapped(out, "  = ", fact[2] .. " " .. style:clean(err[fact[1]]), style, "cyan") end
  end
  local cause = err.cause
  while cause do
    local message = type(cause) == "table" and cause.message or cause
    add_wrapped(out, "  = ", "because " .. style:clean(message, true), style, "cyan")
    cause = type(cause) == "table" and cause.cause or nil
  end
  for _, state in ipairs(options.state or {}) do add_wrapped(out, "  = ", style:clean(state), style, "cyan") end
end

---@class FailureOptions
---@field step? string|integer number of the step
---@field source? string text of the runbook
---@field state? string[] sentences about the state things are in

---@param err table
---@param style table
---@param options? FailureOptions
---@return string[]
function M.lines(err, style, options)
  options = options or {}
  local place, number = place_of(err, options)
  local message = style:clean(err.message, true)
  local first, rest = message:match("^(.-)\n(.*)$")
  local out = {}
  local heads = style:ends("error: " .. (first or message), style:clean(place), nil, "dim")
  heads[1] = heads[1]:gsub("^error:", function(word) return style:paint("alarm", word) end)
  for _, line in ipairs(heads) do out[#out + 1] = line end
  for _, line in ipairs(rest and style:wrap(rest, style.width - 2) or {}) do out[#out + 1] = "  " .. line end
  add_source(out, options.source, number, style)
  add_facts(out, err, options, style)
  if err.hint then add_wrapped(out, "hint: ", style:clean(err.hint, true), style, "cyan") end
  return out
end

return M
