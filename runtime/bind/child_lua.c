/* child_lua.c -- native.process.start: a child that lives beside the task.
 *
 *     local child <close> = native.process.start { argv = { "pg_dump", … } }
 *     local copied = child:stdout():pipe(file)
 *     local result = child:wait()                    -- {status=} or {signal=}
 *
 * The handle is made before the child; the child's pid is durable before start returns. The outcome belongs to the intent
 * of start and is written when the end is seen: by wait, by stop, or at the end of the scope. A handle that is
 * collected kills its group without a word; the intent then stays open, and that is the truth.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/command.h"
#include "bind/process_lua.h"
#include "bind/stream_lua.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define CHILD_META "neap.child"

enum { GRACE_MS = 5000, OP_INDEX = 2, HANDLE_INDEX = 3, OP_VALUE = 1, STREAM_VALUE = 2 };

typedef struct start_op start_op;

typedef struct handle {
    neap_child *child;            /* NULL: not started, or closed */
    start_op *origin;             /* holds the gate; kept by user value OP_VALUE */
    neap_op *waiter;
    bool exited, on_request;
    int status, signal;
} handle;

struct start_op {
    neap_gate gate;               /* first */
    neap_command command;
    handle *handle;
    neap_command_note *note;
    neap_err failure;
};

static handle *check_handle(lua_State *L) { return luaL_checkudata(L, 1, CHILD_META); }

static void on_exit_status(void *arg, int status, int signal) {
    handle *h = arg;
    h->exited = true;
    h->status = status;
    h->signal = signal;
    if (h->waiter) neap_op_finish(h->waiter);
}

static void close_child(handle *h) {
    neap_child_free(h->child);
    h->child = NULL;
}

/* start -------------------------------------------------------------------------------------------- */

static void on_durable(void *arg, const neap_err *err) {
    start_op *s = arg;
    s->note = NULL;
    if (err) neap_err_set(&s->failure, err->code, "%s", err->message);
    else neap_child_release(s->handle->child, &s->failure);
    neap_op_finish(&s->gate.op);
}

static void start_cancel(neap_op *op, bool force) {
    start_op *s = (start_op *)op;
    if (!force) return;                              /* a commit takes milliseconds */
    if (s->note) s->note->on_durable = NULL;
    s->note = NULL;
    neap_op_finish(op);
}

static void start_on_stop(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    close_child(s->handle);
    neap_gate_outcome(L, &s->gate, "unknown", "\"message\":\"stopped when it had just begun\"", NULL);
}

static int start_deliver(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    if (s->failure.code) {
        close_child(s->handle);
        if (s->failure.code == NEAP_E_JOURNAL) return neap_raise(L, &s->failure);
        neap_gate_outcome(L, &s->gate, "failed", NULL, &s->failure);
        return neap_fail(L, &s->failure);
    }
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void start_drop(neap_op *op) {
    start_op *s = (start_op *)op;
    if (s->note) s->note->on_durable = NULL;
    neap_buf_close(&s->gate.evidence);
    neap_err_close(&s->failure);
    neap_command_close(&s->command);
}

static const neap_op_class start_class = {"a command to begin", start_cancel, start_deliver, start_drop};

/* [-0, +0, m] the three streams become user values of the handle. */
static void open_streams(lua_State *L, handle *h) {
    for (int n = 0; n < 3; n++) {
        neap_stream_handle *stream = neap_stream_new_handle(L, 0);
        stream->stream = neap_child_stream(h->child, n);
        lua_setiuservalue(L, HANDLE_INDEX, STREAM_VALUE + n);
    }
}

static int start_child(lua_State *L, neap_gate *g) {
    start_op *s = (start_op *)g;
    handle *h = s->handle;
    h->child = neap_command_start(L, g, &s->command, 7, on_exit_status, h, &s->failure);
    if (!h->child) {
        neap_gate_outcome(L, g, "failed", NULL, &s->failure);
        return neap_fail(L, &s->failure);
    }
    if (!neap_command_note_start(L, g, h->child, &s->note, on_durable, s)) neap_op_finish(&g->op);
    open_streams(L, h);
    return neap_await(L, &g->op);
}

static void push_meta(lua_State *L);

int neap_process_start(lua_State *L) {
    lua_settop(L, 1);
    start_op *s = (start_op *)neap_op_new(L, sizeof *s, &start_class);
    s->failure = (neap_err)NEAP_ERR_INIT;
    neap_command_read(L, 1, &s->command);
    if (s->command.within_ms) neap_raisef(L, NEAP_E_USAGE, "start has no within_ms: stop the command, or wait under a deadline");
    handle *h = s->handle = lua_newuserdatauv(L, sizeof *h, STREAM_VALUE + 2);
    *h = (handle){.origin = s};
    push_meta(L);
    lua_setmetatable(L, HANDLE_INDEX);
    lua_pushvalue(L, OP_INDEX);
    lua_setiuservalue(L, HANDLE_INDEX, OP_VALUE);
    neap_command_act(&s->command, &s->gate);
    s->gate.start = start_child;
    s->gate.op.on_stop = start_on_stop;
    return neap_gate_enter(L, &s->gate);
}

/* wait and stop ------------------------------------------------------------------------------------ */

typedef struct wait_op { neap_op op; handle *handle; bool ends; } wait_op;

/* Waiting may be given up without harm to the child; its end belongs to stop and to the scope. An end that is
 * under way is not given up but forced. */
static void wait_cancel(neap_op *op, bool force) {
    wait_op *w = (wait_op *)op;
    if (w->ends && !force) return;
    if (w->ends && w->handle->child && !w->handle->exited) neap_child_end(w->handle->child, 0);
    w->handle->waiter = NULL;
    neap_op_finish(op);
}

static int wait_deliver(lua_State *L, neap_op *op) {
    handle *h = ((wait_op *)op)->handle;
    h->waiter = NULL;
    neap_command_outcome(L, &h->origin->gate, &h->origin->command, h->status, h->signal, h->on_request);
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, h->signal ? h->signal : h->status);
    lua_setfield(L, -2, h->signal ? "signal" : "status");
    return 1;
}

