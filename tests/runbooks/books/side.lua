-- Steps side by side, and items side by side, a bounded number at a time.

runbook "Write many things at once" { why = "A test of parallel, each and limit." }

local db, files = target.postgres "db", target.folder "files"

local function file (name)
  return { done = function () return files:has(name) end, act = function () files:write(name, name) end }
end

parallel { limit = 2, step "Write a" (file "a"), step "Write b" (file "b"), step "Write c" (file "c") }

step "Make the tables" {
  each  = { "one", "two", "three", "four", "five" },
  limit = 3,
  done  = function (name) return db:has("SELECT 1 FROM pg_tables WHERE schemaname = 'public' AND tablename = $1", name) end,
  act   = function (name) db:exec(('CREATE TABLE "%s" (id int)'):format(name)) end,
  undo  = function (name) db:exec(('DROP TABLE IF EXISTS "%s"'):format(name)) end,
}

step "Give each its comment" {
  each   = { { key = "one", says = "first" }, { key = "two", says = "second" } },
  act    = function (item) db:exec(('COMMENT ON TABLE "%s" IS \'%s\''):format(item.key, item.says)) end,
  verify = function (item) check(db:value(("SELECT obj_description('%s'::regclass)"):format(item.key)) == item.says, "{item} is commented") end,
}
