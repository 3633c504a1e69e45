--- Who waits for whom in a PostgreSQL server, as a tree.
--
-- pg_locks alone shows what was not granted, not by whom it is held up: a waiter may stand behind another waiter
-- of the queue. `pg_blocking_pids` knows both, so the edges come from there.

local M = {}

--- The waiting pids of `edges` as a forest: each under the one that blocks it, every pid once.
local function forest(sessions, edges)
  local under, waiting, lines, seen = {}, {}, {}, {}
  for _, edge in ipairs(edges) do
    under[edge.blocker] = under[edge.blocker] or {}
    table.insert(under[edge.blocker], edge.pid)
    waiting[edge.pid] = true
  end
  local function place(pid, depth)
    local session = sessions[pid] or {}
    lines[#lines + 1] = { pid = ("  "):rep(depth) .. pid, state = session.state, database = session.database, role = session.role,
      application = session.application, waits_s = session.waits_s, wants = session.wants, query = session.query }
    if seen[pid] then return end
    seen[pid] = true
    for _, child in ipairs(under[pid] or {}) do place(child, depth + 1) end
  end
  for _, edge in ipairs(edges) do
    if not waiting[edge.blocker] and not seen[edge.blocker] then place(edge.blocker, 0) end
  end
  for _, edge in ipairs(edges) do          -- a circle has no root; the server will break it, until then it is shown
    if not seen[edge.pid] then place(edge.pid, 0) end
  end
  return lines
end

--- Who waits for whom: every waiting session under the session that blocks it.
---@param db table
---@return table[] lines sessions in the order of the tree; `pid` is indented by its depth
---@effect read
function M.tree(db)
  local edges = db:rows [[
    SELECT w.pid, b.blocker FROM (SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE NOT granted) w,
           LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(blocker) ORDER BY b.blocker, w.pid]]
  local sessions = {}
  for _, row in ipairs(#edges == 0 and {} or db:rows [[
    SELECT a.pid, a.state, a.datname::text AS database, a.usename::text AS role, a.application_name AS application,
           CASE WHEN l.pid IS NOT NULL THEN extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::bigint END AS waits_s,
           l.mode || coalesce(' on ' || l.relation::pg_catalog.regclass::text, '') AS wants, left(a.query, 200) AS query
      FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_locks l ON l.pid = a.pid AND NOT l.granted]]) do
    sessions[row.pid] = row
  end
  return forest(sessions, edges)
end

return M
