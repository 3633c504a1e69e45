/* pg_lua.c -- native.pg: PostgreSQL for stdlib/client/postgres.lua.
 *
 *   conn = native.pg.new{url=, role=, application=, fenced=true}     closed
 *   conn:open()                                                     waits; true | nil, err
 *
 * Two kinds of connection, decided at birth and beneath Lua: a fenced one only reads, each call inside the fence (pg_fence.c); an acting
 * one only writes, each statement through the gate with its intent. Neither has the other's verbs.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_handle.h"
#include "bind/secret_lua.h"
#include "script/function.h"

#define HANDLE_META "neap.pg"

/* ---- new ---- */

static const char *text_field(lua_State *L, const char *name, const char *otherwise) {
    lua_getfield(L, 1, name);                      /* stays on the stack: the string lives as long as this call */
    if (lua_isnil(L, -1)) return otherwise;
    neap_secret *secret = neap_to_secret(L, -1);
    if (secret) return neap_secret_bytes(secret, NULL);
    if (lua_type(L, -1) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s must be a string or a secret", name);
    return lua_tostring(L, -1);
}

static lua_Integer number_field(lua_State *L, const char *name, lua_Integer otherwise) {
    lua_getfield(L, 1, name);
    if (lua_isnil(L, -1)) return otherwise;
    if (!lua_isinteger(L, -1)) neap_raisef(L, NEAP_E_USAGE, "%s must be a whole number", name);
    return lua_tointeger(L, -1);
}

static void override(pg_handle *h, lua_State *L, const char *field, const char *key) {
    const char *value = text_field(L, field, NULL);
    if (value) neap_pgurl_set(&h->where, key, value);
}

/* Spaces and backslashes separate and escape inside `options`. */
static void add_escaped(neap_buf *out, const char *value) {
    for (; *value; value++) {
        if (*value == ' ' || *value == '\\') neap_buf_addc(out, '\\');
        neap_buf_addc(out, *value);
    }
}

/* standard_conforming_strings: the parser of the fence and the server must agree on where a string ends. */
static void set_options(pg_handle *h, lua_Integer statement_ms, lua_Integer idle_ms, lua_Integer lock_ms) {
    neap_buf options = NEAP_BUF_INIT;
    const char *given = neap_pgurl_get(&h->where, "options");
    if (given) h->given_options = neap_strdup(given);
    if (h->where.pooled) return;                   /* a pooler refuses start-up options */
    if (given) neap_buf_addf(&options, "%s ", given);
    neap_buf_adds(&options, "-c datestyle=ISO,YMD -c bytea_output=hex -c standard_conforming_strings=on");
    if (h->where.search_path) neap_buf_adds(&options, " -c search_path="), add_escaped(&options, h->where.search_path);
    if (h->fenced)
        neap_buf_addf(&options, " -c default_transaction_read_only=on -c lock_timeout=1s -c statement_timeout=%lld"
                      " -c idle_in_transaction_session_timeout=%lld", (long long)statement_ms, (long long)idle_ms);
    else if (lock_ms > 0) neap_buf_addf(&options, " -c lock_timeout=%lld", (long long)lock_ms);
    neap_pgurl_set(&h->where, "options", options.data);
    neap_buf_close(&options);
}

/* The name pg_export_snapshot() gave: hexadecimal digits and dashes. There is no parameter in SET TRANSACTION. */
static void set_snapshot(pg_handle *h, lua_State *L) {
    const char *name = text_field(L, "snapshot", NULL);
    if (!name) return;
    if (!h->fenced || !*name || strspn(name, "0123456789ABCDEFabcdef-") != strlen(name)) neap_raisef(L, NEAP_E_USAGE, "a snapshot is the name that pg_export_snapshot() gave, for a fenced connection");
    h->snapshot = neap_asprintf("SET TRANSACTION SNAPSHOT '%s'", name);
}

/* The URL's host is reached through a unix socket in directory `socket` (a tunnel). Policy is asked about `machine`, who is there: "localhost"
 * seen from another host is not this one. libpq speaks no TLS there: what carries the tunnel does. */
static void go_through(pg_handle *h, const char *socket, const char *machine) {
    h->tunnelled = true;
    if (machine) free(h->host), h->host = neap_strdup(machine);
    neap_pgurl_set(&h->where, "host", socket);
    neap_pgurl_set(&h->where, "hostaddr", NULL);
    neap_pgurl_set(&h->where, "port", "5432");
}

/* new{url=, password=, user=, database=, host=, port=, role=, application=, subject=, socket=, machine=, fenced=, snapshot=, keeps=, within_ms=, statement_ms=,
 * idle_ms=, lock_ms=, max_rows=}
 * -> conn | nil, err. Effect: pure. */
static int new(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    pg_handle *h = neap_pg_handle_new(L);
    const char *url = text_field(L, "url", NULL);
    if (!url) return neap_raisef(L, NEAP_E_USAGE, "a connection needs a url");
    if (!neap_pgurl_read(&h->where, url, &err)) return neap_fail(L, &err);
    override(h, L, "password", "password");
    override(h, L, "user", "user");
    override(h, L, "database", "dbname");
    override(h, L, "host", "host");
    override(h, L, "port", "port");
    if (text_field(L, "host", NULL)) neap_pgurl_set(&h->where, "hostaddr", NULL);
    h->role = neap_strdup(text_field(L, "role", "db"));
    h->application = neap_strdup(text_field(L, "application", "neap"));
    const char *subject = text_field(L, "subject", NULL);
    if (subject) h->subject = neap_strdup(subject);
    const char *address = neap_pgurl_get(&h->where, "hostaddr"), *database = neap_pgurl_get(&h->where, "dbname");
    const char *host = address ? address : neap_pgurl_get(&h->where, "host");
    const char *socket = text_field(L, "socket", NULL);
    if (host && host[0] != '/') h->host = neap_strdup(host);
    if (socket) go_through(h, socket, text_field(L, "machine", NULL));
    if (database) h->database = neap_strdup(database);
    lua_getfield(L, 1, "fenced");
    h->fenced = lua_toboolean(L, -1);
    lua_getfield(L, 1, "keeps");
    h->keeps = lua_toboolean(L, -1);
    h->within_ms = number_field(L, "within_ms", 15000);
    h->max_rows = number_field(L, "max_rows", 0);
    set_options(h, number_field(L, "statement_ms", 30000), number_field(L, "idle_ms", 60000), number_field(L, "lock_ms", 0));
    set_snapshot(h, L);
    lua_settop(L, 2);
    return 1;
}

/* ---- small methods ---- */

/* conn:close(). Also __close. Effect: pure. */
static int conn_close(lua_State *L) { return neap_pg_handle_close(L); }

/* conn:is_open() -> boolean. Effect: pure. */
static int conn_is_open(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    lua_pushboolean(L, neap_pg_is_alive(h->pg));
    return 1;
}

/* conn:is_idle() -> open, nothing outstanding, outside a transaction. Effect: pure. */
static int conn_is_idle(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    lua_pushboolean(L, h->pg && neap_pg_is_idle(h->pg) && neap_list_is_empty(&h->turns));
    return 1;
}

/* conn:notices() -> list of {severity=, message=} since the last call, or nil when there are none. Effect: pure. */
static int conn_notices(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    if (h->notice_count == 0) return 0;
    lua_createtable(L, h->notice_count, 0);
    for (int i = 0; i < h->notice_count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, h->notices[i].severity);
        lua_setfield(L, -2, "severity");
        lua_pushstring(L, h->notices[i].message);
        lua_setfield(L, -2, "message");
        lua_seti(L, -2, i + 1);
    }
    neap_pg_clear_notices(h);
    return 1;
}

