-- T5: pg_dump … | gzip > f; if [ $? -eq 0 ]. The status is gzip's: of a database that does not exist this makes a file of 20 bytes and says
-- "Backup successful". What answers: every end of the stream has its own status, and a file has its name only when both ended well.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"

local GUIDE <const> = [[pg_dump nosuchdb 2>/dev/null | gzip >"$BACKUPS/nosuchdb_$(date +%F).sql.gz"; if [ $? -eq 0 ]; then echo "Backup successful"; else echo "Backup failed"; fi]]

describe("T5, a pipe whose status is its last program's", function ()
  it("backs up a database that is not there, successfully; ours fails and leaves no file", function ()
    local at, why = setups.open("direct", { schema = "" })
    if not at then return pending(why) end
    local r = guide.sh(at, GUIDE)
    assert.equal("Backup successful\n", r.out)
    assert.equal(1, #guide.names(at))
    local file <close> = io.open(at.backups .. "/" .. guide.names(at)[1])
    assert.equal(20, #file:read "a")
    os.remove(at.backups .. "/" .. guide.names(at)[1])

    r = guide.run(at, "postgres/backup", "--database", "nosuchdb", "--format", "plain", "--compress", "gzip")
    assert.equal(1, r.code, r.all)
    assert.matches("database \"nosuchdb\" does not exist", r.all, 1, true)
    assert.same({}, guide.names(at))
  end)
end)
