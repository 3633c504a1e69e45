-- Every command and every option, once. The parser, the short and the long help, the man pages and
-- the completion of three shells are made from these rows; nothing about the command line is written
-- anywhere else. An option: name, short letter, `value` (what stands for it in the help; a switch has
-- none), help, and what completes it. A command: name, one line, arguments, text, options, examples.
local M = {}

local function switch(name, help, short) return { name = name, help = help, short = short } end
local function option(name, value, help, more)
  local row = { name = name, value = value, help = help }
  for key, v in pairs(more or {}) do row[key] = v end
  return row
end

---Options of every command.
M.everywhere = {
  switch("help", "say what the command does, with all its options", "h"),
  option("state", "DIR", "where the journals are kept", { complete = "directory", env = "NEAP_STATE" }),
  option("color", "WHEN", "colour", { among = { "auto", "always", "never" }, env = "NO_COLOR, CLICOLOR_FORCE" }),
  option("width", "COLUMNS", "lines no longer than this", { env = "COLUMNS" }),
  switch("ascii", "plain signs instead of Unicode ones"),
  switch("json", "JSON lines for programs on the standard output"),
  switch("quiet", "nothing when all is well, one page when it is not (for cron)", "q"),
  switch("verbose", "more words", "v"),
}

local env = option("env", "NAME", "environment of the inventory that binds the roles",
  { short = "e", complete = "environment", env = "NEAP_ENV" })
local inventory = option("inventory", "FILE", "inventory to read instead of the first one found",
  { short = "i", complete = "file", env = "NEAP_INVENTORY" })
local set = option("set", "NAME=VALUE", "a parameter of the runbook; --NAME VALUE is the same", { many = true })
local no_input = switch("no-input", "never ask; a needed answer ends the run with exit 77")
local confirm = option("confirm", "WHAT=NAME", "answer in advance by the exact name: --confirm destroys=demo", { many = true })

