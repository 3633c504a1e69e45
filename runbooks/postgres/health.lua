-- How a PostgreSQL server is doing, on one page: connections, who waits for whom, long and slow statements, sizes,
-- dead rows, indexes. Only reads, each a step of its own: what a role may not see does not hide the rest.

runbook "Look at the health of a PostgreSQL server" {
  why = "The first question of every incident and of every weekly look. Nothing is changed.",
}

local health = require "std.health"

local db = target.postgres "db"

local p = params {
  database = { "database to look into; the one of the inventory when omitted", kind = "name", optional = true },
  rows     = { "rows of the long lists", kind = "integer", min = 1, max = 1000, default = 10 },
  longer   = { "what is long for a statement or a transaction", kind = "duration", default = "5m" },
}

for _, question in ipairs(health.questions) do
  local word, title = question[1], question[2]

  step(title) {
    verify = function ()
      local there = p.database and db:on(p.database) or db
      report(health.ask(there, word, { limit = p.rows, longer = p.longer }))
    end,
  }
end
