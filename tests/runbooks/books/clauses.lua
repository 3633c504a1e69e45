-- Every clause of a step that acts by itself, with both kinds of proof.

runbook "Make a table, fill it and count it" { why = "A test of the clauses.", on_failure = "undo" }

local db = target.postgres "db"

local p = params {
  table = { "table to make", kind = "name", default = "clauses" },
  rows  = { "rows to put into it", kind = "integer", default = function () return db:value "SELECT 3" end },
}

local function there () return db:has("SELECT 1 FROM pg_tables WHERE schemaname = 'public' AND tablename = $1", p.table) end
local function rows () return db:value(('SELECT count(*) FROM "%s"'):format(p.table)) end

step "Check the server" {
  needs  = function () check.at_least(tonumber(db:server_version():match "%d+"), 15, "the server is 15 or newer") end,
  verify = function () check(db:value "SELECT current_setting('server_encoding')" == "UTF8", "it speaks UTF-8") end,
}

step "Make the table {table}" {
  needs = function () check(db:has "SELECT 1 FROM pg_namespace WHERE nspname = 'public'", "there is a schema for it") end,
  done  = there,
  act   = function () db:exec(('CREATE TABLE "%s" (id int PRIMARY KEY)'):format(p.table)) end,
  undo  = function () db:exec(('DROP TABLE "%s"'):format(p.table)) end,
  within = "1m",
}

local filled = step "Fill it" {
  act      = function ()
    db:transaction(function (tx) for i = 1, p.rows do tx:exec(('INSERT INTO "%s" VALUES ($1)'):format(p.table), i) end end)
    return p.rows
  end,
  verify   = function () check(rows() == p.rows, "{table} has {rows} rows") end,
  after    = function () db:exec(('COMMENT ON TABLE "%s" IS $$filled$$'):format(p.table)) end,
  max_rows = 10,
}

step "Count it" {
  verify = function ()
    check(rows() == filled:result(), "what is there is what was put there")
    note("%d rows", rows())
  end,
}
