/* net_lua.c -- native.net: dialers, and the plain connection.
 *
 *     local way = net.tls(net.tcp("cache", 6380), { ca = "/etc/ca.pem" })         -- nothing is touched yet
 *     local conn = net.connect(way, { role = "cache" })                           -- a stream (bind/stream_lua.c)
 *
 * A dialer is opaque: Lua can hold it and pass it on, and cannot read or write through it. Who needs a connection of a kind (Redis,
 * Docker, a tunnel) passes the gate with an effect of its own. A bare connection may say anything to anybody, so it is a write.
 */
#include "bind/net_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/stream_lua.h"
#include "drive/tls.h"
#include "loop/net.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"

#define DIALER_META "neap.dialer"

/* Dialers ------------------------------------------------------------------------------------ */

neap_dialer *neap_check_dialer(lua_State *L, int index) {
    neap_dialer **box = luaL_testudata(L, index, DIALER_META);
    if (!box && lua_isuserdata(L, index)) luaL_tolstring(L, index, NULL), lua_pop(L, 1);
    if (!box) luaL_checkudata(L, index, DIALER_META);
    return *box;
}

static void push_meta(lua_State *L);

/* Runs protected, so that the hold is not lost when there is no memory for the box. */
static int box_dialer(lua_State *L) {
    neap_dialer **box = lua_newuserdatauv(L, sizeof *box, 0), **given = lua_touserdata(L, 1);
    *box = NULL;
    push_meta(L);
    lua_setmetatable(L, -2);
    *box = *given;
    *given = NULL;
    return 1;
}

void neap_push_dialer(lua_State *L, neap_dialer *d) {
    neap_function_push(L, "native.net.box", box_dialer, 0);
    lua_pushlightuserdata(L, &d);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) return;
    neap_dialer_release(d);
    lua_error(L);
}

static int dialer_gc(lua_State *L) {
    neap_dialer **box = luaL_checkudata(L, 1, DIALER_META), *d = *box;
    *box = NULL;
    neap_dialer_release(d);
    return 0;
}

static int dialer_tostring(lua_State *L) {
    neap_dialer *d = *(neap_dialer **)luaL_checkudata(L, 1, DIALER_META);
    lua_pushstring(L, d ? d->label : "closed");
    return 1;
}

static const char *check_text(lua_State *L, int index, const char *what) {
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (!len || strlen(text) != len) neap_raisef(L, NEAP_E_USAGE, "\"%s\" is no %s", text, what);
    return text;
}

/* tcp(host, port) -> dialer. Effect: pure: it is dialed later. */
static int net_tcp(lua_State *L) {
    neap_net_place place = {.host = check_text(L, 1, "host")};
    lua_Integer port = luaL_checkinteger(L, 2);
    luaL_argcheck(L, port > 0 && port <= NEAP_NET_PORT_MOST, 2, "a port is a number from 1 to 65535");
    place.port = (int)port;
    neap_push_dialer(L, neap_dialer_tcp(neap_host_of(L)->loop, &place));
    return 1;
}

/* unix(path) -> dialer. Effect: pure. */
static int net_unix(lua_State *L) {
    neap_push_dialer(L, neap_dialer_unix(neap_host_of(L)->loop, check_text(L, 1, "path of a socket")));
    return 1;
}

/* [-0, +0, e] field `name` of the table at 2: text that stays there, or NULL. */
static const char *opt_path(lua_State *L, const char *name) {
    const char *text = lua_getfield(L, 2, name) == LUA_TNIL ? NULL : check_text(L, -1, name);
    lua_pop(L, 1);
    return text;
}

/* tls(dialer, {name=, ca=, cert=, key=, verify=true}) -> dialer | nil, err: TLS over what the dialer gives. The name to be proven is
 * that of a tcp dialer's host unless it is given. Reads the files. Effect: pure. */
static int net_tls(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_dialer *below = neap_check_dialer(L, 1);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) lua_newtable(L), lua_replace(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    neap_tls_options o = {opt_path(L, "name"), opt_path(L, "ca"), opt_path(L, "cert"), opt_path(L, "key"), false};
    o.lax = lua_getfield(L, 2, "verify") == LUA_TBOOLEAN && !lua_toboolean(L, -1);
    if (!o.name) o.name = neap_dialer_host(below);
    neap_tls *tls = neap_tls_new(&o, &err);
    if (!tls) return neap_fail(L, &err);
    neap_dialer *d = neap_dialer_tls(below, tls);
    neap_tls_release(tls);
    neap_push_dialer(L, d);
    return 1;
}

