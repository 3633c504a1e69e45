--- The text of neap-runbook(7): how a runbook is written and what may be expected of it.
--
-- Data only: sections of { title, paragraphs, terms?, examples? }. A paragraph is prose without markup; a term is
-- { name, text }; an example is { title, text } where text is a whole runbook, which a test loads. The page itself
-- is set by command.man.

local M = {}

local minimal <const> = [[
runbook "Give the reports a schema of their own" {
  why = "Ad-hoc tables must not mix with those of the application.",
}

local db = target.postgres "db"

step "Make the schema" {
  done = function () return db:has "SELECT 1 FROM pg_namespace WHERE nspname = 'reports'" end,
  act  = function () db:exec "CREATE SCHEMA reports" end,
  undo = function () db:exec "DROP SCHEMA reports" end,
}
]]

local sessions <const> = [[
runbook "Revoke the sessions of a user" {
  why = "An account was taken over; every device must log in again.",
}

local db = target.postgres "db"

local p = params {
  user  = { "id of the user", kind = "text" },
  bound = { "more sessions than this are suspicious", kind = "integer", default = 50 },
}

local function sessions () return db:value('SELECT count(*) FROM "Session" WHERE "userId" = $1', p.user) end

step "Revoke the sessions of {user}" {
  needs    = function () check.at_most(sessions(), p.bound, "{user} has no more than {bound} sessions") end,
  done     = function () return sessions() == 0 end,
  act      = function () return db:exec('DELETE FROM "Session" WHERE "userId" = $1', p.user):count() end,
  destroys = "all sessions of {user}",
  max_rows = 50,
}
]]

local vacuum <const> = [[
runbook "Analyze the tables of the shop" {
  why = "The planner's numbers are old after a restore.",
}

local db = target.postgres "db"

local p = params { schema = { "schema to analyze", kind = "name", default = "public" } }

local analyzed = "SELECT 1 FROM pg_stat_user_tables WHERE relname = $1 AND last_analyze > now() - interval '1 hour'"

step "Analyze every table of {schema}" {
  each   = function ()
    local names = {}
    for i, row in ipairs(db:rows("SELECT relname::text AS name FROM pg_stat_user_tables WHERE schemaname = $1 ORDER BY 1", p.schema)) do names[i] = row.name end
    return names
  end,
  limit  = 2,
  done   = function (name) return db:has(analyzed, name) end,
  act    = function (name) db:exec('ANALYZE "' .. name:gsub('"', '""') .. '"') end,
  within = "10m",
}
]]

