-- Before a container of PostgreSQL is made anew (a new image, `up` after a change, another host): would the new one find the data? Asked of the mounts that are
-- there and of the major version of the image that comes.

runbook "See that a container's data outlive it" {
  why = "A volume mounted one directory beside the data looks right until the next `up`, which begins with an empty database.",
}

local containers = require "std.containers"

local dbc = target.container "dbc"

local p = params {
  major = { "major version of the image that will take its place; that of its own image when omitted", kind = "integer", min = 9, optional = true },
  data  = { "where PGDATA will point, if it is set", kind = "path", optional = true },
}

step "Hold the mounts against the image" {
  verify = function ()
    local fault, where = containers.data_fault(dbc, { major = p.major, data = p.data })
    check(not fault, "a container made anew would find the data", fault)
    note("%s", where)
  end,
}
