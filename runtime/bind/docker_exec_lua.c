/* docker_exec_lua.c -- engine:read, engine:run, engine:probe: one command in a container from its start to its end.
 *
 * Stopping (deadline, operator, a source of stdin that fails) is TERM to the command's group in the container, GRACE_MS, KILL. A
 * command that was stopped did something nobody knows: its outcome is "unknown".
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bind/capture.h"
#include "bind/docker_command.h"
#include "bind/feed.h"
#include "loop/timer.h"
#include "script/raise.h"
#include "script/task.h"

enum { GRACE_MS = 5000, POLL_MS = 200 };

typedef struct run_op {
    docker_command command;           /* first */
    docker_slot slot;
    neap_capture out, err;
    neap_feed in;
    neap_timer *late;
} run_op;

static neap_op *op_of(run_op *r) { return &r->command.base.gate.op; }

static void tear_down(run_op *r) {
    neap_feed_end(&r->in);
    neap_capture_close(&r->out);
    neap_capture_close(&r->err);
    neap_timer_free(r->late);
    r->late = NULL;
}

/* Before the release each event is the end of a stage; behind it everything must be over. */
static void check_over(void *arg) {
    run_op *r = arg;
    if (r->command.stage < DOCKER_RUNNING) {
        if (r->command.stage != DOCKER_NOTING) neap_op_finish(op_of(r));
        return;
    }
    if (!r->slot.ended || r->out.stream || r->err.stream || op_of(r)->finished) return;
    tear_down(r);
    neap_op_finish(op_of(r));
}

static void end_exec(run_op *r) {
    if (r->slot.exec && !r->slot.ended) neap_docker_exec_end(r->slot.exec, GRACE_MS);
}

static void on_late(void *arg) {
    run_op *r = arg;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_TIMEOUT, "\"%s\" did not end within %lld ms and was stopped", r->command.command.argv[0], (long long)r->command.command.within_ms);
    neap_docker_op_error(&r->command.base, &err);
    neap_err_close(&err);
    end_exec(r);
}

static void on_source_failed(void *arg, const neap_err *err) {
    run_op *r = arg;
    neap_err failed = NEAP_ERR_INIT;
    neap_err_set(&failed, NEAP_E_CANCELLED, "the input of \"%s\" failed: %s", r->command.command.argv[0], err->message);
    failed.code = err->code;
    neap_docker_op_error(&r->command.base, &failed);
    neap_err_close(&failed);
    end_exec(r);
}

static void run_cancel(neap_op *op, bool force) {
    run_op *r = (run_op *)op;
    if (r->command.stage == DOCKER_NOTING && !force) return;          /* a commit takes milliseconds */
    if (r->command.stage == DOCKER_RUNNING && !force) { end_exec(r); return; }
    if (r->command.note) r->command.note->on_durable = NULL;
    r->command.note = NULL;
    tear_down(r);
    neap_op_finish(op);
}

static int go(lua_State *L, docker_command *c) {
    run_op *r = (run_op *)c;
    neap_capture_open(&r->out, neap_docker_exec_stream(r->slot.exec, 1), check_over, r);
    neap_capture_open(&r->err, neap_docker_exec_stream(r->slot.exec, 2), check_over, r);
    if (c->command.within_ms > 0) {
        r->late = neap_timer_new(neap_host_of(L)->loop, on_late, r);
        neap_timer_start(r->late, c->command.within_ms);
    }
    if (c->input && neap_feed_is_ready(&r->in, &c->base.err))
        neap_feed_start(&r->in, neap_docker_exec_stream(r->slot.exec, 0), op_of(r), on_source_failed, r);
    else if (c->input) end_exec(r);
    return neap_await(L, op_of(r));
}

static int push_result(lua_State *L, run_op *r) {
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, r->slot.status);
    lua_setfield(L, -2, "status");
    neap_capture_push_missing(L, neap_capture_push(L, &r->out, "out") + neap_capture_push(L, &r->err, "err"));
    return 1;
}

