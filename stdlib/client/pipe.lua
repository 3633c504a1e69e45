--- Everything one stream has into another, shown on the screen while it moves: the words behind every client that copies.

local duration = require("core.duration")
local task = require("native.task")

local M = {}

local KEPT <const> = 4096

--- Read a stream to its end beside the task, so that nobody waits for it: the task, whose value is the last of it.
---@param stream userdata
function M.drain(stream)
  return task.spawn(function ()
    local kept = ""
    while true do
      local piece = stream:read()
      if not piece then return kept end
      kept = (kept .. piece):sub(-KEPT)
    end
  end)
end

-- "the reading end failed: …" becomes "the reading end, pg_dump in db, failed: …".
local function name_end(message, side, name)
  local _, last = message:find("the " .. side .. " end", 1, true)
  return last and name and message:sub(1, last) .. ", " .. name .. "," .. message:sub(last + 1) or message
end

local function moved_or_raise(wanted, moved, err)
  if moved then return moved end
  if err.from_status == "failed" then err.message = name_end(err.message, "reading", wanted.from)
  elseif err.to_status == "failed" then err.message = name_end(err.message, "writing", wanted.to) end
  error(err, 0)
end

local function ms(text) return text and duration.parse(text) or nil end

--- Copy to the end of `from`. Neither stream is closed. `tail` of what is returned is the last KiB that was written.
---@param context { progress: function|nil } of the bound object
---@param from userdata stream
---@param to userdata stream
---@param wanted? { total: integer, text: string, from: string, to: string, within: string, stall: string, compress: "zstd"|"gzip", expand: "zstd"|"gzip", ahead: string }
---   total: bytes, where they are known; from, to: what an error calls the ends; ahead: what was read from it before, which goes first
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string, tail: string } moved
function M.move(context, from, to, wanted)
  wanted = wanted or {}
  local before = from:moved()
  local following <close> = context.progress and context.progress(function () return from:moved() - before, wanted.total, wanted.text end)
  return moved_or_raise(wanted, from:pipe(to, { within_ms = ms(wanted.within), stall_ms = ms(wanted.stall), compress = wanted.compress, expand = wanted.expand,
    ahead = wanted.ahead }))
end

return M