/* Connecting --------------------------------------------------------------------------------- */

enum { DIALER = 1, OPTIONS, HANDLE };              /* where net_connect keeps them on its stack */

typedef struct connect_op {
    neap_gate gate;                /* first */
    neap_dialer *dialer;
    neap_dialing *dialing;         /* NULL: not begun, or over */
    neap_stream *stream;
    neap_err err;
    char *role, *host, *subject, *text;
} connect_op;

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    connect_op *k = arg;
    k->dialing = NULL;
    k->stream = stream;
    if (err) neap_err_copy(&k->err, err);
    neap_op_finish(&k->gate.op);
}

static void connect_cancel(neap_op *op, bool force) {
    connect_op *k = (connect_op *)op;
    (void)force;                                    /* a dial is taken back at once */
    if (k->dialing) neap_dial_cancel(k->dialing);
    k->dialing = NULL;
    neap_op_finish(op);
}

/* Nothing was sent over it, and it goes with the op. */
static void connect_on_stop(lua_State *L, neap_op *op) {
    neap_gate_outcome(L, (neap_gate *)op, "failed", "\"message\":\"stopped before it was connected\"", NULL);
}

static int connect_deliver(lua_State *L, neap_op *op) {
    connect_op *k = (connect_op *)op;
    neap_gate_outcome(L, &k->gate, k->err.code ? "failed" : "ok", NULL, &k->err);
    if (k->err.code) return neap_fail(L, &k->err);
    ((neap_stream_handle *)lua_touserdata(L, HANDLE))->stream = k->stream;
    k->stream = NULL;
    lua_pushvalue(L, HANDLE);
    return 1;
}

static void connect_drop(neap_op *op) {
    connect_op *k = (connect_op *)op;
    if (k->dialing) neap_dial_cancel(k->dialing);
    neap_stream_free(k->stream);
    neap_dialer_release(k->dialer);
    neap_err_close(&k->err);
    free(k->role);
    free(k->host);
    free(k->subject);
    free(k->text);
}

static const neap_op_class connect_class = {"a connection", connect_cancel, connect_deliver, connect_drop};

static int connect_start(lua_State *L, neap_gate *g) {
    connect_op *k = (connect_op *)g;
    k->dialing = neap_dial(k->dialer, on_dialed, k);
    return neap_await(L, &g->op);
}

/* [-0, +0, e] a copy of the text in field `name` of the options; NULL when it is not given. */
static char *opt_field(lua_State *L, const char *name) {
    char *copy = NULL;
    if (lua_isnil(L, OPTIONS)) return NULL;
    if (lua_getfield(L, OPTIONS, name) != LUA_TNIL) copy = neap_strdup(check_text(L, -1, name));
    lua_pop(L, 1);
    return copy;
}

/* connect(dialer, {role=, host=, text=}) -> stream | nil, err. Whatever is said over it is not looked at. Effect: write. */
static int net_connect(lua_State *L) {
    neap_dialer *d = neap_check_dialer(L, DIALER);
    if (!lua_isnoneornil(L, OPTIONS)) luaL_checktype(L, OPTIONS, LUA_TTABLE);
    lua_settop(L, OPTIONS);
    neap_stream_new_handle(L, 0);
    connect_op *k = (connect_op *)neap_op_new(L, sizeof *k, &connect_class);
    k->err = (neap_err)NEAP_ERR_INIT;
    k->dialer = neap_dialer_hold(d);
    k->role = opt_field(L, "role");
    k->host = opt_field(L, "host");
    k->text = opt_field(L, "text");
    k->subject = neap_asprintf("net:%s", d->label);
    if (!k->text) k->text = neap_asprintf("connect to %s", d->label);
    k->gate.act = (neap_act){NEAP_P_NET_SEND, k->role, k->host, k->subject, k->text, NULL};
    k->gate.start = connect_start;
    k->gate.op.on_stop = connect_on_stop;
    return neap_gate_enter(L, &k->gate);
}

static const luaL_Reg module[] = {{"tcp", net_tcp}, {"unix", net_unix}, {"tls", net_tls}, {"connect", net_connect}, {NULL, NULL}};
static const luaL_Reg dialer_meta[] = {{"__gc", dialer_gc}, {"__tostring", dialer_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, DIALER_META)) return;
    neap_function_set(L, "dialer:", dialer_meta, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

int neap_open_net(lua_State *L) {
    neap_function_table(L, "native.net.", module);
    neap_tunnel_register(L);
    return 1;
}
