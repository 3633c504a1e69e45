-- Back up a database into the folder of backups, wherever that is, in one pass from pg_dump: no disk of the database's host, no /tmp, no shell.
-- Rows and shape are counted in the very snapshot the dump is of; the dump has its name when it is whole, and its manifest when it was read back.

runbook "Back up a database" {
  why = "A backup is what a restore brings back; until its rows were counted and its bytes read again it is a file with a hopeful name.",
}

local catalogue = require "std.backups"

local db, backups = target.postgres "db", target.folder "backups"

local p = params {
  database    = { "database to back up; that of the inventory when omitted", kind = "name", default = function () return db:card().database end },
  name        = { "what the backup is called; by the database and the moment the run began when omitted", kind = "name", optional = true },
  format      = { "custom restores best, plain can be read, directory is one tar", kind = "choice", choices = { "custom", "plain", "directory" }, default = "custom" },
  compress    = { "around the dump; custom compresses by itself", kind = "choice", choices = { "none", "gzip", "zstd" }, default = "none" },
  tables      = { "only these, as the catalogue has them: public.users", kind = "list", optional = true },
  schema_only = { "no rows", kind = "boolean", default = false },
  globals     = { "the server's roles beside it, without passwords", kind = "boolean", default = true },
  floor       = { "least size, in percent of what backups of its kind usually have", kind = "integer", default = 50, min = 0, max = 100 },
}

local function source () return db:on(p.database) end

local function name () return p.name or catalogue.name(p.database, stamp(), p.format, p.compress) end

step "Look at the tools, the room and the name" {
  verify = function ()
    check(source():tools_fit(), "the tools are as new as the server", select(2, source():tools_fit()))
    note("%s", select(2, source():tools_fit()))
    if catalogue.has(backups, name()) then return note("%s is there already", name()) end
    check(not catalogue.taken(backups, name()), "the name is free", catalogue.taken(backups, name()))
    local fits, shown = catalogue.has_room(source(), backups)
    check(fits, "there is room for it in the folder of backups", shown)
  end,
}

step "Dump {database} into {item}" {
  each = function () return { name() } end,
  done = function (dump) return catalogue.has(backups, dump) end,
  act  = function (dump)
    catalogue.take(source(), backups, dump, { at = stamp(), format = p.format, compress = p.compress, tables = p.tables, schema_only = p.schema_only, globals = p.globals })
  end,
  undo   = function (dump) catalogue.discard(backups, dump) end,
  within = "8h",
}

step "Judge what was made" {
  verify = function ()
    local manifest = catalogue.manifest(backups, name())
    check(manifest and catalogue.has(backups, name()), "the dump is in the catalogue, with every byte")
    check(manifest.database == p.database, "it is of {database}", "it is of " .. manifest.database)
    check(next(manifest.shape) ~= nil, "there is something in it")
    local fits, shown = catalogue.is_large_enough(backups, name(), p.floor)
    check(fits, "it is as large as earlier ones let expect", shown)
    note("%s: %s, SHA-256 %s; %s", name(), catalogue.shown(manifest), manifest.sha256, shown)
  end,
}
