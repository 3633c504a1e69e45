-- estate.lua: an old volume: a database whose objects, of every kind, belong to a role of long ago, and an inventory that knows the password of
-- the role that is to have it.
--
--   local ward = require("tests.support.estate").open(pg, { role = "admin" })     ward.heir  ward.legacy  ward.state_of()  ward.heir_sql(…)

local child = require "tests.support.child"
local suite = require "tests.support.suite"
local wards = require "tests.support.ward"

local M = {}

M.password = "heir-5d0c'7e"

local SCHEMA <const> = [[
  set role "%s"; create type mood as enum ('good', 'bad'); create domain short as text check (length(value) < 9);
  create table t (id serial primary key, n int generated always as identity, mood mood); create table "Odd name" (id int primary key);
  create table part (at date) partition by range (at); create table part_1 partition of part for values from ('2026-01-01') to ('2027-01-01');
  create view v as select id from t; create materialized view m as select count(*) from t; create sequence alone;
  create function f(a int, b text default 'x') returns int language sql as 'select a'; create procedure p() language sql as ''; create aggregate biggest (int) (sfunc = int4larger, stype = int);
  reset role; create extension pg_trgm; insert into t (mood) values ('good'); grant select on t to owner]]

-- Owners, privileges and default privileges of everything.
local STATE <const> = [[
  select string_agg(what || ' ' || owner || ' ' || (select string_agg(a::text, ' ' order by a::text) from unnest(acl) a), E'\n' order by what, owner) from (
    select 'database', pg_get_userbyid(datdba), coalesce(datacl, acldefault('d', datdba)) from pg_database where datname = current_database()
    union all select nspname, pg_get_userbyid(nspowner), coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace where nspname = 'public'
    union all select 'relation ' || relname, pg_get_userbyid(relowner), coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
      from pg_class where relnamespace = 'public'::regnamespace
    union all select 'type ' || typname, pg_get_userbyid(typowner), coalesce(typacl, acldefault('T', typowner)) from pg_type where typnamespace = 'public'::regnamespace and typname !~ 'trgm'
    union all select p.oid::regprocedure::text, pg_get_userbyid(proowner), coalesce(proacl, acldefault('f', proowner)) from pg_proc p
      where pronamespace = 'public'::regnamespace and not exists (select 1 from pg_depend d where d.objid = p.oid and d.deptype = 'e')
    union all select 'defaults ' || defaclobjtype::text, pg_get_userbyid(defaclrole), defaclacl from pg_default_acl) s(what, owner, acl)]]

local count = 0

--- An estate of its own; its roles are dropped with it. options: role (that acts), heir (false: the role to come is not made).
---@param pg table server
---@param options? table
---@return table ward
function M.open(pg, options)
  options = options or {}
  count = count + 1
  local heir, legacy = "heir_" .. count, "legacy " .. count
  pg.sql(('create role "%s" login; grant create on schema public to public'):format(legacy))
  local ward = wards.open(pg, { role = options.role, schema = ('grant create on schema public to "%s";'):format(legacy) .. SCHEMA:format(legacy) })
  pg.sql(('alter database %s owner to "%s"; revoke create on schema public from "%s"'):format(ward.database, legacy, legacy), ward.database)
  local inventory = ward.dir .. "/inventory.lua"
  suite.write(inventory, (suite.read(inventory):gsub('tls = "off"', ('tls = "off", roles = { %s = secret { env = "HEIR" } }'):format(heir))))
  ward.heir, ward.legacy, ward.env.HEIR = heir, legacy, M.password
  suite.after(function ()
    pg.sql(("drop database if exists %s with (force)"):format(ward.database))
    pg.sql(('drop role if exists %s; drop role "%s"'):format(heir, legacy))
  end)

  function ward.state_of() return pg.sql(STATE, ward.database) end

  function ward.repair(...) return { "postgres/repair-ownership", "--role", heir, ... } end

  --- psql as the heir, over TCP with a password: { code, out, err }.
  function ward.heir_sql(text, password)
    return child.run { argv = { pg.bin .. "/psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", tostring(pg.port), "-U", heir, "-d", ward.database, "-c", text },
      env = { PGPASSWORD = password or M.password, PATH = os.getenv("PATH") } }
  end

  return ward
end

return M