/* conn:label() -> "enforced" | "declared", why: what a fenced read of this connection may be called. Effect: pure. */
static int conn_label(lua_State *L) {
    pg_handle *h = neap_pg_check_handle(L, 1);
    lua_pushstring(L, h->superuser || h->pooled ? "declared" : "enforced");
    if (h->superuser) lua_pushstring(L, "the role is a superuser, whom no read-only transaction fences in");
    else if (h->pooled) lua_pushstring(L, "the session behind a pooler is not ours alone");
    else lua_pushnil(L);
    return 2;
}

/* conn:bound(rows): a write that changes more is rolled back; 0: no bound. Effect: pure. */
static int conn_bound(lua_State *L) {
    lua_Integer rows = luaL_checkinteger(L, 2);
    luaL_argcheck(L, rows >= 0, 2, "a bound is not negative");
    neap_pg_to_handle(L, 1)->max_rows = rows;
    return 0;
}

/* The session options of a tool: those of the URL it was given, and how long it may wait for a lock; not ours. */
static char *options_for_tool(const pg_handle *h, lua_Integer lock_ms) {
    neap_buf options = NEAP_BUF_INIT;
    if (h->given_options) neap_buf_adds(&options, h->given_options);
    if (lock_ms > 0 && !h->where.pooled) neap_buf_addf(&options, "%s-c lock_timeout=%lld", options.len ? " " : "", (long long)lock_ms);
    return neap_buf_take(&options);
}

