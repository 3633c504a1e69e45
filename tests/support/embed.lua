-- embed.lua: the standard library as one C file of bytecode.
--
--   lua5.4 tests/support/embed.lua OUT.c stdlib/a/b.lua …
--
-- Every file becomes an array and a row {"a.b", bytes, length} of `neap_stdlib`, which ends with an
-- empty row. The arrays are a section of their own, so that its pages can be given back. Line information is kept and the chunk is named "@stdlib/a/b.lua", so that an error in the
-- built binary points into the file a reader can open. The names of local variables are not: they are many of the strings that a start would
-- make, and a tenth of its instructions (measured). A file that does not compile ends the build here, with its own line number.

local out_path = assert(arg[1], "usage: embed.lua OUT.c FILE.lua ...")
local ROOT = "stdlib/"

--- Name under which `require` finds a file.
---@param path string "stdlib/engine/run.lua"
---@return string name "engine.run"
local function module_name(path)
  assert(path:sub(1, #ROOT) == ROOT, path .. " is not under " .. ROOT)
  return (path:sub(#ROOT + 1):gsub("%.lua$", ""):gsub("/", "."))
end

-- A dumped chunk, read from its beginning; what is kept is collected.
local Cut = {}
Cut.__index = Cut

function Cut:keep(len)
  self.kept[#self.kept + 1] = self.code:sub(self.at, self.at + len - 1)
  self.at = self.at + len
end

--- A number: seven bits a byte, the highest first, and the last byte is the one with its top bit set.
function Cut:skip_number()
  local number = 0
  repeat
    local byte = self.code:byte(self.at)
    number, self.at = number << 7 | byte & 0x7f, self.at + 1
  until byte & 0x80 ~= 0
  return number
end

function Cut:number()
  local from = self.at
  local number = self:skip_number()
  self.kept[#self.kept + 1] = self.code:sub(from, self.at - 1)
  return number
end

-- A text has its length and one before it; 0 is none.
function Cut:text() self:keep(math.max(self:number() - 1, 0)) end
function Cut:skip_text()
  local size = self:skip_number()
  self.at = self.at + math.max(size - 1, 0)
end

local HEADER <const> = "\27Lua\x54\0\x19\x93\r\n\x1a\n\4\8\8"               -- up to the sizes of an instruction and of the two kinds of number
local REST <const> = 8 + 8 + 1                                                -- of the header: an integer, a float, how many upvalues
local NONE <const> = "\x80"                                                   -- a list without entries
local BYTES <const> = { [0x03] = 8, [0x13] = 8 }                              -- constants: an integer, a float
local TEXTS <const> = { [0x04] = true, [0x14] = true }                        -- short, long

--- One function, in the order of Lua 5.4's ldump.c.
function Cut:func()
  self:text()                                                                 -- source
  self:number() self:number()                                                 -- its lines
  self:keep(3)                                                                -- parameters, varargs, stack
  self:keep(4 * self:number())                                                -- instructions
  for _ = 1, self:number() do
    local kind = self.code:byte(self.at)
    self:keep(1 + (BYTES[kind] or 0))
    if TEXTS[kind] then self:text() end
  end
  self:keep(3 * self:number())                                                -- upvalues
  for _ = 1, self:number() do self:func() end
  self:keep(self:number())                                                    -- lines, as differences
  for _ = 1, self:number() do self:number() self:number() end                 -- and now and then as they are
  for _ = 1, self:skip_number() do self:skip_text() self:skip_number() self:skip_number() end       -- local variables, and where they live
  self.kept[#self.kept + 1] = NONE
  for _ = 1, self:number() do self:text() end                                 -- names of upvalues
end

--- A chunk without the names of its local variables; as it is when this Lua dumps in another way.
---@param code string
---@return string
local function nameless(code)
  if code:sub(1, #HEADER) ~= HEADER then return code end
  local cut = setmetatable({ code = code, at = 1, kept = {} }, Cut)
  cut:keep(#HEADER + REST)
  cut:func()
  local made = table.concat(cut.kept)
  assert(cut.at == #code + 1 and string.dump(load(made, "", "b"), true) == string.dump(load(code, "", "b"), true), "the chunk is another one")
  return made
end

--- Bytecode of one file.
---@param path string
---@return string
local function compile(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  local chunk, message = load(text, "@" .. path, "t")
  if not chunk then
    io.stderr:write(message, "\n")
    os.exit(1)
  end
  return nameless(string.dump(chunk, false))
end

--- Append the bytes as rows of decimal numbers.
---@param lines string[]
---@param code string
local function add_bytes(lines, code)
  for at = 1, #code, 24 do
    lines[#lines + 1] = "  " .. table.concat({ code:byte(at, at + 23) }, ",") .. ","
  end
end

local lines = {
  "/* Made by tests/support/embed.lua from stdlib/; not for editing. */",
  "#include <stddef.h>",
  "struct neap_embedded { const char *name; const unsigned char *code; size_t len; };",
  "extern const struct neap_embedded neap_stdlib[];",
}
local rows = {}
for i = 2, #arg do
  local code = compile(arg[i])
  lines[#lines + 1] = ("static const unsigned char module_%d[] __attribute__((section(\"neap_bytecode\"))) = {"):format(i - 1)
  add_bytes(lines, code)
  lines[#lines + 1] = "};"
  rows[#rows + 1] = ('  { "%s", module_%d, sizeof module_%d },'):format(module_name(arg[i]), i - 1, i - 1)
end
lines[#lines + 1] = "const struct neap_embedded neap_stdlib[] = {"
table.move(rows, 1, #rows, #lines + 1, lines)
lines[#lines + 1] = "  { NULL, NULL, 0 },"
lines[#lines + 1] = "};"

local file = assert(io.open(out_path, "w"))
assert(file:write(table.concat(lines, "\n"), "\n"))
assert(file:close())
