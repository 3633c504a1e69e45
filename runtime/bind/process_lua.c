/* process_lua.c -- native.process.run: one command from its start to its end.
 *
 *     the gate (a write: intent durable) → the child, held → "started" with its pid, durable → the child is let go
 *     → stdin fed, stdout and stderr kept → exit and both ends seen → outcome → result
 *
 * The op is finished when everything is over: the child has gone, its pipes have ended and the journal holds the pid. A pipe
 * that some grandchild keeps open is given DRAIN_MS after the exit and then let go.
 *
 * Of each output the last CAP bytes are kept and the rest is counted: `yes` may run for a minute without
 * our memory growing. What is kept passes the redactor before Lua sees it.
 *
 * Stopping (deadline, operator, a source of stdin that fails) is TERM to the group, GRACE_MS, KILL. A command that was
 * stopped did something nobody knows: its outcome is "unknown".
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/command.h"
#include "bind/process_lua.h"
#include "bind/secret_lua.h"
#include "bind/stream_lua.h"
#include "loop/timer.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

enum { CAP = 1 << 20, PIECE_SIZE = 64 * 1024, DRAIN_MS = 1000, GRACE_MS = 5000 };

typedef struct run_op run_op;

typedef struct capture {
    run_op *owner;
    neap_stream *stream;          /* NULL: ended */
    neap_buf kept;
    long long dropped;
} capture;

struct run_op {
    neap_gate gate;               /* first */
    neap_command command;
    neap_child *child;
    capture out, err;
    neap_stream *in;              /* NULL: nothing (more) to feed */
    const char *input;            /* a string or a secret that the stack keeps */
    size_t input_len;
    neap_stream_handle *source;   /* or a stream */
    neap_command_note *note;      /* the journal has not answered yet */
    neap_timer *late, *drain;
    bool exited, ending, unborn;  /* unborn: it never became its program */
    int status, signal;
    neap_err failure;             /* why it was ended or could not start, or what the journal said */
};

/* The end of everything ---------------------------------------------------------------------------- */

static void release_input(run_op *r) {
    neap_stream *in = r->in;
    r->in = NULL;
    neap_stream_free(in);
    if (r->source && r->source->reader == &r->gate.op) {
        r->source->reader = NULL;
        if (r->source->stream) neap_stream_stop(r->source->stream);
    }
}

static void release_output(capture *c) {
    neap_stream *s = c->stream;
    c->stream = NULL;
    neap_stream_free(s);
}

/* Harmless twice. The child is killed with its group when it is still there. */
static void tear_down(run_op *r) {
    if (r->note) r->note->on_durable = NULL;
    r->note = NULL;
    release_input(r);
    release_output(&r->out);
    release_output(&r->err);
    neap_timer_free(r->late);
    neap_timer_free(r->drain);
    r->late = r->drain = NULL;
    neap_child_free(r->child);
    r->child = NULL;
}

static void check_over(run_op *r) {
    if (!r->exited || r->out.stream || r->err.stream || r->note || r->gate.op.finished) return;
    tear_down(r);
    neap_op_finish(&r->gate.op);
}

static void on_drained(void *arg) {
    run_op *r = arg;
    release_output(&r->out);
    release_output(&r->err);
    check_over(r);
}

static void on_exit_status(void *arg, int status, int signal) {
    run_op *r = arg;
    r->exited = true;
    r->status = status;
    r->signal = signal;
    release_input(r);
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
    r->note = NULL;
    if (err) {
        neap_err_close(&r->failure);
        neap_err_set(&r->failure, err->code, "%s", err->message);
        end_child(r);
    } else if (r->child && !r->exited && !neap_child_release(r->child, &r->failure)) {
        r->unborn = true;
    }
    check_over(r);
}

/* Output ------------------------------------------------------------------------------------------- */

static void on_output(void *arg, const char *data, ssize_t len, const neap_err *err) {
    capture *c = arg;
    (void)err;                                       /* a pipe that breaks has ended */
    if (!c->stream) return;
    if (len <= 0) {
        release_output(c);
        check_over(c->owner);
        return;
    }
    neap_buf_add(&c->kept, data, (size_t)len);
    if (c->kept.len > 2 * CAP) {
        c->dropped += (long long)(c->kept.len - CAP);
        neap_buf_drop(&c->kept, c->kept.len - CAP);
    }
    neap_stream_read(c->stream, PIECE_SIZE, on_output, c);
}

static void open_capture(run_op *r, capture *c, int n) {
    c->owner = r;
    c->stream = neap_child_stream(r->child, n);
    neap_stream_read(c->stream, PIECE_SIZE, on_output, c);
}

/* Input -------------------------------------------------------------------------------------------- */

static void on_input_shut(void *arg, const neap_err *err) {
    (void)err;
    release_input(arg);
}

static void feed(run_op *r);

/* A child may close its stdin when it has read enough; that is no failure. */
static void on_fed(void *arg, const neap_err *err) {
    run_op *r = arg;
    if (!r->in) return;
    if (err) release_input(r);
    else feed(r);
}

