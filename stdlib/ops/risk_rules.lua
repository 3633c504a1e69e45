--- The rules of `ops.risk`, one for each thing a statement may do (ops.statement): a finding, or nil where there is no danger.
--
--   rules["drop table"](c, act) -> { rule =, object =, weight =, about = }
--
-- `c` is the set so far: `target` (the database), `acts` of the same file, `added` columns, `migration` (the file's name). A rule is asked only
-- about a table that is there and that the set did not make itself.

-- Types ----------------------------------------------------------------------------------------------------

local FAMILIES <const> = {
  ["character varying"] = "text", varchar = "text", bpchar = "text", character = "text", char = "text", citext = "text",
  integer = "int", int4 = "int", bigint = "int", int8 = "int", smallint = "int", int2 = "int", serial = "int", bigserial = "int", smallserial = "int",
  ["double precision"] = "number", float8 = "number", real = "number", float4 = "number", decimal = "number", numeric = "number", int = "int",
  ["timestamp with time zone"] = "time", ["timestamp without time zone"] = "time", timestamptz = "time", timestamp = "time", date = "time",
  bool = "boolean", jsonb = "json",
}

-- "character varying(20)" -> "text", 20
local function family(name)
  local base, size = name:gsub('"', ""):match("^(.-)%s*%(([%d,]+)%)")
  base = base or name:gsub('"', "")
  base = base:match("%.([^.]+)$") or base
  return FAMILIES[base] or base, size
end

-- Does the server only note the new type, without reading the table? Asked as the manual says, and no otherwise.
local function is_noted_only(old, new)
  local was, was_size = family(old)
  local is, is_size = family(new)
  if was ~= "text" or is ~= "text" or old:find("^char") and old:find("^character%(") then return false end
  if not is_size then return true end
  return was_size ~= nil and tonumber(was_size) ~= nil and tonumber(was_size) <= tonumber(is_size)
end

-- The rules ------------------------------------------------------------------------------------------------

local rules = {}

local function lossy(rule, sentence)
  return function (c, act)
    if c.target.empty(act.table) then return nil end
    return { rule = rule, object = act.table, weight = "loses", about = sentence:format(act.table) }
  end
end

rules["drop table"] = lossy("drop-table", "%s and its rows are gone")
rules["truncate"] = lossy("truncate", "all rows of %s are gone")
rules["drop schema"] = function (_, act)
  local whole = act.cascade and " with all that is in it" or ""
  return { rule = "drop-schema", object = act.name, weight = "loses", about = ("the schema %s is gone%s"):format(act.name, whole) }
end

rules["drop database"] = function (_, act)
  return { rule = "drop-database", object = act.name, weight = "loses", about = ("the database %s is gone"):format(act.name) }
end

-- A column that comes in the same file where one of its kind goes is a rename that somebody did not know how to write.
rules["drop column"] = function (c, act)
  if c.target.empty(act.table) or c.added[act.table .. "." .. act.column] then return nil end
  local object, old = act.table .. "." .. act.column, c.target.column(act.table, act.column)
  if not old then return nil end
  for _, other in ipairs(c.acts) do
    if other.what == "add column" and other.table == act.table and family(other.type) == family(old) then
      return { rule = "lost-rename", object = object, weight = "loses",
        about = ("%s goes and %s of the same type comes: a rename that loses every value; add, copy, and remove later"):format(object, other.column) }
    end
  end
  return { rule = "drop-column", object = object, weight = "loses", about = ("%s (%s) is gone in every row"):format(object, old) }
end

rules["delete"] = function (c, act)
  if act.bounded or c.target.empty(act.table) then return nil end
  return { rule = "delete-all", object = act.table, weight = "loses", about = ("a DELETE without WHERE: all rows of %s are gone"):format(act.table) }
end

rules["update"] = function (c, act)
  if act.bounded or c.target.empty(act.table) then return nil end
  local fresh = true
  for _, column in ipairs(act.columns) do fresh = fresh and c.added[act.table .. "." .. column] end
  if fresh then
    return { rule = "update-all", object = act.table, weight = "blocks", about = ("every row of %s is written in one transaction; batch it when it is large"):format(act.table) }
  end
  return { rule = "update-all", object = act.table, weight = "loses",
    about = ("an UPDATE without WHERE: what %s of every row of %s was is gone"):format(table.concat(act.columns, ", "), act.table) }
end

rules["add column"] = function (c, act)
  local object = act.table .. "." .. act.column
  if act.not_null and not act.default then
    if c.target.empty(act.table) then return nil end
    return { rule = "add-not-null", object = object, weight = "fails",
      about = ("%s may not be NULL and has no default: the server refuses it, because %s has rows"):format(object, act.table) }
  end
  if not act.volatile then return nil end
  return { rule = "volatile-default", object = object, weight = "blocks", about = ("%s gets another value in each row: the table is written anew"):format(object) }
end

rules["change type"] = function (c, act)
  local object, old = act.table .. "." .. act.column, c.target.column(act.table, act.column)
  if old and not act.using and is_noted_only(old, act.type) then return nil end
  return { rule = "change-type", object = object, weight = "blocks",
    about = ("%s becomes %s%s: the table and its indexes are written anew"):format(object, act.type, old and " from " .. old or "") }
end

rules["set not null"] = function (c, act)
  if c.target.empty(act.table) then return nil end
  return { rule = "set-not-null", object = act.table .. "." .. act.column, weight = "blocks",
    about = ("every row of %s is read to see that %s is nowhere NULL; a CHECK … NOT VALID, validated beforehand, spares that"):format(act.table, act.column) }
end

rules["add constraint"] = function (_, act)
  if act.index then return nil end
  local object = act.table .. "." .. act.name
  if act.kind == "foreign key" or act.kind == "check" then
    if not act.valid then return nil end
    local meanwhile = act.other and "nobody writes to it or to " .. act.other or "nobody uses it"
    return { rule = "constraint-scans", object = object, weight = "blocks", other = act.other,
      about = ("every row of %s is checked while %s; NOT VALID, and VALIDATE in a migration of its own, does that beside the writers"):format(act.table, meanwhile) }
  end
  return { rule = "constraint-index", object = object, weight = "blocks",
    about = ("an index of %s is built while nobody uses the table; build it CONCURRENTLY first, then ADD … USING INDEX"):format(act.table) }
end

rules["create index"] = function (_, act)
  if act.concurrently then return nil end
  return { rule = "index-blocks", object = act.table .. "." .. act.name, weight = "blocks", about = ("nobody writes to %s while %s is built; CONCURRENTLY lets them"):format(act.table, act.name) }
end

rules["rename"] = function (_, act)
  local object = act.of == "column" and act.table .. "." .. act.name or act.table or act.name
  return { rule = "rename", object = object, weight = "breaks", about = ("what runs now asks for the %s %s, which becomes %s"):format(act.of, act.name, act.to) }
end

rules["rewrite"] = function (_, act) return { rule = "rewrite", object = act.table, weight = "blocks", about = ("%s writes %s anew"):format(act.by, act.table) } end

rules["opaque"] = function (c, act) return { rule = "opaque", object = c.migration, weight = "unseen", about = ("%s: what it does is not seen from here"):format(act.by) } end

return rules
