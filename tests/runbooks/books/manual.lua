-- A step that a human does, between two that neap does.

runbook "Work with a human" { why = "A test of manual." }

local files = target.folder "files"

local function has (name) return function () return files:has(name) end end

step "Prepare" { done = has "prepared", act = function () files:write("prepared", "x") end, after = function () if files:has "lent" then files:remove "lent" end end }

step "Let somebody look" {
  needs  = function () check(files:has "keep", "there is something to look at") end,
  manual = "Look at the file, then say so.",
}

step "Finish" { done = has "finished", act = function () files:write("finished", "x") end }
