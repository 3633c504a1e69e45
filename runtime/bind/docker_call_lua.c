/* docker_call_lua.c -- one request, one answer: what an Engine has, and changes of whole containers.
 *
 * A change whose answer was lost is {unknown}: the request may have arrived. Nothing here is sent twice.
 * An answer is the Engine's own JSON as a table. Its size is bounded by the driver; its texts are not redacted, because identities and
 * labels must stay what they are: whoever shows them escapes them.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/docker_lua.h"
#include "bind/secret_lua.h"
#include "drive/docker_find.h"
#include "script/raise.h"
#include "script/value.h"

typedef struct call_op {
    docker_op base;                   /* first */
    neap_docker_call *call;
    bool changes;
    neap_docker_verb verb;
    neap_buf target, json;            /* json: the body, when it has any */
    neap_buf body;                    /* the answer */
    int status;
    int (*push)(lua_State *L, struct call_op *c);
    neap_docker_wanted wanted;        /* of find: texts in `kept` */
    char *kept[6];
    bool stopped;
} call_op;

static void on_answer(void *arg, const neap_docker_answer *a, const neap_err *err) {
    call_op *c = arg;
    c->call = NULL;
    neap_docker_op_error(&c->base, err);
    if (!err) {
        c->status = a->status;
        neap_buf_add(&c->body, a->body, a->len);
    }
    neap_op_finish(&c->base.gate.op);
}

/* A change that is under way is waited for until its grace ends: it is about to be known. */
static void call_cancel(neap_op *op, bool force) {
    call_op *c = (call_op *)op;
    if (c->changes && !force) return;
    neap_docker_call_free(c->call);
    c->call = NULL;
    neap_op_finish(op);
}

static int call_deliver(lua_State *L, neap_op *op) {
    call_op *c = (call_op *)op;
    if (c->base.err.code == NEAP_E_CLOSED && c->changes) {
        neap_err lost = c->base.err;
        c->base.err = (neap_err)NEAP_ERR_INIT;
        neap_err_set(&c->base.err, NEAP_E_UNKNOWN, "nobody knows whether it was done: %s", lost.message);
        neap_err_close(&lost);
    }
    if (c->base.err.code) return neap_docker_op_fail(L, &c->base);
    neap_gate_outcome(L, &c->base.gate, "ok", c->status == 304 ? "\"note\":\"it was so already\"" : NULL, NULL);
    return c->push(L, c);
}

static void call_on_stop(lua_State *L, neap_op *op) {
    call_op *c = (call_op *)op;
    bool done = c->status && !c->base.err.code;
    neap_gate_outcome(L, &c->base.gate, done ? "ok" : "unknown", done ? NULL : "\"message\":\"stopped before its answer\"", NULL);
}

static void call_drop(neap_op *op) {
    call_op *c = (call_op *)op;
    neap_docker_call_free(c->call);
    neap_buf_close(&c->target), neap_buf_wipe(&c->json), neap_buf_wipe(&c->body);
    for (int i = 0; i < 6; i++) free(c->kept[i]);
    neap_docker_op_drop(&c->base);
}

static const neap_op_class call_class = {"an answer of the Engine", call_cancel, call_deliver, call_drop};

static int call_start(lua_State *L, neap_gate *g) {
    call_op *c = (call_op *)g;
    const char *json = c->json.len ? c->json.data : NULL;
    c->call = c->changes ? neap_docker_change(c->base.h->engine, c->verb, c->target.data, json, on_answer, c)
                         : neap_docker_get(c->base.h->engine, c->target.data, on_answer, c);
    return neap_await(L, &g->op);
}

static call_op *new_call(lua_State *L, neap_primitive primitive, char *container, const char *what) {
    docker_handle *h = neap_docker_check(L);
    call_op *c = (call_op *)neap_docker_op_new(L, sizeof *c, &call_class, primitive, h, container,
        neap_asprintf("%s%s%.12s", what, container ? " " : "", container ? container : ""));
    c->base.gate.start = call_start;
    return c;
}

/* Questions ---------------------------------------------------------------------------------------- */

static int push_json(lua_State *L, call_op *c) {
    neap_err err = NEAP_ERR_INIT;
    if (neap_value_decode(L, c->body.data ? c->body.data : "", c->body.len, &err)) return 1;
    return neap_fail(L, &err);
}

/* info() -> the Engine's own description. Effect: read. */
int neap_docker_info(lua_State *L) {
    call_op *c = new_call(L, NEAP_P_DOCKER_READ, NULL, "describe the Engine");
    neap_buf_adds(&c->target, "/info");
    c->push = push_json;
    return neap_gate_enter(L, &c->base.gate);
}

