-- T31: ssh -L 5432:localhost:5432. Where a PostgreSQL of one's own listens on 5432, ssh says so in one line, goes on without the forward, and the client talks to the
-- wrong server. What answers: ours forwards to a place of its own that nobody else can listen on, and compares who answers with the identity that the
-- inventory pins, before anything is asked.

local child = require "tests.support.child"
local servers = require "tests.support.servers"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

local INVENTORY <const> = [[environment "demo" { hermes = host { ssh = "hermes", config = "%s" }, db = postgres { %s, password = secret { env = "PASSWORD" }, tls = "off" } }]]

local WHO <const> = "select system_identifier from pg_control_system()"

describe("T31, a tunnel to a port where somebody else listens", function ()
  it("ends at one's own server by the guide's way; ours ends at the right one, and is refused at the wrong one", function ()
    local mine, far = servers.postgres(), servers.postgres { name = "far" }
    local hermes = servers.sshd { name = "hermes" }
    local home = servers.ssh_home { hermes = hermes }
    local there = far.sql(WHO)
    assert.are_not.equal(there, mine.sql(WHO))

    local forward = ("exec ssh -F %s -N -L %d:127.0.0.1:%d hermes 2>&1"):format(home.config, mine.port, far.port)
    local tunnel = child.start { argv = { "sh", "-c", forward } }
    tunnel:expect("Address already in use")
    local answer = child.must { argv = { mine.bin .. "/psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", tostring(mine.port), "-U", "owner", "-d", "postgres", "-c", WHO },
      env = { PGPASSWORD = servers.passwords.owner, PATH = os.getenv("PATH") } }
    assert.equal(mine.sql(WHO) .. "\n", answer)
    tunnel:kill(15)
    tunnel:finish()

    local ward = wards.open(far)
    local function bind(fields)
      suite.write(ward.dir .. "/inventory.lua", INVENTORY:format(home.config, fields))
    end
    local pin = ('pin = "pg:%s/%s"'):format(there, ward.database)
    bind(('on = "hermes", url = "postgresql://owner@127.0.0.1:%d/%s", %s'):format(far.port, ward.database, pin))
    assert.matches("pg:" .. there, ward.ends(0, { "plan", "postgres/health" }), 1, true)
    if mine.sql(("select count(*) from pg_database where datname = '%s'"):format(ward.database)) == "0" then
      mine.sql(("create database %s owner owner"):format(ward.database))
      suite.after(function () mine.sql("drop database " .. ward.database) end)
    end
    bind(('url = "postgresql://owner@127.0.0.1:%d/%s", %s'):format(mine.port, ward.database, pin))
    for _, verb in ipairs { "plan", "run" } do
      local said = ward.ends(77, { verb, "postgres/health" })
      assert.matches(("\"db\" is pg:%s/%s, the inventory pins pg:%s/%s"):format(mine.sql(WHO), ward.database, there, ward.database), said, 1, true)
      assert.matches("the tunnel leads elsewhere", said, 1, true)
    end
  end)
end)
