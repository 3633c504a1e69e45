/* process_lua.c -- native.process.run: one command from its start to its end.
 *
 *     the gate (a write: intent durable) → the child, held → "started" with its pid, durable → the child is let go
 *     → stdin fed, stdout and stderr kept → exit and both ends seen → outcome → result
 *
 * The op is finished when everything is over: the child has gone, its pipes have ended and the journal holds the pid. A pipe
 * that some grandchild keeps open is given DRAIN_MS after the exit and then let go.
 *
 * Stopping (deadline, operator, a source of stdin that fails) is TERM to the group, GRACE_MS, KILL. A command that was
 * stopped did something nobody knows: its outcome is "unknown".
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/capture.h"
#include "bind/command.h"
#include "bind/feed.h"
#include "bind/process_lua.h"
#include "loop/timer.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

enum { DRAIN_MS = 1000, GRACE_MS = 5000 };

typedef struct run_op {
    neap_gate gate;               /* first */
    neap_command command;
    neap_child *child;
    neap_capture out, err;
    neap_feed in;
    neap_command_note *note;      /* the journal has not answered yet */
    neap_timer *late, *drain;
    bool exited, ending, unborn;  /* unborn: it never became its program */
    int status, signal;
    neap_err failure;             /* why it was ended or could not start, or what the journal said */
} run_op;

/* The end of everything ---------------------------------------------------------------------------- */

/* Harmless twice. The child is killed with its group when it is still there. */
static void tear_down(run_op *r) {
    if (r->note) r->note->on_durable = NULL;
    r->note = NULL;
    neap_feed_end(&r->in);
    neap_capture_close(&r->out);
    neap_capture_close(&r->err);
    neap_timer_free(r->late);
    neap_timer_free(r->drain);
    r->late = r->drain = NULL;
    neap_child_free(r->child);
    r->child = NULL;
}

static void check_over(void *arg) {
    run_op *r = arg;
    if (!r->exited || r->out.stream || r->err.stream || r->note || r->gate.op.finished) return;
    tear_down(r);
    neap_op_finish(&r->gate.op);
}

static void on_drained(void *arg) {
    run_op *r = arg;
    neap_capture_close(&r->out);
    neap_capture_close(&r->err);
    check_over(r);
}

static void on_exit_status(void *arg, int status, int signal) {
    run_op *r = arg;
    r->exited = true;
    r->status = status;
    r->signal = signal;
    neap_feed_end(&r->in);
    r->drain = neap_timer_new(neap_child_loop(r->child), on_drained, r);
    neap_timer_start(r->drain, DRAIN_MS);
    check_over(r);
}

static void end_child(run_op *r) {
    r->ending = true;
    if (r->child && !r->exited) neap_child_end(r->child, GRACE_MS);
}

static void on_late(void *arg) {
    run_op *r = arg;
    if (r->exited) return;
    if (!r->failure.code)
        neap_err_set(&r->failure, NEAP_E_TIMEOUT, "\"%s\" did not end within %lld ms and was stopped", r->command.argv[0], (long long)r->command.within_ms);
    end_child(r);
}

static void on_durable(void *arg, const neap_err *err) {
    run_op *r = arg;
    neap_err why = NEAP_ERR_INIT;
    r->note = NULL;
    if (err) {
        neap_err_copy(&r->failure, err);
        end_child(r);
    } else if (r->child && !r->exited && !neap_child_release(r->child, &why)) {
        r->unborn = true;
        if (!r->failure.code) neap_err_move(&r->failure, &why);      /* else its input failed while it was held: that is the reason */
    }
    neap_err_close(&why);
    check_over(r);
}

static void on_source_failed(void *arg, const neap_err *err) {
    run_op *r = arg;
    if (!r->failure.code) neap_err_set(&r->failure, err->code, "the input of \"%s\" failed: %s", r->command.argv[0], err->message);
    end_child(r);
}

/* The op ------------------------------------------------------------------------------------------- */

static void run_cancel(neap_op *op, bool force) {
    run_op *r = (run_op *)op;
    end_child(r);
    if (!force) return;
    tear_down(r);
    neap_op_finish(op);
}

static void run_drop(neap_op *op) {
    run_op *r = (run_op *)op;
    tear_down(r);
    neap_capture_wipe(&r->out);
    neap_capture_wipe(&r->err);
    neap_buf_close(&r->gate.evidence);
    neap_err_close(&r->failure);
    neap_command_close(&r->command);
}

