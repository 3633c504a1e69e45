/* pg_role.c -- roles made, and passwords given to them that neither the server nor its log ever sees.
 *
 * CREATE ROLE takes no parameters, so a password would stand in the text of the statement: in the server's log, in pg_stat_activity, in
 * whatever reads along. What is sent instead is the SCRAM-SHA-256 verifier that libpq makes of it here (as psql's \password does);
 * the server keeps exactly that. It is still no text for people: where a statement is shown, the secret's name stands in its place. Rejected:
 * DO with a setting that holds the password (with log_statement = all its parameters are in the log).
 */
#include <string.h>

#include "bind/pg_write.h"
#include "bind/secret_lua.h"
#include "guard/secret.h"
#include "script/function.h"

/* The text that is sent and the text that is shown, built side by side; in a userdata, because raising must not leak the verifier. */
typedef struct statement { neap_buf sql, shown; } statement;

static int statement_gc(lua_State *L) {
    statement *s = lua_touserdata(L, 1);
    if (s->sql.data) explicit_bzero(s->sql.data, s->sql.len);
    neap_buf_close(&s->sql);
    neap_buf_close(&s->shown);
    return 0;
}

static statement *new_statement(lua_State *L) {
    statement *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (statement){NEAP_BUF_INIT, NEAP_BUF_INIT};
    if (luaL_newmetatable(L, "neap.pg.statement")) neap_function_push(L, "pg.statement:__gc", statement_gc, 0), lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return s;
}

static void add(statement *s, const char *text) {
    neap_buf_adds(&s->sql, text);
    neap_buf_adds(&s->shown, text);
}

static void add_name(statement *s, const char *name) {
    add(s, "\"");
    for (; *name; name++) {
        char c[2] = {*name, '\0'};
        if (*name == '"') add(s, c);
        add(s, c);
    }
    add(s, "\"");
}

static const char *check_role(lua_State *L) {
    const char *name = luaL_checkstring(L, 2);
    luaL_argcheck(L, *name && strlen(name) < 64 && strlen(name) == lua_rawlen(L, 2), 2, "a name has 1 to 63 bytes");
    return name;
}

/* In a preview nothing is connected, and nothing but the shown text is needed. A verifier has no quote and no backslash in it. */
static void add_password(lua_State *L, statement *s, pg_handle *h, const char *role, const neap_secret *secret) {
    size_t len = 0;
    PGconn *conn = h->pg ? neap_pg_conn(h->pg) : NULL;
    const char *bytes = neap_secret_bytes(secret, &len);
    char *verifier = conn ? PQencryptPasswordConn(conn, bytes, role, "scram-sha-256") : NULL;
    if (conn && !verifier) neap_raisef(L, NEAP_E_REMOTE, "the password \"%s\" cannot be used: %s", neap_secret_name(secret), PQerrorMessage(conn));
    add(s, " PASSWORD ");
    neap_buf_addf(&s->sql, "'%s'", verifier ? verifier : "");
    neap_buf_addf(&s->shown, "‹secret %s›", neap_secret_name(secret));
    if (!verifier) return;
    explicit_bzero(verifier, strlen(verifier));
    PQfreemem(verifier);
}

/* conn:create_role(name, {login=, createdb=, password=}) -> {…} | nil, err. Effect: write. */
static int create_role(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *name = check_role(L);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    lua_getfield(L, 3, "password");
    neap_secret *secret = neap_to_secret(L, 4);
    luaL_argcheck(L, secret || lua_isnil(L, 4), 3, "a password is a secret");
    lua_getfield(L, 3, "login"), lua_getfield(L, 3, "createdb");
    statement *s = new_statement(L);
    add(s, "CREATE ROLE ");
    add_name(s, name);
    add(s, lua_toboolean(L, 5) ? " LOGIN" : " NOLOGIN");
    if (lua_toboolean(L, 6)) add(s, " CREATEDB");
    if (secret) add_password(L, s, h, name, secret);
    return neap_pg_exec_masked(L, h, NEAP_P_PG_ROLE, s->sql.data, s->shown.data);
}

/* conn:set_password(name, secret) -> {…} | nil, err. Effect: write. */
static int set_password(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *name = check_role(L);
    neap_secret *secret = neap_to_secret(L, 3);
    luaL_argcheck(L, secret, 3, "a password is a secret");
    statement *s = new_statement(L);
    add(s, "ALTER ROLE ");
    add_name(s, name);
    add_password(L, s, h, name, secret);
    return neap_pg_exec_masked(L, h, NEAP_P_PG_ROLE, s->sql.data, s->shown.data);
}

const luaL_Reg neap_pg_role_methods[] = {{"create_role", create_role}, {"set_password", set_password}, {NULL, NULL}};
