-- The two manual pages that are not commands, as sections for command.man: the language of runbooks
-- (its words are in manual_runbook) and the inventory. What can be listed is taken from the tables that
-- the engine itself obeys (kinds of parameters, fields of targets), so that nothing is missing here.
local text = require "core.text"

local M = {}

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
  site = url { url = "https://staging.example.org", health = "/health" },
  chat = webhook { url = secret { env = "OPS_WEBHOOK" }, format = "slack" },
}]]

-- One section of manual_runbook: prose, then terms, then whole runbooks as examples.
local function section_of(source)
  local section = { source.title:upper() }
  for _, paragraph in ipairs(source.paragraphs) do section[#section + 1] = paragraph end
  if source.terms then section[#section + 1] = { list = source.terms } end
  for _, example in ipairs(source.examples or {}) do
    section[#section + 1] = example.title .. ":"
    section[#section + 1] = { code = example.text }
  end
  return section
end

---neap-runbook(7) as sections: {title, paragraphs…}; a paragraph is a string, {list = rows} or {code = text}.
---@return table[]
function M.runbook()
  local source, params = require "command.manual_runbook", require "engine.params"
  local sections, kinds = { { "NAME", source.title .. " - " .. source.line } }, {}
  for _, section in ipairs(source.sections) do sections[#sections + 1] = section_of(section) end
  for _, name in ipairs(text.keys(params.KINDS)) do kinds[#kinds + 1] = { name, params.KINDS[name].help } end
  sections[#sections + 1] = { "KINDS OF PARAMETERS", { list = kinds } }
  sections[#sections + 1] = { "SEE ALSO", "neap(1), neap-run(1), neap-plan(1), neap-inventory(5)" }
  return sections
end

local settings = {
  { "protected", "true: every run that changes something asks first, and the commands below are never run, whatever a flag says" },
  { "never", "patterns of commands and SQL that are refused at the primitive; no flag overrides them" },
  { "hosts", "the only hosts that may be written to" },
  { "max_rows", "no write may touch more rows, unless its step says otherwise" },
  { "window", "when runs may change something, in UTC: \"02:00-04:00\" or \"Sat,Sun 22:00-01:30\"" },
  { "note", "words shown to people" },
}

local common = {
  { "on", "the role of another entry of the same environment that this one is reached through: a host, a container. It is bound once, whoever "
    .. "uses it, its secret is fetched and its pin is proved first, and a plan shows it below the role that uses it. Two runs may go the same way: "
    .. "only what a runbook names is locked" },
  { "pin", "the identity the target must have, as neap doctor --env prints it; a run refuses any other" },
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
      .. "secret { command = { \"program\", \"argument\" } }." },
    { "SETTINGS OF AN ENVIRONMENT", { list = settings } },
    { "NEVER RUN IN A PROTECTED ENVIRONMENT", "Refused at the primitive, here, on hosts and in containers, those that are declared to be reads too. What "
      .. "a script of its own starts (npm run x) neap cannot see: name such scripts in the never list.", { list = require("native.guard").rules() } },
    { "WORDS THAT MEAN THE SAME IN EVERY TARGET", { list = common } },
    { "FIELDS OF TARGETS", { list = fields } },
    { "EXAMPLE", { code = M.inventory_example } },
    { "SEE ALSO", "neap(1), neap-doctor(1), neap-runbook(7)" },
  }
end

return M