static int run_deliver(lua_State *L, neap_op *op) {
    run_op *r = (run_op *)op;
    docker_command *c = &r->command;
    if (c->stage < DOCKER_RUNNING) return neap_docker_command_step(L, c);
    neap_docker_slot_close(&r->slot);
    if (c->base.err.code) {                          /* it was stopped */
        neap_gate_outcome(L, &c->base.gate, "unknown", NULL, &c->base.err);
        return neap_fail(L, &c->base.err);
    }
    neap_docker_command_outcome(L, c, false);
    return r->slot.status >= 0 ? push_result(L, r) : neap_fail(L, &r->slot.err);
}

static void run_drop(neap_op *op) {
    run_op *r = (run_op *)op;
    tear_down(r);
    neap_docker_slot_close(&r->slot);
    neap_capture_wipe(&r->out);
    neap_capture_wipe(&r->err);
    neap_err_close(&r->slot.err);
    neap_docker_command_drop(&r->command);
}

static const neap_op_class run_class = {"a command in a container", run_cancel, run_deliver, run_drop};

static int enter(lua_State *L, bool reads) {
    run_op *r = (run_op *)neap_docker_command_new(L, sizeof *r, &run_class, reads);
    r->slot.changed = check_over;
    r->slot.arg = r;
    r->command.slot = &r->slot;
    r->command.go = go;
    neap_feed_read(L, 2, &r->in);
    r->command.input = neap_feed_is_given(&r->in);
    return neap_docker_command_enter(L, &r->command);
}

/* read{container=, argv=, env=, user=, workdir=, stdin=, within_ms=, allow=} -> {status=, out=, err=, truncated=} | nil, err.
 * Effect: a declared read. */
int neap_docker_read_command(lua_State *L) { return enter(L, true); }

/* run{…} -> the same. Effect: write. */
int neap_docker_run(lua_State *L) { return enter(L, false); }

/* probe -------------------------------------------------------------------------------------------- */

typedef struct probe_op {
    docker_op base;                   /* first */
    neap_docker_call *call;
    neap_docker_exec *exec;
    neap_timer *pause;
    char *started, *user;
    int pid;
    long long ticks;
    bool end_it, termed, killed;
    int64_t until, kill_at;           /* how long the end is waited for; when TERM has had its time */
    enum { UNTOLD, NOT_BEGUN, RUNNING, GONE } fate;
} probe_op;

static void ask(probe_op *p);

static void on_told(void *arg, int status, const neap_err *err) {
    probe_op *p = arg;
    neap_docker_op_error(&p->base, err);
    p->fate = status == 0 ? RUNNING : status == 3 ? GONE : UNTOLD;
    neap_docker_exec_free(p->exec);
    p->exec = NULL;
    if (p->fate == RUNNING && neap_clock_mono_ms() < p->until) neap_timer_start(p->pause, POLL_MS);
    else neap_op_finish(&p->base.gate.op);
}

/* TERM once, KILL once when TERM has had its time, and in between: is it still there? */
static void ask(probe_op *p) {
    static const neap_docker_exec_events events = {.ended = on_told};
    const char *signal = NULL;
    if (p->end_it && !p->termed) signal = "TERM", p->termed = true;
    else if (p->end_it && !p->killed && neap_clock_mono_ms() >= p->kill_at) signal = "KILL", p->killed = true;
    p->exec = neap_docker_exec_signal(p->base.h->engine, p->base.container, p->user, p->pid, p->ticks, signal, &events, p);
}

static void on_pause(void *arg) { ask(arg); }

static void on_inspected(void *arg, const neap_docker_answer *a, const neap_err *err) {
    probe_op *p = arg;
    neap_err bad = NEAP_ERR_INIT;
    p->call = NULL;
    json_t *answer = err ? NULL : neap_docker_object(a->body, a->len, &bad), *state = json_object_get(answer, "State");
    const char *started = json_string_value(json_object_get(state, "StartedAt"));
    bool same = started && strcmp(started, p->started) == 0 && json_is_true(json_object_get(state, "Running"));
    json_decref(answer);
    if (err && err->status != 404) neap_docker_op_error(&p->base, err);
    if (bad.code) neap_docker_op_error(&p->base, &bad);
    neap_err_close(&bad);
    if (!p->base.err.code && !same) p->fate = GONE;  /* a process does not outlive the run of its container */
    if (p->base.err.code || p->fate == GONE || !p->pid) neap_op_finish(&p->base.gate.op);
    else ask(p);
}

