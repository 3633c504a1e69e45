/* redis_lua.c -- native.redis: Redis for stdlib/client/redis.lua.
 *
 *   conn = native.redis.open(dialer, {user=, password=, db=, role=, host=, application=, …})      waits; conn | nil, err
 *
 * The dialer says how the server is reached; this knows only bytes. One connection reads and writes: what is a read is judged word by word
 * beneath Lua (redis_read.c), what is a write passes the gate with its intent (redis_write.c). */
#include <stdlib.h>
#include <string.h>

#include "bind/net_lua.h"
#include "bind/redis_private.h"
#include "bind/secret_lua.h"
#include "drive/redis_url.h"
#include "script/function.h"

#define HANDLE_META "neap.redis"

/* ---- handles ---- */

redis_handle *neap_redis_to_handle(lua_State *L, int index) { return luaL_checkudata(L, index, HANDLE_META); }

redis_handle *neap_redis_check_handle(lua_State *L, int index) {
    redis_handle *h = neap_redis_to_handle(L, index);
    if (!h->redis) neap_raisef(L, NEAP_E_USAGE, "the connection is closed");
    return h;
}

bool neap_redis_is_preview(lua_State *L) { return neap_guard_get_mode(neap_host_of(L)->guard) == NEAP_MODE_PLAN; }

/* conn:close(). Also __close. Whoever still waits is told by the driver. Effect: pure. */
static int conn_close(lua_State *L) {
    redis_handle *h = neap_redis_to_handle(L, 1);
    neap_redis *redis = h->redis;
    h->redis = NULL;
    neap_redis_free(redis);        /* first: a lease that is freed tells nobody */
    neap_lease_free(h->lease);
    h->lease = NULL;
    return 0;
}

static int conn_gc(lua_State *L) {
    redis_handle *h = neap_redis_to_handle(L, 1);
    conn_close(L);
    char **const texts[] = {&h->role, &h->host, &h->application, &h->user, &h->acting, &h->subject};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(*texts[i]), *texts[i] = NULL;
    for (int i = 0; i < REDIS_FLAGS; i++) free(h->known[i].name), h->known[i].name = NULL;
    neap_dialer_release(h->dialer);
    h->dialer = NULL;
    return 0;
}

/* ---- open ---- */

typedef struct open_op { redis_op base; char *password; int64_t within_ms; } open_op;

static void set_subject(redis_handle *h) {
    const neap_redis_identity *who = neap_redis_who(h->redis);
    free(h->subject);
    h->subject = neap_asprintf("redis:%s/%d", who->run_id ? who->run_id : neap_redis_label(h->redis), h->db);
}

static void on_ready(void *arg, const neap_err *err) {
    open_op *op = arg;
    if (err) neap_redis_op_error(&op->base, err);
    else set_subject(op->base.h);
    neap_op_finish(&op->base.gate.op);
}

static void open_cancel(neap_op *o, bool force) {
    (void)force;
    neap_redis_kill(((redis_op *)o)->h->redis, NEAP_E_CANCELLED, "cancelled while connecting");
    neap_op_finish(o);
}

static int open_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->err.code) {
        neap_redis *dead = op->h->redis;
        op->h->redis = NULL;
        neap_redis_free(dead);
        return neap_fail(L, &op->err);
    }
    lua_pushvalue(L, 3);
    return 1;
}

static void open_drop(neap_op *o) {
    open_op *op = (open_op *)o;
    if (op->password) explicit_bzero(op->password, strlen(op->password));
    free(op->password);
    neap_redis_op_drop(o);
}

static const neap_op_class open_class = {"a connection to Redis", open_cancel, open_deliver, open_drop};

static int open_start(lua_State *L, neap_gate *g) {
    open_op *op = (open_op *)g;
    redis_handle *h = op->base.h;
    neap_redis_login login = {h->user, op->password, h->application, h->db, op->within_ms};
    h->redis = neap_redis_new(h->loop);
    neap_redis_connect(h->redis, h->dialer, &login, on_ready, op);
    return neap_await(L, &g->op);
}

