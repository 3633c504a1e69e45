-- suite.lua: one run of specs: its directory, what is started for all of it, and how that goes away.
--
-- The directory is short (unix sockets live in it) and belongs to nobody but us. TMPDIR points into it, so that
-- a temporary file that neap forgets is found by the leak check. A janitor process (janitor.sh) holds the reading end of a
-- pipe: when the interpreter ends in any way, kill -9 included, the pipe closes, the servers are told by
-- the kernel, and the janitor ends what is left and removes the directory. NEAP_TEST_SUITE in the environment of every server
-- names the run it belongs to. Rejected: a signal handler, which kill -9 does not run.

local M = {}

local directory, janitor
local at_end, scraps = {}, {}

M.current = nil ---@type string? name of the running `it`
M.kept = {} ---@type table<integer, boolean> children that live as long as the suite, by pid

--- The directory of this run; made when first asked for.
---@return string
function M.directory()
  if directory then return directory end
  directory = T.directory((os.getenv("NEAP_TEST_TMP") or "/tmp") .. "/neap.")
  T.mode(directory, tonumber("711", 8))
  janitor = T.start { argv = { "sh", "-c", M.read("tests/support/servers/down.sh") .. M.read("tests/support/janitor.sh"), "neap-test-janitor", directory }, outlives = true }
  M.kept[janitor:pid()] = true
  os.execute("mkdir -m 1777 " .. directory .. "/tmp")
  os.execute("mkdir " .. directory .. "/notes")
  T.setenv("TMPDIR", directory .. "/tmp")
  T.setenv("NEAP_TEST_SUITE", directory)
  return directory
end

--- A new empty directory, 0700. Made inside an `it`, it is removed after it; made outside, at the end.
---@return string
function M.temp()
  local path = T.directory(M.directory() .. "/t")
  local list = scraps
  if not M.current then list = at_end end
  list[#list + 1] = M.current and path or function() T.remove_tree(path) end
  return path
end

local has_memory
local ROOM <const> = "[ \"$(df -Pk /dev/shm 2>/dev/null | awk 'END { print $4 }')\" -gt 1000000 ] 2>/dev/null && mkdir -m 711 '%s'"

--- The same in memory, for what makes thousands of records durable one by one where the disk is not what is tried: each costs milliseconds on a
--- disk. On the disk where there is no such place, or less than a gigabyte.
---@return string
function M.memory()
  local place = "/dev/shm/" .. M.directory():match("[^/]+$")
  if has_memory == nil then has_memory = os.execute(ROOM:format(place)) == true end
  if not has_memory then return M.temp() end
  local path = T.directory(place .. "/t")
  if M.current then scraps[#scraps + 1] = path else at_end[#at_end + 1] = function() T.remove_tree(path) end end
  return path
end

--- Tell the janitor something it needs after a kill -9: one line more in the file of that name.
---@param name string "mounts" (a mount namespace whose processes are ours), "netns" (a network namespace of ours)
---@param line string
function M.note(name, line)
  local file = assert(io.open(M.directory() .. "/notes/" .. name, "a"))
  file:write(line, "\n")
  file:close()
end

--- Call fn when all specs have run, newest first.
---@param fn function
function M.at_end(fn) at_end[#at_end + 1] = fn end

--- Call fn after the running `it`; at the end when none runs.
---@param fn function
function M.after(fn)
  local list = M.current and scraps or at_end
  list[#list + 1] = fn
end

--- Undo what the last `it` made with temp() and after(), newest first.
function M.sweep()
  for i = #scraps, 1, -1 do
    local scrap = scraps[i]
    scraps[i] = nil
    if type(scrap) == "string" then T.remove_tree(scrap) else scrap() end
  end
end

--- Files that lie in TMPDIR: none are expected between two tests.
---@return string[]
function M.litter()
  if not directory then return {} end
  local names = T.entries(directory .. "/tmp") or {}
  table.sort(names)
  return names
end

--- Stop and remove everything of this run.
function M.finish()
  M.sweep()
  for i = #at_end, 1, -1 do
    local ok, message = pcall(at_end[i])
    if not ok then io.stderr:write("at the end of the suite: ", tostring(message), "\n") end
    at_end[i] = nil
  end
  if not janitor then return end
  T.remove_tree(directory)
  if has_memory then T.remove_tree("/dev/shm/" .. directory:match("[^/]+$")) end
  janitor:close()
  janitor:wait(60000)
  directory, janitor, has_memory = nil, nil, nil
end

--- Write a file.
---@param path string
---@param text string
---@return string path
function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
  return path
end

--- Read a file whole.
---@param path string
---@return string
function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

return M
