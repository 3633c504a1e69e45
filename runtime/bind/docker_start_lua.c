/* docker_start_lua.c -- engine:start: a command in a container that lives beside the task.
 *
 *     local dump <close> = engine:start { container = id, argv = { "pg_dump", "-Fc", "app" }, read = true }
 *     local copied = dump:stdout():pipe(file)
 *     local result = dump:wait()                     -- {status=} | nil, err: nobody knows
 *
 * As native.process.start: the handle is made before the exec, its pid is durable before start returns, the outcome is written when the
 * end is seen: by wait, by stop, or at the end of the scope. A handle that is collected closes its connection and leaves the process
 * alone (the API ends nothing with a connection); the intent then stays open, and that is the truth.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "bind/docker_command.h"
#include "bind/stream_lua.h"
#include "script/function.h"
#include "script/raise.h"

#define EXEC_META "neap.docker.exec"

enum { GRACE_MS = 5000, OP_INDEX = 3, HANDLE_INDEX = 4, OP_VALUE = 1, ENGINE_VALUE = 2, STREAM_VALUE = 3 };

typedef struct handle {
    docker_slot slot;                 /* first */
    docker_command *origin;           /* holds the gate; kept by user value OP_VALUE; NULL: not started */
    neap_op *waiter;
    bool on_request;
} handle;

static handle *check_handle(lua_State *L) { return luaL_checkudata(L, 1, EXEC_META); }

static void on_change(void *arg) {
    handle *h = arg;
    if (h->waiter) neap_op_finish(h->waiter);
}

static void close_exec(handle *h) { neap_docker_slot_close(&h->slot); }

/* start -------------------------------------------------------------------------------------------- */

static void start_cancel(neap_op *op, bool force) {
    docker_command *c = (docker_command *)op;
    if (c->stage == DOCKER_NOTING && !force) return;
    if (c->note) c->note->on_durable = NULL;
    c->note = NULL;
    neap_op_finish(op);
}

static int start_deliver(lua_State *L, neap_op *op) { return neap_docker_command_step(L, (docker_command *)op); }
static void start_drop(neap_op *op) { neap_docker_command_drop((docker_command *)op); }

static const neap_op_class start_class = {"a command in a container to begin", start_cancel, start_deliver, start_drop};

/* It runs: the three streams become user values of the handle. */
static int go(lua_State *L, docker_command *c) {
    handle *h = lua_touserdata(L, HANDLE_INDEX);
    h->waiter = NULL;
    for (int n = 0; n < 3; n++) {
        neap_stream_handle *stream = neap_stream_new_handle(L, 0);
        stream->stream = neap_docker_exec_stream(h->slot.exec, n);
        lua_setiuservalue(L, HANDLE_INDEX, STREAM_VALUE + n);
    }
    (void)c;
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void push_meta(lua_State *L);

/* start{… as run, read=} -> command | nil, err. Effect: write; with read=true a declared read. */
int neap_docker_start(lua_State *L) {
    docker_command *c = neap_docker_command_new(L, sizeof *c, &start_class, neap_docker_flag(L, 2, "read"));
    if (c->command.within_ms) neap_raisef(L, NEAP_E_USAGE, "start has no within_ms: stop the command, or wait under a deadline");
    handle *h = lua_newuserdatauv(L, sizeof *h, STREAM_VALUE + 2);
    *h = (handle){.origin = c, .waiter = &c->base.gate.op};
    h->slot.changed = on_change;
    h->slot.arg = h;
    push_meta(L);
    lua_setmetatable(L, HANDLE_INDEX);
    lua_pushvalue(L, OP_INDEX);
    lua_setiuservalue(L, HANDLE_INDEX, OP_VALUE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, HANDLE_INDEX, ENGINE_VALUE);
    c->slot = &h->slot;
    c->go = go;
    c->input = true;
    return neap_docker_command_enter(L, c);
}

/* wait and stop ------------------------------------------------------------------------------------ */

typedef struct wait_op { neap_op op; handle *handle; bool ends, closes; } wait_op;

/* Waiting may be given up without harm to the command; an end that is under way is not given up but forced. */
static void wait_cancel(neap_op *op, bool force) {
    wait_op *w = (wait_op *)op;
    if (w->ends && !force) return;
    w->handle->waiter = NULL;
    neap_op_finish(op);
}

static void wait_on_stop(lua_State *L, neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (!w->ends || w->handle->slot.ended) return;
    neap_gate_outcome(L, &w->handle->origin->base.gate, "unknown", "\"message\":\"stopped, and not seen to end\"", NULL);
    close_exec(w->handle);
}

static int wait_deliver(lua_State *L, neap_op *op) {
    handle *h = ((wait_op *)op)->handle;
    h->waiter = NULL;
    neap_docker_command_outcome(L, h->origin, h->on_request);
    if (((wait_op *)op)->closes) close_exec(h);
    if (h->slot.status < 0) {
        neap_err err = NEAP_ERR_INIT;                /* asked for again, it is the same */
        neap_err_set(&err, h->slot.err.code, "%s", h->slot.err.message);
        if (h->slot.err.hint) neap_err_hint(&err, "%s", h->slot.err.hint);
        err.retry = h->slot.err.retry;
        return neap_fail(L, &err);
    }
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, h->slot.status);
    lua_setfield(L, -2, "status");
    return 1;
}

