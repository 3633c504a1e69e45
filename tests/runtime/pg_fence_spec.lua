--- The whole read fence against a real server: every probe through the read verbs, as superuser and as a role that may only
--- SELECT; nothing of it may have an effect.

local native = require("native.pg")
local servers = require("tests.support.servers")
local stage = require("tests.support.stage")
local probes = dofile("tests/runtime/probes.lua")

-- Everything a probe could have left behind, as one line of text.
local TRACES <const> = [[
SELECT concat_ws(' ', (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_type),
  (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_authid), (SELECT count(*) FROM pg_database),
  (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_prepared_xacts),
  (SELECT count(*) FROM pg_description), (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_extension),
  (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = current_database()), (SELECT string_agg(p::text, ',' ORDER BY id) FROM probe p),
  (SELECT last_value::text || is_called FROM probe_seq), (SELECT count(*) FROM probe_copy),
  (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bystander'),
  (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'probe'::regclass AND attnum > 0),
  (SELECT string_agg(relname || coalesce(array_to_string(relacl, ','), ''), ' ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'probe%'),
  (SELECT md5(string_agg(name || setting, ',' ORDER BY name)) FROM pg_file_settings))
]]

describe("the fence of native.pg", function()
  local server, database

  setup(function()
    server = servers.postgres()
    database = server.database()
    server.sql(table.concat(probes.common, ";\n") .. ";\nGRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database)
  end)

  local function applies(probe)
    if not probe.extension then return true end
    return server.sql(("SELECT count(*) FROM pg_available_extensions WHERE name = '%s'"):format(probe.extension)) == "1"
  end

  local function prepare(probe)
    local lines = { table.unpack(probe.setup or {}) }
    if probe.extension then table.insert(lines, 1, "CREATE EXTENSION IF NOT EXISTS " .. probe.extension) end
    if #lines > 0 then server.sql(table.concat(lines, ";\n"), database) end
  end

  local function tidy(probe)
    if probe.undo then server.sql(table.concat(probe.undo, ";\n"), database) end
  end

  local function connect(user, options)
    options = options or {}
    options.url, options.application = server.url(user, database), "neap:probe:1"
    local connection = assert(native.new(options))
    assert(connection:open())
    return connection
  end

  local function ask(connection, sql, verb)
    local value, err = connection[verb](connection, sql)
    if verb == "each" and value then
      local rows <close> = value
      repeat
        value, err = rows()
      until value == nil
    end
    assert.equal(7, assert(connection:value("SELECT 7")), "the connection is not usable after: " .. sql)
    return value, err
  end

  local function attempt(user, probe, verb)
    return T.run(function()
      local connection <close> = connect(user, { fenced = true })
      return ask(connection, probe.sql, verb)
    end)
  end

  -- What is wrong with one probe, as a sentence; nil when nothing is.
  local function try(eye, shared, user, probe, verb)
    prepare(probe)
    local before = assert(eye:exec(TRACES)).rows[1].concat_ws
    local fresh <close> = probe.setup and connect(user, { fenced = true }) or nil
    local _, err = ask(fresh or shared, probe.sql, verb)
    local after = assert(eye:exec(TRACES)).rows[1].concat_ws
    tidy(probe)
    if before ~= after then return ("has an effect: %s\n%s\n%s"):format(probe.sql, before, after) end
    if not probe.reads and not err then return "was let through: " .. probe.sql end
    if probe.reads and err and verb == "rows" and user == "admin" then return ("was refused: %s: %s"):format(probe.sql, err.message) end
    return nil
  end

  for _, user in ipairs { "admin", "reader" } do
    for _, verb in ipairs { "rows", "each" } do
      it(("leaves no trace of any probe when %s asks by %s"):format(user, verb), function()
        local wrong = {}
        T.run(function()
          local eye <close> = connect("admin")
          local shared <close> = connect(user, { fenced = true })
          for _, probe in ipairs(probes) do
            if applies(probe) then wrong[#wrong + 1] = try(eye, shared, user, probe, verb) end
          end
        end)
        assert.equal("", table.concat(wrong, "\n"))
      end)
    end
  end

  it("takes no transaction id for what is refused before it is sent", function()
    server.sql "ALTER SYSTEM SET autovacuum = off"       -- which takes one for each table it analyzes
    server.sql "SELECT pg_reload_conf()"
    stage.await(function() return server.sql "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%'" == "0" end, "the end of autovacuum")
    local before = server.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())", database)
    for _, probe in ipairs(probes) do
      if (probe.part == "parse" or probe.part == "function") and not probe.setup and not probe.extension then attempt("admin", probe, "value") end
    end
    local after = server.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())", database)
    server.sql "ALTER SYSTEM RESET autovacuum"
    server.sql "SELECT pg_reload_conf()"
    assert.equal(before, after)
  end)

  it("does not trust a vetted name that somebody else took", function()
    server.sql("CREATE FUNCTION public.clock_timestamp(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'", database)
    local _, err = attempt("admin", { sql = "SELECT clock_timestamp(1)" }, "value")
    server.sql("DROP FUNCTION public.clock_timestamp(int)", database)
    assert.equal("refused", err.code)
  end)

  it("says what the read may be called: a superuser's is only declared", function()
    T.run(function()
      for user, label in pairs { admin = "declared", reader = "enforced" } do
        local connection <close> = assert(native.new { url = server.url(user, database), fenced = true })
        assert(connection:open())
        assert.equal(label, (connection:label()))
      end
    end)
  end)

  it("has no verb that writes, and an acting connection none that reads", function()
    T.run(function()
      local fenced <close> = assert(native.new { url = server.url("owner", database), fenced = true })
      local acting <close> = assert(native.new { url = server.url("owner", database) })
      assert(fenced:open())
      assert(acting:open())
      assert.is_false((pcall(fenced.exec, fenced, "SELECT 1")))
      assert.is_false((pcall(fenced.begin, fenced)))
      assert.is_false((pcall(acting.value, acting, "SELECT 1")))
    end)
  end)
end)