/* conn:url{prisma=true, lock_ms=} -> secret | nil, err: this connection for a tool. Effect: pure. */
static int conn_url(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    neap_err err = NEAP_ERR_INIT;
    bool prisma = false;
    lua_Integer lock_ms = 0;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "prisma"), prisma = lua_toboolean(L, -1);
        lua_getfield(L, 2, "lock_ms"), lock_ms = luaL_optinteger(L, -1, 0);
    }
    char *options = options_for_tool(h, lock_ms);
    neap_pgurl plain = h->where;                   /* shallow: only its list of pairs is changed */
    for (int i = 0; i < plain.count; i++) {
        if (strcmp(plain.keys[i], "options") != 0) continue;
        if (*options) { plain.values[i] = options; continue; }
        plain.count--;
        plain.keys[i] = plain.keys[plain.count];
        plain.values[i] = plain.values[plain.count];
    }
    char *text = neap_pgurl_write(&plain, prisma);
    bool made = neap_push_secret(L, "database url", text, strlen(text), &err);
    explicit_bzero(text, strlen(text));
    free(text);
    free(options);
    return made ? 1 : neap_fail(L, &err);
}

/* conn:password() -> secret | nil when there is none, and libpq's passfile is asked | nil, err. Effect: pure. */
static int conn_password(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    neap_err err = NEAP_ERR_INIT;
    const char *text = neap_pgurl_get(&h->where, "password");
    if (!text || !*text) return 0;
    return neap_push_secret(L, "database password", text, strlen(text), &err) ? 1 : neap_fail(L, &err);
}

static const luaL_Reg methods[] = {
    {"open", neap_pg_open}, {"close", conn_close}, {"is_open", conn_is_open}, {"is_idle", conn_is_idle}, {"card", neap_pg_card},
    {"notices", conn_notices}, {"label", conn_label}, {"bound", conn_bound}, {"url", conn_url}, {"password", conn_password},
    {NULL, NULL}};

static const luaL_Reg meta[] = {{"__gc", neap_pg_handle_gc}, {"__close", conn_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"new", new}, {"probe", neap_pg_probe}, {"orphan", neap_pg_orphan}, {NULL, NULL}};

int neap_open_pg(lua_State *L) {
    const luaL_Reg *const parts[] = {methods, neap_pg_read_methods, neap_pg_rows_methods, neap_pg_write_methods, neap_pg_tx_methods,
                                     neap_pg_admin_methods, neap_pg_role_methods, neap_pg_lock_methods, neap_pg_copy_methods};
    luaL_newmetatable(L, HANDLE_META);
    neap_function_set(L, "pg:", meta, 0);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) neap_function_set(L, "pg:", parts[i], 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    neap_pg_open_rows(L);
    neap_pg_open_turn(L);
    neap_pg_open_tx(L);
    neap_function_table(L, "native.pg.", module);
    return 1;
}
