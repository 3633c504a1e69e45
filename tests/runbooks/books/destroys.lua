-- What is lost is named, and typed.

runbook "Throw away and start again" { why = "A test of destroys." }

local db, files = target.postgres "db", target.folder "files"

local p = params { database = { "database to throw away", kind = "name" }, file = { "file to throw away", kind = "name", default = "keep" } }

step "Drop {database}" {
  destroys = "everything in {database}",
  done     = function () return not db:exists(p.database) end,
  act      = function () db:terminate { database = p.database } db:drop_database(p.database) end,
}

step "Make {database} anew" {
  done = function () return db:exists(p.database) end,
  act  = function () db:create_database(p.database) end,
}

step "Remove {file}" {
  destroys = "what is in {file}",
  done     = function () return not files:has(p.file) end,
  act      = function () files:remove(p.file) end,
}
