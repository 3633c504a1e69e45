--- Redis URLs as people have them (drive/redis_url.c): understood, or refused with the bad part's name and never with a password.

local redis = require("native.redis")
local secret = require("native.secret")

local SECRET = "s3cr3t-word"

-- { URL, parts }: password is true, never its text.
local understood = {
  { "redis://localhost", { host = "localhost", port = 6379 } },
  { "redis://cache:6380/2", { host = "cache", port = 6380, db = 2 } },
  { "REDIS://cache", { host = "cache", port = 6379 } },
  { "redis://cache/", { host = "cache", port = 6379 } },
  { "redis://app:s3cr3t-word@cache:6379/0", { user = "app", password = true, host = "cache", port = 6379, db = 0 } },
  { "redis://:s3cr3t-word@cache", { password = true, host = "cache", port = 6379 } },
  { "redis://app@cache", { user = "app", host = "cache", port = 6379 } },
  { "redis://app:@cache", { user = "app", host = "cache", port = 6379 } },
  { "redis://a%40b:s3cr3t%2Dword@cache", { user = "a@b", password = true, host = "cache", port = 6379 } },
  { "rediss://:s3cr3t-word@cache.example:6390/15", { password = true, host = "cache.example", port = 6390, db = 15, tls = true } },
  { "redis://[::1]:6380/1", { host = "::1", port = 6380, db = 1 } },
  { "redis://app:s3cr3t-word@[2001:db8::7]", { user = "app", password = true, host = "2001:db8::7", port = 6379 } },
  { "redis://cache?db=3", { host = "cache", port = 6379, db = 3 } },
  { "redis://cache/3?db=3", { host = "cache", port = 6379, db = 3 } },
  { "redis://cache?database=4", { host = "cache", port = 6379, db = 4 } },
  { "unix:///run/redis.sock", { unix = "/run/redis.sock" } },
  { "unix:///run/redis.sock?db=2", { unix = "/run/redis.sock", db = 2 } },
  { "unix://:s3cr3t-word@/run/redis.sock", { password = true, unix = "/run/redis.sock" } },
  { "redis+unix:///run/my%20cache.sock", { unix = "/run/my cache.sock" } },
  { "redis-socket:///run/redis.sock?db=0", { unix = "/run/redis.sock", db = 0 } },
}

-- { URL, what the message must say }
local refused = {
  { "", "scheme" }, { "cache:6379", "scheme" }, { "http://cache", "scheme" }, { "redis:cache", "scheme" },
  { "redis://", "no host" }, { "redis://:6379", "no host" }, { "redis://user@", "no host" },
  { "redis://cache:port", "port" }, { "redis://cache:0", "port" }, { "redis://cache:65536", "port" }, { "redis://cache:", "port" },
  { "redis://cache/two", "database" }, { "redis://cache/-1", "database" }, { "redis://cache/1/2", "database" }, { "redis://cache/1?db=2", "databases" },
  { "redis://cache?db=", "database" }, { "redis://cache?timeout=5", "timeout" }, { "redis://cache?password=s3cr3t-word", "password" },
  { "redis://app:s3cr3t-word%zz@cache", "password" }, { "redis://app:s3cr3t-word%4@cache", "password" }, { "redis://app:s3cr3t-word%00@cache", "password" },
  { "redis://a%0ab@cache", "user" }, { "redis://a:s3cr3t-word@b@cache", "@" }, { "redis://a:s3cr3t-word/b@cache", "/" }, { "redis://a:s3cr3t-word#b@cache", "#" },
  { "redis://[::1", "bracket" }, { "redis://[::1]x:5", "between" }, { "redis://::1:6379", "brackets" }, { "redis://[]", "no host" },
  { "redis://ca che", "character" }, { "redis://c%2fd", "character" }, { "unix://run/redis.sock", "absolute path" }, { "unix://", "absolute path" },
  { "unix:///run/%zz", "path" },
}

describe("a Redis url", function()
  it("is understood in every form people have", function()
    for _, case in ipairs(understood) do
      local found = assert(redis.url(case[1]))
      local expected = { tls = false }
      for key, value in pairs(case[2]) do expected[key] = value end
      if found.password then
        assert.is_true(secret.is(found.password), case[1])
        found.password = true
      end
      assert.same(expected, found, case[1])
    end
  end)

  it("is refused with the name of the bad part, and without its password", function()
    for _, case in ipairs(refused) do
      local found, err = redis.url(case[1])
      assert.is_nil(found, case[1])
      assert.equal("config", err.code)
      assert.truthy(err.message:find(case[2], 1, true), case[1] .. ": " .. err.message)
      assert.is_nil(tostring(err):find(SECRET, 1, true), case[1])
    end
  end)

  it("may be a secret as a whole", function()
    local found = assert(redis.url(assert(secret.of("redis://:" .. SECRET .. "@cache:6379/1", "cache url"))))
    assert.equal("cache", found.host)
    assert.is_true(secret.is(found.password))
  end)

  it("never does harm, whatever the bytes", function()
    local alphabet = { "redis://", "rediss://", "unix://", "@", ":", "/", "?", "#", "%", "%4", "%41", "[", "]", "db=", "&", "1", "x", "\n", "\255", " " }
    math.randomseed(7)
    for _ = 1, 20000 do
      local parts = { math.random(2) == 1 and "redis://" or "" }
      for i = 2, math.random(2, 12) do parts[i] = alphabet[math.random(#alphabet)] end
      local text = table.concat(parts)
      local found, err = redis.url(text)
      assert.truthy(found or err.code == "config", text)
    end
  end)
end)
