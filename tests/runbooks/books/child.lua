-- Run by nested.lua.

runbook "Write one file" { why = "Another runbook runs it." }

local files = target.folder "files"

local p = params { name = { "file to write", kind = "name" }, text = { "what to write", default = "nested" } }

step "Write {name}" {
  done = function () return files:has(p.name) and files:read(p.name) == p.text end,
  act  = function () files:write(p.name, p.text) end,
}
