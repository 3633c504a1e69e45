-- T11: the guide's statements for index use, unused indexes and slow queries name columns that are not there: pg_stat_user_indexes has
-- relname and indexrelname, and pg_stat_statements has mean_exec_time and total_exec_time since PostgreSQL 13. At night, in an
-- incident, the first three questions fail. What answers: the questions are asked as they were tested, by the view's own columns.

local servers = require "tests.support.servers"
local wards = require "tests.support.ward"

local GUIDE <const> = {
  { "SELECT schemaname, tablename, indexname, idx_scan, idx_tup_read FROM pg_stat_user_indexes ORDER BY idx_scan DESC", 'column "tablename" does not exist' },
  { "SELECT schemaname, tablename, indexname FROM pg_stat_user_indexes WHERE idx_scan = 0", 'column "tablename" does not exist' },
  { "SELECT query, calls, mean_time, total_time FROM pg_stat_statements ORDER BY mean_time DESC LIMIT 10", 'column "mean_time" does not exist' },
}

describe("T11, statistics by names that are not there", function ()
  it("fail as the guide has them, and are answered as ours has them", function ()
    local pg = servers.postgres()
    local ward = wards.open(pg)
    pg.sql("create extension pg_stat_statements", ward.database)
    for _, case in ipairs(GUIDE) do
      local ok, err = pcall(pg.sql, case[1], ward.database)
      assert.is_false(ok)
      assert.matches(case[2], tostring(err), 1, true)
    end
    local said = ward.ends(0, { "run", "postgres/health" })
    for _, words in ipairs { "Most used indexes", "Unused indexes", "Slowest statements", "mean_ms", "scans" } do assert.matches(words, said, 1, true) end
    said = ward.ends(2, { "plan", "postgres/reindex" })
    assert.matches("Counted since", said, 1, true)
    -- Unused are not those that mean something unread: a primary key, a unique constraint.
    local unused = said:match("Unused indexes(.-)Invalid indexes")
    assert.matches("│ ta ", unused, 1, true)
    assert.is_nil(unused:find("t_pkey", 1, true) or unused:find("t_u_key", 1, true))
  end)
end)
