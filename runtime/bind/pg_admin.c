/* pg_admin.c -- databases made, renamed and dropped, sessions ended: primitives of their own, because policy and preview tell them apart
 * from other statements. All of it is exec (pg_write.c) under another name; names are quoted here and nowhere else. */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_write.h"
#include "script/function.h"

/* [-0, +1, m] a text under construction; the buffer lives in a userdata, so raising does not leak it. */
static int text_gc(lua_State *L) {
    neap_buf_close(lua_touserdata(L, 1));
    return 0;
}

static neap_buf *new_text(lua_State *L) {
    neap_buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (neap_buf)NEAP_BUF_INIT;
    if (luaL_newmetatable(L, "neap.pg.text")) neap_function_push(L, "pg.text:__gc", text_gc, 0), lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return b;
}

static void add_name(neap_buf *out, const char *name) {
    neap_buf_addc(out, '"');
    for (; *name; name++) {
        if (*name == '"') neap_buf_addc(out, '"');
        neap_buf_addc(out, *name);
    }
    neap_buf_addc(out, '"');
}

static void add_literal(neap_buf *out, const char *text) {
    neap_buf_adds(out, strchr(text, '\\') ? " E'" : "'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') neap_buf_addc(out, *text);
        neap_buf_addc(out, *text);
    }
    neap_buf_addc(out, '\'');
}

static const char *check_name(lua_State *L, int index) {
    const char *name = luaL_checkstring(L, index);
    luaL_argcheck(L, *name && strlen(name) < 64 && strlen(name) == lua_rawlen(L, index), index, "a name has 1 to 63 bytes");
    return name;
}

static const char *option(lua_State *L, int table, const char *field) {
    if (!lua_istable(L, table)) return NULL;
    lua_getfield(L, table, field);                 /* stays on the stack */
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s must be a string", field);
    return lua_tostring(L, -1);
}

/* "pg:<system>/<name>": what is withheld by a preview of making or dropping it. */
static const char *subject_of(lua_State *L, const pg_handle *h, const char *name) {
    if (!h->subject) return NULL;
    const char *slash = strrchr(h->subject, '/');
    if (h->database && slash) slash = h->subject + strlen(h->subject) - strlen(h->database) - 1;
    lua_pushlstring(L, h->subject, slash ? (size_t)(slash - h->subject) : strlen(h->subject));
    return lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), name);
}

/* conn:create_database(name, {owner=, template=, encoding=}) -> {…} | nil, err. Effect: write. */
static int create_database(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *name = check_name(L, 2), *owner = option(L, 3, "owner"), *model = option(L, 3, "template"), *encoding = option(L, 3, "encoding");
    neap_buf *sql = new_text(L);
    neap_buf_adds(sql, "CREATE DATABASE ");
    add_name(sql, name);
    if (owner) neap_buf_adds(sql, " OWNER "), add_name(sql, owner);
    if (model) neap_buf_adds(sql, " TEMPLATE "), add_name(sql, model);
    if (encoding) neap_buf_adds(sql, " ENCODING "), add_literal(sql, encoding);
    return neap_pg_exec(L, h, NEAP_P_PG_CREATE, sql->data, 0, subject_of(L, h, name));
}

/* conn:drop_database(name) -> {…} | nil, err. Effect: destroy. */
static int drop_database(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *name = check_name(L, 2);
    neap_buf *sql = new_text(L);
    neap_buf_adds(sql, "DROP DATABASE ");
    add_name(sql, name);
    return neap_pg_exec(L, h, NEAP_P_PG_DROP, sql->data, 0, subject_of(L, h, name));
}

/* [-0, +0, e] the members "from" and "to" of the pair at the top of the stack, which leaves with them. */
static void add_rename(lua_State *L, neap_buf *out) {
    luaL_checktype(L, -1, LUA_TTABLE);
    int pair = lua_absindex(L, -1);
    lua_getfield(L, pair, "from");
    lua_getfield(L, pair, "to");
    neap_buf_adds(out, " ALTER DATABASE ");
    add_name(out, check_name(L, pair + 1));
    neap_buf_adds(out, " RENAME TO ");
    add_name(out, check_name(L, pair + 2));
    neap_buf_addc(out, ';');
    lua_settop(L, pair - 1);
}

