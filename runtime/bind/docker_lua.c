/* docker_lua.c -- native.docker: engines.
 *
 *     local place = native.docker.endpoint { context = "prod" }            -- where the user's docker would go
 *     local engine = native.docker.open(native.net.unix(place.path), { role = "dbc", host = "hermes" })
 *     local box = engine:find { project = "shop", service = "db" }         -- exactly one
 *     engine:read { container = box.Id, argv = { "pg_isready" } }
 *
 * An engine holds no connection: each call dials one (drive/http1.h), so there is nothing to close and nothing that idles to death.
 * Its identity, which begins every subject, is the ID that GET /info names.
 */
#include "bind/docker_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/net_lua.h"
#include "bind/secret_lua.h"
#include "drive/docker_endpoint.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define ENGINE_META "neap.docker"

enum { HANDLE_INDEX = 3 };

/* What every unit uses ----------------------------------------------------------------------------- */

docker_handle *neap_docker_check(lua_State *L) {
    docker_handle *h = luaL_checkudata(L, 1, ENGINE_META);
    if (!h->engine) neap_raisef(L, NEAP_E_USAGE, "the Engine is not open");
    return h;
}

static bool is_id(const char *text) { return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64; }

/* By a name, or a part of an id, any container may be meant: then it is about the whole Engine. */
static char *subject_of(const docker_handle *h, const char *container) {
    neap_buf out = NEAP_BUF_INIT;
    neap_buf_addf(&out, "docker:%s", h->id ? h->id : "?");
    if (container && is_id(container)) neap_buf_addf(&out, "/%s", container);
    return neap_buf_take(&out);
}

docker_op *neap_docker_op_new(lua_State *L, size_t size, const neap_op_class *class, neap_primitive primitive, docker_handle *h, char *container, char *text) {
    docker_op *op = (docker_op *)neap_op_new(L, size, class);
    op->err = (neap_err)NEAP_ERR_INIT;
    op->h = h;
    op->container = container;
    op->text = text;
    op->subject = subject_of(h, container);
    op->gate.act = (neap_act){primitive, h->role, h->host, op->subject, text, NULL};
    return op;
}

void neap_docker_op_drop(docker_op *op) {
    free(op->container), free(op->subject), free(op->text);
    neap_buf_close(&op->gate.evidence);
    neap_err_close(&op->err);
}

void neap_docker_op_error(docker_op *op, const neap_err *err) { neap_err_keep(&op->err, err); }

bool neap_docker_in_doubt(const neap_err *err) {
    return err->code == NEAP_E_UNKNOWN || err->code == NEAP_E_TIMEOUT || err->code == NEAP_E_CLOSED || err->code == NEAP_E_PROTOCOL;
}

int neap_docker_op_fail(lua_State *L, docker_op *op) {
    neap_gate_outcome(L, &op->gate, neap_docker_in_doubt(&op->err) ? "unknown" : "failed", NULL, &op->err);
    return neap_fail(L, &op->err);
}

/* Arguments ---------------------------------------------------------------------------------------- */