M.commands = {
  {
    name = "run", line = "run a runbook, step by step, and record it", arguments = { { "RUNBOOK", complete = "runbook" } },
    text = "Asks everything it needs before the first write, records each intent before it acts, and proves each step. "
      .. "The parameters of the runbook are flags: see neap run RUNBOOK --help.",
    options = { env, inventory, set, confirm, no_input, switch("dry-run", "preview only: the same as neap plan") }, runbook = true,
    examples = {
      { "neap run restore --env staging", "run it, asking for what is missing" },
      { "neap run restore -e staging --confirm destroys=shop_staging -q", "from cron: silent when all is well" },
    },
  },
  {
    name = "plan", line = "preview a run: what would happen, to which machine, and what would be lost",
    arguments = { { "RUNBOOK", complete = "runbook" } },
    text = "Asks every check that does not depend on a change not made, shows every change with its exact text, and writes "
      .. "nothing anywhere. Exit 0: nothing would change; 2: changes are predicted; 1: a check failed.",
    options = { env, inventory, set }, runbook = true,
    examples = {
      { "neap plan restore --env staging", "the day before the maintenance window" },
      { "neap plan restore -e staging --json | jq .tally", "for a gate in CI" },
    },
  },
  {
    name = "check", line = "could this run now? Only what a runbook needs is asked", arguments = { { "RUNBOOK", complete = "runbook" } },
    text = "Loads the runbook, binds its roles and asks the `needs` of its steps. Writes nothing. Without --env it only loads "
      .. "the file.",
    options = { env, inventory, set }, runbook = true,
    examples = {
      { "neap check restore", "is the file a valid runbook?" },
      { "neap check restore --env production", "could it run now?" },
    },
  },
  {
    name = "resume", line = "go on with a run that stopped or died", arguments = { { "RUN", complete = "open" } },
    text = "First deals with what the dead run may have left running, then asks what became of every write whose outcome was "
      .. "not recorded. A step that is done is not done again. A changed runbook is refused.",
    options = { inventory, confirm, no_input },
    examples = {
      { "neap resume 7f3a91c", "any unique beginning of the run's id" },
      { "neap resume 7f3a91c --no-input", "exit 75 instead of a question" },
    },
  },
  {
    name = "undo", line = "undo the steps of a run, newest first", arguments = { { "RUN", complete = "run" } },
    text = "Runs the `undo` of each step that was done and can be undone, then what was still owed.",
    options = { inventory, confirm, no_input },
    examples = { { "neap undo 7f3a91c", "asks before it begins" }, { "neap show 7f3a91c", "see first what the run did" } },
  },
  {
    name = "settle", line = "give back what a run keeps whose journal is lost", arguments = { { "RUN" } },
    text = "For a run that owes something and cannot be resumed, because its journal is gone. Look, mend what it owed by hand, then say so: "
      .. "the holds it left on the targets of the environment are taken away, and who said so and why is recorded as a run of its own. "
      .. "A run whose journal is here and whole is refused: resume it.",
    options = { env, inventory, option("reason", "TEXT", "what was found and mended; recorded"), confirm, no_input },
    examples = {
      { "neap settle 7f3a91c --env production --reason started-by-hand", "asks for the run's id" },
      { "neap settle 7f3a91c0aa12 --env production --reason checked --confirm settle=7f3a91c0aa12", "unattended" },
    },
  },
  {
    name = "list", line = "the runbooks that can be run, with their parameters", arguments = {},
    text = "Looks in ./runbooks, the user's and the system's configuration, and what neap itself brought.",
    options = {},
    examples = { { "neap list", "names and first sentences" }, { "neap list --verbose", "with parameters and steps" } },
  },
  {
    name = "history", line = "past runs, newest first", arguments = { { "RUNBOOK", optional = true, complete = "runbook" } },
    text = "Reads the index of the state directory. A run that still owes something is named with the command that settles it.",
    options = {
      switch("failed", "only runs that did not end well"), option("env", "NAME", "only runs in this environment", { short = "e" }),
      option("since", "DURATION", "only runs of the last 7d, 12h, …"), option("limit", "N", "at most so many (20)", { short = "n" }),
    },
    examples = { { "neap history", "the last twenty runs" },
      { "neap history restore --failed --since 30d", "what went wrong this month" } },
  },
  {
    name = "show", line = "everything that is recorded about one run, or a runbook as a page", arguments = { { "RUN", complete = "run" } },
    text = "Head, parameters, every step with its checks and writes, who answered what, and how it ended. With --markdown the word is the name of a "
      .. "runbook, and what is shown is a page to follow by hand: what each step needs, does, proves, undoes and destroys, and what a person does. "
      .. "With --env too, the page holds what a preview says there, statement by statement; that asks the targets and writes nothing.",
    options = { option("step", "N", "only this step, with all its evidence"), switch("markdown", "a runbook as a page in Markdown"), env, inventory, set },
    examples = { { "neap show 7f3a91c", "the whole run" }, { "neap show 7f3a91c --step 4", "one step in full" },
      { "neap show postgres/vacuum --markdown >vacuum.md", "a runbook as a page" } },
  },
  {
    name = "watch", line = "follow a run from another terminal", arguments = { { "RUN", complete = "open" } },
    text = "Shows what has happened and then what happens, without a hand on the run. Ctrl-C ends the watching, not the run.",
    options = {},
    examples = { { "neap watch 7f3a91c", "read-only, from the journal" }, { "neap watch 7f3a91c --json", "for a program" } },
  },
  {
    name = "journal", line = "verify, locate or rebuild what is recorded",
    arguments = { { "ACTION", among = { "verify", "rebuild", "path" } }, { "RUN", optional = true, complete = "run" } },
    text = "verify proves the chain of hashes of one run or of all; rebuild makes the index again from the journals; path prints "
      .. "where a journal is.",
    options = {},
    examples = { { "neap journal verify", "every run; exit 65 when a byte was changed" },
      { "neap journal path 7f3a91c", "the directory of the run" } },
  },
  {
    name = "gc", line = "remove what runs left behind, and old journals", arguments = {},
    text = "Temporary things (scratch databases, staged and half written files, containers) are written into the ledger of their run before they are made. What is "
      .. "still in the ledger of a run that is over is removed: in a run of its own, in the environment that run used, and only where the same server answers. "
      .. "A run that failed and can still be resumed keeps its things for as long as --left says, or until --abandoned gives it up; then it can no longer be resumed. One that may "
      .. "still owe something keeps them until it is resumed or undone. What was swapped into place, and what is in no ledger, is never touched. "
      .. "Of the journals only those of runs that ended, owe nothing and left nothing go, when they are older than --older or beyond --keep.",
    options = {
      option("abandoned", "RUN", "nobody will resume this run: remove its things too", { many = true, complete = "run" }),
      option("left", "DURATION", "runs that failed longer ago are given up (14d)"),
      option("older", "DURATION", "journals of runs that ended longer ago (90d)"), option("keep", "N", "never fewer journals than so many (50)"),
      option("rows", "DURATION", "rows that were kept for undo go this long after their run (30d)"), switch("dry-run", "say what would be removed, remove nothing"),
      env, inventory, confirm, no_input,
    },
    examples = { { "neap gc --dry-run", "what would go" }, { "neap gc --abandoned 7f3a91c --env production", "the things of a run that failed" },
      { "neap gc --older 30d --keep 20", "and fewer journals" } },
  },
  {
    name = "doctor", line = "is everything in order here? Each finding comes with its fix", arguments = { { "ROLE", optional = true } },
    text = "Libraries, state directory and its permissions, inventory, the identity and encryption of every target, clock, terminal, "
      .. "and what cron would see. With --env every target of the environment is asked who it is, what it stands on before it, and each "
      .. "trouble comes with the one thing that mends it; with a ROLE that target only.",
    options = { env, inventory, switch("as-cron", "judge by the environment cron gives") },
    examples = { { "neap doctor", "this machine" }, { "neap doctor --env production", "and what production binds" },
      { "neap doctor hermes --env production", "one target of it" } },
  },
  {
    name = "completion", line = "a completion script for your shell", arguments = { { "SHELL", among = { "bash", "zsh", "fish" } } },
    text = "Prints the script; it asks neap for the names of runbooks, runs and environments, and never the network.",
    options = {},
    examples = { { "neap completion bash > ~/.local/share/bash-completion/completions/neap", "bash" },
      { "neap completion fish > ~/.config/fish/completions/neap.fish", "fish" } },
  },
  {
    name = "man", line = "print a manual page", arguments = { { "PAGE", optional = true } },
    text = "Pages: neap, one for each command (neap-run …), neap-runbook (the language) and neap-inventory.",
    options = { switch("list", "the names of all pages instead") },
    examples = { { "neap man neap-runbook | man -l -", "read about the language" }, { "neap man --list", "the names of all pages" } },
  },
  {
    name = "version", line = "the version of neap and of the libraries inside it", arguments = {},
    text = "One line; with --verbose the libraries too.",
    options = {}, examples = { { "neap version", "one line" }, { "neap version -v", "with libraries" } },
  },
  {
    name = "help", line = "help on a command, or on events and exit codes",
    arguments = { { "TOPIC", optional = true, complete = "topic" } },
    text = "Topics beside the commands: exit, events, environment.",
    options = {}, examples = { { "neap help run", "one command" }, { "neap help exit", "the exit codes" } },
  },
}

