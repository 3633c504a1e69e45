--- drizzle-kit's side of a migration history: `meta/_journal.json`, `drizzle.__drizzle_migrations`, the rule of what is pending.
--
-- The tool reads one row, the greatest `created_at`, and executes every journal entry whose `when` is greater,
-- all in one transaction: a failure leaves no row and no table. Hashes are never compared, so an edited file
-- passes; an entry with an older `when` (a branch merged late) is skipped and the tool says "applied
-- successfully"; there is no lock against a second migrator. It has exited 0 on failure and 1 without a word.

local text = require "client.text"

local M = { name = "drizzle", schema = "drizzle", table = "__drizzle_migrations" }

M.deploy = { "migrate" }
M.url = {}
M.meaning = {}

local journal <const> = "meta/_journal.json"

--- All that is pending is one transaction.
M.whole = true

--- The texts that the tool sends one by one: between its breakpoints, which also stand where a semicolon is missing.
---@param script string
---@return string[]
---@effect pure
function M.pieces(script)
  local list = {}
  for piece in (script .. "--> statement-breakpoint"):gmatch("(.-)%-%-> statement%-breakpoint") do list[#list + 1] = piece end
  return list
end

--- Is this folder drizzle's?
---@param folder table a bound folder
---@return boolean
---@effect read
function M.knows(folder)
  return folder:has(journal)
end

--- The entries of the journal in its order, and what is wrong with the folder.
---@param folder table
---@return { name: string, file: string, sha256: string, when: integer }[] files
---@return string[] faults
---@effect read
function M.files(folder)
  local files, faults, listed, hashes, found = {}, {}, {}, {}, folder:hashes("*.sql")
  for _, file in ipairs(found) do hashes[file.name] = file.sha256 end
  for _, entry in ipairs(text.parse(folder:read(journal)).entries or {}) do
    local file = { name = entry.tag, file = entry.tag .. ".sql", when = entry.when }
    listed[file.file], file.sha256 = true, hashes[file.file]
    if file.sha256 then files[#files + 1] = file
    else faults[#faults + 1] = ("%q is in the journal and has no file"):format(entry.tag) end
  end
  for _, file in ipairs(found) do
    if not listed[file.name] then
      faults[#faults + 1] = ("%q is in the folder and not in the journal: drizzle will never execute it"):format(file.name)
    end
  end
  return files, faults
end

--- Every row of the history, oldest first, named after the entry it belongs to (by `when`, else by hash).
---@param db table
---@param from string
---@param files table[]
---@return table[] rows
---@effect read
function M.recorded(db, from, files)
  local by_when, by_hash = {}, {}
  for _, file in ipairs(files) do by_when[file.when], by_hash[file.sha256] = file.name, file.name end
  local rows = db:rows("SELECT id, hash AS checksum, created_at::bigint AS created_at FROM " .. from .. " ORDER BY created_at, id")
  for _, row in ipairs(rows) do
    row.name = by_when[row.created_at] or by_hash[row.checksum] or ("row " .. row.id)
    row.finished, row.rolled_back = true, false
  end
  return rows
end

local function newest(rows)
  local last
  for _, row in ipairs(rows) do
    if row.created_at and (not last or row.created_at > last) then last = row.created_at end
  end
  return last
end

--- drizzle's rule: pending is every entry whose `when` is greater than the greatest recorded.
---@param files table[]
---@param rows table[]
---@return string[] names
---@effect pure
function M.pending(files, rows)
  local last, names = newest(rows), {}
  for _, file in ipairs(files) do
    if not last or file.when > last then names[#names + 1] = file.name end
  end
  return names
end

--- The entries that the rule will never take: not newer than the newest row, and not recorded.
---@param files table[]
---@param rows table[]
---@return string[] names
---@effect pure
function M.skipped(files, rows)
  local last, there, names = newest(rows), {}, {}
  for _, row in ipairs(rows) do there[row.name] = true end
  for _, file in ipairs(files) do
    if last and file.when <= last and not there[file.name] then names[#names + 1] = file.name end
  end
  return names
end

--- drizzle takes no lock.
---@return nil
---@effect pure
function M.holder()
  return nil
end

--- Record one entry as applied without executing it: the row that drizzle itself would have written.
---@param history table
---@param file table
---@effect write
function M.record(history, file)
  local db, from = history:there(), history:from()
  local _, schema = history:plain()
  db:exec("CREATE SCHEMA IF NOT EXISTS " .. history.quote(schema))
  db:exec("CREATE TABLE IF NOT EXISTS " .. from .. " (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)")
  db:exec("INSERT INTO " .. from .. " (hash, created_at) SELECT $1::text, $2::bigint WHERE NOT EXISTS (SELECT 1 FROM " .. from
    .. " WHERE hash = $1::text AND created_at = $2::bigint)", file.sha256, file.when)
end

--- The statement that takes back one row made by `record`, and its parameters.
---@param from string
---@param file table
---@return string sql
---@return ...
---@effect pure
function M.forget(from, file)
  return "DELETE FROM " .. from .. " WHERE hash = $1::text AND created_at = $2::bigint", file.sha256, file.when
end

return M
