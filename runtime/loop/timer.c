/* timer.c -- one-shot timers.
 *
 * libuv counts from the time it cached at the start of a turn; a turn that took long would make a new timer fire
 * early by as much. The cache is refreshed before every start, so a delay is never shorter than asked.
 *
 * libuv runs the timers that are due and then waits for descriptors all the same, even in "one turn" mode. A task
 * made ready by a timer would wait for some other event. Asking the loop to stop makes that wait zero and
 * ends the turn; it has no other effect, because the request ends with the turn.
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
};

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
    uv_stop(uv->loop);
    if (t) t->on_time(t->arg);
}

void neap_timer_start(neap_timer *t, int64_t delay_ms) {
    uv_update_time(t->uv.loop);
    uv_timer_start(&t->uv, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

void neap_timer_stop(neap_timer *t) { uv_timer_stop(&t->uv); }

static void on_closed(uv_handle_t *uv) { free(uv); }

void neap_timer_free(neap_timer *t) {
    if (!t) return;
    t->uv.data = NULL;
    uv_close((uv_handle_t *)&t->uv, on_closed);
}
