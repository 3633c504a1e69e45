-- A runbook as a step, before and after a change of its own.

runbook "Run another runbook, twice" { why = "A test of run." }

local files = target.folder "files"

step "Once" { run = { "child", name = "first" } }

step "Write beside it" {
  done = function () return files:has "beside" end,
  act  = function () files:write("beside", "x") end,
}

step "Twice" { run = { "child", name = "second", text = "given" } }
