-- A program that fails the first time, and one whose subject is said.

runbook "Try it again" { why = "A test of retry and touches." }

local files, tool = target.folder "files", target.command "tool"

step "Start it" {
  done   = function () return files:has "started" end,
  act    = function () tool:run({ "second-time", "started" }, { touches = { "file:" .. files:path() } }) end,
  retry  = { times = 2, every = "10ms" },
  within = "30s",
}

step "It is started" { verify = function () check(files:has "started", "it left its trace") end }
