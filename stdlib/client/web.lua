--- What url and webhook have in common: where they are, and the way there.

local M = {}

local http = require "native.http"
local places = require "client.place"
local raise = require "core.raise"

--- A bound object that knows its place: scheme, host and port of its url, and how it may be shown. Asks nobody.
---@param kind table the client module
---@param role string
---@param spec table with url, and on
---@param context table {target=function}
---@return table object
function M.new(kind, role, spec, context)
  if not spec.url then raise("config", ("\"%s\" has no url"):format(role), "Write it in full: https://example.org/path, or secret { env = \"NAME\" }.") end
  local ok, place = pcall(http.place, spec.url)
  if not ok then raise("config", ("\"%s\": %s"):format(role, place.message), place.hint) end
  local below = spec.on and context.target(spec.on, { "host", "container" })
  return { kind = kind.kind, role = role, spec = spec, context = context, place = place, below = below,
    beyond = below and places.is_beyond(below, not spec.unix and place.host or nil) and spec.on or nil }
end

--- The way to what stands on another target, made once; nil for what is reached directly.
---@return userdata? dialer
function M.way(o)
  local below, unix = o.below, o.spec.unix
  if below and not o.way then o.way = unix and below.ways.dial_unix(below, unix) or below.ways.dial(below, o.place.host, o.place.port) end
  return o.way
end

--- What it is known by: "url:https://example.org:443", behind a host "url:hermes/http://127.0.0.1:9000".
---@return string
function M.id(o)
  return ("url:%s%s://%s:%d"):format(o.spec.on and o.spec.on .. "/" or "", o.place.scheme, o.place.host, o.place.port)
end

--- A request as native.http takes it, with what the inventory says about the way.
---@param o table
---@param asked table method, path, headers, …
---@return table asked
function M.request(o, asked)
  local spec = o.spec
  asked.url, asked.role, asked.ca, asked.proxy = spec.url, o.role, spec.ca, spec.proxy
  if o.below then
    asked.through, asked.dialer, asked.machine = spec.on, M.way(o), places.machine(o.below, not spec.unix and o.place.host or nil)
  else asked.unix = spec.unix end
  return asked
end

return M
