/* tunnel_lua.c -- native.net.tunnel: a socket of this machine for who can only speak to one (drive/tunnel.h).
 *
 *     local tunnel <close> = net.tunnel(way, { name = ".s.PGSQL.5432" })         -- libpq: host = tunnel:dir()
 *
 * Opening one touches nobody: the far end is dialed when somebody connects, under the effect of whatever that is. It passes the gate
 * as a connection all the same, so that none is opened while a runbook is only declared. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/net_lua.h"
#include "drive/tunnel.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"

#define TUNNEL_META "neap.tunnel"

static neap_tunnel *check_tunnel(lua_State *L) {
    neap_tunnel **box = luaL_checkudata(L, 1, TUNNEL_META);
    if (!*box) neap_raisef(L, NEAP_E_USAGE, "the tunnel is closed");
    return *box;
}

/* tunnel:dir() -> the directory of the socket. Effect: pure. */
static int tunnel_dir(lua_State *L) {
    lua_pushstring(L, neap_tunnel_dir(check_tunnel(L)));
    return 1;
}

/* tunnel:path() -> the socket. Effect: pure. */
static int tunnel_path(lua_State *L) {
    lua_pushstring(L, neap_tunnel_path(check_tunnel(L)));
    return 1;
}

/* tunnel:count() -> connections through it now. Effect: pure. */
static int tunnel_count(lua_State *L) {
    lua_pushinteger(L, neap_tunnel_count(check_tunnel(L)));
    return 1;
}

/* tunnel:failure() -> err | nil: why the far end could not be reached when it was last dialed. Effect: pure. */
static int tunnel_failure(lua_State *L) {
    const neap_err *kept = neap_tunnel_failure(check_tunnel(L));
    neap_err err = NEAP_ERR_INIT;
    if (!kept) return 0;
    neap_err_copy(&err, kept);
    neap_push_error(L, &err);
    return 1;
}

/* tunnel:close(): every connection through it too. Twice is harmless. */
static int tunnel_close(lua_State *L) {
    neap_tunnel **box = luaL_checkudata(L, 1, TUNNEL_META), *t = *box;
    *box = NULL;
    neap_tunnel_free(t);
    return 0;
}

/* Opening ------------------------------------------------------------------------------------ */

enum { DIALER = 1, OPTIONS, HANDLE };              /* where neap_net_tunnel keeps them on its stack */

typedef struct open_op {
    neap_gate gate;                /* first */
    char *name, *role, *subject, *text;
} open_op;

static void open_cancel(neap_op *op, bool force) {
    (void)force;
    neap_op_finish(op);                             /* it never waits */
}

static int open_deliver(lua_State *L, neap_op *op) {
    (void)L, (void)op;
    return 0;
}

static void open_drop(neap_op *op) {
    open_op *k = (open_op *)op;
    free(k->name);
    free(k->role);
    free(k->subject);
    free(k->text);
}

static const neap_op_class open_class = {"a tunnel", open_cancel, open_deliver, open_drop};

static int open_start(lua_State *L, neap_gate *g) {
    neap_err err = NEAP_ERR_INIT;
    neap_tunnel **box = lua_touserdata(L, HANDLE);
    *box = neap_tunnel_open(neap_check_dialer(L, DIALER), ((open_op *)g)->name, &err);
    if (!*box) return neap_fail(L, &err);
    lua_pushvalue(L, HANDLE);
    return 1;
}

/* [-0, +0, e] */
static char *read_field(lua_State *L, const char *name, const char *otherwise) {
    const char *text = lua_getfield(L, OPTIONS, name) == LUA_TNIL ? otherwise : luaL_checkstring(L, -1);
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

/* tunnel(dialer, {name="socket", role=}) -> tunnel | nil, err. Effect: read. */
static int net_tunnel(lua_State *L) {
    neap_dialer *d = neap_check_dialer(L, DIALER);
    lua_settop(L, OPTIONS);
    if (lua_isnil(L, OPTIONS)) lua_newtable(L), lua_replace(L, OPTIONS);
    luaL_checktype(L, OPTIONS, LUA_TTABLE);
    neap_tunnel **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, TUNNEL_META);
    open_op *k = (open_op *)neap_op_new(L, sizeof *k, &open_class);
    k->name = read_field(L, "name", "socket");
    k->role = read_field(L, "role", NULL);
    k->subject = neap_asprintf("net:%s", d->label);
    k->text = neap_asprintf("tunnel to %s", d->label);
    if (!*k->name || strchr(k->name, '/') || strcmp(k->name, ".") == 0 || strcmp(k->name, "..") == 0)
        neap_raisef(L, NEAP_E_USAGE, "\"%s\" is no name for a socket", k->name);
    k->gate.act = (neap_act){NEAP_P_NET_CONNECT, k->role, NULL, k->subject, k->text, NULL};
    k->gate.start = open_start;
    return neap_gate_enter(L, &k->gate);
}

static const luaL_Reg module[] = {{"tunnel", net_tunnel}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"dir", tunnel_dir}, {"path", tunnel_path}, {"count", tunnel_count}, {"failure", tunnel_failure},
                                   {"close", tunnel_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", tunnel_close}, {"__close", tunnel_close}, {NULL, NULL}};

void neap_tunnel_register(lua_State *L) {
    if (luaL_newmetatable(L, TUNNEL_META)) {
        neap_function_set(L, "tunnel:", meta, 0);
        neap_function_table(L, "tunnel:", methods);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    neap_function_set(L, "native.net.", module, 0);
}
