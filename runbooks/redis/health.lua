-- How a Redis server is doing, on one page, and a judgement: does it save, has it room, does it turn anybody away or evict?
-- Only reads, so there is nothing to undo. Keys are looked at by SCAN, never KEYS, which holds the whole server.

runbook "Look at the health of a Redis server" {
  why = "The first question of every incident and of every weekly look. Nothing is changed.",
}

local health = require "std.redis_health"

local cache = target.redis "redis"

local p = params {
  rows     = { "rows of the long lists", kind = "integer", min = 1, max = 1000, default = 10 },
  fullest  = { "percent of its memory limit that may be used", kind = "integer", min = 1, max = 100, default = 90 },
  evicting = { "evicted keys a second that are fine", kind = "integer", min = 0, default = 0 },
}

for _, question in ipairs(health.questions) do
  local word, title = question[1], question[2]

  step(title) {
    verify = function () report(health.ask(cache, word, p.rows)) end,
  }
end

step "What is counted, and how fast" {
  verify = function ()
    local first = health.sample(cache)
    wait_until(function () return health.sample(cache).at - first.at >= 1 end, { every = "200ms", within = "30s" })
    local second = health.sample(cache)
    report(health.rates(first, second))
    check.same(second.rejected_connections, first.rejected_connections, "nobody is turned away")
    check.at_most(second.evicted_keys - first.evicted_keys, p.evicting * (second.at - first.at), "it evicts at most {evicting} keys a second")
  end,
}

step "Whether it saves what it holds" {
  verify = function () check(#health.faults(cache) == 0, "the last save, rewrite and write to disk went well", table.concat(health.faults(cache), "; ")) end,
}

step "Whether it has memory left" {
  verify = function ()
    local percent = health.fullness(cache)
    if not percent then return note "no limit is set: the machine's memory is the limit" end
    check.at_most(percent, p.fullest, "at most {fullest} % of its memory limit are used")
    note("%d %% used", percent)
  end,
}
