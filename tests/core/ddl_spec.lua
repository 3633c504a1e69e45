local ddl = require "core.ddl"

describe("core.ddl", function ()
  it("lists the tables and enums that a script makes", function ()
    local seen = ddl.read [[
      -- CreateEnum
      CREATE TYPE "Status" AS ENUM ('a;b', 'it''s');
      /* one /* nested */ CREATE TABLE no ( ) */
      CREATE TABLE "Order" (id int, note text DEFAULT 'CREATE TABLE x ();');
      create unlogged table if not exists Plain (id int);
      CREATE TABLE audit."Log" (id int)
    ]]
    assert.same({ "audit.Log", "public.Order", "public.plain" }, seen.tables)
    assert.same({ "public.Status" }, seen.enums)
    assert.same({}, seen.uses)
  end)

  it("follows drops, renames and scripts in their order", function ()
    local seen = ddl.read {
      'CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TYPE t AS ENUM ()',
      'DROP TABLE IF EXISTS a, "c" CASCADE; ALTER TABLE b RENAME TO "B"; ALTER TYPE t RENAME TO u',
    }
    assert.same({ "public.B" }, seen.tables)
    assert.same({ "public.u" }, seen.enums)
  end)

  it("names the tables a script leans on without having made them", function ()
    local seen = ddl.read [[
      CREATE TABLE mine (id int REFERENCES theirs (id));
      CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY other.ours (id);
      ALTER TABLE ONLY old ADD COLUMN x int; ALTER TABLE mine ADD COLUMN y int;
      INSERT INTO seeded VALUES (1);
    ]]
    assert.same({ "other.ours", "public.old", "public.seeded", "public.theirs" }, seen.uses)
  end)

  it("treats bodies, escapes and temporary tables as what they are", function ()
    local seen = ddl.read [[
      DO $$ BEGIN CREATE TABLE hidden (id int); END $$;
      CREATE FUNCTION f() RETURNS void AS $body$ CREATE TABLE also_hidden (); $body$ LANGUAGE sql;
      SELECT E'it\'s; CREATE TABLE no ();';
      CREATE TEMP TABLE passing (id int);
      CREATE TABLE "we""ird ; table" (id int);
      CREATE TABLE "größe" (id int)
    ]]
    assert.same({ "public.größe", 'public.we"ird ; table' }, seen.tables)
  end)

  it("reads an unfinished script to its end", function ()
    for _, text in ipairs { "", ";;", "CREATE TABLE", "CREATE TABLE \"x", "/* never", "$$ never", "DROP TABLE", "ALTER TABLE a RENAME TO", "'x", "CREATE TABLE a." } do
      assert.is_table(ddl.read(text))
    end
  end)

  it("takes the schema of unqualified names", function ()
    assert.same({ "shop.a" }, ddl.read("CREATE TABLE a ()", "shop").tables)
  end)
end)
