-- The identity card of a target: what it really is, not what it is called. It stands above every
-- question about it and at the head of every preview, and always carries the pinned identity.
local M = {}

local function label_width(style, lines, id)
  local widest = id and style:columns("identity") or 0
  for _, line in ipairs(lines) do widest = math.max(widest, style:columns(style:clean(line[1]))) end
  return math.min(widest, 16)
end

---@param card {role: string, kind: string, id: string, lines: string[][]}
---@param style table
---@return string[]
function M.lines(card, style)
  local bar, width = style:say("│"), label_width(style, card.lines or {}, card.id)
  local title = style:clean(card.role or card.kind or "target")
  if card.role and card.kind then title = title .. " (" .. style:clean(card.kind) .. ")" end
  local out = { "  " .. style:paint("cyan", style:say("┌ ")) .. style:paint("bold", title) }
  local function row(label, value)
    local label_text = style:pad(style:cut(style:clean(label), width), width)
    for n, part in ipairs(style:wrap(style:clean(value), math.max(style.width - width - 7, 12))) do
      local head = n == 1 and style:paint("dim", label_text) or (" "):rep(width)
      out[#out + 1] = "  " .. style:paint("cyan", bar) .. " " .. head .. "  " .. part
    end
  end
  for _, line in ipairs(card.lines or {}) do row(line[1], line[2]) end
  if card.id then row("identity", card.id) end
  return out
end

-- A role that another one is reached through stands indented below it.
local function indented(t, style, depth)
  return ("  "):rep(depth[t.used_by] or 0) .. style:clean(t.role or "")
end

---Several targets as one short list: role, identity, and its first line.
---@param targets table[]
---@param style table
---@return string[]
function M.list(targets, style)
  local roles, ids, out, depth = 0, 0, {}, {}
  for _, t in ipairs(targets) do
    depth[t.role or ""] = 1 + (t.used_by and depth[t.used_by] or 0)
    roles = math.max(roles, style:columns(indented(t, style, depth)))
    ids = math.max(ids, style:columns(style:clean(t.id or "")))
  end
  for _, t in ipairs(targets) do
    local role, id = style:pad(indented(t, style, depth), roles), style:clean(t.id or "")
    local first = t.lines and t.lines[1] and t.lines[1][2]
    local fact = first and style:clean(first) or ""
    local room = style.width - roles - ids - 6
    if style:columns(fact) <= room then
      local plain_id = fact ~= "" and style:pad(id, ids) or id
      out[#out + 1] = ("  %s  %s%s"):format(style:paint("bold", role), plain_id, fact ~= "" and "  " .. style:paint("dim", fact) or "")
    else
      out[#out + 1] = "  " .. style:paint("bold", role) .. "  " .. style:cut(id, style.width - roles - 4)
      for _, part in ipairs(style:wrap(fact, style.width - roles - 4)) do
        out[#out + 1] = (" "):rep(roles + 4) .. style:paint("dim", part)
      end
    end
  end
  return out
end

return M
