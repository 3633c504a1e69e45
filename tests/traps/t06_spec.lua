-- T6: pg_dump … > file, and then ls -lh or echo "Backup created". A dump that fails leaves an empty file of the right name, which the listing
-- shows and the echo praises. What answers: the name comes when the dump was read back to its end, and its size is held against its forerunners.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"

describe("T6, a file of the right name", function ()
  it("is what a failure leaves by the guide's way; ours leaves none, and refuses one that is too small", function ()
    local at, why = setups.open("direct", { schema = "create table users as select i as id, md5(i::text) as name from generate_series(1, 5000) i; alter table users owner to owner" })
    if not at then return pending(why) end
    local r = guide.sh(at, 'pg_dump "${DB}x" >"$BACKUPS/shop.sql"; ls -lh "$BACKUPS"; echo "Backup created: shop.sql"')
    assert.equal(0, r.code)
    assert.matches("Backup created", r.out, 1, true)
    assert.same({ "shop.sql" }, guide.names(at))
    local file <close> = io.open(at.backups .. "/shop.sql")
    assert.equal("", file:read "a")
    os.remove(at.backups .. "/shop.sql")

    assert.equal(1, guide.run(at, "postgres/backup", "--database", at.database .. "x", "--name", "shop.sql", "--format", "plain").code)
    assert.same({}, guide.names(at))
    at.ends(0, { "run", "--no-input", "postgres/backup", "--name", "monday", "--globals=no" })
    at.pg.sql("truncate users", at.database)
    r = guide.run(at, "postgres/backup", "--name", "tuesday", "--globals=no")
    assert.equal(1, r.code, r.all)
    assert.matches("as large as earlier ones let expect", r.all, 1, true)
    assert.same({ "monday", "monday.manifest" }, guide.names(at))
  end)
end)
