/* ssh_read.c -- a command on a host, attached: session:read, and session:run where stdin is a stream.
 *
 *     the gate → connection → "started" with its pid, durable (a write) → let begin → stdin fed, outputs kept → its word, both ends seen
 *
 * As native.process.run, with three ends instead of two: a status, a signal, or nobody said. Stopping ends its process group on the
 * host; when the connection is lost instead, what was begun goes on there, and the outcome is "unknown". */
#include <lauxlib.h>

#include "bind/ssh_lua.h"
#include "drive/remote_attached.h"
#include "loop/timer.h"
#include "script/raise.h"

enum { REST_MS = 30000, GRACE_S = 5 };

typedef struct read_op {
    neap_gate gate;                  /* first */
    neap_far far;
    neap_session *session;
    neap_attached *attached;
    neap_capture out, errors;
    neap_feed feed;
    neap_command_note *note;         /* the journal has not answered yet */
    neap_timer *late, *rest;
    long long came;                  /* bytes of stdout, when the rest was last looked at */
    bool over;
    neap_remote_end end;
    neap_err err, failure;           /* err: the end's; failure: ours */
} read_op;

static void tear_down(read_op *r) {
    if (r->note) r->note->on_durable = NULL;
    r->note = NULL;
    neap_feed_end(&r->feed);
    neap_capture_close(&r->out);
    neap_capture_close(&r->errors);
    neap_timer_free(r->late);
    neap_timer_free(r->rest);
    r->late = r->rest = NULL;
    neap_attached *a = r->attached;
    r->attached = NULL;
    neap_attached_free(a);
}

static void check_over(read_op *r) {
    if (!r->over || r->out.stream || r->errors.stream || r->gate.op.finished) return;
    neap_op_finish(&r->gate.op);
}

static void on_output_end(void *arg) { check_over(arg); }

static bool is_told(const read_op *r) { return r->end.how == NEAP_REMOTE_EXITED || r->end.how == NEAP_REMOTE_SIGNALLED; }

/* The end was told before the rest of stdout came. While bytes come the line is only slow; without any, half of what it printed is no answer. */
static void on_rest(void *arg) {
    read_op *r = arg;
    long long came = r->out.dropped + (long long)r->out.kept.len;
    if (is_told(r) && r->out.stream) {
        if (came != r->came) {
            r->came = came;
            neap_timer_start(r->rest, REST_MS);
            return;
        }
        neap_err_set(&r->out.err, NEAP_E_TIMEOUT, "the rest of what \"%s\" on %s printed did not come within %d s", r->far.command.argv[0], r->far.names.place, REST_MS / 1000);
    }
    neap_capture_close(&r->out);
    neap_capture_close(&r->errors);
    check_over(r);
}

static void end_it(read_op *r) {
    if (r->attached && !r->over) neap_attached_end(r->attached, GRACE_S);
}

static void on_late(void *arg) {
    read_op *r = arg;
    if (r->over) return;
    if (!r->failure.code)
        neap_err_set(&r->failure, NEAP_E_TIMEOUT, "\"%s\" on %s did not end within %lld ms and was stopped", r->far.command.argv[0],
                     r->far.names.place, (long long)r->far.command.within_ms);
    end_it(r);
}

static void on_source_fail(void *arg, const neap_err *err) {
    read_op *r = arg;
    if (!r->failure.code) neap_err_set(&r->failure, err->code, "the input of \"%s\" failed: %s", r->far.command.argv[0], err->message);
    end_it(r);
}

/* ---- what the far end says ---- */

static void on_channel(void *arg) {
    read_op *r = arg;
    neap_capture_open(&r->out, neap_attached_stream(r->attached, 1), on_output_end, r);
    neap_capture_open(&r->errors, neap_attached_stream(r->attached, 2), on_output_end, r);
}

static void on_durable(void *arg, const neap_err *err) {
    read_op *r = arg;
    r->note = NULL;
    if (!err) { neap_attached_release(r->attached); return; }
    neap_err_close(&r->failure);
    neap_err_set(&r->failure, err->code, "%s", err->message);
    end_it(r);
}

static void on_started(void *arg, long long pid, long long started) {
    read_op *r = arg;
    if (!r->far.what.holds) return;
    neap_far_note_started(&r->gate, pid, started, &r->note, on_durable, r);
}