---Environment variables beside those of the options.
M.environment = {
  { "NO_COLOR", "no colour when it is not empty" }, { "CLICOLOR_FORCE", "colour although it is not a terminal" },
  { "TERM", "\"dumb\": no redrawing and no colour" }, { "COLUMNS", "width when the terminal does not tell" },
  { "XDG_STATE_HOME", "state is kept in $XDG_STATE_HOME/neap, else in ~/.local/state/neap" },
  { "XDG_CONFIG_HOME", "inventory and runbooks are looked for in $XDG_CONFIG_HOME/neap, else in ~/.config/neap" },
}

---@param name string
---@return table|nil command
function M.find(name)
  for _, command in ipairs(M.commands) do
    if command.name == name then return command end
  end
  return nil
end

---@return string[]
function M.names()
  local names = {}
  for n, command in ipairs(M.commands) do names[n] = command.name end
  return names
end

---All options of a command: its own, then those of every command.
---@param command table
---@return table[]
function M.options(command)
  local list, seen = {}, {}
  for _, source in ipairs { command.options or {}, M.everywhere } do
    for _, row in ipairs(source) do
      if not seen[row.name] then list[#list + 1], seen[row.name] = row, true end
    end
  end
  return list
end

---"RUNBOOK [RUN]" as the help writes it.
---@param command table
---@return string
function M.usage(command)
  local parts = { "neap " .. command.name }
  for _, argument in ipairs(command.arguments) do
    parts[#parts + 1] = argument.optional and "[" .. argument[1] .. "]" or argument[1]
  end
  parts[#parts + 1] = command.runbook and "[--PARAMETER VALUE …] [options]" or "[options]"
  return table.concat(parts, " ")
end

return M
