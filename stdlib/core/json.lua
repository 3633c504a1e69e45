-- JSON out, one line, keys in a fixed order: the ones named first, then by the alphabet. Two runs of
-- the same thing give the same bytes, so that a diff of two logs shows what differed. Only emits;
-- reading is the C side's business.
local M = {}

local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f" }

-- Invalid UTF-8 becomes U+FFFD: a consumer must be able to parse every line.
local function valid(s)
  if utf8.len(s) then return s end
  local parts, at = {}, 1
  while at <= #s do
    local _, bad = utf8.len(s, at)
    parts[#parts + 1] = s:sub(at, (bad or #s + 1) - 1)
    if bad then parts[#parts + 1] = "\u{FFFD}" end
    at = (bad or #s) + 1
  end
  return table.concat(parts)
end

local function number(c) return ("\\u%04x"):format(utf8.codepoint(c)) end

-- What turns the direction of text, and the line ends that are none in JSON.
local function turning(c)
  local code = utf8.codepoint(c)
  local turns = code == 0x200E or code == 0x200F or code >= 0x2028 and code <= 0x202E or code >= 0x2066 and code <= 0x2069
  return turns and number(c) or nil
end

-- C1 controls are escaped like the others: some terminals obey them.
local function string_of(s)
  local text = valid(s):gsub('[%z\1-\31\127"\\]', function(c) return short[c] or ("\\u%04x"):format(c:byte()) end)
  if text:find("[\194\226]") then text = text:gsub("\194[\128-\159]", number):gsub("\226[\128\129][\128-\191]", turning) end
  return '"' .. text .. '"'
end

local function number_of(n)
  if math.type(n) == "integer" then return ("%d"):format(n) end
  if n ~= n or n == math.huge or n == -math.huge then return "null" end
  if n == math.floor(n) and math.abs(n) < 1e15 then return ("%.1f"):format(n) end
  return ("%.14g"):format(n)
end

local encode

local function object_of(value, options)
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  local rank = options.rank
  table.sort(keys, function(a, b)
    local ra, rb = rank[a] or math.huge, rank[b] or math.huge
    if ra ~= rb then return ra < rb end
    return tostring(a) < tostring(b)
  end)
  for n, key in ipairs(keys) do
    parts[n] = string_of(tostring(key)) .. ":" .. encode(value[key], options, key)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function array_of(value, options)
  local parts = {}
  for n = 1, #value do parts[n] = encode(value[n], options) end
  return "[" .. table.concat(parts, ",") .. "]"
end

function encode(value, options, key)
  local kind = type(value)
  if value == nil or value == options.null then return "null" end
  if kind == "string" then return string_of(value) end
  if kind == "number" then return number_of(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then return string_of(tostring(value)) end
  if #value > 0 or (next(value) == nil and options.lists[key]) then return array_of(value, options) end
  return object_of(value, options)
end

---@param value any
---@param options? {first: string[], lists: table<string, boolean>, null: any} keys that come first; fields whose empty table is a list
---@return string
function M.encode(value, options)
  options = options or {}
  local rank = {}
  for n, key in ipairs(options.first or {}) do rank[key] = n end
  return encode(value, { rank = rank, lists = options.lists or {}, null = options.null })
end

return M