/* conn:rename_databases{{from=, to=}, …} -> {…} | nil, err: one after the other, all of them or none, in one statement: in between nobody
 * is let into any of them, and the transaction's id tells what became of it. Not this connection's own. Effect: write. */
static int rename_databases(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_Integer count = luaL_len(L, 2);
    luaL_argcheck(L, count > 0, 2, "no names");
    neap_buf *sql = new_text(L), *body = new_text(L);
    neap_buf_adds(body, "BEGIN");
    for (lua_Integer i = 1; i <= count; i++) lua_geti(L, 2, i), add_rename(L, body);
    neap_buf_adds(body, " END");
    neap_buf_adds(sql, "DO");
    add_literal(sql, body->data);
    lua_geti(L, 2, 1);
    lua_getfield(L, -1, "from");
    return neap_pg_exec(L, h, NEAP_P_PG_RENAME, sql->data, 0, subject_of(L, h, lua_tostring(L, -1)));
}

/* conn:terminate{database=, except_own=} -> {rows={{ended=n}}} | nil, err: end the sessions of a database, but for this one and, with
 * except_own, all of this run. Effect: write. */
static int terminate(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    const char *database = option(L, 2, "database");
    if (!database) database = h->database ? h->database : "";
    lua_getfield(L, 2, "except_own");
    bool spare = lua_toboolean(L, -1);
    neap_buf *sql = new_text(L);
    neap_buf_adds(sql, "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS ended FROM pg_stat_activity"
                       " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = ");
    add_literal(sql, database);
    if (spare) neap_buf_adds(sql, " AND application_name <> "), add_literal(sql, h->application);
    return neap_pg_exec(L, h, NEAP_P_PG_TERMINATE, sql->data, 0, subject_of(L, h, database));
}

static lua_Integer check_pid(lua_State *L) {
    lua_getfield(L, 2, "pid");
    int whole;
    lua_Integer pid = lua_tointegerx(L, -1, &whole);
    if (!whole || pid <= 0) neap_raisef(L, NEAP_E_USAGE, "a session is named by its pid and its start");
    return pid;
}

/* One session, known by its pid and the moment it began: a pid alone may be somebody else's by now. Never ourselves, never what is no
 * client (replication, autovacuum), never another run of neap; with `own` nothing but sessions of this run. */
static int signal_session(lua_State *L, neap_primitive primitive, const char *function) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer pid = check_pid(L);
    const char *start = option(L, 2, "started");
    if (!start) return neap_raisef(L, NEAP_E_USAGE, "a session is named by its pid and its start");
    lua_getfield(L, 2, "own");
    bool own = lua_toboolean(L, -1);
    neap_buf *sql = new_text(L);
    neap_buf_addf(sql, "SELECT count(*) FILTER (WHERE pg_catalog.%s(pid)) AS reached FROM pg_catalog.pg_stat_activity WHERE pid = %lld AND backend_start = ",
                  function, (long long)pid);
    add_literal(sql, start);
    neap_buf_adds(sql, "::timestamptz AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() AND application_name ");
    if (own) neap_buf_adds(sql, "= "), add_literal(sql, h->application);
    else neap_buf_adds(sql, "NOT LIKE 'neap:%'");
    return neap_pg_exec(L, h, primitive, sql->data, 0, NULL);
}

/* conn:end_session{pid=, started=} -> {rows={{reached=0|1}}} | nil, err. Effect: write. */
static int end_session(lua_State *L) { return signal_session(L, NEAP_P_PG_TERMINATE, "pg_terminate_backend"); }

/* conn:cancel_session{pid=, started=, own=} -> {rows={{reached=0|1}}} | nil, err: the statement ends, the session stays. Effect: write. */
static int cancel_session(lua_State *L) { return signal_session(L, NEAP_P_PG_CANCEL, "pg_cancel_backend"); }

const luaL_Reg neap_pg_admin_methods[] = {
    {"create_database", create_database}, {"drop_database", drop_database}, {"rename_databases", rename_databases}, {"terminate", terminate}, {"end_session", end_session},
    {"cancel_session", cancel_session}, {NULL, NULL}};
