-- The words of the two manual pages that are not commands: the language of runbooks and the inventory.
-- What can be listed is taken from the tables that the engine itself obeys (clauses, kinds of
-- parameters, fields of targets), so that a clause without a line in the manual cannot exist.
local text = require "core.text"

local M = {}

M.example = [[
runbook "Make a database for the reports" {
  why = "The reports must not share a database with the shop.",
}

local db = target.postgres "db"

local p = params {
  database = { "database to make", kind = "name", default = "reports" },
}

step "The server takes writes" {
  verify = function ()
    check(not db:value "select pg_is_in_recovery()", "the server is no replica")
  end,
}

step "Make {database}" {
  done = function () return db:exists(p.database) end,
  act = function () db:create_database(p.database) end,
  undo = function () db:drop_database(p.database) end,
}]]

M.inventory_example = [[
environment "staging" {
  protected = false,
  never = { { "drop database", "not in this environment" } },
  hosts = { "127.0.0.1" },
  max_rows = 1000,
  db = postgres {
    url = "postgresql://app@127.0.0.1:5432/shop",
    password = secret { env = "SHOP_PASSWORD" },
    pin = "pg:7312345678901234567/shop",
  },
  migrations = folder { path = "/srv/shop/prisma/migrations" },
  migrate = command { argv = { "/usr/bin/node", "migrate.js" }, cwd = "/srv/shop" },
}]]

local words = {
  { "check(ok, truth)", "fails the step when ok is false; truth says what was hoped for and may name {parameters}" },
  { "check.same(a, b, truth)", "two plain values are the same; the first difference is shown" },
  { "wait_until(fn, { every =, within = })", "asks again until fn gives true or the time is over" },
  { "note(text)", "evidence, shown beside the step" },
  { "try(fn, …)", "the result of fn, or nil and the error; what is not the runbook's to catch passes through" },
  { "scratch \"name\"", "a name that only this run has" },
  { "require \"std.NAME\"", "the words of the trade that neap brings; require \"FILE\" reads a module beside the runbook" },
}

local function sorted_help(map, help)
  local rows = {}
  for _, name in ipairs(text.keys(map)) do rows[#rows + 1] = { name, help(map[name]) } end
  return rows
end

---neap-runbook(7) as sections: {title, paragraphs…}; a paragraph is a string, {list = rows} or {code = text}.
---@return table[]
function M.runbook()
  local declare, params = require "engine.declare", require "engine.params"
  return {
    { "NAME", "neap-runbook - the language of runbooks" },
    { "DESCRIPTION", "A runbook is a Lua file that declares steps. It is loaded once with every primitive refusing, which gives the "
      .. "list of steps without touching anything. The clauses of a step are Lua functions in blocking style.",
      "Only act may write. A step that acts has a done or a verify; without one the runbook does not load. Before anything is written, "
      .. "every done is asked, then the needs of the steps that will act, then every confirmation." },
    { "CLAUSES", { list = sorted_help(declare.CLAUSES, function(c) return c.help end) } },
    { "KINDS OF PARAMETERS", { list = sorted_help(params.KINDS, function(k) return k.help end) } },
    { "WORDS", { list = words } },
    { "EXAMPLE", { code = M.example } },
    { "SEE ALSO", "neap(1), neap-run(1), neap-plan(1), neap-inventory(5)" },
  }
end

local settings = {
  { "protected", "true: every run that changes something asks first" },
  { "never", "patterns of commands and SQL that are refused at the primitive; no flag overrides them" },
  { "hosts", "the only hosts that may be written to" },
  { "max_rows", "no write may touch more rows, unless its step says otherwise" },
  { "window", "when runs may change something" },
  { "note", "words shown to people" },
}

---neap-inventory(5).
---@return table[]
function M.inventory()
  local fields = {}
  for _, kind in ipairs(text.keys(require("command.clients").all())) do
    local client = require("command.clients").all()[kind]
    for _, name in ipairs(text.keys(client.fields)) do
      local field = client.fields[name]
      fields[#fields + 1] = { kind .. "." .. name, type(field) == "table" and (field.help or field.type) or tostring(field) }
    end
  end
  return {
    { "NAME", "neap-inventory - environments and what lives in them" },
    { "DESCRIPTION", "Lua data, read in a sandbox. Runbooks name roles (db, app); an environment says which machine a role is. "
      .. "Looked for as --inventory, NEAP_INVENTORY, ./inventory.lua, $XDG_CONFIG_HOME/neap/inventory.lua, /etc/neap/inventory.lua.",
      "A secret is a reference and never the value: secret { env = \"NAME\" }, secret { file = \"path\" } or "
      .. "secret { command = { \"program\", \"argument\" } }.",
      "pin is the identity a target must have, as neap doctor --env prints it; a run refuses any other." },
    { "SETTINGS OF AN ENVIRONMENT", { list = settings } },
    { "FIELDS OF TARGETS", { list = fields } },
    { "EXAMPLE", { code = M.inventory_example } },
    { "SEE ALSO", "neap(1), neap-doctor(1), neap-runbook(7)" },
  }
end

return M
