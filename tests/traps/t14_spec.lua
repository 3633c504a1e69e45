-- T14: DROP DATABASE is refused while one session is open, in the middle of a procedure that has stopped nothing else; and once it works, the only
-- copy is a file that nobody has restored. What answers here: who is connected is named and ended first, each as the session it is,
-- and dropping is a word of its own whose loss the operator types. That nothing is dropped at all is the swap's part (postgres/restore).

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
end)
