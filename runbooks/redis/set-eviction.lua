-- Give Redis a memory limit and say what it may throw away when it is reached. Refused where the policy could take keys that must
-- stay: a census of the families of keys says which. A server without a configuration file forgets it at its next start: somebody must
-- know that before, and is told what its start command needs. Undo sets the old values back; what was evicted in between is gone.

runbook "Set the memory limit and the eviction policy" {
  why = "Without a limit Redis grows until the machine kills it; with the wrong policy it forgets which payments were made.",
}

local families, settings = require "std.redis_families", require "std.redis_settings"

local cache = target.redis "redis"

local NAMES <const> = { "maxmemory-policy", "maxmemory" }

local p = params {
  policy = { "what may be evicted", choices = families.POLICIES },
  limit  = { "the most memory that data may take; 0B is no limit", kind = "bytes", example = "256MiB" },
  keep   = { "patterns of keys that must stay", kind = "list", default = families.KEEP },
  again  = { "patterns of keys that can be made again though they have no expiry", kind = "list", default = {} },
  sample = { "keys to look at; those of keep are looked for among all", kind = "integer", min = 1, default = 100000 },
  before = { "policy and limit to go back to, and how often the file was rewritten; as found when omitted", kind = "list", default = function () return settings.found(cache, NAMES) end },
  config = { "the server's configuration file; none where it was started without", kind = "path", optional = true, default = function () return settings.file(cache) end },
  until_restart = { "it is known that a server without a configuration file forgets this at its next start", kind = "boolean", default = false },
}

local function wanted () return { { "maxmemory-policy", p.policy }, { "maxmemory", p.limit } } end

local function found () return { { "maxmemory", p.before[2] }, { "maxmemory-policy", p.before[1] } } end

local function changes () return p.before[1] ~= p.policy or p.before[2] ~= tostring(p.limit) end

step "Look whether it outlives a restart" {
  verify = function ()
    check(p.config or p.until_restart or not changes(), "the server has a configuration file, or --until-restart says that it need not last", settings.for_command(wanted()))
  end,
}

step "Take a census of the keys" {
  verify = function ()
    local census = families.census(cache, { sample = p.sample, keep = p.keep, again = p.again })
    report(families.grid(census))
    local obstacles = families.obstacles(cache, census, p.policy, p.limit)
    check(#obstacles == 0, "nothing that must stay can be evicted, by {policy} with {limit} bytes", table.concat(obstacles, "; "))
  end,
}

local set = step "Set {policy} and {limit} bytes" {
  done   = function () return settings.are(cache, wanted()) end,
  act    = function ()
    local evicted = cache:info("stats").evicted_keys
    settings.set(cache, wanted())
    return evicted
  end,
  verify = function () check(settings.are(cache, wanted()), "the server has {policy} and {limit} bytes") end,
  undo   = function () settings.set_back(cache, found(), p.config) end,
}

-- No undo: that of the step before writes the old values into this file too.
step "Write it into the server's configuration file" {
  each = function () return changes() and p.config and { p.config } or {} end,
  done = function () return settings.is_written_down(cache, p.before) end,
  act  = function () settings.write_down(cache) end,
}

step "Prove that nothing was evicted by it" {
  verify = function ()
    local before = set:result()
    if before then check.same(cache:info("stats").evicted_keys, before, "no key was evicted since") end
    note(p.config and "in " .. p.config or settings.for_command(wanted()))
  end,
}
