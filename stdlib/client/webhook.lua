--- A place to tell people something: a channel of Slack or Teams, or whatever takes a POST.
--
--   chat = webhook { url = secret { env = "OPS_WEBHOOK" }, format = "slack" }
--
-- The url of a webhook is a secret: who has it can post. To tell is a write (an announcement is shown in a preview and sent once). That
-- nobody could be told never fails a run: `told` of the answer is false and the run notes it, unless `must` is set.
--
-- What certainly did not arrive (no connection, or "too many at once") is tried again, three times in all. What may have arrived is
-- not: an announcement that comes twice is a lie about what happened. What a run must have said before it goes on is sent `once`: the journal then knows
-- that it was told, and after a crash in the middle it is told again, with a line that says so.
--
-- Who else must read it (a status page) is another webhook, which this one names: also = { "status" }.

local answer = require "client.answer"
local duration = require "core.duration"
local guard = require "native.guard"
local http = require "native.http"
local raise = require "core.raise"
local task = require "native.task"
local text = require "core.text"
local web = require "client.web"

local M = { kind = "webhook" }

M.fields = {
  url = { type = "string", help = "where to post; usually secret { env = … }" },
  format = { type = "string", help = "\"slack\" (also Mattermost and Rocket.Chat), \"teams\", \"json\" { text, fields } or \"plain\"; json when omitted" },
  headers = { type = "table", help = "names and values sent along; a value may be a secret" },
  ca = { type = "string", help = "a file of certificates (PEM) to trust instead of the system's" },
  proxy = { type = "string", help = "an HTTP proxy; the environment's are not used" },
  on = { type = "string", help = "the role of a host or container from which the url is reached" },
  must = { type = "boolean", help = "true: that nobody could be told is a failure" },
  also = { type = "table", help = "roles of other webhooks that are told the same: { \"status\" }" },
}

local TRIES <const>, PAUSE_MS <const>, PAUSE_MOST_MS <const>, WITHIN <const> = 3, 500, 10000, "10s"

-- ---- formats ----

