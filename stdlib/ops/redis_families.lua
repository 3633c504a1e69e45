--- What the keys of a Redis database are: families by the beginnings of their names, how many expire, and which must not be lost.
--
-- "A cache can be made again" is said of databases that also hold what keeps a payment from being made twice. An eviction policy knows
-- nothing of that: allkeys-* takes any key, volatile-* any that expires. So a key must stay when its name says so (KEEP), and when it has
-- no expiry and nobody said that it can be made again: who sets no expiry means to keep it.
--
-- Families are told by sampling, because a database may hold any number of keys. What KEEP names is looked for among all of them:
-- five keys in a million are what a sample misses.

local bytes = require "core.bytes"

local M = {}

--- Patterns of keys that must stay, where the runbook's caller names none.
M.KEEP = { "*idem*", "*refresh*", "*revo*", "*denylist*", "*blacklist*", "*lock*", "*queue*" }

local SAMPLE <const>, PAGE <const>, EXPIRY <const>, WEIGHED <const> = 100000, 500, 500, 20

-- Patterns ------------------------------------------------------------------------------------------------

local SPECIAL <const> = "[%^%$%(%)%%%.%[%]%+%-]"

-- "*" and "?" are all that is meant; everything else is itself.
local function matcher(glob)
  return "^" .. glob:gsub(SPECIAL, "%%%0"):gsub("%*", ".*"):gsub("%?", ".") .. "$"
end

--- The pattern of Redis for names that begin so, whatever characters it has.
---@param prefix string
---@return string
---@effect pure
function M.beginning(prefix) return (prefix:gsub("[%*%?%[%]%\\%^]", "\\%0")) .. "*" end

--- Which of the patterns does the key fit? The first one.
---@param key string
---@param patterns string[]
---@return string|nil
---@effect pure
function M.fits(key, patterns)
  for _, pattern in ipairs(patterns) do
    if key:find(matcher(pattern)) then return pattern end
  end
  return nil
end

