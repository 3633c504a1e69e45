--- A web address as a target: a health page, an API.
--
--   site = url { url = "https://shop.example.org", health = "/health", headers = { ["X-Api-Key"] = secret { env = "SHOP_KEY" } } }
--   admin = url { url = "http://127.0.0.1:9000", on = "hermes" }
--
-- `get`, `head`, `json` and `healthy` are reads, and declared ones: that a GET changes nothing is its author's promise. Everything
-- else is a write that is shown in a preview and sent once. A status outside 200 to 299 is an error unless it is allowed; redirects are
-- not followed unless `follow` says how many. A secret goes into a header, a body or the url, and never comes back: what
-- the server repeats is redacted.
--
-- `healthy` gives false where another read raises: it is what one waits for. `wait_until(…, { times = 3 })` wants three in a row.

local duration = require "core.duration"
local http = require "native.http"
local raise = require "core.raise"
local text = require "native.text"
local web = require "client.web"

local M = { kind = "url" }

M.fields = {
  url = { type = "string", help = "https://host/path, or http://; what is asked for is put behind it. May be a secret" },
  headers = { type = "table", help = "names and values sent with every request; a value may be a secret" },
  ca = { type = "string", help = "a file of certificates (PEM) to trust instead of the system's" },
  health = { type = "string", help = "the path that tells whether it is well, \"/health\"; asked for the card too" },
  proxy = { type = "string", help = "an HTTP proxy; the environment's are not used" },
  unix = { type = "string", help = "a unix socket to connect to instead of the url's host" },
  within = { type = "string", help = "time for one request, \"10s\"" },
  on = { type = "string", help = "the role of a host or container from which the url is reached" },
  behind = { type = "string", help = "the role of what answers there (a service, a container, a host): what would change it makes the page unknown in a preview" },
}

local WITHIN <const>, CARD_MS <const>, SAID <const> = "10s", 5000, 200

-- ---- results ----

local result_methods = {}
local result_meta = { __index = result_methods, __name = "result" }

--- The status: 200.
---@return integer
---@effect pure
function result_methods:status() return self.values.status end

--- The body of the answer.
---@return string
---@effect pure
function result_methods:body() return self.values.body end

--- A header of the answer, whatever its case; nil when it did not come.
---@param name string
---@return string?
---@effect pure
function result_methods:header(name) return self.values.headers[name:lower()] end

--- The value that the body stands for as JSON.
---@return any
---@effect pure
function result_methods:json() return raise.check(text.parse(self.values.body)) end

-- ---- asking ----

local methods, guardians = {}, {}
local meta = { __index = methods, __name = "url" }

--- Bind a URL of the inventory. Asks nobody.
---@param role string
---@param spec table see M.fields
---@param context table {target=function}
---@return table url
function M.bind(role, spec, context)
  local object = web.new(M, role, spec, context)
  object.methods, object.guardians = methods, guardians
  if spec.behind then context.target(spec.behind) end
  return setmetatable(object, meta)
end

local known = { headers = true, within = true, allow = true, limit = true, follow = true, body = true, json = true, method = true }

local function request(self, method, path, given)
  for key in pairs(given or {}) do
    if not known[key] then
      raise("usage", ("a request has no option \"%s\""):format(tostring(key)), "It has headers, within, allow, limit, follow, body and json.")
    end
  end
  given = given or {}
  local spec, headers = self.spec, {}
  for name, value in pairs(spec.headers or {}) do headers[name] = value end
  for name, value in pairs(given.headers or {}) do headers[name] = value end
  return web.request(self, { method = method, path = path, headers = headers, body = given.body, json = given.json, limit = given.limit,
    follow = given.follow, within_ms = duration.parse(given.within or spec.within or WITHIN) })
end

local function is_allowed(status, allow)
  if allow == "any" then return true end
  for _, one in ipairs(allow or {}) do
    if one == status then return true end
  end
  return status >= 200 and status < 300
end

-- "GET https://host/path answered 503: not yet"
local function refuse(self, asked, answer)
  local said = answer.body and (answer.body:match("^%s*([^\r\n]+)") or ""):sub(1, SAID) or ""
  local sentence = ("%s %s%s answered %d%s"):format(asked.method, self.place.shown:gsub("/$", ""), asked.path or "", answer.status, said ~= "" and ": " .. said or "")
  if answer.doubtful then
    raise("unknown", sentence, "A gateway said so, which does not know whether it was done; look before it is done again.", { status = answer.status })
  end
  raise("remote", sentence, nil, { status = answer.status })
end

local function ask(self, method, path, given)
  local asked = request(self, method, path, given)
  local answer = raise.check(http.request(asked))
  if type(answer) == "userdata" then return answer end   -- a preview did not send it: withheld
  if answer.doubtful or not is_allowed(answer.status, given and given.allow) then refuse(self, asked, answer) end
  return setmetatable({ kind = "result", values = answer, methods = result_methods }, result_meta)
end

--- Ask for a page.
---@param path? string put behind the target's url
---@param given? { headers: table?, within: string?, allow: integer[]|"any"|nil, limit: integer?, follow: integer? }
---@return table result
---@effect read
function methods:get(path, given) return ask(self, "GET", path, given) end

