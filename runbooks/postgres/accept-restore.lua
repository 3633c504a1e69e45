-- Accept a restore: drop the database that it put aside. From then on it cannot be taken back but by its own backups.

runbook "Accept a restore, and drop the database it replaced" {
  why = "A replaced database is kept whole until somebody says that the new one is right; it takes the room of a second one.",
}

local db = target.postgres "db"

local p; p = params {
  database = { "the live database; that of the inventory when omitted", kind = "name", default = function () return db:card().database end },
  kept     = { "the one that was put aside; the only one of the database when omitted", kind = "name", default = function ()
                 local name = db:kept(p.database)
                 check(name, "a restore of this database put one aside")
                 return name
               end },
}

step "Look at both" {
  verify = function ()
    check(db:exists(p.database), "{database} is there")
    local names, is_kept = db:kept_all(p.database), not db:exists(p.kept)
    for _, name in ipairs(names) do is_kept = is_kept or name == p.kept end
    check(is_kept, "{kept} was put aside by a restore of {database}", #names > 0 and "these were: " .. table.concat(names, ", ") or "none was")
    if db:exists(p.kept) then note("%s has %d tables, %s has %d", p.database, #db:on(p.database):tables(), p.kept, #db:on(p.kept):tables()) end
  end,
}

-- No undo: that it cannot be taken back is what is accepted.
step "Drop {kept}" {
  destroys = "the database as it was before the restore, {kept}",
  done  = function () return not db:exists(p.kept) end,
  needs = function () check.same(db:strangers(p.kept), {}, "nobody is connected to {kept}") end,
  act   = function () db:drop_database(p.kept) end,
}
