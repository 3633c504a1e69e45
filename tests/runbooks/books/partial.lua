-- What depends on what was not made: the rest of an act, a later act, a later list of items, a later check.

runbook "Build one thing on another" { why = "A test of what a preview cannot know." }

local db, files = target.postgres "db", target.folder "files"

local made = step "Make the base" {
  done = function () return db:has "SELECT 1 FROM pg_tables WHERE tablename = 'base'" end,
  act  = function ()
    db:exec "CREATE TABLE base AS SELECT generate_series(1, 3) AS id"
    local count = db:value "SELECT count(*) FROM base"
    db:exec("INSERT INTO base VALUES ($1)", count + 1)
    return count + 1
  end,
}

step "Write the number down" {
  act    = function () files:write("number", tostring(made:result())) end,
  verify = function () check(files:read "number" == "4", "four rows are written down") end,
}

step "One file for each row" {
  each = function ()
    local items = {}
    for i, row in ipairs(db:rows "SELECT id FROM base ORDER BY id") do items[i] = tostring(row.id) end
    return items
  end,
  done = function (id) return files:has("row-" .. id) end,
  act  = function (id) files:write("row-" .. id, id) end,
}

step "Ask what nothing touched" { verify = function () check(files:read "keep" == "kept\n", "what was kept is kept") end }