--- Ask for status and headers only.
---@param path? string
---@param given? { headers: table?, within: string?, allow: integer[]|"any"|nil, follow: integer? }
---@return table result
---@effect read
function methods:head(path, given) return ask(self, "HEAD", path, given) end

--- The value that a page stands for as JSON.
---@param path? string
---@param given? { headers: table?, within: string?, allow: integer[]|"any"|nil, limit: integer?, follow: integer? }
---@return any
---@effect read
function methods:json(path, given) return ask(self, "GET", path, given):json() end

--- A page as a stream, for what is too large to be held; its status is one of 200 to 299.
---@param path? string
---@param given? { headers: table?, within: string?, follow: integer? } within: until it begins
---@return userdata stream
---@effect read
function methods:open(path, given)
  local asked = request(self, "GET", path, given)
  local stream, answer = http.open(asked)
  if not stream then error(answer, 0) end
  if not is_allowed(answer.status) then
    stream:close()
    refuse(self, asked, answer)
  end
  return stream
end

-- What waiting may mend. A certificate that is wrong stays wrong.
local MENDS <const> = { unreachable = true, timeout = true, closed = true, protocol = true, remote = true }

--- Is it well? It answers with the status wanted (200 to 299), and its body holds the text wanted.
---@param wanted? { path: string?, status: integer?, contains: string?, within: string? }
---@return boolean
---@return string? why not
---@effect read
function methods:healthy(wanted)
  wanted = wanted or {}
  local answer, err = http.request(request(self, "GET", wanted.path or self.spec.health, { within = wanted.within }))
  if not answer then
    if not MENDS[err.code] then error(err, 0) end
    return false, err.message
  end
  local right = wanted.status and answer.status == wanted.status or not wanted.status and is_allowed(answer.status)
  if not right then return false, ("status %d"):format(answer.status) end
  if wanted.contains and not answer.body:find(wanted.contains, 1, true) then return false, ("its page does not hold \"%s\""):format(wanted.contains) end
  return true
end

--- Send a request that changes something, once.
---@param path? string
---@param given { method: string?, json: any, body: string|userdata|nil, headers: table?, within: string?, allow: integer[]|"any"|nil } POST without a method
---@return table result
---@effect write
function methods:send(path, given)
  local method = given and given.method or "POST"
  if method == "GET" or method == "HEAD" then raise("usage", ("%s is a read"):format(method), ("Use %s()."):format(method:lower())) end
  return ask(self, method, path, given)
end

--- POST.
---@param path? string
---@param given? { json: any, body: string|userdata|nil, headers: table?, within: string?, allow: integer[]|"any"|nil }
---@return table result
---@effect write
function methods:post(path, given) return ask(self, "POST", path, given) end

--- PUT.
---@param path? string
---@param given? { json: any, body: string|userdata|nil, headers: table?, within: string?, allow: integer[]|"any"|nil }
---@return table result
---@effect write
function methods:put(path, given) return ask(self, "PUT", path, given) end

--- PATCH.
---@param path? string
---@param given? { json: any, body: string|userdata|nil, headers: table?, within: string?, allow: integer[]|"any"|nil }
---@return table result
---@effect write
function methods:patch(path, given) return ask(self, "PATCH", path, given) end

--- DELETE.
---@param path? string
---@param given? { json: any, body: string|userdata|nil, headers: table?, within: string?, allow: integer[]|"any"|nil }
---@return table result
---@effect write
function methods:delete(path, given) return ask(self, "DELETE", path, given) end

-- ---- the card ----

local function is_loopback(host) return host == "localhost" or host:match("^127%.") or host == "[::1]" end

local function tls_line(self)
  if self.place.scheme == "https" then return { "tls", "certificate proved" } end
  if not (self.below or self.spec.unix or is_loopback(self.place.host)) then return { "tls", "no" } end
end

--- What this is, for the plan. A page that does not answer is told, not raised: it may be what the run is about.
---@return table card { kind, id, lines, wrong }
---@effect read
function methods:card()
  local place, spec = self.place, self.spec
  local card = { kind = M.kind, id = web.id(self), lines = { { "url", place.shown } } }
  card.lines[#card.lines + 1] = tls_line(self)
  local asked = request(self, spec.health and "GET" or "HEAD", spec.health)
  asked.within_ms = math.min(asked.within_ms, CARD_MS)
  local answer, err = http.request(asked)
  if not answer then
    card.lines[#card.lines + 1] = { "answers", "no: " .. err.message }
    card.wrong = { message = err.message, hint = err.hint }
    return card
  end
  card.lines[#card.lines + 1] = { "answers", ("%d, from %s"):format(answer.status, answer.address) }
  if spec.health and not is_allowed(answer.status) then
    card.wrong = { message = ("%s answers %d"):format(spec.health, answer.status), hint = "Look at what the page itself says." }
  end
  return card
end

-- ---- for the engine ----

--- What became of a request whose run died: nobody knows but the server, and it has no page for that.
function guardians.probe() return nil end

return M
