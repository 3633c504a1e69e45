/* docker_exec_end.c -- how a command in a container ended, and ending it.
 *
 *     the wire ended ─► ASKING: GET /exec/ID/json until {"Running":false,"ExitCode":<number>} ─► COMPARING: GET /containers/ID/json ─► OVER
 *                          ├ running: asked again, as long as it runs (a command may close its outputs and work on)
 *                          ├ not running, null: asked again for ten seconds, then unknown
 *                          ├ 404: unknown
 *                          └ no answer: as null; no word at all for six seconds after a wire that broke, or thirty after one that ended: unknown
 *
 * A container that stops takes its commands along with KILL, and the Engine may tell of their end before its own: where a command was
 * killed, and not by us, it is compared for a second whether its container goes on. A read that ended by itself is not compared: what it
 * said it said before its container ended, and that is all there is to know of it.
 *
 * Ending is asked of a second exec, because the API has no word for it. */
#include "drive/docker_exec_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "drive/docker_log.h"

enum { PATIENCE_MS = 10000, SILENCE_MS = 30000, LOST_MS = 6000, FIRST_MS = 2, LONGEST_MS = 500, LAST_MS = 5000,
       KILLED = 128 + 9, SETTLE_MS = 1000, LOOK_MS = 50 };

void neap_exec_finish(neap_docker_exec *x, int status, neap_err *failure) {
    neap_exec_hold(x);
    x->state = OVER;
    x->status = x->unborn || (failure && failure->code) ? -1 : status;
    if (failure && !x->unborn) neap_err_move(&x->failure, failure);
    if (x->unborn) neap_err_set(&x->failure, NEAP_E_REMOTE, "the command did not begin: it ended while it was held%s%s", x->lost.code ? ": " : "", x->lost.code ? x->lost.message : "");
    neap_docker_exec_free(x->killer);
    x->killer = NULL;
    neap_docker_call_free(x->call);
    x->call = NULL;
    neap_exec_close_wire(x);
    if (x->late) neap_timer_stop(x->late);
    if (x->pause) neap_timer_stop(x->pause);
    if (x->silence) neap_timer_stop(x->silence);
    if (x->told < 3) x->told = 3, x->events.ended(x->arg, x->status, x->failure.code ? &x->failure : NULL);
    if (!x->freed) neap_exec_serve(x);
    neap_exec_release(x);
}

/* For a write that is {unknown}: nobody begins it again before it is settled. A read leaves nothing to settle. */
static void finish_unknown(neap_docker_exec *x, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    bool told = x->lost.code == NEAP_E_REMOTE || x->lost.code == NEAP_E_PROTOCOL;
    neap_code of_read = x->lost.code && !told ? NEAP_E_UNREACHABLE : NEAP_E_REMOTE;
    neap_err_set(&err, x->reads ? of_read : NEAP_E_UNKNOWN, "nobody knows how the command ended: %s", told ? x->lost.message : why);
    err.retry = x->reads;
    neap_exec_finish(x, -1, &err);
}

/* Is it still the run of the container in which the command began? -------------------------------- */

/* Was it killed with its container, which only does not know yet? */
static bool may_be_stopping(const neap_docker_exec *x) {
    return x->status == KILLED && !x->kills && neap_clock_mono_ms() - x->asked < SETTLE_MS;
}

/* Why it may be another one, or NULL. A read was created without a look at its container; so the container must have been started in an
 * earlier second than the exec was created. */
static const char *other_run(const neap_docker_exec *x, const char *started) {
    char since[NEAP_DOCKER_TIME_SIZE];
    if (x->started) return strcmp(started, x->started) == 0 ? NULL : "its container was started again meanwhile";
    if (!x->created) return "the Engine does not say when it created it";
    bool earlier = neap_docker_time(started, since) && strtoll(since, NULL, 10) < x->created;
    return earlier ? NULL : "its container was started again meanwhile, or in the second in which the command was";
}

static void on_compared(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_err bad = NEAP_ERR_INIT;
    x->call = NULL;
    json_t *answer = err ? NULL : neap_docker_object(a->body, a->len, &bad), *state = json_object_get(answer, "State");
    const char *started = json_string_value(json_object_get(state, "StartedAt"));
    if (err && err->status == 404) finish_unknown(x, "its container is gone");
    else if (!answer || !started) finish_unknown(x, err ? err->message : "the Engine does not describe its container");
    else if (other_run(x, started)) finish_unknown(x, other_run(x, started));
    else if (!json_is_true(json_object_get(state, "Running"))) finish_unknown(x, "its container has stopped");
    else if (x->lost.code) finish_unknown(x, x->lost.message);
    else if (may_be_stopping(x)) neap_timer_start(x->pause, LOOK_MS);
    else neap_exec_finish(x, x->status, NULL);
    json_decref(answer);
    neap_err_close(&bad);
}