static void wait_drop(neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (w->handle && w->handle->waiter == op) w->handle->waiter = NULL;
}

static const neap_op_class wait_class = {"the end of a command in a container", wait_cancel, wait_deliver, wait_drop};

static int await_end(lua_State *L, handle *h, bool ends, bool closes) {
    if (h->waiter) neap_raisef(L, NEAP_E_USAGE, "another task is waiting for this command");
    wait_op *w = (wait_op *)neap_op_new(L, sizeof *w, &wait_class);
    w->handle = h;
    w->ends = ends;
    w->closes = closes;
    w->op.on_stop = wait_on_stop;
    if (h->slot.ended) neap_op_finish(&w->op);
    else h->waiter = &w->op;
    return neap_await(L, &w->op);
}

static handle *check_started(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->slot.exec) neap_raisef(L, NEAP_E_USAGE, "the command is closed");
    return h;
}

/* exec:wait() -> {status=} | nil, err. Effect: pure. */
static int exec_wait(lua_State *L) { return await_end(L, check_started(L), false, false); }

/* exec:stop([grace_ms]) -> as wait: TERM to its group, the grace, KILL. Effect: that of start. */
static int exec_stop(lua_State *L) {
    handle *h = check_started(L);
    if (h->origin->base.gate.intended) neap_gate_check_act(L, "the command");
    lua_Integer grace_ms = luaL_optinteger(L, 2, GRACE_MS);
    h->on_request = !h->slot.ended;
    if (!h->slot.ended) neap_docker_exec_end(h->slot.exec, grace_ms);
    return await_end(L, h, true, false);
}

static int push_stream(lua_State *L, int n) {
    check_started(L);
    lua_getiuservalue(L, 1, STREAM_VALUE + n);
    return 1;
}

/* exec:stdin(), exec:stdout(), exec:stderr() -> stream. Effect: pure. */
static int exec_stdin(lua_State *L) { return push_stream(L, 0); }
static int exec_stdout(lua_State *L) { return push_stream(L, 1); }
static int exec_stderr(lua_State *L) { return push_stream(L, 2); }

/* exec:pid() -> its number in the container | nil: the image has no shell. Effect: pure. */
static int exec_pid(lua_State *L) {
    int pid = neap_docker_exec_pid(check_started(L)->slot.exec);
    if (pid) lua_pushinteger(L, pid);
    else lua_pushnil(L);
    return 1;
}

/* Ends --------------------------------------------------------------------------------------------- */

static int meta_gc(lua_State *L) {
    handle *h = check_handle(L);
    close_exec(h);
    neap_err_close(&h->slot.err);
    return 0;
}

/* [-0, +0, m] its streams, less those that another task is using. */
static void close_streams(lua_State *L) {
    for (int n = 0; n < 3; n++) {
        lua_getiuservalue(L, 1, STREAM_VALUE + n);
        neap_stream_handle *s = neap_to_stream_handle(L, -1);
        if (s && s->stream && !s->reader && !s->writer) neap_stream_handle_close(s);
        lua_pop(L, 1);
    }
}

/* The scope ends: whatever still runs is stopped. */
static int meta_close(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->slot.exec) return 0;
    if (h->origin->base.gate.intended && !h->slot.ended) neap_gate_check_act(L, "the command");
    close_streams(L);
    if (h->slot.ended) {
        neap_docker_command_outcome(L, h->origin, h->on_request);
        close_exec(h);
        return 0;
    }
    neap_docker_exec_end(h->slot.exec, GRACE_MS);
    return await_end(L, h, true, true);
}

static int meta_tostring(lua_State *L) {
    handle *h = check_handle(L);
    const docker_command *c = h->origin;
    const char *role = c->base.gate.act.target;
    lua_pushfstring(L, "%s in %s (%s)", c->command.argv[0], role ? role : "a container", !h->slot.exec ? "closed" : h->slot.ended ? "ended" : "running");
    return 1;
}

static const luaL_Reg methods[] = {{"wait", exec_wait}, {"stop", exec_stop}, {"stdin", exec_stdin}, {"stdout", exec_stdout},
                                   {"stderr", exec_stderr}, {"pid", exec_pid}, {"close", meta_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", meta_close}, {"__gc", meta_gc}, {"__tostring", meta_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, EXEC_META)) return;
    neap_function_set(L, "docker.exec:", meta, 0);
    neap_function_table(L, "docker.exec:", methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}
