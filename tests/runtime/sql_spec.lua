--- Part one of the read fence: what PostgreSQL's grammar says about a statement (guard/sql.c).

local sql = require("native.sql")
local probes = dofile("tests/runtime/probes.lua")

--- Reads that runbooks really make; all of them must pass, and only these functions may be listed.
local reads = {
  { "SELECT count(*) FROM orders", "count" },
  { "SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.total > $1 "
    .. "ORDER BY 1 LIMIT 10" },
  { "SELECT DISTINCT ON (customer_id) * FROM orders ORDER BY customer_id, created_at DESC" },
  { "SELECT * FROM orders WHERE id IN (1, 2, 3) AND NOT deleted AND note IS NOT NULL" },
  { "SELECT * FROM orders WHERE id = ANY ($1::int[]) AND total BETWEEN 1 AND 5" },
  { "SELECT name FROM customers WHERE name ILIKE 'a%' OR name SIMILAR TO '(b|c)%' OR name ~ '^d'",
    "pg_catalog.similar_to_escape" },
  { "SELECT EXISTS (SELECT 1 FROM orders WHERE total < 0)" },
  { "SELECT (SELECT max(id) FROM orders), ARRAY(SELECT id FROM orders)", "max" },
  { "WITH recent AS (SELECT * FROM orders WHERE created_at > now() - interval '1 day') SELECT count(*) FROM recent",
    "now", "count" },
  { "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t", "sum" },
  { "WITH RECURSIVE t AS (SELECT 1 AS n) SEARCH DEPTH FIRST BY n SET o CYCLE n SET c USING p SELECT * FROM t" },
  { "WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (TABLE x) SELECT * FROM y" },
  { "SELECT 1 UNION ALL SELECT 2 INTERSECT SELECT 3 EXCEPT SELECT 4" },
  { "SELECT rank() OVER (PARTITION BY customer_id ORDER BY total DESC ROWS BETWEEN 1 PRECEDING AND "
    .. "CURRENT ROW) FROM orders", "rank" },
  { "SELECT sum(total) FILTER (WHERE paid) FROM orders GROUP BY ROLLUP (region, city)", "sum" },
  { "SELECT GROUPING(region), count(*) FROM orders GROUP BY GROUPING SETS ((region), ())", "count" },
  { "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders", "percentile_cont" },
  { "SELECT string_agg(name, ', ' ORDER BY name) FROM customers", "string_agg" },
  { "SELECT CASE WHEN total > 5 THEN 'big' ELSE 'small' END, COALESCE(note, ''), NULLIF(a, b), "
    .. "GREATEST(a, b) FROM orders" },
  { "SELECT total::numeric(10, 2), CAST(id AS text), '2024-01-01'::date, 'orders'::regclass FROM orders" },
  { "SELECT note COLLATE \"C\" FROM orders ORDER BY note COLLATE \"C\" NULLS LAST" },
  { "SELECT data->'a'->>'b', data @> '{}', tags[1], tags[2:3] FROM orders" },
  { "SELECT (address).city, o.* FROM orders o" },
  { "SELECT extract(epoch FROM created_at), date_trunc('day', created_at) FROM orders",
    "pg_catalog.extract", "date_trunc" },
  { "SELECT trim(both 'x' FROM a), substring(a FROM 1 FOR 2), position('a' IN b), overlay(a PLACING b FROM 1) FROM t",
    "pg_catalog.btrim", "pg_catalog.substring", "pg_catalog.position", "pg_catalog.overlay" },
  { "SELECT current_date, current_user, localtimestamp, current_setting('work_mem')", "current_setting" },
  { "SELECT created_at AT TIME ZONE 'UTC' FROM orders", "pg_catalog.timezone" },
  { "SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(n, i)", "generate_series" },
  { "SELECT * FROM json_to_recordset('[]') AS t(a int, b text)", "json_to_recordset" },
  { "SELECT * FROM orders o, LATERAL (SELECT * FROM lines l WHERE l.order_id = o.id LIMIT 1) x" },
  { "SELECT * FROM a NATURAL JOIN b LEFT JOIN c USING (id) CROSS JOIN d FULL JOIN e ON true" },
  { "SELECT * FROM orders TABLESAMPLE system (1) REPEATABLE (7)" },
  { "SELECT * FROM orders TABLESAMPLE BERNOULLI (10)" },
  { "SELECT ROW(1, 2) = (1, 2), (1, 2) IN (SELECT a, b FROM t)" },
  { "SELECT * FROM XMLTABLE('/a' PASSING x COLUMNS b int PATH '@b')" },
  { "SELECT xmlelement(name a, xmlattributes(1 AS b)), xmlserialize(content x AS text) FROM t" },
  { "SELECT make_interval(days => 3)", "make_interval" },
  { "SELECT pg_size_pretty(pg_total_relation_size('orders'))", "pg_size_pretty", "pg_total_relation_size" },
  { "SELECT pid, state FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", "pg_backend_pid" },
  { "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'" },
  { "SELECT has_database_privilege('app', 'CREATE'), to_regclass('public.orders') IS NULL",
    "has_database_privilege", "to_regclass" },
  { "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NULL" },
  { "VALUES (1, 'a'), (2, 'b')" }, { "TABLE orders" }, { "SHOW ALL" }, { "SHOW server_version" }, { "SELECT" },
  { "EXPLAIN (VERBOSE, SETTINGS, FORMAT JSON) SELECT * FROM orders" },
  { "EXPLAIN UPDATE orders SET total = 0" },
  { "EXPLAIN WITH gone AS (DELETE FROM orders RETURNING *) INSERT INTO archive SELECT * FROM gone" },
  { "EXPLAIN INSERT INTO t VALUES (1, DEFAULT) ON CONFLICT (id) DO UPDATE SET a = excluded.a" },
  { "SELECT 1;" }, { "-- how many\nSELECT 1 /* one */" },
}