char *neap_docker_text(lua_State *L, int index, const char *what) {
    size_t len;
    if (lua_isuserdata(L, index)) luaL_tolstring(L, index, NULL), lua_pop(L, 1);      /* raises {withheld} */
    if (lua_type(L, index) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s must be a string, not a %s", what, luaL_typename(L, index));
    const char *text = lua_tolstring(L, index, &len);
    if (!len || strlen(text) != len) neap_raisef(L, NEAP_E_USAGE, "%s is %s", what, len ? "a text with a NUL byte" : "empty");
    return neap_strdup(text);
}

char *neap_docker_field(lua_State *L, int index, const char *name) {
    char *copy = NULL;
    if (lua_isnoneornil(L, index)) return NULL;
    luaL_checktype(L, index, LUA_TTABLE);
    if (lua_getfield(L, index, name) != LUA_TNIL) copy = neap_docker_text(L, -1, name);
    lua_pop(L, 1);
    return copy;
}

lua_Integer neap_docker_integer(lua_State *L, int index, const char *name, lua_Integer otherwise) {
    if (lua_isnoneornil(L, index)) return otherwise;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_getfield(L, index, name);
    if (!lua_isnil(L, -1) && (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 0)) neap_raisef(L, NEAP_E_USAGE, "%s must be a whole number, not negative", name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

bool neap_docker_flag(lua_State *L, int index, const char *name) {
    if (lua_isnoneornil(L, index)) return false;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_getfield(L, index, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* A part of an id would be taken by the Engine too, and may mean another container tomorrow. */
char *neap_docker_check_id(lua_State *L, int index) {
    char *id = neap_docker_text(L, index, "container");
    if (is_id(id)) return id;
    lua_pushstring(L, id);
    free(id);
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_USAGE, "\"%s\" is no full id of a container", lua_tostring(L, -1));
    neap_err_hint(&err, "find, list and inspect tell the id: 64 hexadecimal digits.");
    neap_raise(L, &err);
}

char *neap_docker_container(lua_State *L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    lua_getfield(L, index, "container");
    char *id = neap_docker_check_id(L, -1);
    lua_pop(L, 1);
    return id;
}

/* endpoint ----------------------------------------------------------------------------------------- */

static const char *process_env(void *arg, const char *name) {
    (void)arg;
    return getenv(name);
}

/* [-0, +0, m] */
static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void push_tls(lua_State *L, const neap_docker_endpoint *e) {
    lua_createtable(L, 0, 4);
    set_text(L, "ca", e->ca);
    set_text(L, "cert", e->cert);
    set_text(L, "key", e->key);
    lua_pushboolean(L, e->verify);
    lua_setfield(L, -2, "verify");
}

/* [-0, +1, m] */
static int push_endpoint(lua_State *L) {
    static const char *const schemes[] = {"unix", "tcp", "ssh"};
    const neap_docker_endpoint *e = lua_touserdata(L, 1);
    lua_createtable(L, 0, 6);
    set_text(L, "scheme", schemes[e->scheme]);
    set_text(L, "path", e->path);
    set_text(L, "host", e->host);
    set_text(L, "user", e->user);
    set_text(L, "source", e->source);
    if (e->port) lua_pushinteger(L, e->port), lua_setfield(L, -2, "port");
    if (e->tls) push_tls(L, e), lua_setfield(L, -2, "tls");
    return 1;
}

/* [-0, +0, e] the text of a field, kept by the table. */
static const char *peek(lua_State *L, const char *name) {
    if (lua_isnoneornil(L, 1)) return NULL;
    lua_getfield(L, 1, name);
    const char *text = luaL_optstring(L, -1, NULL);
    lua_pop(L, 1);
    return text;
}

/* endpoint{context=, host=, config=} -> {scheme=, path=, host=, port=, user=, tls={ca,cert,key,verify}, source=} | nil, err: where the
 * docker CLI would go. Effect: own (the user's configuration). */
static int docker_endpoint(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
    neap_err err = NEAP_ERR_INIT;
    neap_docker_endpoint e = {0};
    neap_docker_where where = {.host = peek(L, "host"), .context = peek(L, "context"), .config = peek(L, "config"), .env = process_env};
    if (!neap_docker_endpoint_find(&e, &where, &err)) return neap_fail(L, &err);
    neap_function_push(L, "native.docker.describe", push_endpoint, 0);
    lua_pushlightuserdata(L, &e);
    int result = lua_pcall(L, 1, 1, 0);
    neap_docker_endpoint_close(&e);
    if (result != LUA_OK) lua_error(L);
    return 1;
}

/* open --------------------------------------------------------------------------------------------- */

typedef struct open_op {
    docker_op base;                   /* first */
    neap_docker *engine;
    neap_docker_call *call;
    char *id;
} open_op;

static void on_info(void *arg, const neap_docker_answer *a, const neap_err *err) {
    open_op *o = arg;
    neap_err bad = NEAP_ERR_INIT;
    o->call = NULL;
    neap_docker_op_error(&o->base, err);
    json_t *info = err ? NULL : neap_docker_object(a->body, a->len, &bad);
    const char *id = json_string_value(json_object_get(info, "ID"));
    if (bad.code) neap_docker_op_error(&o->base, &bad);
    if (info) o->id = neap_strdup(id && *id ? id : neap_docker_label(o->engine));       /* podman's has no ID */
    json_decref(info);
    neap_err_close(&bad);
    neap_op_finish(&o->base.gate.op);
}

static void on_open(void *arg, const neap_err *err) {
    open_op *o = arg;
    o->call = NULL;
    neap_docker_op_error(&o->base, err);
    if (err) neap_op_finish(&o->base.gate.op);
    else o->call = neap_docker_get(o->engine, "/info", on_info, o);
}

static void open_cancel(neap_op *op, bool force) {
    open_op *o = (open_op *)op;
    (void)force;
    neap_docker_call_free(o->call);
    o->call = NULL;
    neap_op_finish(op);
}

static int open_deliver(lua_State *L, neap_op *op) {
    open_op *o = (open_op *)op;
    docker_handle *h = lua_touserdata(L, HANDLE_INDEX);
    if (o->base.err.code) return neap_fail(L, &o->base.err);
    h->engine = o->engine;
    h->id = o->id;
    o->engine = NULL;
    o->id = NULL;
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void open_drop(neap_op *op) {
    open_op *o = (open_op *)op;
    neap_docker_call_free(o->call);
    neap_docker_release(o->engine);
    free(o->id);
    neap_docker_op_drop(&o->base);
}

static const neap_op_class open_class = {"an Engine", open_cancel, open_deliver, open_drop};

static int open_start(lua_State *L, neap_gate *g) {
    open_op *o = (open_op *)g;
    o->call = neap_docker_open(o->engine, on_open, o);
    return neap_await(L, &g->op);
}

static int engine_gc(lua_State *L) {
    docker_handle *h = luaL_checkudata(L, 1, ENGINE_META);
    neap_docker_release(h->engine);
    free(h->id), free(h->role), free(h->host);
    *h = (docker_handle){0};
    return 0;
}

/* open(dialer, {role=, host=}) -> engine | nil, err. Effect: read. */
static int docker_open(lua_State *L) {
    neap_dialer *d = neap_check_dialer(L, 1);
    lua_settop(L, 2);
    docker_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (docker_handle){0};
    luaL_setmetatable(L, ENGINE_META);
    h->role = neap_docker_field(L, 2, "role");
    h->host = neap_docker_field(L, 2, "host");
    open_op *o = (open_op *)neap_docker_op_new(L, sizeof *o, &open_class, NEAP_P_DOCKER_READ, h, NULL,
        neap_asprintf("connect to the Engine at %s", d->label));
    o->base.gate.act.subject = NULL;
    o->engine = neap_docker_new(d);
    o->base.gate.start = open_start;
    return neap_gate_enter(L, &o->base.gate);
}

/* engine:id() -> its identity; engine:version() -> the version of the API that is spoken. Effect: pure. */
static int engine_id(lua_State *L) {
    lua_pushstring(L, neap_docker_check(L)->id);
    return 1;
}

static int engine_version(lua_State *L) {
    lua_pushstring(L, neap_docker_version(neap_docker_check(L)->engine));
    return 1;
}

static int engine_tostring(lua_State *L) {
    docker_handle *h = luaL_checkudata(L, 1, ENGINE_META);
    lua_pushfstring(L, "docker (%s)", h->engine ? neap_docker_label(h->engine) : "closed");
    return 1;
}

static const luaL_Reg module[] = {{"endpoint", docker_endpoint}, {"open", docker_open}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"id", engine_id}, {"version", engine_version}, {"info", neap_docker_info}, {"list", neap_docker_list}, {"find", neap_docker_find_one},
    {"inspect", neap_docker_inspect}, {"start_container", neap_docker_start_container}, {"stop_container", neap_docker_stop_container},
    {"restart_container", neap_docker_restart_container}, {"remove_container", neap_docker_remove_container},
    {"create_container", neap_docker_create_container}, {"read", neap_docker_read_command}, {"run", neap_docker_run}, {"start", neap_docker_start},
    {"probe", neap_docker_probe}, {"logs", neap_docker_logs}, {"wait_log", neap_docker_wait_log}, {"wait_healthy", neap_docker_wait_healthy},
    {"archive_get", neap_docker_archive_get}, {"archive_put", neap_docker_archive_put}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", engine_gc}, {"__tostring", engine_tostring}, {NULL, NULL}};

int neap_open_docker(lua_State *L) {
    if (luaL_newmetatable(L, ENGINE_META)) {
        neap_function_set(L, "docker:", meta, 0);
        neap_function_table(L, "docker:", methods);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    neap_function_table(L, "native.docker.", module);
    return 1;
}