static void run_on_stop(lua_State *L, neap_op *op) {
    run_op *r = (run_op *)op;
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member(&members, "message", r->exited ? "stopped before it was done" : "stopped, and not seen to end");
    if (r->signal) neap_json_member_int(&members, "signal", r->signal);
    else if (r->exited) neap_json_member_int(&members, "exit", r->status);
    neap_gate_outcome(L, &r->gate, "unknown", members.data, NULL);
    neap_buf_close(&members);
}

static int push_result(lua_State *L, run_op *r) {
    lua_createtable(L, 0, 5);
    if (!r->signal) lua_pushinteger(L, r->status), lua_setfield(L, -2, "status");
    else lua_pushinteger(L, r->signal), lua_setfield(L, -2, "signal");
    neap_capture_push_missing(L, neap_capture_push(L, &r->out, "out") + neap_capture_push(L, &r->err, "err"));
    return 1;
}

static int run_deliver(lua_State *L, neap_op *op) {
    run_op *r = (run_op *)op;
    if (!r->failure.code) {
        neap_command_outcome(L, &r->gate, &r->command, r->status, r->signal, false);
        return push_result(L, r);
    }
    neap_gate_outcome(L, &r->gate, r->unborn ? "failed" : "unknown", NULL, &r->failure);
    if (r->failure.code == NEAP_E_JOURNAL) return neap_raise(L, &r->failure);
    return neap_fail(L, &r->failure);
}

static const neap_op_class run_class = {"a command", run_cancel, run_deliver, run_drop};

static int run_start(lua_State *L, neap_gate *g) {
    run_op *r = (run_op *)g;
    bool feeds = neap_feed_is_given(&r->in);
    if (!neap_feed_is_ready(&r->in, &r->failure)) {
        neap_gate_outcome(L, g, "failed", NULL, &r->failure);
        return neap_raise(L, &r->failure);
    }
    r->child = neap_command_start(L, g, &r->command, feeds ? 7 : 6, on_exit_status, r, &r->failure);
    if (!r->child) {
        neap_gate_outcome(L, g, "failed", NULL, &r->failure);
        return neap_fail(L, &r->failure);
    }
    neap_command_note_start(L, g, r->child, &r->note, on_durable, r);
    neap_capture_open(&r->out, neap_child_stream(r->child, 1), check_over, r);
    neap_capture_open(&r->err, neap_child_stream(r->child, 2), check_over, r);
    if (r->command.within_ms > 0) {
        r->late = neap_timer_new(neap_host_of(L)->loop, on_late, r);
        neap_timer_start(r->late, r->command.within_ms);
    }
    if (feeds) neap_feed_start(&r->in, neap_child_stream(r->child, 0), &g->op, on_source_failed, r);
    return neap_await(L, &g->op);
}

/* run{argv=, env=, cwd=, stdin=string|secret|stream, within_ms=, read=, role=, allow=} -> {status=|signal=, out=, err=, truncated=}
 * | nil, err. Effect: write; with read=true a declared read. */
static int process_run(lua_State *L) {
    lua_settop(L, 1);
    run_op *r = (run_op *)neap_op_new(L, sizeof *r, &run_class);
    r->failure = (neap_err)NEAP_ERR_INIT;
    neap_command_read(L, 1, &r->command);
    neap_feed_read(L, 1, &r->in);
    neap_command_act(&r->command, &r->gate);
    r->gate.start = run_start;
    r->gate.op.on_stop = run_on_stop;
    return neap_gate_enter(L, &r->gate);
}

static lua_Integer get_integer(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    lua_Integer value = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
    lua_pop(L, 1);
    return value;
}

/* probe{pid=, started=} -> "running" | nil: does the process of that intent still live, or anything of its group? Effect: pure. */
static int process_probe(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer pid = get_integer(L, "pid"), started = get_integer(L, "started");
    if (neap_child_group_lives((int)pid, started)) lua_pushliteral(L, "running");
    else lua_pushnil(L);
    return 1;
}

static const luaL_Reg module[] = {{"run", process_run}, {"start", neap_process_start}, {"probe", process_probe}, {NULL, NULL}};

int neap_open_process(lua_State *L) {
    neap_function_table(L, "native.process.", module);
    return 1;
}
