-- T14: DROP DATABASE is refused while one session is open, in the middle of a procedure that has stopped nothing else; and once it works, the only
-- copy is a file that nobody has restored. What answers here: who is connected is named and ended first, each as the session it is,
-- and dropping is a word of its own whose loss the operator types. postgres/restore drops nothing at all: what it replaces is renamed and kept.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

describe("T14, DROP DATABASE while somebody is connected", function ()
  it("fails as the guide has it; ours names who it is, ends it, and drops only what was confirmed", function ()
    local pg = servers.postgres()
    pg.sql "grant pg_read_all_stats, pg_signal_backend to owner"
    local ward, other = wards.open(pg), pg.database()
    local shop = wards.open(pg)
    shop.database = other
    local session = shop.session("select 'held';", "held", "shop")
    local ok, err = pcall(pg.sql, "drop database " .. other)
    assert.is_false(ok)
    assert.matches("is being accessed by other users", tostring(err), 1, true)

    suite.write(ward.dir .. "/drop.lua", [[runbook "Drop" { why = "x" } local db = target.postgres "db" local p = params { database = { "x", kind = "name" } }
      step "Drop {database}" { destroys = "everything in {database}", done = function () return not db:exists(p.database) end, act = function () db:drop_database(p.database) end }]])
    local drop = { "run", ward.dir .. "/drop.lua", "--database", other, "--no-input", "--confirm", "destroys=" .. other }
    assert.matches("is being accessed by other users", ward.ends(1, drop), 1, true)
    assert.matches("│ shop ", ward.neap({ "plan", "postgres/terminate", "--database", other }).all, 1, true)
    ward.ends(0, { "run", "postgres/terminate", "--database", other, "--no-input", "--confirm", "destroys=" .. other })
    ward.ends(77, { "run", ward.dir .. "/drop.lua", "--database", other, "--no-input" })
    ward.ends(0, drop)
    getmetatable(session).__close(session)
  end)

  it("need not be dropped at all: the swap names who is connected, and keeps what it replaces", function ()
    local pg = servers.postgres()
    pg.sql "alter role owner createdb"
    local ward = wards.open(pg)
    pg.sql(("alter database %s owner to owner"):format(ward.database))
    suite.write(ward.dir .. "/swap.lua", [[runbook "Swap" { why = "x", on_failure = "abort" } local db = target.postgres "db" local p = params { database = { "x", kind = "name" } }
      step "Make another" { done = function () return db:swapped(p.database, scratch "new") or db:exists(scratch "new") end, act = function () db:create_database(scratch "new") end }
      step "Swap {database}" { each = { "swap" }, destroys = "everything in {database}", done = function () return db:swapped(p.database, scratch "new") end,
        act = function () db:swap(p.database, scratch "new") end, undo = function () db:swap_back(p.database) end }]])
    local swap = { "run", ward.dir .. "/swap.lua", "--database", ward.database, "--no-input", "--confirm", "destroys=" .. ward.database }
    local session = ward.session("select 'held';", "held", "shop")
    assert.matches("somebody is connected: pid %d+, shop of owner", ward.ends(75, swap))
    assert.equal("1000", pg.sql("select count(*) from t", ward.database))
    getmetatable(session).__close(session)
    ward.await("select count(*) from pg_stat_activity where application_name = 'shop'", "0")
    local run = ward.latest()
    ward.ends(0, { "resume", run, "--no-input" })
    assert.equal("1000", pg.sql("select count(*) from t", ward.database .. "__kept__" .. run))
    ward.ends(0, { "undo", run })
    assert.equal("1000", pg.sql("select count(*) from t", ward.database))
  end)
end)
