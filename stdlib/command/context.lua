-- What every command is given besides its own arguments: where the state is, how to write, how wide
-- and how colourful. Read once, from options first, then from the environment, then from the terminal.
local raise = require "core.raise"
local style = require "show.style"
local system = require "native.system"
local term = require "native.term"

local M = {}

---@param given string|nil --state
---@return string
function M.state_directory(given)
  local chosen = given or system.env("NEAP_STATE")
  if chosen and chosen ~= "" then return chosen end
  local xdg = system.env("XDG_STATE_HOME")
  if xdg and xdg:sub(1, 1) == "/" then return xdg .. "/neap" end
  local home = system.env("HOME")
  if not home then raise("config", "there is no place for the journals: HOME is not set", "Name one with --state DIR or NEAP_STATE.") end
  return home .. "/.local/state/neap"
end

---Is colour wanted on this descriptor? The flag decides, then NO_COLOR, then CLICOLOR_FORCE, then the terminal.
---@param fd integer
---@param choice string|nil auto, always, never
---@return boolean
function M.wants_color(fd, choice)
  if choice == "always" then return true end
  if choice == "never" then return false end
  local no, force = system.env("NO_COLOR"), system.env("CLICOLOR_FORCE")
  if no and no ~= "" then return false end
  if force and force ~= "" and force ~= "0" then return true end
  return term.is_tty(fd) and system.env("TERM") ~= "dumb"
end

-- A locale that cannot show our signs: said by LC_ALL, LC_CTYPE or LANG, the first that is set.
local function is_ascii()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = system.env(name)
    if value and value ~= "" then return not value:lower():match("utf%-?8") end
  end
  return not term.is_tty(2)
end

local function width_of(options)
  local text = options.width or (not term.is_tty(1) and not term.is_tty(2) and system.env("COLUMNS")) or nil
  if text and text ~= "" then
    local width = math.tointeger(tonumber(text))
    if width and width >= 20 and width <= 1000 then return width end
    if options.width then raise("usage", ('--width cannot be "%s"'):format(text), "Give a number of columns between 20 and 1000.") end
  end
  return (term.size())
end

---Where the installed runbooks are: beside the binary's library, or named by NEAP_SHARE.
---@return string|nil
function M.share()
  return system.env("NEAP_SHARE") or system.share()
end

---@param options table<string, any> of the command line
---@return table context
function M.new(options)
  local width = width_of(options)
  local ascii = options.ascii or is_ascii()
  local context = {
    state = M.state_directory(options.state), json = options.json or false, quiet = options.quiet or false,
    verbose = options.verbose or false, width = width, ascii = ascii, clock = system.wall_ms, share = M.share(),
    out = function(text) return term.write(1, text) end,
    style = style.new { width = width, ascii = ascii, color = M.wants_color(1, options.color) },
    err_style = style.new { width = width, ascii = ascii, color = M.wants_color(2, options.color) },
    interactive = not options["no-input"] and term.is_tty(0) and term.is_tty(2),
  }
  -- A terminal that takes no more output is gone; the engine then finishes its step and holds. A closed pipe changes nothing.
  local had_terminal = term.is_tty(2)
  function context.err(text)
    local ok, err = term.write(2, text)
    context.terminal_lost = context.terminal_lost or (had_terminal and not ok)
    return ok, err
  end
  -- A terminal that hung up is none any more, whether or not anything was written since.
  function context.is_lost() return context.terminal_lost or (had_terminal and not term.is_tty(2)) end
  function context.lines(lines) return context.out(table.concat(lines, "\n") .. "\n") end
  return context
end

return M