static void wait_drop(neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (w->handle && w->handle->waiter == op) w->handle->waiter = NULL;
}

static const neap_op_class wait_class = {"the end of a command", wait_cancel, wait_deliver, wait_drop};

static int await_end(lua_State *L, handle *h, bool ends) {
    if (h->waiter) neap_raisef(L, NEAP_E_USAGE, "another task is waiting for this command");
    wait_op *w = (wait_op *)neap_op_new(L, sizeof *w, &wait_class);
    w->handle = h;
    w->ends = ends;
    if (h->exited) neap_op_finish(&w->op);
    else h->waiter = &w->op;
    return neap_await(L, &w->op);
}

static handle *check_started(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->child) neap_raisef(L, NEAP_E_USAGE, "the command is closed");
    return h;
}

/* child:wait() -> {status=} | {signal=}. Effect: pure. */
static int child_wait(lua_State *L) { return await_end(L, check_started(L), false); }

/* child:stop([grace_ms]) -> as wait: TERM to the group, the grace, KILL. Effect: that of start. */
static int child_stop(lua_State *L) {
    handle *h = check_started(L);
    if (h->origin->gate.intended) neap_gate_check_act(L, "the command");
    lua_Integer grace_ms = luaL_optinteger(L, 2, GRACE_MS);
    h->on_request = !h->exited;
    neap_child_end(h->child, grace_ms);
    return await_end(L, h, true);
}

static int push_stream(lua_State *L, int n) {
    check_started(L);
    lua_getiuservalue(L, 1, STREAM_VALUE + n);
    return 1;
}

/* child:stdin(), child:stdout(), child:stderr() -> stream. Effect: pure. */
static int child_stdin(lua_State *L) { return push_stream(L, 0); }
static int child_stdout(lua_State *L) { return push_stream(L, 1); }
static int child_stderr(lua_State *L) { return push_stream(L, 2); }

/* child:pid() -> number. Effect: pure. */
static int child_pid(lua_State *L) {
    lua_pushinteger(L, neap_child_pid(check_started(L)->child));
    return 1;
}

/* Ends --------------------------------------------------------------------------------------------- */

static int meta_gc(lua_State *L) {
    close_child(check_handle(L));
    return 0;
}

/* [-0, +0, m] its ends of the pipes, less those that another task is using. */
static void close_streams(lua_State *L) {
    for (int n = 0; n < 3; n++) {
        lua_getiuservalue(L, 1, STREAM_VALUE + n);
        neap_stream_handle *s = neap_to_stream_handle(L, -1);
        if (s && s->stream && !s->reader && !s->writer) neap_stream_handle_close(s);
        lua_pop(L, 1);
    }
}

/* The scope ends: whoever still runs is stopped. */
static int meta_close(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->child) return 0;
    if (h->origin->gate.intended && !h->exited) neap_gate_check_act(L, "the command");
    close_streams(L);
    if (!h->exited) neap_child_end(h->child, GRACE_MS);
    return await_end(L, h, true);
}

static int meta_tostring(lua_State *L) {
    handle *h = check_handle(L);
    lua_pushfstring(L, "%s (%s)", h->origin->command.argv[0], !h->child ? "closed" : h->exited ? "ended" : "running");
    return 1;
}

static const luaL_Reg methods[] = {{"wait", child_wait}, {"stop", child_stop}, {"stdin", child_stdin}, {"stdout", child_stdout},
                                   {"stderr", child_stderr}, {"pid", child_pid}, {"close", meta_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", meta_close}, {"__gc", meta_gc}, {"__tostring", meta_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, CHILD_META)) return;
    neap_function_set(L, "command:", meta, 0);
    neap_function_table(L, "command:", methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}
