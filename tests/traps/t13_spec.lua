-- T13: "DELETE … WHERE user_id NOT IN (SELECT id FROM users)" deletes every row when users is empty (after a restore that failed), and none
-- when the subquery yields one NULL, although there are orphans. What answers: the number of rows is bounded inside the
-- transaction, the rows are kept so that they can be put back, and NOT EXISTS says what is meant.

local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

local SCHEMA <const> = [[create table users (id int); create table id_mappings (id int primary key, user_id int); insert into users select generate_series(1, 10);
  insert into id_mappings select i, i % 12 from generate_series(1, 120) i; alter table users owner to owner; alter table id_mappings owner to owner]]
local GUIDE <const> = "DELETE FROM id_mappings WHERE user_id NOT IN (SELECT id FROM users)"
local COUNT <const> = "select count(*) from id_mappings"

local BOOK <const> = [[
runbook "Remove orphans" { why = "x" }
local db = target.postgres "db"
step "Remove them" {
  done = function () return not db:has "SELECT 1 FROM id_mappings m WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = m.user_id)" end,
  act  = function () db:delete { from = "id_mappings", where = "%s", max_rows = 30 } end,
  undo = function () db:put_back() end,
}]]

describe("T13, orphans by NOT IN", function ()
  it("takes everything or nothing as the guide has it; ours takes the orphans, or refuses", function ()
    local pg = servers.postgres()
    local empty, null, ours = wards.open(pg, { schema = SCHEMA }), wards.open(pg, { schema = SCHEMA }), wards.open(pg, { schema = SCHEMA })
    pg.sql("truncate users; " .. GUIDE, empty.database)
    assert.equal("0", pg.sql(COUNT, empty.database))                     -- all 120 are gone
    pg.sql("insert into users values (null); " .. GUIDE, null.database)
    assert.equal("120", pg.sql(COUNT, null.database))                    -- 20 orphans are still there

    local function run(where)
      suite.write(ours.dir .. "/book.lua", BOOK:format(where))
      return ours.neap { "run", ours.dir .. "/book.lua", "--no-input" }
    end
    local missing <const> = "NOT EXISTS (SELECT 1 FROM users u WHERE u.id = user_id)"
    pg.sql("insert into users values (null)", ours.database)
    local r = run(missing)
    assert.equal(0, r.code, r.all)
    assert.equal("100", pg.sql(COUNT, ours.database))
    ours.ends(0, { "undo", ours.latest(), "--no-input" })
    assert.equal("120", pg.sql(COUNT, ours.database))
    pg.sql("truncate users", ours.database)
    for _, where in ipairs { missing, "user_id NOT IN (SELECT id FROM users)" } do
      assert.matches("more than 30 rows of \"id_mappings\" would go; nothing was deleted", run(where).all, 1, true)
    end
    assert.equal("120", pg.sql(COUNT, ours.database))
  end)
end)
