--- Everything one stream has into another, shown on the screen while it moves: the words behind every client that copies.

local duration = require("core.duration")
local raise = require("core.raise")

local M = {}

local function ms(text) return text and duration.parse(text) or nil end

--- Copy to the end of `from`. Neither stream is closed.
---@param context { progress: function|nil } of the bound object
---@param from userdata stream
---@param to userdata stream
---@param wanted? { total: integer, text: string, within: string, stall: string, compress: "zstd"|"gzip", expand: "zstd"|"gzip" } total: bytes, where they are known
---@return { bytes: integer, sha256: string, written: integer, written_sha256: string } moved
function M.move(context, from, to, wanted)
  wanted = wanted or {}
  local before = from:moved()
  local following <close> = context.progress and context.progress(function () return from:moved() - before, wanted.total, wanted.text end)
  return raise.check(from:pipe(to, { within_ms = ms(wanted.within), stall_ms = ms(wanted.stall), compress = wanted.compress, expand = wanted.expand }))
end

return M