static void compare(neap_docker_exec *x) {
    neap_buf target = NEAP_BUF_INIT;
    if (x->state != COMPARING) x->asked = neap_clock_mono_ms();
    x->state = COMPARING;
    neap_buf_addf(&target, "/containers/%s/json", x->container);
    x->call = neap_docker_get(x->engine, target.data, on_compared, x);
    neap_buf_close(&target);
}

/* Which status? ------------------------------------------------------------------------------------ */

/* Nothing was heard for too long: a machine that is gone answers no dial either, and a dial has more patience than we. */
static void on_silence(void *arg) {
    neap_docker_exec *x = arg;
    if (x->state != ASKING && x->state != COMPARING) return;
    finish_unknown(x, x->lost.code ? x->lost.message : "the Engine does not answer any more");
}

static void hear(neap_docker_exec *x) {
    neap_timer_start(x->silence, x->lost.code ? LOST_MS : SILENCE_MS);
}

/* Ask again after a pause that doubles; give up when it does not run and says no number for too long. */
static void ask_again(neap_docker_exec *x, bool runs) {
    int64_t now = neap_clock_mono_ms();
    if (runs || !x->asked) x->asked = now;
    if (now - x->asked >= PATIENCE_MS) { finish_unknown(x, "the Engine names no exit status"); return; }
    x->patience = x->patience ? x->patience * 2 : FIRST_MS;
    if (x->patience > LONGEST_MS) x->patience = LONGEST_MS;
    neap_timer_start(x->pause, x->patience);
}

static void on_inspected(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_err bad = NEAP_ERR_INIT;
    x->call = NULL;
    if (err && err->status == 404) { finish_unknown(x, "the Engine does not know the exec any more"); return; }
    if (!err) hear(x);
    json_t *answer = err ? NULL : neap_docker_object(a->body, a->len, &bad), *code = json_object_get(answer, "ExitCode");
    bool runs = json_is_true(json_object_get(answer, "Running"));
    if (json_is_integer(code) && !runs) x->status = (int)json_integer_value(code) & 255;
    bool known = json_is_integer(code) && !runs;
    json_decref(answer);
    neap_err_close(&bad);
    if (!known) ask_again(x, runs);
    else if (x->told < 2) neap_exec_ungreeted(x, x->status);
    else if (x->reads && x->lost.code) finish_unknown(x, x->lost.message);
    else if (x->reads && x->status != KILLED) neap_exec_finish(x, x->status, NULL);
    else compare(x);
}

static void inspect(neap_docker_exec *x) {
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_addf(&target, "/exec/%s/json", x->id);
    x->call = neap_docker_get(x->engine, target.data, on_inspected, x);
    neap_buf_close(&target);
}

static void on_pause(void *arg) {
    neap_docker_exec *x = arg;
    if (x->state == COMPARING) compare(x);
    else inspect(x);
}

void neap_exec_ask(neap_docker_exec *x) {
    x->state = ASKING;
    x->asked = x->patience = 0;
    neap_exec_hold(x);
    neap_exec_close_wire(x);                         /* who was writing is told, and may have freed it */
    bool freed = x->freed;
    neap_exec_release(x);
    if (freed) return;
    if (!x->pause) x->pause = neap_timer_new(neap_docker_loop(x->engine), on_pause, x);
    if (!x->silence) x->silence = neap_timer_new(neap_docker_loop(x->engine), on_silence, x);
    hear(x);
    inspect(x);
}

/* Ending ------------------------------------------------------------------------------------------- */

static void kill_with(neap_docker_exec *x, const char *signal);

/* The grace has passed, or the KILL did nothing. */
static void on_late(void *arg) {
    neap_docker_exec *x = arg;
    if (x->state == OVER) return;
    if (x->kills < 2) kill_with(x, "KILL");
    else finish_unknown(x, x->pid ? "it was told to end and was not seen to" : "its image has no shell through which it could be ended");
}

static void on_signalled(void *arg, int status, const neap_err *err) {
    neap_docker_exec *x = arg;
    (void)status, (void)err;                         /* whether it helped, the end of the command says */
    neap_docker_exec_free(x->killer);
    x->killer = NULL;
}

static void kill_with(neap_docker_exec *x, const char *signal) {
    static const neap_docker_exec_events events = {.ended = on_signalled};
    neap_docker_exec_free(x->killer);
    x->killer = neap_docker_exec_signal(x->engine, x->container, x->user, x->pid, x->ticks, signal, &events, x);
    x->kills++;
    neap_timer_start(x->late, x->kills < 2 ? x->grace_ms : LAST_MS);
}

void neap_docker_exec_end(neap_docker_exec *x, int64_t grace_ms) {
    if (x->state == OVER || x->freed) return;
    if (!x->late) x->late = neap_timer_new(neap_docker_loop(x->engine), on_late, x);
    x->grace_ms = grace_ms;
    if (x->pid && x->told >= 2) {
        if (grace_ms <= 0 && x->kills < 2) x->kills = 1;
        kill_with(x, grace_ms > 0 && !x->kills ? "TERM" : "KILL");
    } else {
        x->kills = 2;
        neap_timer_start(x->late, 0);
    }
}