static char *text_field(lua_State *L, const char *name, const char *otherwise) {
    lua_getfield(L, 2, name);
    neap_secret *secret = neap_to_secret(L, -1);
    const char *text = secret ? neap_secret_bytes(secret, NULL) : otherwise;
    if (!secret && !lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s must be a string or a secret", name);
        text = lua_tostring(L, -1);
    }
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static lua_Integer number_field(lua_State *L, const char *name, lua_Integer least, lua_Integer otherwise) {
    lua_getfield(L, 2, name);
    if (!lua_isnil(L, -1) && !lua_isinteger(L, -1)) neap_raisef(L, NEAP_E_USAGE, "%s must be a whole number", name);
    lua_Integer value = lua_isnil(L, -1) ? otherwise : lua_tointeger(L, -1);
    if (value < least) neap_raisef(L, NEAP_E_USAGE, "%s must be at least %lld", name, (long long)least);
    lua_pop(L, 1);
    return value;
}

/* open(dialer, {user=, password=, db=, role=, host=, application=, acting=, enforced=, within_ms=, connect_ms=}) -> conn | nil, err
 * acting: the user whose permission a preview shows, where that is another one. Effect: read. */
static int redis_open(lua_State *L) {
    lua_settop(L, 2);
    neap_dialer *dialer = neap_check_dialer(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    redis_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    memset(h, 0, sizeof *h);
    luaL_setmetatable(L, HANDLE_META);
    h->loop = neap_host_of(L)->loop;
    h->dialer = neap_dialer_hold(dialer);
    h->role = text_field(L, "role", "redis");
    h->host = text_field(L, "host", NULL);
    h->application = text_field(L, "application", "neap");
    h->user = text_field(L, "user", NULL);
    h->acting = text_field(L, "acting", h->user ? h->user : "default");
    h->db = (int)number_field(L, "db", 0, 0);
    h->within_ms = number_field(L, "within_ms", 1, REDIS_WITHIN_MS);
    lua_getfield(L, 2, "enforced");
    h->enforced = lua_toboolean(L, -1);
    lua_pop(L, 1);
    open_op *op = (open_op *)neap_redis_op_new(L, sizeof *op, &open_class, h, NEAP_P_REDIS_CONNECT);
    op->password = text_field(L, "password", NULL);
    op->within_ms = number_field(L, "connect_ms", 1, REDIS_CONNECT_MS);
    op->base.gate.act.text = "connect";
    op->base.gate.start = open_start;
    return neap_gate_enter(L, &op->base.gate);
}

/* ---- small methods ---- */

static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* conn:card() -> {id=, run_id=, version=, mode=, state=, user=, db=, keys=, address=, asked=}: what open learnt. Effect: pure. */
static int conn_card(lua_State *L) {
    redis_handle *h = neap_redis_check_handle(L, 1);
    const neap_redis_identity *who = neap_redis_who(h->redis);
    lua_createtable(L, 0, 10);
    set_text(L, "id", h->subject);
    set_text(L, "run_id", who->run_id);
    set_text(L, "version", who->version);
    set_text(L, "mode", who->mode);
    set_text(L, "state", who->role);
    set_text(L, "user", who->user ? who->user : h->user);
    set_text(L, "address", neap_redis_label(h->redis));
    lua_pushinteger(L, h->db);
    lua_setfield(L, -2, "db");
    if (who->keys >= 0) lua_pushinteger(L, who->keys), lua_setfield(L, -2, "keys");
    lua_pushboolean(L, who->asked);
    lua_setfield(L, -2, "asked");
    return 1;
}

/* conn:is_open() -> boolean. Effect: pure. */
static int conn_is_open(lua_State *L) {
    lua_pushboolean(L, neap_redis_is_alive(neap_redis_to_handle(L, 1)->redis));
    return 1;
}

/* conn:is_idle() -> open, and nothing outstanding. Effect: pure. */
static int conn_is_idle(lua_State *L) {
    lua_pushboolean(L, neap_redis_is_idle(neap_redis_to_handle(L, 1)->redis));
    return 1;
}

/* url(text | secret) -> {host=, port=, unix=, user=, password=secret, db=, tls=} | nil, err. Effect: pure. */
static int redis_url(lua_State *L) {
    neap_redis_url url;
    neap_err err = NEAP_ERR_INIT;
    neap_secret *secret = neap_to_secret(L, 1);
    const char *text = secret ? neap_secret_bytes(secret, NULL) : luaL_checkstring(L, 1);
    if (!neap_redis_url_read(&url, text, &err)) return neap_fail(L, &err);
    lua_createtable(L, 0, 8);
    set_text(L, "host", url.host);
    set_text(L, "unix", url.path);
    set_text(L, "user", url.user);
    if (url.port) lua_pushinteger(L, url.port), lua_setfield(L, -2, "port");
    if (url.db >= 0) lua_pushinteger(L, url.db), lua_setfield(L, -2, "db");
    lua_pushboolean(L, url.tls);
    lua_setfield(L, -2, "tls");
    bool good = !url.password || neap_push_secret(L, "password in the Redis url", url.password, strlen(url.password), &err);
    if (good && url.password) lua_setfield(L, -2, "password");
    neap_redis_url_close(&url);
    return good ? 1 : neap_fail(L, &err);
}

static const luaL_Reg methods[] = {
    {"card", conn_card}, {"is_open", conn_is_open}, {"is_idle", conn_is_idle}, {"close", conn_close}, {NULL, NULL}};

static const luaL_Reg meta[] = {{"__gc", conn_gc}, {"__close", conn_close}, {NULL, NULL}};

static const luaL_Reg module[] = {{"open", redis_open}, {"url", redis_url}, {NULL, NULL}};

int neap_open_redis(lua_State *L) {
    const luaL_Reg *const parts[] = {methods, neap_redis_read_methods, neap_redis_write_methods, neap_redis_sweep_methods, neap_redis_lock_methods};
    luaL_newmetatable(L, HANDLE_META);
    neap_function_set(L, "redis:", meta, 0);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) neap_function_set(L, "redis:", parts[i], 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    neap_redis_open_scan(L);
    neap_function_table(L, "native.redis.", module);
    return 1;
}
