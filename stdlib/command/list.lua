-- `neap list`: what can be run. A runbook that does not load is listed too, with its error, because a
-- missing line would be taken for a missing file.
local json = require "show.json"
local load = require "engine.load"
local raise = require "core.raise"
local runbooks = require "command.runbooks"
local text = require "core.text"

local M = {}

local function gather(context)
  local folders, found = runbooks.folders(context), {}
  for _, entry in ipairs(load.list(folders)) do
    local ok, result = pcall(load.inspect, entry.path, { folders = folders, name = entry.name })
    local row = ok and result or { error = raise.of(result, "invalid") }
    found[#found + 1] = { name = entry.name, path = entry.path, info = row }
  end
  return found
end

local function sentence_of(info)
  if info.error then return "does not load: " .. info.error.message end
  return info.title
end

local function param_words(param)
  local words = param.help or ""
  if param.default ~= nil and type(param.default) ~= "table" then words = words .. (" (%s)"):format(tostring(param.default)) end
  return words
end

local function details(entry, style)
  local out, info = {}, entry.info
  if info.why then
    local why = style:clean(text.sentence(info.why))
    for _, line in ipairs(style:wrap(why, style.width - 6)) do out[#out + 1] = "      " .. style:paint("dim", line) end
  end
  for _, param in ipairs(info.params or {}) do
    local lines = style:labelled("--" .. style:clean(param.name:gsub("_", "-")), style:clean(param_words(param)),
      { indent = 6, column = 16, label_paint = "cyan" })
    for _, line in ipairs(lines) do out[#out + 1] = line end
  end
  for _, lost in ipairs(info.destroys or {}) do
    out[#out + 1] = "      " .. style:paint("red", style:cut("destroys " .. style:clean(lost), style.width - 6))
  end
  return out
end

local function page(found, style, verbose)
  local widest, out = 8, {}
  for _, entry in ipairs(found) do widest = math.max(widest, style:columns(style:clean(entry.name))) end
  widest = math.min(widest, style.width // 2)
  for _, entry in ipairs(found) do
    local lines = style:labelled(style:clean(entry.name), style:clean(sentence_of(entry.info)),
      { column = widest, label_paint = "bold", paint = entry.info.error and "red" or entry.info.retired and "dim" or nil })
    for _, line in ipairs(lines) do out[#out + 1] = line end
    for _, line in ipairs(verbose and not entry.info.error and details(entry, style) or {}) do out[#out + 1] = line end
  end
  return out
end

local function published(entry)
  local info = entry.info
  return { schema = json.schema, kind = "runbook", name = entry.name, file = entry.path, title = info.title, why = info.why,
    params = info.params, destroys = info.destroys, error = info.error and info.error.message }
end

---@param _ string[]
---@param _parsed Parsed
---@param context table
---@return integer exit code
function M.run(_, _parsed, context)
  local found = gather(context)
  if context.json then
    for _, entry in ipairs(found) do context.out(json.line(published(entry)) .. "\n") end
    return 0
  end
  if #found == 0 then
    context.lines { "There is no runbook here.", "Looked in: " .. context.style:clean(text.join(runbooks.folders(context))) .. "." }
    return 0
  end
  context.lines(page(found, context.style, context.verbose))
  return 0
end

return M