static void probe_cancel(neap_op *op, bool force) {
    probe_op *p = (probe_op *)op;
    (void)force;
    neap_docker_call_free(p->call), neap_docker_exec_free(p->exec), neap_timer_free(p->pause);
    p->call = NULL, p->exec = NULL, p->pause = NULL;
    neap_op_finish(op);
}

static int probe_deliver(lua_State *L, neap_op *op) {
    probe_op *p = (probe_op *)op;
    neap_timer_free(p->pause);
    p->pause = NULL;
    static const char *const words[] = {NULL, "not begun", "running", NULL};
    static const char *const reasons[] = {"its image has no shell, so nobody can ask for it", "it was never let go", "it runs in its container",
                                          "it has ended, and nobody can say how"};
    if (p->base.err.code) return neap_fail(L, &p->base.err);
    lua_pushstring(L, words[p->fate]);
    lua_pushstring(L, reasons[p->fate]);
    return 2;
}

static void probe_drop(neap_op *op) {
    probe_op *p = (probe_op *)op;
    probe_cancel(op, true);
    free(p->started), free(p->user);
    neap_docker_op_drop(&p->base);
}

static const neap_op_class probe_class = {"what became of a command", probe_cancel, probe_deliver, probe_drop};

static int probe_start(lua_State *L, neap_gate *g) {
    probe_op *p = (probe_op *)g;
    neap_buf target = NEAP_BUF_INIT;
    if (p->pid < 0) {
        p->fate = NOT_BEGUN;
        neap_op_finish(&g->op);
        return neap_await(L, &g->op);
    }
    p->pause = neap_timer_new(neap_host_of(L)->loop, on_pause, p);
    neap_buf_addf(&target, "/containers/%s/json", p->base.container);
    p->call = neap_docker_get(p->base.h->engine, target.data, on_inspected, p);
    neap_buf_close(&target);
    return neap_await(L, &g->op);
}

/* probe(evidence, {within_ms=, end_it=}) -> "not begun" | "running" (after within_ms) | nil, why: what became of a command whose run died.
 * `evidence` is its intent with what "started" added: it is let go only when its pid is durable, so without one it never began. With
 * end_it what still runs is ended, the resuming human's decision. Effect: read (asked by a second exec, declared). */
int neap_docker_probe(lua_State *L) {
    docker_handle *h = neap_docker_check(L);
    lua_settop(L, 3);
    char *container = neap_docker_container(L, 2);
    probe_op *p = (probe_op *)neap_docker_op_new(L, sizeof *p, &probe_class, NEAP_P_DOCKER_ASK, h, container, neap_strdup("what became of a command"));
    p->base.gate.act.subject = NULL;
    p->base.gate.declared = true;
    p->started = neap_docker_field(L, 2, "started");
    p->user = neap_docker_field(L, 2, "user");
    if (!p->started) neap_raisef(L, NEAP_E_USAGE, "the evidence of a command in a container names when that was started");
    p->pid = (int)neap_docker_integer(L, 2, "pid", -1);
    p->ticks = neap_docker_integer(L, 2, "ticks", 0);
    p->end_it = neap_docker_flag(L, 3, "end_it");
    lua_Integer within_ms = neap_docker_integer(L, 3, "within_ms", p->end_it ? 2 * GRACE_MS : 0);
    p->until = neap_clock_mono_ms() + within_ms;
    p->kill_at = neap_clock_mono_ms() + (within_ms / 2 < GRACE_MS ? within_ms / 2 : GRACE_MS);
    p->base.gate.start = probe_start;
    return neap_gate_enter(L, &p->base.gate);
}
