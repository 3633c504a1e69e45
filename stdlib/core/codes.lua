-- What a program that called us is told: error code -> exit code. The rows are those of
-- runtime/base/errors.def (a test compares them); the names of the exits are sysexits.h's.
local M = {}

---@type table<string, integer>
M.exit = {
  usage = 64, invalid = 65, unreachable = 69, auth = 69, unsupported = 69, closed = 69, bug = 70, memory = 71, journal = 74,
  busy = 75, unknown = 75, refused = 77, config = 78, timeout = 1, cancelled = 1, remote = 1, protocol = 1,
  check = 1, withheld = 2,
}

---What each exit code of `neap` means, in the order of the manual.
M.meanings = {
  { 0, "everything asked for was done (a preview: nothing would change)" },
  { 1, "a step or a check failed; the state is known" },
  { 2, "a preview only: changes are predicted" },
  { 64, "the command line is wrong, or a parameter is missing" },
  { 65, "the runbook, a journal or an answer is malformed" },
  { 69, "a target cannot be reached, or what is installed cannot do what was asked" },
  { 70, "an assumption of neap's own failed" },
  { 71, "the memory limit was reached" },
  { 74, "the journal cannot be written; nothing is done unrecorded" },
  { 75, "another run holds the target, or an act began and nobody can say whether it was done: resume" },
  { 77, "refused by policy or by the guard" },
  { 78, "the inventory or a setting is wrong" },
}

---@param code string
---@return integer
function M.of(code)
  return M.exit[code] or M.exit.bug
end

return M
