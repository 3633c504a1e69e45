/* child_lua.c -- native.process.start: a child that lives beside the task.
 *
 *     local child <close> = native.process.start { argv = { "pg_dump", … } }
 *     local copied = child:stdout():pipe(file)
 *     local result = child:wait()                    -- {status=} or {signal=}
 *
 * The handle (started.h) is made before the child; the child's pid is durable before start returns. A handle that is collected kills its
 * group.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/command.h"
#include "bind/process_lua.h"
#include "bind/started.h"
#include "script/raise.h"

enum { OP_INDEX = 2, HANDLE_INDEX = 3 };

typedef struct start_op start_op;

typedef struct handle {
    neap_started started;         /* first */
    neap_child *child;
    start_op *origin;             /* kept by the handle's user value */
    int status, signal;
} handle;

struct start_op {
    neap_gate gate;               /* first */
    neap_command command;
    handle *handle;
    neap_command_note *note;
    neap_err failure;
};

static void on_exit_status(void *arg, int status, int signal) {
    handle *h = arg;
    h->status = status;
    h->signal = signal;
    neap_started_end(&h->started);
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
    neap_started_close(&s->handle->started);
    neap_gate_outcome(L, &s->gate, "unknown", "\"message\":\"stopped when it had just begun\"", NULL);
}

static int start_deliver(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    if (s->failure.code) {
        neap_started_close(&s->handle->started);
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

static int start_child(lua_State *L, neap_gate *g) {
    start_op *s = (start_op *)g;
    handle *h = s->handle;
    h->child = neap_command_start(L, g, &s->command, 7, on_exit_status, h, &s->failure);
    if (!h->child) {
        neap_gate_outcome(L, g, "failed", NULL, &s->failure);
        return neap_fail(L, &s->failure);
    }
    h->started.open = true;
    if (!neap_command_note_start(L, g, h->child, &s->note, on_durable, s)) neap_op_finish(&g->op);
    neap_started_open_streams(L, HANDLE_INDEX);
    return neap_await(L, &g->op);
}

/* The handle ---------------------------------------------------------------------------------------- */

static neap_stream *child_stream(neap_started *s, int n) { return neap_child_stream(((handle *)s)->child, n); }
static void child_end(neap_started *s, lua_Integer grace_ms) { neap_child_end(((handle *)s)->child, grace_ms); }
static void child_pid(lua_State *L, neap_started *s) { lua_pushinteger(L, neap_child_pid(((handle *)s)->child)); }
static void child_tell(lua_State *L, neap_started *s) { lua_pushstring(L, ((handle *)s)->origin->command.argv[0]); }
static void child_let_go(neap_started *s) { neap_child_free(((handle *)s)->child); }

static int child_result(lua_State *L, neap_started *s) {
    handle *h = (handle *)s;
    neap_command_outcome(L, s->gate, &h->origin->command, h->status, h->signal, s->on_request);
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, h->signal ? h->signal : h->status);
    lua_setfield(L, -2, h->signal ? "signal" : "status");
    return 1;
}

static const neap_started_class child_class = {.meta = "neap.child", .prefix = "command:", .stream = child_stream, .end = child_end,
                                               .result = child_result, .pid = child_pid, .tell = child_tell, .let_go = child_let_go};

int neap_process_start(lua_State *L) {
    lua_settop(L, 1);
    start_op *s = (start_op *)neap_op_new(L, sizeof *s, &start_class);
    s->failure = (neap_err)NEAP_ERR_INIT;
    neap_command_read(L, 1, &s->command);
    if (s->command.within_ms) neap_raisef(L, NEAP_E_USAGE, "start has no within_ms: stop the command, or wait under a deadline");
    s->handle = neap_started_new(L, sizeof *s->handle, &child_class, &s->gate, OP_INDEX, 0);
    s->handle->origin = s;
    neap_command_act(&s->command, &s->gate);
    s->gate.start = start_child;
    s->gate.op.on_stop = start_on_stop;
    return neap_gate_enter(L, &s->gate);
}