/* A source that fails must not look like its end: the child would take half for the whole. */
static void on_source(void *arg, const char *data, ssize_t len, const neap_err *err) {
    run_op *r = arg;
    if (!r->in) return;
    if (len > 0) {
        r->source->moved += len;
        neap_stream_write(r->in, data, (size_t)len, on_fed, r);
    } else if (len == 0) {
        r->source->reader = NULL;
        neap_stream_shut(r->in, on_input_shut, r);
    } else {
        if (!r->failure.code) neap_err_set(&r->failure, err->code, "the input of \"%s\" failed: %s", r->command.argv[0], err->message);
        end_child(r);
    }
}

static void feed(run_op *r) {
    if (r->source) {
        neap_stream_read(r->source->stream, PIECE_SIZE, on_source, r);
    } else if (r->input_len) {
        size_t len = r->input_len < PIECE_SIZE ? r->input_len : PIECE_SIZE;
        const char *data = r->input;
        r->input += len;
        r->input_len -= len;
        neap_stream_write(r->in, data, len, on_fed, r);
    } else {
        neap_stream_shut(r->in, on_input_shut, r);
    }
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
    neap_buf_wipe(&r->out.kept);
    neap_buf_wipe(&r->err.kept);
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

static long long push_output(lua_State *L, capture *c, const char *name) {
    neap_buf clean = NEAP_BUF_INIT;
    if (c->kept.len > CAP) {
        c->dropped += (long long)(c->kept.len - CAP);
        neap_buf_drop(&c->kept, c->kept.len - CAP);
    }
    neap_redact(&clean, c->kept.data ? c->kept.data : "", c->kept.len);
    neap_buf_wipe(&c->kept);
    c->kept = clean;                                 /* the op owns it should pushing raise */
    lua_pushlstring(L, clean.data ? clean.data : "", clean.len);
    lua_setfield(L, -2, name);
    return c->dropped;
}

static int push_result(lua_State *L, run_op *r) {
    lua_createtable(L, 0, 5);
    if (!r->signal) lua_pushinteger(L, r->status), lua_setfield(L, -2, "status");
    else lua_pushinteger(L, r->signal), lua_setfield(L, -2, "signal");
    long long dropped = push_output(L, &r->out, "out") + push_output(L, &r->err, "err");
    if (dropped) lua_pushinteger(L, dropped);
    else lua_pushboolean(L, 0);
    lua_setfield(L, -2, "truncated");
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
    bool feeds = r->input || r->source;
    if (r->source && (!r->source->stream || r->source->reader)) {    /* since the intent was written */
        neap_err_set(&r->failure, NEAP_E_USAGE, "the stream for stdin is %s", r->source->stream ? "being read by another task" : "closed");
        neap_gate_outcome(L, g, "failed", NULL, &r->failure);
        return neap_raise(L, &r->failure);
    }
    r->child = neap_command_start(L, g, &r->command, feeds ? 7 : 6, on_exit_status, r, &r->failure);
    if (!r->child) {
        neap_gate_outcome(L, g, "failed", NULL, &r->failure);
        return neap_fail(L, &r->failure);
    }
    neap_command_note_start(L, g, r->child, &r->note, on_durable, r);
    open_capture(r, &r->out, 1);
    open_capture(r, &r->err, 2);
    if (r->command.within_ms > 0) {
        r->late = neap_timer_new(neap_host_of(L)->loop, on_late, r);
        neap_timer_start(r->late, r->command.within_ms);
    }
    if (feeds) {
        r->in = neap_child_stream(r->child, 0);
        if (r->source) r->source->reader = &g->op;
        feed(r);
    }
    return neap_await(L, &g->op);
}

/* [-0, +1, e] leaves the value of `stdin` on the stack, which keeps its bytes. */
static void read_input(lua_State *L, run_op *r) {
    int type = lua_getfield(L, 1, "stdin");
    neap_secret *secret = neap_to_secret(L, -1);
    if (type == LUA_TNIL) return;
    if (secret) r->input = neap_secret_bytes(secret, &r->input_len);
    else if (type == LUA_TSTRING) r->input = lua_tolstring(L, -1, &r->input_len);
    else r->source = neap_check_stream(L, -1);
    if (r->source && r->source->reader) neap_raisef(L, NEAP_E_USAGE, "another task is reading from the stream for stdin");
}

/* run{argv=, env=, cwd=, stdin=string|secret|stream, within_ms=, read=, role=, allow=} -> {status=|signal=, out=, err=, truncated=}
 * | nil, err. Effect: write; with read=true a declared read. */
static int process_run(lua_State *L) {
    lua_settop(L, 1);
    run_op *r = (run_op *)neap_op_new(L, sizeof *r, &run_class);
    r->failure = (neap_err)NEAP_ERR_INIT;
    neap_command_read(L, 1, &r->command);
    read_input(L, r);
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
