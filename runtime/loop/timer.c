/* timer.c -- one-shot timers.
 *
 * libuv counts from the time it cached at the start of a turn; a turn that took long would make a new timer fire
 * early by as much. The cache is refreshed before every start, so a delay is never shorter than asked.
 *
 * libuv runs the timers that are due and then waits for descriptors all the same, even in "one turn" mode. A task
 * made ready by a timer would wait for some other event. Asking the loop to stop makes that wait zero and
 * ends the turn; it has no other effect, because the request ends with the turn.
 *
 * A process that was stopped for a while (a suspended machine, Ctrl-Z, a host that gives its guests no time) finds all its deadlines
 * passed, and the answers that came meanwhile unread: timers come before descriptors. A timer that fires much later than it was to waits for a
 * few turns, so that what is there is heard first. Rejected: timers that stand still with the process, which nobody can see from inside.
 *
 * The memory lives until libuv's close callback; `on_time` is never called after free.
 */
#include "loop/timer.h"

#include <stdlib.h>
#include <uv.h>

#include "base/buf.h"

struct neap_timer {
    uv_timer_t uv;
    void (*on_time)(void *arg);
    void *arg;
    uint64_t due_ms;                 /* by the loop's clock */
    int turns;                       /* that it has waited since then */
};

enum { OVERSLEPT_MS = 250, TURNS = 3 };

neap_timer *neap_timer_new(neap_loop *loop, void (*on_time)(void *arg), void *arg) {
    neap_timer *t = neap_zalloc(sizeof *t);
    uv_timer_init(neap_loop_uv(loop), &t->uv);
    t->uv.data = t;
    t->on_time = on_time;
    t->arg = arg;
    return t;
}

static void on_timer(uv_timer_t *uv) {
    neap_timer *t = uv->data;
    if (t && uv_now(uv->loop) > t->due_ms + OVERSLEPT_MS && t->turns++ < TURNS) {
        uv_timer_start(uv, on_timer, 1, 0);        /* 0 would be this turn's again */
        return;
    }
    uv_stop(uv->loop);
    if (t) t->on_time(t->arg);
}

void neap_timer_start(neap_timer *t, int64_t delay_ms) {
    uint64_t delay = delay_ms > 0 ? (uint64_t)delay_ms : 0;
    uv_update_time(t->uv.loop);
    t->due_ms = uv_now(t->uv.loop) + delay;
    t->turns = 0;
    uv_timer_start(&t->uv, on_timer, delay, 0);
}

void neap_timer_stop(neap_timer *t) { uv_timer_stop(&t->uv); }

static void on_closed(uv_handle_t *uv) { free(uv); }

void neap_timer_free(neap_timer *t) {
    if (!t) return;
    t->uv.data = NULL;
    uv_close((uv_handle_t *)&t->uv, on_closed);
}