local window <const> = [[
runbook "Migrate in a maintenance window" {
  why = "The application must not write while its tables change.",
}

local db, app, folder, migrate = target.postgres "db", target.command "app", target.folder "migrations", target.command "migrate"

local p = params { database = { "database to migrate", kind = "name" } }

local migrations = require "std.migrations"

local function history () return migrations.of { folder = folder, db = db, database = p.database, tool = migrate } end

local function running () return app:read({ "status" }, { allow = "any" }):status() == 0 end

local pending = step "Stop the application" {
  done  = function () return not running() end,
  act   = function ()
    app:run { "stop" }
    return history():pending()
  end,
  after = function ()
    app:run { "start" }
    wait_until(running, { every = "1s", within = "1m", times = 3 })
  end,
}

step "Tell the people who are waiting" {
  manual = "Write to #ops that {database} is being migrated.",
}

step "Migrate {database}" {
  needs = function () check(#history():obstacles() == 0, "folder and history agree", history():obstacles()[1]) end,
  done  = function () return #history():pending() == 0 end,
  act   = function () history():deploy(pending:result() or {}) end,
}
]]

M.title = "neap-runbook"
M.line = "how a runbook is written, previewed, run and resumed"

M.sections = {
  {
    title = "A runbook",
    paragraphs = {
      "A runbook is a file of Lua that declares steps. It is loaded once, with every way to the world refusing; that gives the checklist. Nothing is asked or "
        .. "done while it loads, and it must load within half a second. The functions in its clauses are called later. They are written as if everything were immediate: "
        .. "a query or a command that takes minutes does not stop the clock, the screen or Ctrl-C.",
      "The language is Lua 5.4 without files, processes, the operating system, the debug library, coroutines and binary chunks. A name that does not exist "
        .. "is an error with the nearest right one; a global cannot be made: write local.",
    },
    examples = { { title = "The smallest useful runbook", text = minimal } },
  },
  {
    title = "Roles and parameters",
    paragraphs = {
      "target.KIND \"role\" declares that the runbook needs such a thing and what it calls it. Which machine that is, the inventory says for each environment: see "
        .. "neap-inventory(5). A runbook names no hosts, and only its clauses may use a role. target.service(\"app\", { optional = true }) need not be in "
        .. "every environment: app:is_bound() says whether it is, and where it is not, using it is an error that says so.",
      "params { … } declares what an operator may give: a sentence, a kind (text, name, path, integer, number, boolean, duration, bytes, choice, list, runbook), and a default, "
        .. "optional = true, or neither when it must be given. A default that is a function is asked once, when the run begins, and is recorded; a resumed run "
        .. "keeps the value. While the runbook is being declared a parameter has no value: use p.name in a clause, or {name} in a text.",
      "The identity of a step is its title as it stands in the file, so two steps may not have the same one, and {name} in it changes nothing.",
    },
  },
  {
    title = "Clauses",
    paragraphs = {
      "A step is a title and its clauses. The set is closed: an unknown clause is refused with its line when the file is loaded. A step that acts needs a proof: done, verify "
        .. "or both. A step without act, manual or run is a check.",
    },
    terms = {
      { "needs", "what must hold before the step acts. Asked before the run writes anything, and again just before the step." },
      { "each", "items, as a list or a function that gives one; act, done, verify, undo and after are called with one item each. The list is recorded when it is first evaluated, and a "
        .. "resumed run goes on with the same list. Items are texts, or tables with a key; no two may have the same key." },
      { "done", "is the world already so? Yes skips the step, and nothing is written. It is asked again after act as its proof, until it says yes or the time is up. It returns true or "
        .. "false; in a check inside it a no is a failure." },
      { "act", "does it; with undo and after, the only clause that may write. What it returns is recorded and is the step's result." },
      { "verify", "the proof, where it is another question than done. It fails by a check that does not hold, or by returning false." },
      { "undo", "takes the step back when its own proof or a later step fails and the operator (or on_failure) says undo, and on neap undo. It may find only half of it done, or "
        .. "nothing, and must be right then too." },
      { "after", "is owed from the moment the intent to act is recorded, and is paid on success and on failure: start what was stopped." },
      { "destroys", "what is lost, in words. The operator types the value of the last {name} in it, under the identity of the targets, before the first write of the run." },
      { "manual", "what a human does and then says so. With a done it is asked whether it was done." },
      { "within", "how long acting and proving may take; the proof alone has thirty seconds when nothing is said." },
      { "takes", "how long the step usually takes, until runs have measured it." },
      { "retry", "how often to act again after a failure: 3, or { times = 3, every = \"5s\" }. done is asked before every attempt. What was refused, cancelled or is unknown is never tried again." },
      { "max_rows", "no single write of the step may touch more rows; it is rolled back if it would." },
      { "limit", "how many items of each are worked on side by side; one when nothing is said." },
      { "stop_after", "no new item begins once so many have failed; one when nothing is said. What is under way is finished, the step fails and "
        .. "names each item that failed, and a resumed run acts again for those alone." },
      { "run", "another runbook as one step: \"name\", or { \"name\", parameter = \"text\" or function () … end }. \"{operation}\" runs the one that the operator names: operation is "
        .. "then a parameter of kind runbook. What is chosen so is loaded with the rest; its steps stand in the plan, its targets are bound, and its own parameters are given beside those of "
        .. "the runbook (--help with the name shows them) and checked before the first write. A parameter of the same name in both is given to both." },
    },
    examples = { { title = "Asking, bounding, typing the name", text = sessions }, { title = "Items side by side", text = vacuum } },
  },
  {
    title = "Asking and acting",
    paragraphs = {
      "needs, each, done and verify only read, in every mode. The guard beneath Lua refuses a write there, whatever the clause tries; on PostgreSQL the server refuses it too. act, undo and "
        .. "after may write. Every write is recorded before it begins and after it ends, and the record is on disk before the write begins.",
      "Words for clauses: check(ok, \"truth hoped for\", actual), check.same(a, b, truth), check.at_least, check.at_most; wait_until(fn, { every =, within =, times = }); "
        .. "note(format, …) for a line of evidence; report { title =, columns =, rows =, remark = } for a table; "
        .. "try(fn, …) for an error that is expected; scratch \"name\" for a name that only this run has, and what is made under it neap gc removes when the run no longer can; "
        .. "stamp() for the moment the run began, \"20260425T020005Z\": one reading of the clock, the same in every step and after a resume; require \"std.NAME\" for words of the trade; "
        .. "step:result() for what an earlier act returned.",
      "wait_until asks until the function says yes, as often in a row as times says: wait_until(function () return site:healthy() end, { every = \"5s\", within = \"2m\", "
        .. "times = 3 }) lets a page that answers once and falls over again not pass for a healthy one.",
      "A check states what is hoped for, \"orders are back\", so that the line reads right with a yes and with a no before it.",
      "pcall and try do not catch what is not the runbook's to catch: a cancellation, a refusal, a journal that cannot be written, a value that a preview withholds.",
    },
  },
  {
    title = "What a preview can and cannot promise",
    paragraphs = {
      "neap plan writes nothing to any target. It binds the roles, asks every done, needs, each and verify that the present world can answer, and calls each act, "
        .. "and the after of each that would act, with its writes "
        .. "intercepted: what it would write is listed with its exact text and its target. A run begins with the same survey.",
      "The guard remembers which objects an intercepted write would have changed. A later question about such an object is unknown and names the step that withholds it; "
        .. "no value is ever made up. So a preview of steps that build on one another knows less towards its end, and says so.",
      "Not promised: that the world is the same when the run begins (every needs is asked again then); that a command declared as a read only reads; that a change takes as long as it did; "
        .. "which locks it will wait for; what another program does on a connection of its own.",
      "The exit status is 0 when nothing would change, 2 when changes are predicted, 1 when a check failed.",
    },
    terms = {
      { "enforced", "a check that was really asked, where the target would have refused a write." },
      { "declared", "a check that was really asked with a command of which the author says that it only reads." },
      { "predicted", "a change that was not made, with its exact text." },
      { "unknown", "what depends on a change that was not made." },
    },
  },
  {
    title = "How long it takes, and the window",
    paragraphs = {
      "A step's time is that of the newest twenty runs of the runbook in the environment: as a rule, and in 19 of 20 cases. A step that none of them measured takes what its takes says; "
        .. "without one nobody knows, and it counts as nothing. Taking a step back takes what undoing it took, or as long as the step itself until somebody had to. The plan shows it all.",
      "In an environment with a window no step acts outside of it. A run begins only when there is time for its steps and for taking all of them back; later no step acts that would not leave time "
        .. "to take it back. The plan names the moment by which the run must begin, and the last one to turn back: the end of the window less what taking everything back takes. After that the "
        .. "shorter way is taken. No flag overrides this.",
      "runbook \"…\" { window = \"needed\" } is work that belongs into a window (a major version, a restore, a migration that destroys): a protected environment that names none refuses it, and "
        .. "whatever runs it. window = \"anytime\" is work that must be possible outside of one: a backup, an emergency.",
    },
  },
  {
    title = "Failure",
    paragraphs = {
      "When a step fails nothing later begins. On a terminal the operator chooses: retry, skip (with a reason), undo, hold or abort. Unattended, the runbook's on_failure decides: "
        .. "undo (when nothing is said), hold or abort.",
      "Unwinding is one stack. The newest step comes first, its undo, then its after; then the step before it. An undo that fails ends the undoing, because what is older may stand on "
        .. "it; every after is still tried. hold pays nothing and lists what is owed, and the targets stay locked until the run is resumed or settled.",
    },
    examples = { { title = "A debt that is always paid", text = window } },
  },
  {
    title = "How a resume decides",
    paragraphs = {
      "neap resume first looks after what the dead run may have left running, a session of the server or a process, and waits for it or ends it. Then each write whose outcome was not "
        .. "recorded is asked about: done, not begun, half, or nobody knows. Then the step's own done is asked.",
      "Done says yes: the step is recorded as found done. Done says no, and no write is half or unknown: it acts again. Anything else is asked of a human; with nobody there the run "
        .. "stays as it is and the exit status is 75. An after that was interrupted is paid again from its beginning where the end of each of its writes is known.",
      "A check is asked again where a step before it is pending again and nothing was done after it. "
        .. "What a webhook is told with { once = true } is told once by a run: after a crash in the middle it is told again, with a line that says so, and chat:said(words) says that it was told.",
      "A step that is done is not done again, unless its undo or after has run since. Of a step with items only those without an outcome are worked on. Parameters and defaults keep their "
        .. "recorded values. A runbook or module whose text has changed is refused with the difference; so is a target that is another one now.",
    },
  },
  {
    title = "Odd cases",
    paragraphs = {
      "A local that a clause changes is refused: after a resume it would silently be empty. Return the value from act and ask for it with step:result().",
      "The result of a step that was found already so is nil: its act did not run. Ask the world instead, or write step:result() or what you assume.",
      "done must not raise where the world is simply not so yet: a database that does not exist has no tables. Ask whether it exists first.",
      "A PostgreSQL statement that must be alone (VACUUM, CREATE DATABASE, CREATE INDEX CONCURRENTLY) is sent alone; every other one is a transaction of its own. For several in one, use "
        .. "db:transaction(fn).",
      "Values go to PostgreSQL as $1, $2 and to commands as separate arguments; names (of tables, of databases) cannot be parameters of a statement and must be quoted by the runbook.",
      "A preview takes a command for a change of itself alone. When the program changes a database, say so: migrate:run({ \"deploy\" }, { touches = { db:subject() } }); later questions about "
        .. "that database are then unknown instead of stale.",
      "An act that reads what an earlier step of the same run makes ends there in a preview: put such questions into needs, and keep act to what it writes.",
    },
  },
}

return M
