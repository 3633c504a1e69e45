-- An account is in wrong hands: log it out everywhere, now. The rows are listed first, counted against a bound, and kept, so that a
-- mistake (the wrong account) can be taken back.

runbook "Log a user out everywhere" {
  why = "Whoever has a session token is the user until the row is gone.",
}

local rows = require "std.rows"

local db = target.postgres "db"

local p = params {
  user     = { "whose sessions, as the column has it" },
  database = { "database of the application; the one of the inventory when omitted", kind = "name", optional = true },
  table    = { "table of the sessions, as the catalogue has its name", default = "Session" },
  column   = { "its column with the user", default = "userId" },
  most     = { "more rows than this, and it is not one user's", kind = "integer", min = 1, default = 200 },
}

local function there () return p.database and db:on(p.database) or db end

local function theirs () return rows.where(p.column) end

step "Look at the sessions of {user}" {
  verify = function ()
    local count = rows.count(there(), p.table, theirs(), p.user)
    check.at_most(count, p.most, "there are no more of them than one user has")
    note("%d of %d sessions are theirs", count, rows.count(there(), p.table))
  end,
}

step "Take the sessions of {user} away" {
  destroys = "every session of {user}",
  done     = function () return rows.count(there(), p.table, theirs(), p.user) == 0 end,
  act      = function () there():delete { from = p.table, where = theirs(), params = { p.user }, max_rows = p.most } end,
  undo     = function () there():put_back() end,
}

step "Prove that {user} is logged out" {
  verify = function () check.same(rows.count(there(), p.table, theirs(), p.user), 0, "{user} has no session left") end,
}