-- Fields as a list of { name, value }: a list keeps its order, a table of names is sorted.
local function pairs_of(fields)
  local list = {}
  for i, field in ipairs(fields or {}) do list[i] = { tostring(field[1]), tostring(field[2]) } end
  if #list > 0 then return list end
  for _, name in ipairs(text.keys(fields or {})) do list[#list + 1] = { name, tostring(fields[name]) } end
  return list
end

local function lines_of(words, list, template)
  local lines = { words }
  for _, field in ipairs(list) do lines[#lines + 1] = template:format(field[1], field[2]) end
  return table.concat(lines, "\n")
end

local formats = {}

-- Slack's own three; everything else, "<!channel>" too, is then plain text.
local function slack_text(words) return (words:gsub("&", "&amp;"):gsub("<", "&lt;"):gsub(">", "&gt;")) end

function formats.slack(words, list)
  return { json = { text = slack_text(lines_of(words, list, "• %s: %s")) } }
end

function formats.teams(words, list)
  local body = { { type = "TextBlock", text = words, wrap = true } }
  local facts = {}
  for i, field in ipairs(list) do facts[i] = { title = field[1], value = field[2] } end
  if #facts > 0 then body[2] = { type = "FactSet", facts = facts } end
  local card = { type = "AdaptiveCard", version = "1.4", body = body, ["$schema"] = "http://adaptivecards.io/schemas/adaptive-card.json" }
  return { json = { type = "message", attachments = { { contentType = "application/vnd.microsoft.card.adaptive", content = card } } } }
end

function formats.json(words, list)
  local fields
  for _, field in ipairs(list) do
    fields = fields or {}
    fields[field[1]] = field[2]
  end
  return { json = { text = words, fields = fields } }
end

function formats.plain(words, list)
  return { body = lines_of(words, list, "%s: %s") .. "\n" }
end

-- ---- the target ----

local methods, guardians = {}, {}
local meta = { __index = methods, __name = "webhook" }

--- Bind a webhook of the inventory. Asks nobody.
---@param role string
---@param spec table see M.fields
---@param context table {notice=function|nil, target=function}
---@return table webhook
function M.bind(role, spec, context)
  if spec.format and not formats[spec.format] then
    raise("config", ("\"%s\": there is no format \"%s\""):format(role, spec.format), text.suggest(spec.format, text.keys(formats)))
  end
  local object = web.new(M, role, spec, context)
  object.methods, object.guardians, object.also, object.previewed = methods, guardians, {}, {}
  for i, other in ipairs(spec.also or {}) do object.also[i] = context.target(other, { "webhook" }) end
  return setmetatable(object, meta)
end

-- How long to wait before it may be tried again; nil: it may have arrived, or trying again would not help.
local function pause_before_again(got, err, try)
  if got and got.status == 429 then
    local seconds = tonumber(got.headers["retry-after"]) or 1
    return seconds * 1000 <= PAUSE_MOST_MS and math.floor(seconds * 1000) or nil
  end
  return not got and err.code == "unreachable" and PAUSE_MS * try or nil
end

-- true, a withheld value, or nil and why.
local function tell(self, asked)
  for try = 1, TRIES do
    local got, err = http.request(asked)
    if type(got) == "userdata" then return got end
    if got and got.status >= 200 and got.status < 300 then return true end
    local pause = try < TRIES and pause_before_again(got, err, try)
    if not pause then
      return nil, err or raise.new("remote", ("%s answered %d"):format(self.place.shown, got.status), nil, { status = got.status })
    end
    task.sleep(pause)
  end
end

local AGAIN <const> = { "again", "whoever said this was interrupted while saying it; you may have read it already" }

-- Send the words: true, a withheld value, or false and why nobody could be told.
local function post(self, words, fields, given)
  local asked = formats[self.spec.format or "json"](words, fields)
  asked.method, asked.headers, asked.within_ms = "POST", self.spec.headers, duration.parse(given.within or WITHIN)
  web.request(self, asked)
  local told, err = tell(self, asked)
  return told or false, err
end

-- What is told once is not told again, but for what was not told to its end.
local function post_once(self, words, fields, given, must)
  local before = self.context.told.state(self.role, words)
  if before == "told" or before == "nobody" then return before == "told", before == "nobody" and raise.new("unreachable", "nobody could be told") or nil end
  if before == "telling" then fields[#fields + 1] = AGAIN end
  self.context.told.note("telling", self.role, words)
  local told, err = post(self, words, fields, given)
  if type(told) == "userdata" then self.previewed[words] = self.context.told.step()
  else self.context.told.note(told and "told" or must and "failed" or "nobody", self.role, words) end
  return told, err
end

local function send(self, words, fields, given)
  local must = given.must or given.must == nil and self.spec.must
  local told, err = (given.once and post_once or post)(self, words, fields, given, must)
  if told then return told end
  if must then error(err, 0) end
  if self.context.notice then self.context.notice("warning", "nobody could be told: " .. err.message, self.role) end
  return false
end

--- Tell it, and whoever else is told the same.
---@param words string
---@param fields? table names and values below it: { database = "shop" }, or a list { { "database", "shop" } } in its order
---@param given? { must: boolean?, within: string?, once: boolean? } must: fail when nobody could be told; once: a run says it once, however often it is resumed
---@return { told: function } answer
---@effect write
function methods:send(words, fields, given)
  if type(words) ~= "string" or words == "" then raise("usage", "send needs a text", ("Write %s:send(\"the window begins\")."):format(self.role)) end
  given = given or {}
  local told = send(self, words, pairs_of(fields), given)
  for _, other in ipairs(self.also) do told = send(other, words, pairs_of(fields), given) and told end
  return answer.of("told", told)
end

--- Has this run said it `once`, to everybody it is for (or found that nobody could be told)?
---@param words string
---@return boolean
---@effect read
function methods:said(words)
  if guard.mode() == "plan" and self.previewed[words] then error(raise.new("withheld", self.previewed[words]), 0) end
  local state = self.context.told.state(self.role, words)
  for _, other in ipairs(self.also) do
    if not methods.said(other, words) then return false end
  end
  return state == "told" or state == "nobody"
end

--- What this is, for the plan. Nobody is told anything to find out.
---@return table card { kind, id, lines }
---@effect pure
function methods:card()
  return { kind = M.kind, id = web.id(self), lines = { { "posts to", self.place.shown }, { "format", self.spec.format or "json" } } }
end

-- ---- for the engine ----

--- Whether it was told when the run died, only those who read it know.
function guardians.probe() return nil end

return M
