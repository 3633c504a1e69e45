-- A nested runbook with a parameter that is asked, and one whose parameter depends on a change.

runbook "Run another runbook with what was found" { why = "A test of run." }

local db, files = target.postgres "db", target.folder "files"

step "Twice" { run = { "child", name = "second", text = function () return db:value "SELECT 'asked'" end } }

local written = step "Write the name down" {
  act    = function () files:write("name", "third") return "third" end,
  verify = function () check(files:read "name" == "third", "it is written down") end,
}

step "Write what was written down" {
  each = function () return { written:result() } end,
  done = function (name) return files:has(name) end,
  act  = function (name) files:write(name, "again") end,
}