local function sorted(list)
  table.sort(list)
  return list
end

describe("the grammar", function()
  it("has at least 95 probes, each with its verdict", function()
    assert.is_true(#probes >= 95)
    for _, probe in ipairs(probes) do
      assert.is_string(probe.what)
      assert.is_true((probe.part ~= nil) ~= (probe.reads ~= nil), probe.sql)
    end
  end)

  for _, probe in ipairs(probes) do
    if probe.part == "parse" then
      it("stops a statement that " .. probe.what .. ": " .. probe.sql, function()
        local ok, err = sql.check_read(probe.sql)
        assert.is_nil(ok)
        assert.is_true(err.code == "refused" or err.code == "invalid", err.code)
        assert.is_true(#err.message > 0 and #err.hint > 0)
      end)
    elseif probe.part == "function" then
      it("names the function that must be looked up: " .. probe.sql, function()
        local unknown = 0
        local it = assert(sql.read(probe.sql))
        for _, name in ipairs(it.functions) do if not sql.vetted(name) then unknown = unknown + 1 end end
        assert.is_true(unknown + #it.attributes > 0)
      end)
    else
      it("lets pass what later parts must judge, or may pass: " .. probe.sql, function()
        assert.is_true(sql.check_read(probe.sql))
      end)
    end
  end

  it("knows at least 40 legitimate reads", function() assert.is_true(#reads >= 40) end)
  for _, read in ipairs(reads) do
    it("lets a read pass: " .. read[1], function()
      assert.is_true(sql.check_read(read[1]))
      local functions = assert(sql.read(read[1])).functions
      assert.same(sorted({ table.unpack(read, 2) }), sorted(functions))
    end)
  end
end)

describe("a refusal", function()
  it("says what the statement is and why", function()
    local _, err = sql.check_read("WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone")
    assert.equal("refused", err.code)
    assert.equal('"select" may not be sent as a read: it contains delete, which writes', err.message)
    assert.truthy(err.hint:find("run clause of a step", 1, true))
  end)

  it("prefers the statement itself to what is found inside", function()
    local _, err = sql.check_read("VACUUM t")
    assert.equal('"vacuum" may not be sent as a read: vacuum is not a statement that only reads', err.message)
  end)

  it("names the place of a syntax error and the limit of the grammar", function()
    local _, err = sql.check_read("SELECT FROM WHERE")
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("character 13", 1, true))
    assert.matches("PostgreSQL %d+", err.hint)
  end)

  it("comes for syntax that the grammar does not know yet", function()
    local _, err = sql.check_read("SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1")
    assert.equal("invalid", err.code)
  end)
end)

describe("a statement", function()
  local function kind(text) return assert(sql.read(text)).kind end

  it("has a kind in plain words", function()
    assert.equal("create database", kind("CREATE DATABASE d"))
    assert.equal("drop materialized view", kind("DROP MATERIALIZED VIEW v"))
    assert.equal("drop table", kind("DROP TABLE IF EXISTS t"))
    assert.equal("create table", kind("CREATE TABLE t ()"))
    assert.equal("create index", kind("CREATE UNIQUE INDEX ON t (a)"))
    assert.equal("rollback to", kind("ROLLBACK TO s"))
    assert.equal("alter system", kind("ALTER SYSTEM RESET ALL"))
    assert.equal("analyze", kind("ANALYZE"))
    assert.equal("insert", kind("INSERT INTO t DEFAULT VALUES; SELECT 1"))
  end)

  it("is marked when it must be sent outside a transaction block", function()
    for _, text in ipairs {
      "CREATE DATABASE d", "DROP DATABASE d", "VACUUM", "VACUUM (FULL) t", "CREATE INDEX CONCURRENTLY i ON t (a)",
      "DROP INDEX CONCURRENTLY i", "REINDEX TABLE CONCURRENTLY t", "REINDEX (CONCURRENTLY) TABLE t",
      "REINDEX DATABASE d",
      "REINDEX SYSTEM d", "REINDEX SCHEMA s", "CREATE TABLESPACE t LOCATION '/x'", "DROP TABLESPACE t",
      "ALTER SYSTEM SET work_mem = 1", "ALTER DATABASE d SET TABLESPACE t", "CLUSTER", "DISCARD ALL",
      "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "COMMIT PREPARED 'x'",
      "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
    } do
      assert.is_true(assert(sql.read(text)).alone, text)
    end
  end)

  it("is not marked when a transaction block will do", function()
    for _, text in ipairs {
      "ANALYZE", "CREATE INDEX ON t (a)", "DROP INDEX i", "REINDEX TABLE t", "CLUSTER t", "ALTER TYPE e ADD VALUE 'x'",
      "REFRESH MATERIALIZED VIEW CONCURRENTLY v", "DISCARD TEMP", "ALTER DATABASE d SET work_mem = 1", "CHECKPOINT",
      "ALTER TABLE t DETACH PARTITION p", "INSERT INTO t VALUES (1)", "ALTER DATABASE d RENAME TO e",
    } do
      assert.is_false(assert(sql.read(text)).alone, text)
    end
  end)

  it("is bounded unless an UPDATE or DELETE has no WHERE", function()
    assert.is_false(sql.read("DELETE FROM t").bounded)
    assert.is_false(sql.read("UPDATE t SET a = (SELECT b FROM u WHERE u.id = 1)").bounded)
    assert.is_false(sql.read("WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 WHERE true").bounded)
    assert.is_false(sql.read("DELETE FROM t WHERE id = 1; DELETE FROM u").bounded)
    assert.is_true(sql.read("DELETE FROM t WHERE id = 1").bounded)
    assert.is_true(sql.read("UPDATE t SET a = 1 WHERE CURRENT OF c").bounded)
    assert.is_true(sql.read("EXPLAIN DELETE FROM t").bounded)
    assert.is_true(sql.read("SELECT 1").bounded)
  end)

  it("tells transaction words and COPY from the rest", function()
    assert.is_true(sql.read("COMMIT AND CHAIN").transaction)
    assert.is_true(sql.read("SELECT 1; SAVEPOINT s").transaction)
    assert.is_true(sql.read("COPY t FROM STDIN").copy_in)
    assert.is_true(sql.read("COPY t TO STDOUT").copy_out)
    assert.is_true(sql.read("COPY (SELECT f(1) FROM t) TO STDOUT").copy_reads)
    assert.is_false(sql.read("COPY (DELETE FROM t RETURNING *) TO STDOUT").copy_reads)
    assert.is_false(sql.read("COPY t TO STDOUT; SELECT 1").copy_reads)
    assert.is_false(sql.read("COPY t TO '/x'").copy_out)
    assert.is_false(sql.read("COPY t TO PROGRAM 'x'").copy_out)
    assert.is_false(sql.read("COPY t FROM PROGRAM 'x'").copy_in)
  end)

  it("lists each function once, and what may be one in disguise", function()
    local it = assert(sql.read("SELECT f(1), F(2), s.g(), \"H\"(), t.x, (r).y, t.* FROM t, u.f(3) WHERE f(4) > 0"))
    assert.same({ "H", "f", "s.g", "u.f" }, sorted(it.functions))
    assert.same({ "x", "y" }, sorted(it.attributes))
  end)

  it("counts what it joins", function()
    assert.equal(0, sql.read("").statements)
    assert.equal(1, sql.read("SELECT 1;;").statements)
    assert.equal(3, sql.read("SELECT 1; SELECT 2; SELECT 3").statements)
  end)
end)

describe("the limits", function()
  it("are an error, not a crash, for a text that is too long", function()
    local it, err = sql.read("SELECT " .. ("1,"):rep(1024 * 1024) .. "1")
    assert.is_nil(it)
    assert.equal("invalid", err.code)
  end)

  it("survive the deepest chains and brackets that fit", function()
    assert.is_true(sql.read("SELECT 1" .. ("+1"):rep(500000)).reads)
    assert.is_true(sql.read("SELECT a" .. ("[1]"):rep(300000) .. " FROM t").reads)
    assert.is_true(sql.read("SELECT 1" .. (" UNION SELECT 1"):rep(60000)).reads)
    local _, err = sql.read("SELECT " .. ("("):rep(500000))
    assert.equal("invalid", err.code)
    assert.equal("The statement is nested too deeply.", err.hint)
  end)

  it("let a long list of honest values pass", function()
    assert.is_true(sql.read("SELECT * FROM t WHERE id IN (1" .. (", 1234567"):rep(100000) .. ")").reads)
  end)

  it("end a text that names too many functions", function()
    local calls = {}
    for i = 1, 5000 do calls[i] = "f" .. i .. "()" end
    local it, err = sql.read("SELECT " .. table.concat(calls, ", "))
    assert.is_nil(it)
    assert.equal("invalid", err.code)
  end)

  it("raise for a text with a NUL byte", function()
    assert.has_error(function() sql.read("SELECT 1\0; DROP TABLE t") end)
  end)
end)

describe("the vetted functions", function()
  it("are PostgreSQL's own readers, with or without their schema", function()
    for _, name in ipairs {
      "clock_timestamp", "pg_catalog.pg_database_size",
      "pg_control_system", "pg_current_wal_lsn",
    } do
      assert.is_true(sql.vetted(name), name)
    end
  end)

  it("are not what writes, waits, or lives elsewhere", function()
    for _, name in ipairs {
      "pg_sleep", "nextval", "set_config", "public.random", "Random",
      "pg_read_file", "", "pg_catalog.",
    } do
      assert.is_false(sql.vetted(name), name)
    end
  end)
end)

describe("a script", function()
  it("is split where PostgreSQL splits it", function()
    assert.same({
      "SELECT ';'", "-- a; b\nINSERT INTO t VALUES ($$;$$)",
      "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
      "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    }, sql.split([[
      SELECT ';';; -- a; b
INSERT INTO t VALUES ($$;$$);
      CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);
      CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;
    ]]))
  end)

  it("may be empty", function() assert.same({}, sql.split(" ; -- nothing")) end)

  it("fails as a whole when a part is not SQL", function()
    local list, err = sql.split("SELECT 1; \\connect other")
    assert.is_nil(list)
    assert.equal("invalid", err.code)
  end)
end)
