-- Checks that the target enforced, and checks that only read because their author says so.

runbook "Look with the server's eyes and with a program's" { why = "A test of the labels." }

local db, files, tool = target.postgres "db", target.folder "files", target.command "tool"

step "Ask the server" { verify = function () check(db:has "SELECT 1", "one is one") end }

step "Ask a program" {
  verify = function ()
    check(tool:read({ "look", "keep" }):out() == "kept\n", "the program sees what is kept")
    check(files:read "keep" == "kept\n", "and so do we")
  end,
}

step "Write beside it" {
  done = function () return files:has "beside" end,
  act  = function () files:write("beside", "written\n") end,
  verify = function () check(files:read "beside" == "written\n", "it is there") end,
}

step "Ask the server again" { verify = function () check(db:has "SELECT 1", "one is still one") end }
