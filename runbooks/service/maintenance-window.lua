-- A maintenance window around an operation, which is another runbook: announce, back up, stop writes and prove that they stopped, operate, start,
-- ask the health, close. The operation's own parameters are given beside these; a name that both have is given to both:
--
--   neap run service/maintenance-window --env production --operation postgres/vacuum --full --tables orders
--
-- Whatever happens the service is started and asked how it is, and whoever was told that the window begins is told that it is over. On a failure
-- the operation is taken back first, with the service stopped. The dump is taken before the service stops, so that nobody waits for it: an
-- operation that must not lose what is written in between takes its own.

runbook "Hold a maintenance window" {
  why = "Between the announcement and the last check people forget one of seven things, and at 03:00 it is the one that hurts.",
  window = "needed",
}

local quiet = require "std.quiet"

local db, app, site, chat = target.postgres "db", target.service "app", target.url "site", target.webhook "chat"

local p = params {
  operation = { "the runbook that the window is for; its parameters are given beside these", kind = "runbook", example = "postgres/migrate" },
  database  = { "database that is backed up and must fall silent; that of the inventory when omitted", kind = "name", default = function () return db:card().database end },
  tested    = { "where the operation was tried: the run on staging", optional = true },
  rollback  = { "how it is taken back: a file, a runbook", optional = true },
  flat      = { "how long nothing may move once the service is stopped", kind = "duration", default = "3s" },
  silent    = { "how long it may take until nothing does", kind = "duration", default = "1m" },
  page      = { "text that the health page must hold", default = "" },
  times     = { "how often in a row it must be well", kind = "integer", min = 1, default = 3 },
  healthy   = { "how long it may take to be well", kind = "duration", default = "2m" },
}

local BEGINS <const> = "The maintenance window begins: the service will be away for a while."
local OVER <const> = "The maintenance window is over: the service is back and well."

local function told () return { { "operation", p.operation }, { "window", stamp() } } end

local function is_well ()
  local well, why = app:healthy()
  if not well then return false, why end
  return site:healthy { status = 200, contains = p.page }
end
local function wait_well () wait_until(is_well, { every = "500ms", within = p.healthy, times = p.times }) end

-- Stopped, and nobody else writes either.
local function is_silent () return not app:running() and quiet.holds(db:on(p.database), { flat = p.flat }) end

local function serve () if not app:running() then app:start() end wait_well() end

step "Look at the service before anything is said" {
  verify = function ()
    local well, why = is_well()
    check(well, "the service is well, so that its health afterwards says something", why)
    note("tried before: %s; taken back by: %s", p.tested or "nobody says where", p.rollback or "nobody says how")
  end,
}

step "See that {operation} was tried elsewhere and can be taken back" {
  manual = "Say where {operation} was tried (--tested) and how it is taken back (--rollback), or that both are so",
  done   = function () return p.tested ~= nil and p.rollback ~= nil end,
}

-- No undo: what people were told they have read; what is owed tells them that it is over.
step "Announce that the window begins" {
  each  = { BEGINS },
  done  = function () return chat:said(BEGINS) end,
  act   = function () chat:send(BEGINS, told(), { once = true }) end,
  after = function ()
    if chat:said(OVER) then return end
    local well, why = is_well()
    chat:send("The maintenance window is over, and not as planned: the service is " .. (well and "back and well." or "NOT WELL."),
      { { "operation", p.operation }, { "health", why or "well" } }, { must = false })
  end,
}

step "Back up {database}" { run = { "postgres/backup", database = function () return p.database end } }

step "Stop the service, and prove that nothing writes any more" {
  done   = is_silent,
  act    = function () app:stop() end,
  verify = function () quiet.prove(db:on(p.database), { flat = p.flat, within = p.silent }) end,
  undo   = serve,
  after  = serve,
  within = "5m",
}

step "Do what the window is for" { needs = function () check(is_silent(), "the service is stopped, and nothing writes") end, run = "{operation}" }
step "Start the service" {
  done  = function () return app:running() end,
  act   = function () app:start() end,
  undo  = function () app:stop() end,
  after = function () note("the service %s", app:running() and "runs" or "does not run") end,
}
step "See that it is well, {times} times in a row" { verify = wait_well }

-- No undo: the window is over.
step "Announce that the window is over" {
  each = { OVER },
  done = function () return chat:said(OVER) end,
  act  = function () chat:send(OVER, told(), { once = true, must = false }) end,
}
