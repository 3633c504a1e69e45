-- embed.lua: the standard library as one C file of bytecode.
--
--   lua5.4 tests/support/embed.lua OUT.c stdlib/a/b.lua …
--
-- Every file becomes an array and a row {"a.b", bytes, length} of `neap_stdlib`, which ends with an
-- empty row. The arrays are a section of their own, so that its pages can be given back. Line information is kept and the chunk is named "@stdlib/a/b.lua", so that an error in the
-- built binary points into the file a reader can open. A file that does not compile ends the
-- build here, with its own line number.

local out_path = assert(arg[1], "usage: embed.lua OUT.c FILE.lua ...")
local ROOT = "stdlib/"

--- Name under which `require` finds a file.
---@param path string "stdlib/engine/run.lua"
---@return string name "engine.run"
local function module_name(path)
  assert(path:sub(1, #ROOT) == ROOT, path .. " is not under " .. ROOT)
  return (path:sub(#ROOT + 1):gsub("%.lua$", ""):gsub("/", "."))
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
  return string.dump(chunk, false)
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
