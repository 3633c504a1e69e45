-- Give a role the database that an old volume brought along: P1000, "permission denied for table", "must be owner of table". Only what is missing
-- is granted or transferred, object by object, so that undo takes back exactly that.

runbook "Repair the ownership of a database" {
  why = "Grants do not give ownership, and CREATE ROLE … || true hides every reason why there is still no role.",
}

local ownership = require "std.ownership"

local db = target.postgres "db"

local p = params {
  role       = { "role that is to have the database", kind = "name", example = "app" },
  database   = { "database; the one of the inventory when omitted", kind = "name", optional = true },
  schemas    = { "schemas in which it is to have everything", kind = "list", default = { "public" } },
  own        = { "it is to own the database and all that is in the schemas; otherwise it is only granted", kind = "boolean", default = true },
  privileges = { "what it may do with tables that it does not own", kind = "list", default = { "SELECT", "INSERT", "UPDATE", "DELETE" } },
  makers     = { "roles that will make more tables for it; the one neap acts as when omitted", kind = "list", optional = true },
  lock       = { "how long a table's lock is waited for", kind = "duration", default = "3s" },
}

local function there () return p.database and db:on(p.database) or db end

local function wanted ()
  return { role = p.role, schemas = p.schemas, own = p.own, privileges = p.privileges, makers = p.makers or { there():value "SELECT current_user" } }
end

step "Look at what {role} lacks" {
  verify = function ()
    for _, name in ipairs(p.schemas) do check(there():has("SELECT 1 FROM pg_namespace WHERE nspname = $1", name), "there is a schema " .. name) end
    local missing, rows = ownership.missing(there(), wanted()), {}
    for i, item in ipairs(missing) do rows[i] = { item.key, item.owner, item.act } end
    if #rows > 0 then report { title = "What is to be put right", columns = { "what", "was", "statement" }, rows = rows } end
    local obstacles = ownership.obstacles(there(), missing)
    check(#obstacles == 0, "the role of the inventory may change all of it", table.concat(obstacles, "; "))
  end,
}

step "Make the role {role}" {
  done = function () return db:has("SELECT 1 FROM pg_roles WHERE rolname = $1", p.role) end,
  act  = function () db:create_role(p.role, { login = true }) end,
  undo = function () db:drop_role(p.role) end,
}

step "Put right: {item}" {
  each = function () return ownership.missing(there(), wanted()) end,
  done = function (item) return ownership.has(there(), wanted(), item) end,
  act  = function (item) ownership.put_right(there(), item, p.lock) end,
  undo = function (item) ownership.take_back(there(), wanted(), item, p.lock) end,
}

-- No undo: nobody knows the password that it had.
step "Give {role} the password of the inventory" {
  done = function () return not db:has_password(p.role) or there():login(p.role) end,
  act  = function () db:set_password(p.role) end,
}

step "Prove that {role} has the database" {
  verify = function ()
    local missing = ownership.missing(there(), wanted())
    check(#missing == 0, "nothing that was to be its own or granted to it is left", missing[1] and missing[1].key)
    local lacking = ownership.lacking(there(), wanted())
    check(#lacking == 0, "{role} has its privileges on every table and sequence", table.concat(lacking, "; "))
    if not db:has_password(p.role) then return note("nobody logged in as {role}: the inventory has no password for it") end
    local ok, why = there():login(p.role)
    check(ok, "{role} can log in with the password of the inventory", why)
  end,
}
