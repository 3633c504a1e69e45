--- The fence around Redis reads (guard/redis_fence.c) on a real server: every command it has is judged, nothing that is refused is sent, and
--- nothing that is allowed changes anything.

local guard = require("native.guard")
local net = require("native.net")
local probes = require("tests.runtime.redis_probes")
local redis = require("native.redis")
local servers = require("tests.support.servers")
local task = require("native.task")

local function words_of(text)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  return words
end

local function command(name, more)
  local words = words_of((name:gsub("|", " ")))
  for _, word in ipairs(words_of(more or "")) do words[#words + 1] = word end
  return words
end

describe("the fence around Redis reads", function()
  local server

  setup(function()
    server = servers.redis { name = "fence", open = true }
    for _, line in ipairs(probes.keys) do server.cli(words_of(line)) end
  end)

  local function open(more)
    local options = { role = "cache" }
    for key, value in pairs(more or {}) do options[key] = value end
    return assert(redis.open(net.tcp("127.0.0.1", server.port), options))
  end

  -- What the server has counted and holds: changes, a digest of all data, how often each command ran, how many clients wait or listen.
  local function facts()
    local calls = {}
    for name, count in server.cli("info", "commandstats"):gmatch("cmdstat_(%S-):calls=(%d+)") do calls[name] = tonumber(count) end
    for _, own in ipairs { "info", "debug", "config|get", "acl|list", "function|list", "command|info" } do calls[own] = nil end
    return {
      calls = calls, digest = server.cli("debug", "digest"), changes = server.cli("info", "persistence"):match("rdb_changes_since_last_save:%d+"),
      settings = server.cli("config", "get", "*"), users = server.cli("acl", "list"), functions = server.cli("function", "list"),
    }
  end

  it("has judged every command the server knows", function()
    local judged = {}
    for name in pairs(probes.reads) do judged[name] = true end
    for _, name in ipairs(probes.refused) do
      assert.is_nil(judged[name], name)
      judged[name] = true
    end
    if not server.cli("info", "server"):find("redis_version:7.0", 1, true) then return end
    for name in server.cli("command", "list"):gmatch("%S+") do assert.is_true(judged[name], name) end
  end)

  it("refuses all that may change something before a byte is sent", function()
    T.run(function()
      local conn <close> = open()
      assert(conn:read("GET", "s"))
      local before = facts()
      for _, name in ipairs(probes.refused) do
        local answer, err = conn:read(table.unpack(command(name, "s 1 1")))
        assert.is_nil(answer, name)
        assert.equal("refused", err.code, name)
      end
      for _, line in ipairs(probes.tricks) do
        local answer, err = conn:read(table.unpack(words_of(line)))
        assert.is_nil(answer, line)
        assert.equal("refused", err.code, line)
      end
      assert.same(before, facts())
    end)
  end)

  it("asks every read, which changes nothing", function()
    T.run(function()
      local conn <close> = open()
      local before = facts()
      for name, more in pairs(probes.reads) do
        if name ~= "command" and name ~= "command|docs" then
          local _, err = conn:read(table.unpack(command(name, more)))
          assert.is_true(err == nil or err.code == "remote", name .. ": " .. tostring(err))
        end
      end
      local after = facts()
      before.calls, after.calls = nil, nil
      assert.same(before, after)
    end)
  end)

  it("judges a pipeline as a whole", function()
    T.run(function()
      local conn <close> = open()
      local before = facts()
      local answer, err = conn:pipeline { { "GET", "s" }, { "SET", "s", "other" } }
      assert.is_nil(answer)
      assert.equal("refused", err.code)
      local after = facts()
      assert.equal(before.digest, after.digest)
      assert.equal(before.calls.get, after.calls.get)
    end)
  end)

  it("says of a command what its flags are worth: declared, or enforced by the user's own ACL", function()
    T.run(function()
      local conn <close> = open()
      local fenced <close> = open { enforced = true }
      guard.reads()
      assert(conn:read("GET", "s"))
      assert.equal("declared", guard.reads()[1].label)
      assert(fenced:read("GET", "s"))
      assert.equal("enforced", guard.reads()[1].label)
    end)
  end)

  it("wants what takes data away said with remove, and nothing else", function()
    T.run(function()
      local conn <close> = open()
      local before = facts()
      for _, line in ipairs(probes.destroying) do
        local answer, err = conn:write(table.unpack(words_of(line)))
        assert.is_nil(answer, line)
        assert.equal("refused", err.code, line)
        assert.truthy(err.hint:find("remove", 1, true))
      end
      for _, line in ipairs(probes.ours) do
        for _, verb in ipairs { "write", "remove" } do
          local answer, err = conn[verb](conn, table.unpack(words_of(line)))
          assert.is_nil(answer, line)
          assert.is_true(err.code == "refused" or err.code == "usage", line)
        end
      end
      local _, err = conn:remove("SET", "s", "1")
      assert.equal("usage", err.code)
      assert.same(before, facts())
    end)
  end)

  it("lets no write pass outside act", function()
    T.run(function()
      local conn <close> = open()
      local phase = task.phase("read")
      local ok, err = pcall(conn.write, conn, "SET", "s", "other")
      task.phase(phase)
      assert.is_false(ok)
      assert.equal("refused", err.code)
      assert.equal("value", conn:read("GET", "s"))
    end)
  end)

  it("shows a write in a preview with its permission, and sends nothing", function()
    T.run(function()
      local conn <close> = open()
      server.cli("acl", "setuser", "writer", "on", "nopass", "~app:*", "+set")
      guard.mode("plan")
      conn:write("SET", "s", "other")
      local predictions = guard.predictions()
      guard.clear()
      local other <close> = open { acting = "writer" }
      other:write("SET", "app:1", "x")
      guard.clear()
      other:write("SET", "s", "x")
      guard.clear()
      conn:remove_matching { match = "*" }
      guard.clear()
      table.move(guard.predictions(), 1, 3, 2, predictions)
      guard.mode("run")
      assert.equal("SET s other", predictions[1].text)
      assert.equal('permission ok for "default"', predictions[1].plan)
      assert.equal('permission ok for "writer"', predictions[2].plan)
      assert.truthy(predictions[3].plan:find("permission denied", 1, true))
      assert.equal("9 keys match now", predictions[4].plan)
      assert.equal("redis.remove", predictions[4].primitive)
      assert.equal("value", conn:read("GET", "s"))
    end)
  end)
end)
