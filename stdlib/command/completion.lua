-- Completion for three shells. The scripts are small: they hand the words typed so far to
-- `neap __complete`, which knows the table and the files. It never asks the network and never binds a
-- target, so it answers at once; when anything is wrong it offers nothing.
local commands = require "command.table"
local load = require "engine.load"
local options = require "command.options"
local journal = require "native.journal"
local runbooks = require "command.runbooks"

local M = {}

local scripts = {}

scripts.bash = [==[
# bash completion for neap, made by: neap completion bash
_neap() {
  local IFS=$'\n'
  COMPREPLY=($(neap __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
  case "${COMPREPLY[0]}" in
    :file) compopt -o filenames; COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")) ;;
    :directory) compopt -o filenames; COMPREPLY=($(compgen -d -- "${COMP_WORDS[COMP_CWORD]}")) ;;
  esac
}
complete -F _neap neap
]==]

scripts.zsh = [==[
#compdef neap
# zsh completion for neap, made by: neap completion zsh
_neap() {
  local -a found described
  local line
  found=("${(@f)$(neap __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  case "$found[1]" in
    :file) _files; return ;;
    :directory) _files -/; return ;;
  esac
  for line in $found; do
    [[ -n $line ]] && described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  _describe neap described
}
compdef _neap neap
]==]

scripts.fish = [==[
# fish completion for neap, made by: neap completion fish
function __neap_complete
  set -l found (neap __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
  switch "$found[1]"
    case :file
      __fish_complete_path (commandline -ct)
    case :directory
      __fish_complete_directories (commandline -ct)
    case '*'
      printf '%s\n' $found
  end
end
complete -c neap -f -a '(__neap_complete)'
]==]

---@param shell string
---@return string
function M.script(shell) return scripts[shell] end

local sources = {}

function sources.runbook(context)
  local out = {}
  for _, entry in ipairs(load.list(runbooks.folders(context))) do out[#out + 1] = { entry.name, "runbook" } end
  return out
end

local function runs(context, filter)
  local out = {}
  for _, row in ipairs(journal.index.list(context.state, { limit = 50, unfinished = filter }) or {}) do
    out[#out + 1] = { row.run, row.runbook .. " " .. row.status }
  end
  return out
end

function sources.run(context) return runs(context, nil) end
function sources.open(context) return runs(context, true) end

function sources.topic()
  local out = {}
  for _, command in ipairs(commands.commands) do out[#out + 1] = { command.name, command.line } end
  return out
end

function sources.file() return { { ":file", "" } } end
function sources.directory() return { { ":directory", "" } } end

local function of_row(row, context)
  if row.among then
    local out = {}
    for n, value in ipairs(row.among) do out[n] = { value, row.help or "" } end
    return out
  end
  local source = sources[row.complete or ""]
  return source and source(context) or {}
end

-- Options that may follow: of the command, of everything, and the parameters of the runbook named so far.
local function rows_for(command, words, context)
  local rows = commands.options(command)
  local name = command.runbook and options.first_operand(words, rows)
  if not name then return rows end
  local ok, info = pcall(runbooks.inspect, name, context, words)
  for _, row in ipairs(ok and runbooks.flags(info, rows) or {}) do rows[#rows + 1] = row end
  return rows
end

local function starting_with(list, prefix)
  local out = {}
  for _, item in ipairs(list) do
    if item[1]:sub(1, #prefix) == prefix or item[1]:sub(1, 1) == ":" then out[#out + 1] = item end
  end
  return out
end

local function find_row(rows, flag)
  for _, row in ipairs(rows) do
    if flag == "--" .. row.name or (row.short and flag == "-" .. row.short) then return row end
  end
  return nil
end

-- The operand being typed: the count of bare words before it says which.
local function operand(command, words, rows, context)
  local index, skip = 1, false
  for _, word in ipairs(words) do
    local row = find_row(rows, word)
    if skip then skip = false
    elseif row then skip = row.value ~= nil
    elseif not word:match("^%-") then index = index + 1 end
  end
  local argument = command.arguments[index]
  return argument and of_row(argument, context) or {}
end

---What may stand for the last of `words`.
---@param words string[]
---@param context table
---@return string[][] word and description
function M.candidates(words, context)
  local last = words[#words] or ""
  local before = table.move(words, 1, #words - 1, 1, {})
  if #before == 0 then return starting_with(sources.topic(), last) end
  local command = commands.find(table.remove(before, 1))
  if not command then return {} end
  local rows = rows_for(command, before, context)
  local flag, typed = last:match("^(%-%-[^=]+)=(.*)$")
  local pending = find_row(rows, before[#before] or "")
  if flag and find_row(rows, flag) then
    local out = starting_with(of_row(find_row(rows, flag), context), typed)
    for _, item in ipairs(out) do if item[1]:sub(1, 1) ~= ":" then item[1] = flag .. "=" .. item[1] end end
    return out
  elseif pending and pending.value then return starting_with(of_row(pending, context), last)
  elseif last:match("^%-") then
    local out = {}
    for n, row in ipairs(rows) do out[n] = { "--" .. row.name, row.help or "" } end
    return starting_with(out, last)
  end
  return starting_with(operand(command, before, rows, context), last)
end

---`neap __complete WORDS…`
---@param words string[]
---@param context table
---@return integer
function M.complete(words, context)
  local ok, found = pcall(M.candidates, words, context)
  for _, item in ipairs(ok and found or {}) do
    context.out(context.style:clean(item[1]) .. "\t" .. context.style:clean(item[2]) .. "\n")
  end
  return 0
end

---@param operands string[]
---@param _ Parsed
---@param context table
---@return integer exit code
function M.run(operands, _, context)
  context.out(M.script(operands[1]))
  return 0
end

return M