/* [-0, +0, e] &filters={"label":["a=b"]} of the table `labels` in the options. */
static void add_filters(lua_State *L, call_op *c) {
    neap_buf json = NEAP_BUF_INIT;
    int count = 0;
    if (lua_getfield(L, 2, "labels") == LUA_TNIL) { lua_pop(L, 1); return; }
    luaL_checktype(L, -1, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_type(L, -1) != LUA_TSTRING || lua_type(L, -2) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "labels must be a table of names and values");
    neap_buf_adds(&json, "{\"label\":[");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        neap_buf pair = NEAP_BUF_INIT;
        neap_buf_addf(&pair, "%s=%s", lua_tostring(L, -2), lua_tostring(L, -1));
        if (count++) neap_buf_addc(&json, ',');
        neap_json_string(&json, pair.data, pair.len);
        neap_buf_close(&pair);
    }
    neap_buf_adds(&json, "]}");
    if (count) neap_buf_adds(&c->target, "&filters="), neap_docker_encode(&c->target, json.data);
    neap_buf_close(&json);
    lua_pop(L, 1);
}

static void check_options(lua_State *L) {
    if (lua_isnoneornil(L, 2)) lua_settop(L, 1), lua_newtable(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
}

/* list{labels={name=value}, all=} -> list of containers as the Engine describes them. Effect: read. */
int neap_docker_list(lua_State *L) {
    check_options(L);
    call_op *c = new_call(L, NEAP_P_DOCKER_READ, NULL, "list containers");
    neap_buf_addf(&c->target, "/containers/json?all=%d", neap_docker_flag(L, 2, "all"));
    add_filters(L, c);
    c->push = push_json;
    return neap_gate_enter(L, &c->base.gate);
}

static int push_found(lua_State *L, call_op *c) {
    neap_err err = NEAP_ERR_INIT;
    json_t *list = json_loadb(c->body.data ? c->body.data : "", c->body.len, 0, NULL);
    json_t *found = NULL;
    if (!json_is_array(list)) neap_err_set(&err, NEAP_E_PROTOCOL, "the Engine's list of containers is none");
    else found = neap_docker_find(list, &c->wanted, c->stopped, &err);
    neap_buf_clear(&c->body);
    char *text = found ? json_dumps(found, 0) : NULL;
    if (text) neap_buf_adds(&c->body, text);
    free(text);
    json_decref(list);
    return err.code ? neap_fail(L, &err) : push_json(L, c);
}

/* find{project=, service=, index=, name=, id=, image=, stopped=} -> the one container, as list gives it | nil, err (config): none, or
 * several. One that does not run is found only with stopped=true, and only when no other fits. Effect: read. */
int neap_docker_find_one(lua_State *L) {
    static const char *const names[] = {"project", "service", "index", "name", "id", "image"};
    check_options(L);
    call_op *c = new_call(L, NEAP_P_DOCKER_READ, NULL, "find a container");
    bool any = false;
    for (int i = 0; i < 6; i++) {
        if (lua_getfield(L, 2, names[i]) == LUA_TNUMBER) lua_tostring(L, -1), lua_setfield(L, 2, names[i]);
        else lua_pop(L, 1);
        c->kept[i] = neap_docker_field(L, 2, names[i]);
        if (c->kept[i]) any = true;
    }
    if (!any) neap_raisef(L, NEAP_E_USAGE, "find needs something to find a container by: project, service, index, name, id, image");
    c->wanted = (neap_docker_wanted){c->kept[0], c->kept[1], c->kept[2], c->kept[3], c->kept[4], c->kept[5]};
    c->stopped = neap_docker_flag(L, 2, "stopped");
    neap_buf_adds(&c->target, "/containers/json?all=1");
    c->push = push_found;
    return neap_gate_enter(L, &c->base.gate);
}

/* inspect(id or name) -> everything the Engine knows of a container. Effect: read. */
int neap_docker_inspect(lua_State *L) {
    char *container = neap_docker_text(L, 2, "container");
    call_op *c = new_call(L, NEAP_P_DOCKER_READ, container, "inspect");
    neap_buf_adds(&c->target, "/containers/");
    neap_docker_encode(&c->target, container);
    neap_buf_adds(&c->target, "/json");
    c->push = push_json;
    return neap_gate_enter(L, &c->base.gate);
}

/* Changes ------------------------------------------------------------------------------------------ */

static int push_true(lua_State *L, call_op *c) {
    (void)c;
    lua_pushboolean(L, 1);
    return 1;
}

static call_op *new_change(lua_State *L, neap_primitive primitive, neap_docker_verb verb, char *container, const char *what) {
    call_op *c = new_call(L, primitive, container, what);
    c->changes = true;
    c->verb = verb;
    c->push = push_true;
    c->base.gate.op.on_stop = call_on_stop;
    if (container) neap_json_member(&c->base.gate.evidence, "container", container);
    return c;
}

static call_op *change_state(lua_State *L, const char *verb) {
    neap_buf what = NEAP_BUF_INIT;
    lua_settop(L, 3);
    char *container = neap_docker_check_id(L, 2);
    neap_buf_addf(&what, "%s container", verb);
    call_op *c = new_change(L, NEAP_P_DOCKER_CHANGE, NEAP_DOCKER_POST, container, what.data);
    neap_buf_close(&what);
    neap_buf_addf(&c->target, "/containers/%s/%s", container, verb);
    char *started = lua_istable(L, 3) ? neap_docker_field(L, 3, "started") : NULL;
    neap_json_member(&c->base.gate.evidence, "verb", verb);
    neap_json_member(&c->base.gate.evidence, "started", started);
    free(started);
    return c;
}

/* [-0, +0, e] ?t= of {grace_ms=}, in whole seconds, rounded up. */
static void add_grace(lua_State *L, call_op *c) {
    lua_Integer grace_ms = neap_docker_integer(L, 3, "grace_ms", -1);
    if (grace_ms >= 0) neap_buf_addf(&c->target, "?t=%lld", (long long)(grace_ms + 999) / 1000);
}

/* start_container(id) -> true | nil, err. One that runs already is fine. Effect: write. */
int neap_docker_start_container(lua_State *L) {
    call_op *c = change_state(L, "start");
    return neap_gate_enter(L, &c->base.gate);
}

/* stop_container(id, {grace_ms=, started=}) -> true | nil, err: its stop signal, the grace (its own when not given), KILL. Effect: write. */
int neap_docker_stop_container(lua_State *L) {
    call_op *c = change_state(L, "stop");
    add_grace(L, c);
    return neap_gate_enter(L, &c->base.gate);
}

/* restart_container(id, {grace_ms=, started=}) -> true | nil, err. started: when it was started before, for whoever asks later whether
 * it was done. Effect: write. */
int neap_docker_restart_container(lua_State *L) {
    call_op *c = change_state(L, "restart");
    add_grace(L, c);
    return neap_gate_enter(L, &c->base.gate);
}

/* remove_container(id, {force=, volumes=}) -> true | nil, err. volumes: its anonymous ones go with it. Effect: destroy. */
int neap_docker_remove_container(lua_State *L) {
    lua_settop(L, 3);
    char *container = neap_docker_check_id(L, 2);
    bool force = neap_docker_flag(L, 3, "force"), volumes = neap_docker_flag(L, 3, "volumes");
    neap_buf what = NEAP_BUF_INIT;
    neap_buf_addf(&what, "remove %s%scontainer", volumes ? "with its anonymous volumes " : "", force ? "by force " : "");
    call_op *c = new_change(L, NEAP_P_DOCKER_REMOVE, NEAP_DOCKER_DELETE, container, what.data);
    neap_buf_close(&what);
    neap_buf_addf(&c->target, "/containers/%s?force=%d&v=%d", container, force, volumes);
    return neap_gate_enter(L, &c->base.gate);
}

/* Creating ----------------------------------------------------------------------------------------- */

/* [-0, +0, e] ,"Name":[…] of a list of strings. */
static void add_strings(lua_State *L, neap_buf *out, const char *field, const char *name) {
    if (lua_getfield(L, 2, field) == LUA_TNIL) { lua_pop(L, 1); return; }
    if (!lua_istable(L, -1)) neap_raisef(L, NEAP_E_USAGE, "%s must be a list of strings", field);
    int count = (int)luaL_len(L, -1);
    neap_buf_addf(out, "%s\"%s\":[", out->data[out->len - 1] == '{' ? "" : ",", name);
    for (int i = 1; i <= count; i++) {
        size_t len;
        lua_geti(L, -1, i);
        if (lua_type(L, -1) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s must be a list of strings", field);
        const char *text = lua_tolstring(L, -1, &len);
        if (i > 1) neap_buf_addc(out, ',');
        neap_json_string(out, text, len);
        lua_pop(L, 1);
    }
    neap_buf_addc(out, ']');
    lua_pop(L, 1);
}

/* [-0, +0, e] the values of a table of names: {"a":"b"}, or ["a=b"]. Secrets may be values. */
static void add_pairs(lua_State *L, neap_buf *out, const char *field, const char *name, bool joined) {
    int count = 0;
    if (lua_getfield(L, 2, field) == LUA_TNIL) { lua_pop(L, 1); return; }
    if (!lua_istable(L, -1)) neap_raisef(L, NEAP_E_USAGE, "%s must be a table of names and values", field);
    neap_buf_addf(out, ",\"%s\":%c", name, joined ? '[' : '{');
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len = 0, key_len = 0;
        neap_secret *secret = joined ? neap_to_secret(L, -1) : NULL;
        if (lua_type(L, -2) != LUA_TSTRING || (!secret && lua_type(L, -1) != LUA_TSTRING)) neap_raisef(L, NEAP_E_USAGE, "%s must be a table of names and values", field);
        const char *key = lua_tolstring(L, -2, &key_len), *value = secret ? neap_secret_bytes(secret, &len) : lua_tolstring(L, -1, &len);
        neap_buf pair = NEAP_BUF_INIT;
        if (joined) neap_buf_add(&pair, key, key_len), neap_buf_addc(&pair, '=');
        neap_buf_add(&pair, value, len);
        if (count++) neap_buf_addc(out, ',');
        if (!joined) neap_json_string(out, key, key_len), neap_buf_addc(out, ':');
        neap_json_string(out, pair.data, pair.len);
        neap_buf_wipe(&pair);
    }
    neap_buf_addc(out, joined ? ']' : '}');
    lua_pop(L, 1);
}

static void add_text(lua_State *L, neap_buf *out, const char *field, const char *name) {
    char *text = neap_docker_field(L, 2, field);
    neap_json_member(out, name, text);
    free(text);
}

static int push_created(lua_State *L, call_op *c) {
    neap_err err = NEAP_ERR_INIT;
    json_t *answer = neap_docker_object(c->body.data ? c->body.data : "", c->body.len, &err);
    const char *id = json_string_value(json_object_get(answer, "Id"));
    if (answer && !id) neap_err_set(&err, NEAP_E_PROTOCOL, "the Engine made a container without an id");
    neap_buf_clear(&c->body);
    if (id) neap_buf_adds(&c->body, id);
    json_decref(answer);
    if (err.code) return neap_fail(L, &err);
    lua_pushstring(L, c->body.data);
    return 1;
}

/* create_container{image=, name=, argv=, entrypoint=, env=, labels=, user=, workdir=, binds=, network=} -> id | nil, err: made, not
 * started, of an image the Engine has; nothing is ever pulled. Effect: write. */
int neap_docker_create_container(lua_State *L) {
    check_options(L);
    neap_buf what = NEAP_BUF_INIT;
    char *image = neap_docker_field(L, 2, "image");
    if (!image) neap_raisef(L, NEAP_E_USAGE, "create_container needs an image");
    neap_buf_addf(&what, "create container of image %s", image);
    free(image);
    call_op *c = new_change(L, NEAP_P_DOCKER_CHANGE, NEAP_DOCKER_POST, NULL, what.data);
    neap_buf_close(&what);
    c->kept[0] = neap_docker_field(L, 2, "name");
    neap_json_member(&c->base.gate.evidence, "verb", "create");
    neap_json_member(&c->base.gate.evidence, "name", c->kept[0]);
    neap_buf_adds(&c->target, "/containers/create");
    if (c->kept[0]) neap_buf_adds(&c->target, "?name="), neap_docker_encode(&c->target, c->kept[0]);
    neap_buf_addc(&c->json, '{');
    add_text(L, &c->json, "image", "Image");
    add_text(L, &c->json, "user", "User");
    add_text(L, &c->json, "workdir", "WorkingDir");
    add_strings(L, &c->json, "argv", "Cmd");
    add_strings(L, &c->json, "entrypoint", "Entrypoint");
    add_pairs(L, &c->json, "env", "Env", true);
    add_pairs(L, &c->json, "labels", "Labels", false);
    neap_buf_adds(&c->json, ",\"HostConfig\":{");
    add_text(L, &c->json, "network", "NetworkMode");
    add_strings(L, &c->json, "binds", "Binds");
    neap_buf_adds(&c->json, "}}");
    c->push = push_created;
    return neap_gate_enter(L, &c->base.gate);
}