local function is_id(part)
  return part == "" or part:find("^%d+$") or (#part >= 16 and part:find("^%x[%x%-]*$"))
end

--- The family of a key: the first two words before its own ("payment:idem:7f" is of payment:idem, "session:42" of session).
---@param key string
---@return string
---@effect pure
function M.name(key)
  local words = {}
  for part in key:gmatch("([^:]*):") do
    if #words == 2 or is_id(part) then break end
    words[#words + 1] = part
  end
  return #words > 0 and table.concat(words, ":") or "(no prefix)"
end

-- The census ----------------------------------------------------------------------------------------------

local function family_of(families, name)
  local family = families[name]
  if not family then
    family = { name = name, keys = 0, lasting = 0, expiring = 0, keep = nil, bytes = 0, sampled = {} }
    families[name] = family
    families[#families + 1] = family
  end
  return family
end

local function add(families, key, keep)
  local family = family_of(families, M.name(key))
  family.keys = family.keys + 1
  family.keep = family.keep or M.fits(key, keep)
  if #family.sampled < EXPIRY then family.sampled[#family.sampled + 1] = key end
end

-- Ask the same of many keys, a page at a time.
local function each_answer(cache, keys, most, command, take)
  for first = 1, math.min(#keys, most), PAGE do
    local commands = {}
    for i = first, math.min(#keys, most, first + PAGE - 1) do commands[#commands + 1] = command(keys[i]) end
    for _, answer in ipairs(cache:pipeline(commands)) do take(answer) end
  end
end

local function weigh(cache, family)
  local weighed, total = 0, 0
  each_answer(cache, family.sampled, EXPIRY, function (key) return { "PTTL", key } end, function (ttl)
    if ttl == -1 then family.lasting = family.lasting + 1 elseif type(ttl) == "number" and ttl >= 0 then family.expiring = family.expiring + 1 end
  end)
  each_answer(cache, family.sampled, WEIGHED, function (key) return { "MEMORY", "USAGE", key } end, function (size)
    if math.type(size) == "integer" then weighed, total = weighed + 1, total + size end
  end)
  family.bytes = weighed > 0 and total // weighed * family.keys or 0
end

-- What must stay is looked for among all keys: counted anew, because the sample has seen some of them.
local function find_kept(cache, families, keep)
  local counts = {}
  for _, pattern in ipairs(keep) do
    for key in cache:scan { match = pattern } do
      local name = M.name(key)
      if M.fits(key, keep) == pattern then counts[name] = (counts[name] or 0) + 1 end
      if counts[name] and counts[name] <= EXPIRY and not (families[name] and families[name].keep) then add(families, key, keep) end
    end
  end
  for name, count in pairs(counts) do families[name].keys = math.max(families[name].keys, count) end
end

--- The families of the database, largest first: { name, keys, lasting, expiring (both of those sampled), bytes (estimated), keep }.
--- `keep` is the pattern that says the family must stay; `again` names keys that can be made again though they never expire.
---@param cache table
---@param wanted? { sample: integer?, keep: string[]?, again: string[]? }
---@return { families: table[], seen: integer, total: integer }
---@effect read
function M.census(cache, wanted)
  wanted = wanted or {}
  local keep, most = wanted.keep or M.KEEP, wanted.sample or SAMPLE
  local families, seen, total = {}, 0, cache:size()
  for key in cache:scan {} do
    if seen >= most then break end
    seen = seen + 1
    add(families, key, keep)
  end
  if seen >= most then find_kept(cache, families, keep) end
  local list = {}
  for i, family in ipairs(families) do
    weigh(cache, family)
    family.again = wanted.again ~= nil and M.fits(family.sampled[1], wanted.again) ~= nil
    family.sampled = nil
    list[i] = family
  end
  table.sort(list, function (a, b) return a.keys > b.keys or (a.keys == b.keys and a.name < b.name) end)
  return { families = list, seen = seen, total = total }
end

--- The census as a table to report, the largest families of it and all that must stay.
---@param census table
---@param rows? integer
---@return table grid
---@effect pure
function M.grid(census, rows)
  local list = {}
  for i, f in ipairs(census.families) do
    if i <= (rows or 20) or f.keep then
      local asked = f.lasting + f.expiring
      list[#list + 1] = { f.name, f.keys, asked > 0 and f.lasting * 100 // asked or nil, f.bytes, f.keep and "must stay: " .. f.keep or f.again and "can be made again" or nil }
    end
  end
  return { title = "Families of keys", columns = { "family", "keys", "without_expiry_percent", "bytes_estimated", "remark" }, rows = list,
    remark = ("%d of %d keys looked at."):format(math.min(census.seen, census.total), census.total) }
end

-- Eviction ------------------------------------------------------------------------------------------------

--- The policies there are.
M.POLICIES = { "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl" }

--- What the policy may take and must not, as sentences.
---@param census table
---@param policy string
---@return string[]
---@effect pure
function M.losses(census, policy)
  local list, any = {}, policy:find("^allkeys") ~= nil
  for _, f in ipairs(policy == "noeviction" and {} or census.families) do
    if f.keep and (any or f.expiring > 0) then list[#list + 1] = ("%s (%d keys, must stay: %s)"):format(f.name, f.keys, f.keep)
    elseif any and f.lasting > 0 and not f.again then list[#list + 1] = ("%s (%d keys, some without an expiry)"):format(f.name, f.keys) end
  end
  return list
end

--- The policy that takes the least that must stay, and why.
---@param census table
---@return string policy
---@return string why
---@effect pure
function M.advice(census)
  local expiring = 0
  for _, f in ipairs(census.families) do expiring = expiring + f.expiring end
  if #M.losses(census, "allkeys-lru") == 0 then return "allkeys-lru", "every key can be made again" end
  if #M.losses(census, "volatile-lru") > 0 then return "noeviction", "keys that must stay expire too, so every other policy may take them: give them a Redis of their own" end
  if expiring == 0 then return "noeviction", "no key expires, so volatile-* would find nothing to take" end
  return "volatile-lru", "it takes only keys that expire, and none of those must stay"
end

--- What is in the way of a limit and a policy: losses, and a limit that is passed at once.
---@param cache table
---@param census table
---@param policy string
---@param limit integer bytes; 0 is none
---@return string[]
---@effect read
function M.obstacles(cache, census, policy, limit)
  local list, used = {}, cache:info("memory").used_memory
  for _, loss in ipairs(M.losses(census, policy)) do list[#list + 1] = "may be evicted: " .. loss end
  if #list > 0 then
    local better, why = M.advice(census)
    list[#list + 1] = ("%s would do: %s"):format(better, why)
  end
  if limit > 0 and used * 10 > limit * 9 then
    list[#list + 1] = ("%s are used, more than nine tenths of %s: the limit would bite at once"):format(bytes.format(used), bytes.format(limit))
  end
  return list
end

--- Keys that begin so and must stay, at most ten of them, each with the pattern that says so.
---@param cache table
---@param prefix string
---@param keep string[]
---@return string[]
---@effect read
function M.kept(cache, prefix, keep)
  local list = {}
  for key in cache:scan { match = M.beginning(prefix) } do
    local pattern = M.fits(key, keep)
    if pattern then list[#list + 1] = ("%s (%s)"):format(key, pattern) end
    if #list == 10 then break end
  end
  return list
end

return M
