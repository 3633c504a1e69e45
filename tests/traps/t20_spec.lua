-- T20: $(date +%F) written twice, for the dump and for its copy. Around midnight the two are two days: the copy looks for a file that was never
-- made. What answers: the moment the run began is read once, and everything a run makes is named by it.

local guide = require "tests.support.guide"
local setups = require "tests.support.setups"
local suite = require "tests.support.suite"

-- A clock at which midnight comes between two questions.
local CLOCK <const> = "#!/bin/sh\necho x >>\"$0.asked\"\n[ \"$(wc -l <\"$0.asked\")\" -gt 1 ] && echo 2026-05-01 || echo 2026-04-30\n"

describe("T20, a date that is asked for twice", function ()
  it("names two days by the guide's way; ours names everything by one moment, and by the same one after a resume", function ()
    local at, why = setups.open("direct", { schema = "create table t (id int); alter table t owner to owner" })
    if not at then return pending(why) end
    local bin = suite.temp()
    T.mode(suite.write(bin .. "/date", CLOCK), tonumber("755", 8))
    local r = guide.sh(at, ('PATH="%s:$PATH"; pg_dump -Fc "$DB" >"db_$(date +%%F).dump" && cp "db_$(date +%%F).dump" "$BACKUPS/"'):format(bin))
    assert.is_true(r.code ~= 0)
    assert.matches("db_2026-05-01.dump", r.err, 1, true)
    assert.same({}, guide.names(at))

    at.ends(0, { "run", "--no-input", "postgres/backup" })
    local names = guide.names(at)
    assert.equal(3, #names)
    local stamp = names[1]:match("(%d+T%d+Z)%.dump$")
    assert.is_string(stamp)
    for _, name in ipairs(names) do assert.matches(stamp, name, 1, true) end
    assert.matches('"taken_at":"' .. stamp .. '"', suite.read(at.backups .. "/" .. names[3]), 1, true)
    for _, record in ipairs(at.records()) do
      if record.kind == "run" then assert.equal(stamp, record.body.stamp) end
    end
  end)
end)
