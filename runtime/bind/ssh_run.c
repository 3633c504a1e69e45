/* ssh_run.c -- session:run: a job on a host (drive/remote_job.h).
 *
 *     the gate: intent with the job's name durable → begun → "started" → followed, over as many connections as it takes → outcome
 *     → its directory removed when the outcome is durable
 *
 * The name is in the intent, so whoever resumes finds the job without us; its pid is told for people and for the probe of last resort. A
 * lost connection is a notice, not an end: PATIENCE_MS, or the time the command has, is given to the host to come back. */
#include <lauxlib.h>

#include "base/json.h"
#include "bind/ssh_lua.h"
#include "loop/timer.h"
#include "script/raise.h"

enum { GRACE_S = 5, PATIENCE_MS = 600000 };

typedef struct run_op {
    neap_gate gate;                  /* first */
    neap_far far;
    neap_session *session;
    char name[NEAP_REMOTE_JOB_SIZE];
    const char *input;               /* the stack keeps it */
    size_t input_len;
    neap_remote_job *job;
    neap_capture out, errors;
    neap_timer *late;
    neap_command_note *note;         /* nobody waits for it: the job's name is durable already */
    bool over, lost;
    neap_remote_end end;
    neap_err err, failure;
} run_op;

static void tear_down(run_op *r) {
    neap_timer_free(r->late);
    r->late = NULL;
    neap_remote_job *job = r->job;
    r->job = NULL;
    neap_remote_job_free(job);
}

static void on_late(void *arg) {
    run_op *r = arg;
    if (r->over) return;
    neap_err_set(&r->failure, NEAP_E_TIMEOUT, "\"%s\" on %s did not end within %lld ms and was stopped", r->far.command.argv[0],
                 r->far.names.place, (long long)r->far.command.within_ms);
    neap_remote_job_end(r->job, GRACE_S);
}

static void on_started(void *arg, long long pid, long long started) {
    run_op *r = arg;
    neap_far_note_started(&r->gate, pid, started, &r->note, NULL, NULL);
}

static void on_output(void *arg, int n, const char *data, size_t len) {
    run_op *r = arg;
    neap_capture_add(n == 1 ? &r->out : &r->errors, data, len);
}

static void on_skipped(void *arg, int n, long long bytes) {
    run_op *r = arg;
    (n == 1 ? &r->out : &r->errors)->dropped += bytes;
}

static void on_lost(void *arg, const neap_err *err) {
    run_op *r = arg;
    neap_buf members = NEAP_BUF_INIT;
    if (!r->lost && r->gate.intended && r->gate.op.task) {
        neap_json_member(&members, "message", err->message);
        neap_gate_record(neap_task_thread(r->gate.op.task), &r->gate, "lost", members.data);
    }
    r->lost = true;
    neap_buf_close(&members);
}

static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    run_op *r = arg;
    r->over = true;
    r->end = *end;
    if (err) neap_err_copy(&r->err, err);
    neap_op_finish(&r->gate.op);
}

/* ---- the op ---- */

static void run_cancel(neap_op *op, bool force) {
    run_op *r = (run_op *)op;
    if (!force && r->job && !r->over) { neap_remote_job_end(r->job, GRACE_S); return; }
    tear_down(r);
    neap_op_finish(op);
}

static void run_on_stop(lua_State *L, neap_op *op) {
    run_op *r = (run_op *)op;
    neap_far_stopped(L, &r->gate, r->over ? &r->end : NULL);
    tear_down(r);
}

static int run_deliver(lua_State *L, neap_op *op) {
    run_op *r = (run_op *)op;
    bool known = r->end.how != NEAP_REMOTE_UNTOLD && !r->failure.code && neap_remote_job_is_launched(r->job);
    tear_down(r);
    int results = neap_far_deliver(L, &r->gate, &r->far, &r->end, &r->err, &r->failure, &r->out, &r->errors);
    if (known) neap_session_tidy(L, r->session, &r->far, r->name);
    return results;
}

static void run_drop(neap_op *op) {
    run_op *r = (run_op *)op;
    tear_down(r);
    neap_capture_wipe(&r->out);
    neap_capture_wipe(&r->errors);
    neap_buf_close(&r->gate.evidence);
    neap_err_close(&r->err);
    neap_err_close(&r->failure);
    neap_far_close(&r->far);
}

static const neap_op_class run_class = {"a job on a host", run_cancel, run_deliver, run_drop};

static int run_start(lua_State *L, neap_gate *g) {
    static const neap_remote_job_events events = {on_started, on_output, on_skipped, on_lost, on_ended};
    run_op *r = (run_op *)g;
    int64_t within_ms = r->far.command.within_ms;
    neap_remote_job_options o = {&r->far.what, r->name, r->input, r->input_len, r->far.names, within_ms > 0 ? within_ms : PATIENCE_MS};
    r->job = neap_remote_job_new(r->session->link, &o, &events, r);
    if (within_ms > 0) {
        r->late = neap_timer_new(r->session->loop, on_late, r);
        neap_timer_start(r->late, within_ms);
    }
    return neap_await(L, &g->op);
}

int neap_ssh_run(lua_State *L) {
    neap_session *s = neap_check_session(L);
    neap_feed feed = {0};
    lua_settop(L, 2);
    run_op *r = (run_op *)neap_op_new(L, sizeof *r, &run_class);
    r->err = r->failure = (neap_err)NEAP_ERR_INIT;
    r->session = s;
    neap_far_read(L, s, &r->far, &r->gate);
    r->far.command.reads = r->gate.declared = false;
    r->gate.act.primitive = NEAP_P_HOST_RUN;
    neap_feed_read(L, 2, &feed);
    r->input = feed.input;
    r->input_len = feed.input_len;
    neap_task *task = neap_task_of(L);
    neap_remote_name_job(r->name, task ? neap_task_scope(task)->step : "");
    neap_far_evidence(s, &r->far, r->name, &r->gate);
    r->gate.start = run_start;
    r->gate.op.on_stop = run_on_stop;
    return neap_gate_enter(L, &r->gate);
}
