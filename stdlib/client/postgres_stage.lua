--- A dump as a file that can be read from many places at once: what `pg_restore --jobs` wants, and no stream is.
--
--   from a folder of the place where the tools run, not compressed around it ─► read where it is
--   from anywhere else ─► INTO.dump in `stage`, a folder of that place: 0600, in the ledger before it is begun, hashed while it goes there
--                         ─► removed when the program has ended, however it did; after a kill by the next try, or by neap gc
--
-- Many sessions are no one transaction, so half is possible. What is restored into is therefore a scratch database of the run: nobody else knows
-- its name, and what is half there is dropped before it is restored again.
--
-- Rejected: a directory that we choose (/tmp is everybody's, a home may be small; who runs the server knows where its room is), and a
-- directory of a container (it ends with the container, and its room is the machine's).

local M = {}

local archive = require("client.postgres_archive")
local raise = require("core.raise")
local sources = require("client.postgres_source")
local tools = require("client.postgres_tools")

local JOBS_MOST <const>, PRIVATE <const> = 64, 384         -- 0600

-- Does it lie where the tools run? What a runbook hands over is only known by its words.
local function is_beside(o, folder)
  local place = tools.place(o)
  local ok, host = pcall(function () return folder:host() end)
  return ok and host == (place and place.role)
end

--- Are these options of a restore in several sessions?
---@param o table
---@param wanted table of db:restore
---@param scratch boolean is `into` scratch of this run?
function M.check(o, wanted, scratch)
  local jobs, place = wanted.jobs, tools.place(o)
  if math.type(jobs) ~= "integer" or jobs < 1 or jobs > JOBS_MOST then
    raise("usage", ("jobs is a number from 1 to %d, not %s"):format(JOBS_MOST, tostring(jobs)))
  end
  if not scratch then
    raise("refused", ("\"%s\" is no scratch database of this run, and a restore in several sessions is no one transaction"):format(tostring(wanted.into)),
      "Restore into scratch \"trial\": what a restore leaves half done there is ours to drop. Without jobs it is all or nothing anywhere.")
  end
  if place and place.kind == "container" then
    raise("config", ("the tools of \"%s\" run in a container, where no folder is for the file they must seek in"):format(o.role),
      "Name other tools: tools = \"local\", or the role of a host.")
  end
  if wanted.stage ~= nil and not is_beside(o, wanted.stage) then
    raise("usage", "stage is a folder " .. tools.where(o) .. ", where the tools of \"" .. o.role .. "\" run")
  end
end

-- Where the dump is a file that the program can open already; nil where it must be put.
local function there(o, what)
  local from = what.wanted.from
  if type(from) ~= "table" or what.facts.compression or not is_beside(o, from[1]) then return nil end
  local size = what.source.total
  return { path = from[1]:path(from[2]), moved = { bytes = size, written = size, sha256 = what.wanted.sha256 or from[1]:hash(from[2]) } }
end

local function put(what)
  local wanted, facts, source, name = what.wanted, what.facts, what.source, what.wanted.into .. ".dump"
  local folder, heard = wanted.stage, sources.listen(source)
  local moved = folder:copy_in(source.stream, name,
    { mode = PRIVATE, total = source.total, ahead = what.head, expand = facts.compression, within = wanted.within, stall = wanted.stall })
  local function remove() folder:remove(name) end
  return setmetatable({ path = folder:path(name), moved = moved, remove = remove, heard = heard }, {
    __close = function (_, err)
      if err == nil then remove() else pcall(remove) end       -- the first error is the one to tell; the ledger has the file
    end,
  })
end

-- What was copied is the whole of it.
local function prove(what, staged)
  local source, wanted, moved = what.source, what.wanted, staged.moved
  local wrong = archive.cut(what.facts, moved.tail, moved.written)
  if wrong then raise("invalid", ("%s is not whole: %s"):format(source.name, wrong), "Nothing of it was restored.") end
  if wanted.sha256 and wanted.sha256 ~= moved.sha256 then
    raise("invalid", source.name .. " is not what was made: its SHA-256 is another", "Nothing of it was restored.")
  end
  sources.finish(source, staged.heard)
end

--- The dump as a file beside the tools; to be closed, which removes it where it was put there.
---@param o table
---@param what table of db:restore: wanted, facts, source, head
---@param preview boolean
---@return { path: string, moved: table }
---@effect write
function M.open(o, what, preview)
  if what.facts.format ~= "custom" then
    raise("invalid", ("%s is %s, which one session restores"):format(what.source.name, what.facts.format),
      "Several sessions want the format custom; leave jobs out.")
  end
  local found = there(o, what)
  if found then return setmetatable(found, { __close = function () end }) end
  if not what.wanted.stage then
    raise("usage", ("%s is no file %s"):format(what.source.name, tools.where(o)), "Name a folder there for it meanwhile: stage = … .")
  end
  local staged = put(what)
  if preview then return staged end
  local ok, why = pcall(prove, what, staged)
  if ok then return staged end
  staged.remove()
  error(why, 0)
end

return M
