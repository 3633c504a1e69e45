-- T7: find /var/backups/manumaestro_*.sql -mtime +28 -delete, while the backup writes .sql.gz. The pattern never matches: nothing is ever
-- deleted, the disk fills. What answers: the list comes from the catalogue that the backup itself writes, a number of backups always
-- stays, and a retention that finds nothing at all fails instead of being silent.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

describe("T7, a pattern that misses", function ()
  it("deletes nothing for ever by the guide's way; ours takes what the backup made, and says when it finds nothing", function ()
    local at, why = setups.open("direct", { schema = "create table t (id int); alter table t owner to owner" })
    if not at then return pending(why) end
    guide.sh(at, 'for day in 10 20 30 40 50; do f="$BACKUPS/manumaestro_$day.sql.gz"; pg_dump "$DB" | gzip >"$f"; touch -d "$day days ago" "$f"; done')
    assert.equal(0, guide.sh(at, 'find "$BACKUPS"/manumaestro_*.sql -mtime +28 -delete 2>/dev/null; true').code)
    assert.equal(5, #guide.names(at))                          -- three of them should be gone
    local r = guide.run(at, "postgres/retention", "--database", at.database, "--confirm", "destroys=" .. at.database)
    assert.equal(1, r.code, r.all)
    assert.matches("in the catalogue", r.all, 1, true)
    assert.equal(5, #guide.names(at))                          -- they are nobody's: not touched

    for _ = 1, 3 do at.ends(0, { "run", "--no-input", "postgres/backup", "--format", "plain", "--compress", "gzip", "--globals=no", "--name", ("b%d"):format(#guide.names(at)) }) end
    for _, name in ipairs(guide.names(at)) do
      local path = name:find("manifest$") and at.backups .. "/" .. name
      if path then suite.write(path, (suite.read(path):gsub('"taken_at":"%d+T', '"taken_at":"20200101T'))) end
    end
    at.ends(0, { "run", "--no-input", "postgres/retention", "--database", at.database, "--days", "28", "--keep", "1", "--confirm", "destroys=" .. at.database })
    assert.equal(5 + 2, #guide.names(at))                      -- one of the three, and the five that are not the catalogue's
  end)
end)
