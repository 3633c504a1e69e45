-- Remove every key that begins with a prefix, when what is cached under it has changed its shape: page by page, while others go on.
-- Never FLUSHDB: the same database holds what is no cache. There is no undo: a cache is filled again by whoever reads it; what is not
-- a cache is refused by name. Where in doubt run redis/backup before.

runbook "Remove the keys that begin with a prefix" {
  why = "A deploy changed the shape of cached values; the old ones would be read by the new program.",
}

local families = require "std.redis_families"

local cache = target.redis "redis"

local p = params {
  prefix   = { "how the keys begin, with the separator at its end", pattern = "^[^%*%?%[%]\\%c]+[:./|_-]$", example = "catalog:product:" },
  max_keys = { "the most keys that may be removed", kind = "integer", min = 1, default = 10000 },
  keep     = { "patterns of keys that must stay, whatever they begin with", kind = "list", default = families.KEEP },
  arriving = { "how many keys may be there afterwards, made meanwhile by who goes on working", kind = "integer", min = 0, default = 0 },
  pause    = { "between two pages, where the server is busy", kind = "duration", default = "0s" },
}

local function left () return cache:count { match = families.beginning(p.prefix) } end

-- No undo: a cache is filled again by whoever reads it.
step "Remove every key that begins with {prefix}" {
  destroys = "every key that begins with {prefix}",
  each  = function () return { p.prefix } end,
  needs = function ()
    local kept, count = families.kept(cache, p.prefix, p.keep), left()
    check(#kept == 0, "no key that begins with {prefix} must stay", table.concat(kept, "; "))
    check.at_most(count, p.max_keys, "at most {max_keys} keys begin with {prefix}")
    note("%d of %d keys", count, cache:size())
  end,
  done   = function () return left() <= p.arriving end,
  act    = function () cache:remove_matching { match = families.beginning(p.prefix), max_keys = p.max_keys, pause = p.pause } end,
  verify = function () check.at_most(left(), p.arriving, "no key begins with {prefix}, but for {arriving} that came meanwhile") end,
  within = "30m",
}
