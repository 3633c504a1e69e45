-- Pins what a person sees: a page is compared with tests/transcripts/NAME.txt, byte by byte. With
-- NEAP_TRANSCRIPTS=write the files are written instead; read the difference before committing it.
-- Escape sequences are kept as "\e", so that a transcript can be read and reviewed.
local M = {}

---@param name string
---@param page string
function M.compare(name, page)
  local path = "tests/transcripts/" .. name .. ".txt"
  local shown = page:gsub("\27", "\\e"):gsub("\r", "\\r")
  if os.getenv("NEAP_TRANSCRIPTS") == "write" then
    local file = assert(io.open(path, "w"))
    file:write(shown)
    file:close()
    return
  end
  local file = io.open(path)
  local expected = file and file:read("a") or ""
  if file then file:close() end
  if expected ~= shown then
    error(("%s differs\n--- expected\n%s\n--- shown\n%s"):format(path, expected, shown), 2)
  end
end

---No line of a page is wider than it may be; escape sequences take no room.
---@param page string
---@param width integer
function M.fits(page, width)
  for line in page:gsub("\27%[[%d;]*[a-zA-Z]", ""):gsub("\r", ""):gmatch("[^\n]+") do
    local columns = utf8.len(line) or #line
    if columns > width then error(("%d columns, %d allowed: %s"):format(columns, width, line), 2) end
  end
end

return M