static void on_begun(void *arg) {
    read_op *r = arg;
    neap_stream *in = neap_feed_is_given(&r->feed) ? neap_attached_stream(r->attached, 0) : NULL;
    if (in) neap_feed_start(&r->feed, in, &r->gate.op, on_source_fail, r);
}

static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    read_op *r = arg;
    r->over = true;
    r->end = *end;
    if (err) neap_err_copy(&r->err, err);
    neap_feed_end(&r->feed);
    r->rest = neap_timer_new(r->session->loop, on_rest, r);
    neap_timer_start(r->rest, is_told(r) ? REST_MS : 0);
    check_over(r);
}

/* ---- the op ---- */

static void read_cancel(neap_op *op, bool force) {
    read_op *r = (read_op *)op;
    if (!force && r->attached) { end_it(r); return; }
    tear_down(r);
    neap_op_finish(op);
}

static void read_on_stop(lua_State *L, neap_op *op) {
    read_op *r = (read_op *)op;
    neap_far_stopped(L, &r->gate, r->over ? &r->end : NULL);
    tear_down(r);
}

static int read_deliver(lua_State *L, neap_op *op) {
    read_op *r = (read_op *)op;
    neap_err *torn = r->out.err.code ? &r->out.err : &r->errors.err;
    tear_down(r);
    if (torn->code && r->end.how != NEAP_REMOTE_NOT_BEGUN && r->end.how != NEAP_REMOTE_UNTOLD) {      /* it ended, and half of what it said is missing */
        r->end.how = NEAP_REMOTE_UNTOLD;
        neap_err_set(&r->err, torn->code, "%s", torn->message);
    }
    return neap_far_deliver(L, &r->gate, &r->far, &r->end, &r->err, &r->failure, &r->out, &r->errors);
}

static void read_drop(neap_op *op) {
    read_op *r = (read_op *)op;
    tear_down(r);
    neap_capture_wipe(&r->out);
    neap_capture_wipe(&r->errors);
    neap_buf_close(&r->gate.evidence);
    neap_err_close(&r->err);
    neap_err_close(&r->failure);
    neap_far_close(&r->far);
}

static const neap_op_class read_class = {"a command on a host", read_cancel, read_deliver, read_drop};

static int read_start(lua_State *L, neap_gate *g) {
    static const neap_attached_events events = {on_channel, on_started, on_begun, on_ended};
    read_op *r = (read_op *)g;
    if (!neap_feed_is_ready(&r->feed, &r->failure)) {
        neap_gate_outcome(L, g, "failed", NULL, &r->failure);
        return neap_raise(L, &r->failure);
    }
    r->far.what.marks = true;
    r->far.what.holds = g->intended && neap_host_of(L)->recorder.append;
    if (r->far.command.within_ms > 0) {
        r->late = neap_timer_new(r->session->loop, on_late, r);
        neap_timer_start(r->late, r->far.command.within_ms);
    }
    r->attached = neap_attached_new(r->session->link, &r->far.what, neap_feed_is_given(&r->feed), &r->far.names, &events, r);
    return neap_await(L, &g->op);
}

static int begin(lua_State *L, bool reads) {
    neap_session *s = neap_check_session(L);
    lua_settop(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    read_op *r = (read_op *)neap_op_new(L, sizeof *r, &read_class);
    r->err = r->failure = (neap_err)NEAP_ERR_INIT;
    r->session = s;
    neap_far_read(L, s, &r->far, &r->gate);
    r->far.command.reads = r->gate.declared = reads;
    r->gate.act.primitive = reads ? NEAP_P_HOST_READ : NEAP_P_HOST_RUN;
    neap_feed_read(L, 2, &r->feed);
    neap_far_evidence(s, &r->far, NULL, &r->gate);
    r->gate.start = read_start;
    r->gate.op.on_stop = read_on_stop;
    return neap_gate_enter(L, &r->gate);
}

/* session:read{argv=, env=, cwd=, stdin=, within_ms=, allow=, sudo=} -> {status=|signal=, out=, err=, truncated=} | nil, err. Effect: read,
 * declared. */
int neap_ssh_read(lua_State *L) { return begin(L, true); }

int neap_ssh_run_attached(lua_State *L) { return begin(L, false); }
